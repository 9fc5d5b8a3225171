"""Tell a window's results from rows that are in none: every row out of a windowed aggregation carries what it is."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_ext.names import column
from spark_ext.state.packing import TAG
from spark_ext.windows.rows import EVENT, INVALID, LATE, MISSED, OUTSIDE_TAG, WINDOW

__all__ = ["invalid", "is_rejected", "late", "outside", "results"]


def results(tagged: DataFrame) -> DataFrame:
    """Return the windows: keys, ``window`` (start, end; null where a bound lies beyond all time), results, ``is_final``."""
    return tagged.where(F.col(TAG) == WINDOW).drop(TAG, EVENT, *MISSED)


def late(tagged: DataFrame) -> DataFrame:
    """Return the rows that came too late for one window or more.

    Returns
    -------
    DataFrame
        The keys, ``window`` (the last one that missed the row), ``lateness_ms`` (from the event to the watermark), ``missed`` (how many
        windows had closed), ``windows`` (of how many; if both are equal, the row is in no window), and the fields of the row itself
        in ``event``.
    """
    return _rejected(tagged, LATE)


def invalid(tagged: DataFrame) -> DataFrame:
    """Return the rows without event time, or with an absurd one: the keys and ``event``."""
    return _rejected(tagged, INVALID).drop(WINDOW)


def outside(tagged: DataFrame) -> DataFrame:
    """Return the rows that the shape has no window for, such as those outside of business hours: the keys and ``event``."""
    return _rejected(tagged, OUTSIDE_TAG).drop(WINDOW)


def is_rejected() -> Column:
    """Tell whether a tagged row is an input row that is in no window at all; input = counted rows + these."""
    return F.col(EVENT).isNotNull() & ((F.col(TAG) != LATE) | (F.col("missed") == F.col("windows")))


def _rejected(tagged: DataFrame, tag: str) -> DataFrame:
    names = tagged.columns
    keys = names[names.index(TAG) + 1 : names.index(WINDOW)]
    return tagged.where(F.col(TAG) == tag).select(*map(column, keys), WINDOW, EVENT, *(MISSED if tag == LATE else ()))
