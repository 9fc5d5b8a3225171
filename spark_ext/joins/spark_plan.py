"""The same join by Spark itself, where nothing is lost by it: bounded frames and bounds of time."""

from __future__ import annotations

from functools import reduce
from operator import and_
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from spark_ext.joins.layout import BOTH, INVALID, JOINED, LEFT, RIGHT, SIDE, Layout, Side
from spark_ext.joins.shapes import Interval, Within
from spark_ext.names import column
from spark_ext.state.operator import union_schema
from spark_ext.state.packing import TAG

__all__ = ["join", "obstacle"]

HERE: Final = "_here"  # null: that side has no row
SPARKS: Final = {"semi": "left_semi", "anti": "left_anti"}


def obstacle(left: DataFrame, right: DataFrame, within: Within) -> str | None:
    """Return why Spark's own join will not do, or None if it will."""
    if left.isStreaming or right.isStreaming:
        return "on a stream Spark's own join drops late rows without a trace"
    if not isinstance(within, Interval):
        return "Spark joins by no number of rows"
    return None


def join(left: DataFrame, right: DataFrame, layout: Layout, within: Within) -> DataFrame:
    """Return the tagged rows that the kernel would give for two bounded frames; `most_matches` does not bound this."""
    assert isinstance(within, Interval), "obstacle() says so"  # noqa: S101
    schema = from_arrow_schema(union_schema(layout.out_schema))
    ours = {name: name for name in layout.left.schema.names}
    at = {name: f"_r{place}" for place, name in enumerate(layout.right.schema.names)}
    valid_left, valid_right = _is_valid(layout.left, layout), _is_valid(layout.right, layout)
    lefts = left.where(valid_left).withColumn(f"{HERE}_left", F.lit(True))
    rights = (
        right.where(valid_right).select(*(column(name).alias(place) for name, place in at.items())).withColumn(f"{HERE}_right", F.lit(True))
    )
    keys = [column(ours[one]) == column(at[other]) for one, other in zip(layout.left.keys, layout.right.keys, strict=True)]
    apart = F.unix_micros(column(at[layout.right.time])) - F.unix_micros(column(layout.left.time))
    condition = reduce(and_, [*keys, apart.between(within.lower_us, within.upper_us)])
    found = lefts.join(rights, condition, SPARKS.get(layout.how, layout.how))
    parts = [_result(found, layout, at), *(_refused(frame.where(~valid), layout, name) for frame, valid, name in (
        (left, valid_left, LEFT), (right, valid_right, RIGHT)
    ))]  # fmt: skip
    rows = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), parts)
    filled = [_filled(rows, field.name).cast(field.dataType).alias(field.name) for field in schema.fields]
    return rows.select(*filled)


def _is_valid(side: Side, layout: Layout) -> Column:
    at = F.unix_micros(column(side.time))
    return F.coalesce((at >= layout.earliest_us) & (at <= layout.latest_us), F.lit(False))


def _result(found: DataFrame, layout: Layout, at: dict[str, str]) -> DataFrame:
    if layout.is_one_sided:
        alone = F.lit(BOTH if layout.how == "semi" else LEFT)
        return found.select(F.lit(JOINED).alias(TAG), *map(column, layout.left.schema.names), alone.alias(SIDE))
    keys = dict(zip(layout.left.keys, layout.right.keys, strict=True))
    lefts = [
        F.coalesce(column(name), column(at[keys[name]])).alias(name) if name in keys else column(name) for name in layout.left.schema.names
    ]
    rights = [column(at[name]).alias(here) for name, here in layout.right_names.items() if name not in layout.right.keys]
    side = F.when(F.col(f"{HERE}_left").isNull(), RIGHT).when(F.col(f"{HERE}_right").isNull(), LEFT).otherwise(F.lit(BOTH))
    return found.select(F.lit(JOINED).alias(TAG), *lefts, *rights, side.alias(SIDE))


def _refused(rows: DataFrame, layout: Layout, name: str) -> DataFrame:
    names = {one: one for one in layout.left.schema.names} if name == LEFT else layout.right_names
    columns = [column(one).alias(here) for one, here in names.items()]
    return rows.select(F.lit(INVALID).alias(TAG), *columns, F.lit(name).alias(SIDE))


def _filled(rows: DataFrame, name: str) -> Column:
    return column(name) if name in rows.columns else F.lit(None)
