"""Rows meet a large table, of which only the rows of their keys are read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import reduce
from operator import and_, or_
from typing import Any, Final

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_ext.errors import SettingsError
from spark_ext.joins.copy_kernel import LookupHow
from spark_ext.joins.key_ranges import key_ranges
from spark_ext.joins.local_copy import MOST_ROWS, joined, once
from spark_ext.joins.lookup import check_matches
from spark_ext.joins.on import On
from spark_ext.joins.table_layout import Columns, TableLayout
from spark_ext.names import column
from spark_ext.sketching import KeyFilter
from spark_ext.state.keys import whole

__all__ = ["lookup_keys", "narrowed"]

MOST_KEYS: Final = 200_000
RANGES: Final = 32  # per key column: files are left out by them, and each row is compared with them
FALSE_POSITIVES: Final = 0.01
UTC: Final = pa.timestamp("us", "UTC")


def lookup_keys(
    rows: DataFrame,
    table_at: DataFrame,
    *,
    on: On,
    how: LookupHow = "left",
    suffix: str = "_right",
    columns: Columns | None = None,
    most_matches: int = 1,
    most_keys: int = MOST_KEYS,
    most_rows: int = MOST_ROWS,
) -> DataFrame:
    """Join the rows of a batch with a table that is too large for a copy, reading of it what their keys need.

    Guarantee: the rows of `lookup`. The table is neither broadcast nor shuffled: the distinct keys of the batch go to it, files and row
    groups that cannot have one are left out by their bounds, and what is found goes to the workers. A table that is clustered by the key
    is read in parts, another one as a whole.

    Parameters
    ----------
    rows : DataFrame
        Bounded, persisted as those of an epoch are: their keys are looked at when this is called.
    table_at : DataFrame
        As of `Epoch.table`: a frame of a Delta table at a version.
    on, how, suffix, columns, most_matches
        As for `lookup`.
    most_keys : int
        Up to so many distinct keys are sent to the table as they are; more as a Bloom filter first (`spark_ext.sketching.KeyFilter`).
    most_rows : int
        Rows of the table that the keys of one batch may find.

    Returns
    -------
    DataFrame
        As of `lookup`.

    Raises
    ------
    SchemaError, SettingsError
        As for `lookup`; `rows` is a stream.
    JoinError
        A key has more rows than `most_matches`, or all of them more than `most_rows`.

    State: the rows found, in the driver and in each worker, until the frame is gone.
    """
    layout = TableLayout.of(rows, table_at, on=on, how=how, suffix=suffix, columns=columns)
    if rows.isStreaming:
        todo = "call it in the route of an epoch"
        raise SettingsError("look up keys of", "rows", "", expected="the frame of a batch", got="a stream", todo=todo)
    copy = once(narrowed(rows, table_at, layout, most_keys=most_keys), layout, most_rows=most_rows)
    check_matches(copy, layout, most_matches)
    return joined(rows, copy, layout)


def narrowed(rows: DataFrame, table: DataFrame, layout: TableLayout, *, most_keys: int) -> DataFrame:
    """Return the rows of the table whose keys the rows have; the keys are looked at now, the table is not."""
    asked = [f"k{at}" for at in range(len(layout.keys))]
    keys = rows.select(*(column(name).alias(place) for name, place in zip(layout.keys, asked, strict=True)))
    keys = keys.where(reduce(and_, (F.col(place).isNotNull() for place in asked))).distinct()  # dropna() would drop NaN too
    few = keys.limit(most_keys + 1).toArrow()
    near = table.where(_near(few, table, layout.table_keys)) if few.num_rows <= most_keys else table
    own = near.toDF(*(f"c{at}" for at in range(len(table.columns))))  # by place, as users' names may be anything
    places = [f"c{table.columns.index(name)}" for name in layout.table_keys]
    if few.num_rows <= most_keys:
        wanted = F.broadcast(rows.sparkSession.createDataFrame(few, keys.schema))
    else:
        own, wanted = KeyFilter.of(keys, on=asked, false_positive_rate=FALSE_POSITIVES).apply(own, on=places), keys
    is_wanted = reduce(and_, (F.col(place) == F.col(key) for place, key in zip(places, asked, strict=True)))
    return own.join(wanted, is_wanted, "left_semi").toDF(*table.columns)


def _near(keys: pa.Table, table: DataFrame, names: Sequence[str]) -> Column:
    """Return what Delta and Parquet can tell from their bounds."""
    parts = []
    for values, name in zip(keys.columns, names, strict=True):
        ranges = _ranges(whole(values))
        if ranges is not None:
            kind = table.schema[name].dataType
            each = [column(name).between(_literal(low).cast(kind), _literal(high).cast(kind)) for low, high in ranges]
            parts.append(reduce(or_, each, F.lit(False)))
    return reduce(and_, parts, F.lit(True))


def _ranges(values: pa.Array) -> list[tuple[Any, Any]] | None:
    if pa.types.is_timestamp(values.type) and values.type.tz is not None:
        values = values.cast(UTC)
    try:
        return key_ranges(values, most=RANGES)
    except (ValueError, OverflowError):  # years that Python does not have
        return None


def _literal(value: Any) -> Column:
    """Return a value as text where Python's zone, or the old calendar, would change it on its way."""
    return F.lit(value.isoformat() if isinstance(value, date) else value)
