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
from spark_ext.joins.remote.match_kernel import How, pairs
from spark_ext.joins.remote.remembered import Remembered
from spark_ext.names import column

__all__ = ["by_driver"]


def by_driver(rows: DataFrame, source: JdbcLookup, layout: Layout) -> DataFrame:
    """Ask for the keys of a batch, and return it with the answers."""
    numbered = [f"k{at}" for at in range(len(layout.on))]
    added = [one.name for one in layout.added]
    keys = [StructField(name, rows.schema[key].dataType) for name, key in zip(numbered, layout.on, strict=True)]
    answers = _answers(_distinct(rows, source, layout, numbered), rows.sparkSession, source, layout)
    answered = rows.sparkSession.createDataFrame(answers.rename_columns([*numbered, *added]), StructType([*keys, *layout.added]))
    left = rows.toDF(*(f"c{at}" for at in range(len(rows.columns))))  # by place, as users' names may be anything
    places = [rows.columns.index(name) for name in layout.on]
    matches = [F.col(f"c{place}") == F.col(name) for place, name in zip(places, numbered, strict=True)]
    joined = _spark_join(left, answered, matches, layout, added)
    names = [*rows.columns, *(one.name for one in layout.named)]
    return joined.select(*(F.col(place).alias(name) for place, name in zip([*left.columns, *added], names, strict=True)))


def _distinct(rows: DataFrame, source: JdbcLookup, layout: Layout, numbered: list[str]) -> pa.Table:
    """Return the keys of the batch, as the source has them."""
    there = rows.select(*(column(name).alias(number) for name, number in zip(layout.on, numbered, strict=True)))
    keys = there.dropna().distinct().limit(source.most_keys + 1).toArrow()
    if keys.num_rows > source.most_keys:
        expected, got = f"at most {source.most_keys} distinct keys in a batch", "more"
        todo = "raise most_keys, take smaller batches, or copy the table into Delta and join with that"
        raise SettingsError("look up in", "table", source.name, expected=expected, got=got, todo=todo)
    return keys.rename_columns(layout.keys.names).cast(layout.keys).combine_chunks()


def _answers(keys: pa.Table, session: SparkSession, source: JdbcLookup, layout: Layout) -> pa.Table:
    """Return each key with its answers, or with its failure: key columns, then those that are added."""
    asker = _jdbc_asker(source, layout.keys, layout.returns, layout.cache, _Application(session.sparkContext.applicationId, session))
    found = layout.look_up(asker, source.name, keys)
    how: How = "inner" if len(layout.returns) else "semi"
    numbers, answers = pairs(np.arange(keys.num_rows), found.starts, found.counts, found.failed, how)
    columns = [*keys.take(pa.array(numbers)).columns, *layout.columns(found, answers, numbers)]
    return pa.Table.from_arrays(columns, names=[str(at) for at in range(len(columns))])


def _spark_join(left: DataFrame, answered: DataFrame, matches: list[Column], layout: Layout, added: list[str]) -> DataFrame:
    if layout.how in {"left", "inner"}:
        return left.join(answered, matches, layout.how)
    if not layout.is_tagged:
        return left.join(answered, matches, f"left{layout.how}")
    # Rows that failed come out too; one row a key here, so an outer join does not multiply.
    joined = left.join(answered.withColumn("there", F.lit(True)), matches, "left")
    is_there = F.col("there").isNotNull()
    return joined.where(F.col(added[-1]).isNotNull() | (is_there if layout.how == "semi" else ~is_there))


@dataclass(frozen=True, slots=True)
class _Application:
    """A session, equal to others of its application: each batch of a stream comes with one of its own."""

    name: str
    session: SparkSession = field(compare=False)


@lru_cache(SOURCES)
def _jdbc_asker(source: JdbcLookup, keys: pa.Schema, returns: pa.Schema, cache: Cache, application: _Application) -> Asker:
    client = source.connect(application.session, keys, returns)
    return Asker(client, source.limits, Remembered(returns, cache, monotonic), breaker_of(source))
