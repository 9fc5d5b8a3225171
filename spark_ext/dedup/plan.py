"""Deduplication of a DataFrame, streaming or bounded, with every row accounted for.

rows -- drop_duplicates(keys, event_time, horizon, keep) --> tagged rows -- unique / duplicates / late / invalid
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_ext.dedup.dedup_kernel import Dedup
from spark_ext.dedup.rows import DUPLICATE, INVALID, LATE, LATENESS, UNIQUE
from spark_ext.errors import SchemaError
from spark_ext.state.bounds import bounds_us
from spark_ext.state.buckets import buckets_for
from spark_ext.state.kernel import EARLIEST, LATEST
from spark_ext.state.operator import apply_kernel, input_schema
from spark_ext.state.packing import TAG

if TYPE_CHECKING:
    from spark_ext.state.control import Control

__all__ = ["check_frame", "drop_duplicates", "duplicates", "invalid", "late", "unique"]


def drop_duplicates(
    frame: DataFrame,
    *,
    keys: Sequence[str],
    event_time: str,
    horizon: timedelta,
    keep: Literal["first", "arrived"],
    order: Sequence[str] = (),
    expected_keys: int = 100_000,
    buckets: int | None = None,
    earliest: datetime = EARLIEST,
    latest: datetime = LATEST,
    control: Control | None = None,
) -> DataFrame:
    """Tell one row per key within `horizon` from its repetitions; these are tagged, not dropped.

    Guarantee: each row comes out once, with the tag ``unique``, ``duplicate``, ``late`` or ``invalid``, as `Dedup` says. Two unique
    rows of a key are more than `horizon` of event time apart; a duplicate is within `horizon` of a unique row of its key. With
    ``keep="first"`` the answer depends on the rows alone as long as none is behind the watermark; a replayed batch gives the same rows
    with either.

    No row is ever taken for another's duplicate. State has each key of a horizon: where that is too much, and a small share of new rows
    may be tagged as duplicates by mistake, take `approx_drop_duplicates`.

    Parameters
    ----------
    frame : DataFrame
        A stream that has a watermark (``withWatermark``, or `spark_ext.time.with_watermark`), or a bounded frame, where nothing is late.
        Deduplication "within the watermark" is a `horizon` that is the watermark's delay.
    keys : sequence of str
        Columns that are equal in duplicates, of any type but array and map; one or more. Equality as in ``GROUP BY``.
    event_time : str
        Column of type timestamp, not among `keys`.
    horizon : timedelta >= 0
        How far apart in event time two rows of a key may be to count as one. It bounds the state.
    keep : {"first", "arrived"}
        ``"first"``: the earliest row by event time; a row waits until the watermark has passed it. ``"arrived"``: the one that comes
        first; rows come out at once.
    order : sequence of str
        Columns that decide between rows of the same key and event time, such as an offset; ascending, nulls last.
    expected_keys : int
        Order of magnitude of keys within `horizon`; decides the number of buckets.
    buckets : int, optional
        The number of buckets itself, fixed for the life of a checkpoint.
    earliest, latest : datetime
        Event times outside of these are absurd, their rows ``invalid``.
    control : Control, optional
        Where the end of input is told; see `spark_ext.state.control`.

    Returns
    -------
    DataFrame
        ``tag``, the columns of `frame`, ``lateness_ms``; `unique`, `duplicates`, `late` and `invalid` take them apart. Append mode
        on a stream.

    Raises
    ------
    SettingsError, SchemaError
        Something does not fit, with what to do.
    StateError
        In the running query: the checkpoint was made with other settings.

    State: `Dedup`, one blob per bucket.
    """
    check_frame(frame, (*keys, event_time, *order), added=(TAG, LATENESS))
    bounds = bounds_us(earliest, latest)
    kernel = Dedup(input_schema(frame, frame.columns), tuple(keys), event_time, horizon, keep, tuple(order), *bounds)
    number = buckets_for(expected_keys) if buckets is None else buckets
    return apply_kernel(frame, kernel, keys=keys, columns=frame.columns, buckets=number, control=control)


def check_frame(frame: DataFrame, used: Sequence[str], *, added: Sequence[str]) -> None:
    """Refuse a frame that has not the columns that are used, or has those that are added."""
    taken = [name for name in frame.columns if name.lower() in added]
    if taken or len({name.lower() for name in frame.columns}) != len(frame.columns):
        expected, got = f"columns with names of their own, other than {' and '.join(added)}", repr(frame.columns)
        raise SchemaError("deduplicate", "frame with columns", ", ".join(taken), expected=expected, got=got, todo="rename them")
    for name in used:
        if name not in frame.columns:
            raise SchemaError("read", "column", name, expected=f"one of {frame.columns}", got="no such column", todo="correct the name")


def unique(tagged: DataFrame) -> DataFrame:
    """Return the rows that are kept, columns as they came."""
    return _tagged(tagged, UNIQUE).drop(LATENESS)


def duplicates(tagged: DataFrame) -> DataFrame:
    """Return the rows that repeat a kept one within the horizon, columns as they came."""
    return _tagged(tagged, DUPLICATE).drop(LATENESS)


def late(tagged: DataFrame) -> DataFrame:
    """Return the rows of which it can no longer be told, with ``lateness_ms``: from the event to the watermark, milliseconds."""
    return _tagged(tagged, LATE)


def invalid(tagged: DataFrame) -> DataFrame:
    """Return the rows without event time, or with an absurd one, columns as they came."""
    return _tagged(tagged, INVALID).drop(LATENESS)


def _tagged(tagged: DataFrame, tag: str) -> DataFrame:
    return tagged.where(F.col(TAG) == tag).drop(TAG)
