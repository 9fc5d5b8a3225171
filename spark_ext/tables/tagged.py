"""Take what a table operator gives apart: changes, and rows that were not taken, in the columns they came in."""

from __future__ import annotations

from typing import Final, Literal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_ext.errors import SettingsError
from spark_ext.joins.layout import LEFT, RIGHT, SIDE
from spark_ext.names import column
from spark_ext.state.packing import TAG
from spark_ext.state.signed import SIGN
from spark_ext.tables.layout import CHANGED, EXCESS, INVALID, STALE, UNKNOWN, Pair

__all__ = ["NOTE", "changed", "described", "excess", "invalid", "stale", "unknown"]

NOTE: Final = "millrace.tables"

SideName = Literal["left", "right"]


def described(tagged: DataFrame, pair: Pair) -> DataFrame:
    """Note in the metadata of ``side`` which columns are whose."""
    note = {LEFT: pair.left.names, f"{LEFT}_here": pair.left.names}
    note |= {RIGHT: list(pair.right_names), f"{RIGHT}_here": list(pair.right_names.values())}
    return tagged.withMetadata(SIDE, {NOTE: note})


def changed(tagged: DataFrame) -> DataFrame:
    """Return the changes of the table: its columns and ``sign``, tinyint: +1 for a row that comes, -1 for one that goes."""
    of_aggregate = tagged.schema[SIGN].metadata.get(NOTE, {}).get("result")
    rows = tagged.where(F.col(TAG) == CHANGED)
    return rows.select(*map(column, of_aggregate), SIGN) if of_aggregate else rows.drop(TAG, SIDE)


def stale(tagged: DataFrame, side: SideName | None = None) -> DataFrame:
    """Return the changes that were not newer than what the table had, columns as they came; of a join, those of one side."""
    return _refused(tagged, STALE, side)


def invalid(tagged: DataFrame, side: SideName | None = None) -> DataFrame:
    """Return the rows without a key or a sequence, columns as they came; of a join, those of one side."""
    return _refused(tagged, INVALID, side)


def unknown(tagged: DataFrame) -> DataFrame:
    """Return the rows with a sign that go and were not there, or came twice: the columns that were read, and ``sign``."""
    return _refused(tagged, UNKNOWN, LEFT if SIDE in tagged.columns else None, keeps_sign=True)


def excess(tagged: DataFrame) -> DataFrame:
    """Return the left rows whose partner had `most_matches` already, columns as they came, and ``sign``."""
    return _refused(tagged, EXCESS, LEFT, keeps_sign=True)


def _refused(tagged: DataFrame, tag: str, side: str | None, *, keeps_sign: bool = False) -> DataFrame:
    more = [SIGN] if keeps_sign else []
    rows = tagged.where(F.col(TAG) == tag)
    if SIDE not in tagged.columns:
        read = tagged.schema[SIGN].metadata.get(NOTE, {}).get("read")
        return rows.select(*map(column, read), *more) if read else rows.drop(TAG, *([] if keeps_sign else [SIGN]))
    if side not in {LEFT, RIGHT}:
        raise SettingsError(
            "take apart", "join of tables by side", str(side), expected="'left' or 'right'", got=repr(side), todo="name one"
        )
    note = tagged.schema[SIDE].metadata[NOTE]
    return rows.where(F.col(SIDE) == side).select(
        *(column(here).alias(own) for own, here in zip(note[side], note[f"{side}_here"], strict=True)), *more
    )
