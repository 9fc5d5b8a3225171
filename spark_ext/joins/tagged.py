"""Take the rows of a join apart: what was joined, and what was not, in the columns it came with."""

from __future__ import annotations

from typing import Final, Literal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.joins.layout import EXCESS, INVALID, JOINED, LATE, LATENESS, SIDE, Layout
from spark_ext.names import column
from spark_ext.state.packing import TAG

__all__ = ["described", "excess", "invalid", "joined", "late"]

NOTE: Final = "millrace.join"

SideName = Literal["left", "right"]


def described(tagged: DataFrame, layout: Layout) -> DataFrame:
    """Note in the metadata of ``side`` which columns are whose."""
    left = layout.left.schema.names
    note = {"left_own": left, "left_here": left, "right_own": list(layout.right_names), "right_here": list(layout.right_names.values())}
    result = layout.left.schema.names if layout.is_one_sided else layout.result.names
    return tagged.withMetadata(SIDE, {NOTE: {**note, "result": list(result)}})


def joined(tagged: DataFrame) -> DataFrame:
    """Return the result: the columns of both sides (of semi and anti: of the left one) and ``side``: both, left or right."""
    return tagged.where(F.col(TAG) == JOINED).select(*map(column, _note(tagged)["result"]), SIDE)


def late(tagged: DataFrame, side: SideName) -> DataFrame:
    """Return the rows of one side that came below the watermark, columns as they came, and ``lateness_ms``: from the event to it."""
    return _rejected(tagged, LATE, side, LATENESS)


def invalid(tagged: DataFrame, side: SideName) -> DataFrame:
    """Return the rows of one side without event time, or with an absurd one, columns as they came."""
    return _rejected(tagged, INVALID, side)


def excess(tagged: DataFrame, side: SideName) -> DataFrame:
    """Return the rows of one side that had more partners than `most_matches`, columns as they came."""
    return _rejected(tagged, EXCESS, side)


def _rejected(tagged: DataFrame, tag: str, side: SideName, *more: str) -> DataFrame:
    if side not in {"left", "right"}:
        raise SettingsError("take apart", "join by side", str(side), expected="'left' or 'right'", got=repr(side), todo="name one")
    note = _note(tagged)
    columns = [column(here).alias(own) for own, here in zip(note[f"{side}_own"], note[f"{side}_here"], strict=True)]
    return tagged.where((F.col(TAG) == tag) & (F.col(SIDE) == side)).select(*columns, *more)


def _note(tagged: DataFrame) -> dict[str, list[str]]:
    if SIDE in tagged.columns and NOTE in tagged.schema[SIDE].metadata:
        found: dict[str, list[str]] = tagged.schema[SIDE].metadata[NOTE]
        return found
    expected, got = "what spark_ext.joins.join returned, rows filtered at most", f"columns {tagged.columns}"
    raise SchemaError("take apart", "frame", "of a join", expected=expected, got=got, todo="take it apart before columns are selected")
