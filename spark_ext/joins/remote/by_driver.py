"""The driver asks, for the keys of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from time import monotonic

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from spark_ext.errors import SettingsError
from spark_ext.joins.remote.asking import SOURCES, Asker, breaker_of
from spark_ext.joins.remote.jdbc import JdbcLookup
from spark_ext.joins.remote.layout import Layout
from spark_ext.joins.remote.limits import Cache
from spark_ext.joins.remote.match_kernel import pairs
from spark_ext.joins.remote.remembered import Remembered
from spark_ext.names import column

__all__ = ["by_driver"]


def by_driver(rows: DataFrame, source: JdbcLookup, layout: Layout) -> DataFrame:
    """Ask for the keys of a batch, and join it with the answers."""
    session = rows.sparkSession
    there = rows.select(*(column(name).alias(f"k{at}") for at, name in enumerate(layout.on))).dropna().distinct()
    keys = there.limit(source.most_keys + 1).toArrow()
    if keys.num_rows > source.most_keys:
        expected, got = f"at most {source.most_keys} distinct keys in a batch", "more"
        todo = "raise most_keys, take smaller batches, or copy the table into Delta and join with that"
        raise SettingsError("look up in", "table", source.name, expected=expected, got=got, todo=todo)
    asker = _jdbc_asker(source, layout.keys, layout.returns, layout.cache, _Application(session.sparkContext.applicationId, session))
    keys = keys.rename_columns(layout.keys.names).cast(layout.keys).combine_chunks()
    found = layout.look_up(asker, source.name, keys)
    # Each key with its answers, or with its failure.
    numbers, answers = pairs(
        np.arange(keys.num_rows), found.starts, found.counts, found.failed, "semi" if not len(layout.returns) else "inner"
    )
    right = [*keys.take(pa.array(numbers)).columns, *layout.columns(found, answers, numbers)]
    ons, adds = [f"k{at}" for at in range(len(layout.on))], [one.name for one in layout.added]
    answered = session.createDataFrame(
        pa.Table.from_arrays(right, names=[*ons, *adds]),
        StructType([*(StructField(name, rows.schema[key].dataType) for name, key in zip(ons, layout.on, strict=True)), *layout.added]),
    )
    left = rows.toDF(*(f"c{at}" for at in range(len(rows.columns))))
    at = [rows.columns.index(name) for name in layout.on]
    matches = [F.col(f"c{place}") == F.col(name) for place, name in zip(at, ons, strict=True)]
    joined = _spark_join(left, answered, matches, layout, adds)
    names = [*rows.columns, *(one.name for one in layout.named)]
    return joined.select(*(F.col(place).alias(name) for place, name in zip([*left.columns, *adds], names, strict=True)))


def _spark_join(left: DataFrame, answered: DataFrame, matches: list[Column], layout: Layout, adds: list[str]) -> DataFrame:
    if layout.how in {"left", "inner"}:
        return left.join(answered, matches, layout.how)
    if not layout.is_tagged:
        return left.join(answered, matches, f"left{layout.how}")
    # Rows that failed come out too; one row a key here, so an outer join does not multiply.
    joined = left.join(answered.withColumn("there", F.lit(True)), matches, "left")
    is_there = F.col("there").isNotNull()
    return joined.where(F.col(adds[-1]).isNotNull() | (is_there if layout.how == "semi" else ~is_there))


@dataclass(frozen=True, slots=True)
class _Application:
    """A session, equal to others of its application: each batch of a stream comes with one of its own."""

    name: str
    session: SparkSession = field(compare=False)


@lru_cache(SOURCES)
def _jdbc_asker(source: JdbcLookup, keys: pa.Schema, returns: pa.Schema, cache: Cache, application: _Application) -> Asker:
    client = source.connect(application.session, keys, returns)
    return Asker(client, source.limits, Remembered(returns, cache, monotonic), breaker_of(source))
