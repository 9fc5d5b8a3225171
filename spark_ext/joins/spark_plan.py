"""The same join by Spark itself, where nothing is lost by it: bounded frames and bounds of time."""

from __future__ import annotations

from collections.abc import Mapping
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

HERE: Final = "here"  # null: that side has no row
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
    # By place, so that no column can have a name of ours or of the other side's.
    ours, at = (
        {name: f"{letter}{place}" for place, name in enumerate(side.schema.names)}
        for letter, side in (("l", layout.left), ("r", layout.right))
    )
    valid_left, valid_right = _is_valid(layout.left, layout), _is_valid(layout.right, layout)
    lefts, rights = _placed(left.where(valid_left), ours, LEFT), _placed(right.where(valid_right), at, RIGHT)
    keys = [F.col(ours[one]) == F.col(at[other]) for one, other in zip(layout.left.keys, layout.right.keys, strict=True)]
    apart = F.unix_micros(at[layout.right.time]) - F.unix_micros(ours[layout.left.time])
    condition = reduce(and_, [*keys, apart.between(within.lower_us, within.upper_us)])
    found = lefts.join(rights, condition, SPARKS.get(layout.how, layout.how))
    parts = [_result(found, layout, ours, at), *(_refused(frame.where(~valid), layout, name) for frame, valid, name in (
        (left, valid_left, LEFT), (right, valid_right, RIGHT)
    ))]  # fmt: skip
    rows = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), parts)
    filled = [_filled(rows, field.name).cast(field.dataType).alias(field.name) for field in schema.fields]
    return rows.select(*filled)


def _placed(rows: DataFrame, places: Mapping[str, str], side: str) -> DataFrame:
    return rows.select(*(column(name).alias(place) for name, place in places.items()), F.lit(True).alias(f"{HERE}_{side}"))


def _is_valid(side: Side, layout: Layout) -> Column:
    at = F.unix_micros(column(side.time))
    return F.coalesce((at >= layout.earliest_us) & (at <= layout.latest_us), F.lit(False))


def _result(found: DataFrame, layout: Layout, ours: Mapping[str, str], at: Mapping[str, str]) -> DataFrame:
    if layout.is_one_sided:
        alone = F.lit(BOTH if layout.how == "semi" else LEFT)
        return found.select(F.lit(JOINED).alias(TAG), *(F.col(place).alias(name) for name, place in ours.items()), alone.alias(SIDE))
    keys = dict(zip(layout.left.keys, layout.right.keys, strict=True))
    lefts = [(F.coalesce(place, at[keys[name]]) if name in keys else F.col(place)).alias(name) for name, place in ours.items()]
    rights = [F.col(at[name]).alias(here) for name, here in layout.right_names.items() if name not in layout.right.keys]
    side = F.when(F.col(f"{HERE}_left").isNull(), RIGHT).when(F.col(f"{HERE}_right").isNull(), LEFT).otherwise(F.lit(BOTH))
    return found.select(F.lit(JOINED).alias(TAG), *lefts, *rights, side.alias(SIDE))


def _refused(rows: DataFrame, layout: Layout, name: str) -> DataFrame:
    names = {one: one for one in layout.left.schema.names} if name == LEFT else layout.right_names
    columns = [column(one).alias(here) for one, here in names.items()]
    return rows.select(F.lit(INVALID).alias(TAG), *columns, F.lit(name).alias(SIDE))


def _filled(rows: DataFrame, name: str) -> Column:
    return column(name) if name in rows.columns else F.lit(None)
