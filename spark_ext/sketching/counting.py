"""Equal rows are counted in the JVM before they cross to Python, where that gives the same answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sketches import BloomFilter, ClassicBloomFilter, CountMinSketch, HyperLogLog, MisraGries, SpaceSaving, UltraLogLog
from spark_ext.errors import SettingsError
from spark_ext.sketching.measure import SketchOf
from spark_ext.sketching.partial import Layout
from spark_ext.windows.aggregates.aggregate import Aggregate
from spark_ext.windows.aggregates.basic import Count, Sum

__all__ = ["counted"]

NUMBER: Final = "\0rows"  # no name that anybody gives
ONCE: Final = (HyperLogLog, UltraLogLog, BloomFilter, ClassicBloomFilter)  # a value that comes again changes nothing
WEIGHED: Final = (MisraGries, SpaceSaving, CountMinSketch)  # a value that comes n times is one of weight n


def counted(layout: Layout, rows: DataFrame, names: Sequence[str]) -> tuple[Layout, DataFrame]:
    """Return the layout of distinct rows with their number, and these.

    Raises
    ------
    SettingsError
        An aggregate is not the same over such rows.
    """
    aggregates = tuple(_over_counts(one, name) for one, name in zip(layout.aggregates, names, strict=True))
    columns = layout.wire.names
    distinct = rows.groupBy(*columns).agg(F.count(F.lit(1)).alias(f"c{len(layout.rows)}"))
    if not columns:
        distinct = distinct.where(f"c{len(layout.rows)} > 0")
    return Layout(layout.keys, layout.rows.append(pa.field(NUMBER, pa.int64())), aggregates), distinct


def _over_counts(one: Aggregate, name: str) -> Aggregate:
    if isinstance(one, Count) and one.column is None:
        return Sum(NUMBER)
    if type(one) is SketchOf and one.weights is None:
        if isinstance(one.template, ONCE):
            return one
        if isinstance(one.template, WEIGHED) and not one.template.parameters.get("conservative"):
            return SketchOf(one.template, one.column, NUMBER, one.times, one.hashed)
    expected = "counts of rows, distinct counts, Bloom filters, Count-Min that is not conservative, hot lists, none with weights"
    why, todo = "it would be another answer over rows that were counted", "leave count_first out, or aggregate it apart"
    raise SettingsError("count first for", "result", name, expected=expected, got=repr(one), why=why, todo=todo)
