"""The same windows by Spark's own aggregation, where nothing is lost by it: bounded rows, aligned windows, plain aggregates."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, from_arrow_type

from spark_ext.names import column
from spark_ext.state.operator import union_schema
from spark_ext.state.packing import TAG
from spark_ext.windows.aggregates.aggregate import Aggregate
from spark_ext.windows.aggregates.basic import Count, Mean, Sum
from spark_ext.windows.aggregates.ordered import Extreme
from spark_ext.windows.evictions import Eviction
from spark_ext.windows.rows import EVENT, FINAL, INVALID, WINDOW, Layout
from spark_ext.windows.shapes import Sliding, Tumbling, Window
from spark_ext.windows.triggers import Trigger

__all__ = ["aggregate", "obstacle"]


def obstacle(frame: DataFrame, layout: Layout, window: Window, trigger: Trigger, eviction: Eviction) -> str | None:
    """Return why Spark's own aggregation will not do, or None if it will."""
    if frame.isStreaming:
        return "on a stream Spark's own aggregation drops late rows without a trace"
    if not isinstance(window.shape, Tumbling | Sliding):
        return f"Spark has no such windows as {window.shape.kind} ones"
    if not trigger.only_on_close or not eviction.keeps_all:
        return "Spark has no triggers or evictions per window"
    for name, one in layout.aggregates:
        if _column(one) is None:
            return f"Spark has no such aggregate as {name!r}"
    return None


def aggregate(frame: DataFrame, layout: Layout, window: Window) -> DataFrame:
    """Return the tagged rows that the kernel would give for a bounded frame."""
    shape = window.shape
    assert isinstance(shape, Tumbling | Sliding), "obstacle() says so"  # noqa: S101
    schema = from_arrow_schema(union_schema(layout.out_schema))
    rows = frame.select(*(column(name) for name in layout.in_schema.names))
    at = F.unix_micros(column(layout.time))
    valid = F.coalesce((at >= layout.earliest_us) & (at <= layout.latest_us), F.lit(False))
    every = shape.every_us if isinstance(shape, Sliding) else shape.length_us
    span = F.window(column(layout.time), _interval(shape.length_us), _interval(every), _interval(shape.offset_us))
    values = [_column(one).cast(from_arrow_type(one.result(layout.types))).alias(name) for name, one in layout.aggregates]  # type: ignore[union-attr]
    keys = [column(name) for name in layout.keys]
    windows = rows.where(valid).groupBy(*keys, span.alias(WINDOW)).agg(*values)
    windows = windows.withColumn(TAG, F.lit(WINDOW)).withColumn(FINAL, F.lit(True))
    event = F.struct(*(column(name) for name in layout.in_schema.names)).alias(EVENT)
    invalid = rows.where(~valid).select(*keys, event, F.lit(INVALID).alias(TAG))
    both = windows.unionByName(invalid, allowMissingColumns=True)
    return both.select(*(_filled(both, field.name).cast(field.dataType).alias(field.name) for field in schema.fields))


def _column(one: Aggregate) -> Column | None:
    match one:
        case Count(None):
            return F.count(F.lit(1))
        case Count(str(name)):
            return F.count(column(name))
        case Sum(name):
            return F.sum(column(name))
        case Mean(name):
            return F.avg(column(name))
        case Extreme(name, largest):
            return (F.max if largest else F.min)(column(name))
    return None


def _filled(frame: DataFrame, name: str) -> Column:
    return column(name) if name in frame.columns else F.lit(None)


def _interval(microseconds: int) -> str:
    return f"{microseconds} microseconds"
