"""Columns as numbers, and instants as microseconds: for sketches that compute with values instead of hashing them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches.columns import Column, Words, column
from sketches.errors import SketchError, SketchTypeError

__all__ = ["LATEST", "as_numbers", "instant", "instants", "length_us"]

LATEST: Final = 1 << 62  # microseconds on either side of 1970, 146,000 years: the distance of two of them is an int64
LONGEST: Final = 1 << 53  # a float64 holds any part of a shorter duration exactly
MICROSECOND: Final = timedelta(microseconds=1)
MICROSECONDS_OF_A_DAY: Final = 86_400_000_000
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
WITHIN: Final = "times within 146,000 years of 1970"
HALF: Final = 4  # bytes of a short word
SIGNED: Final = ("int", "long", "timestamp", "duration", "date")


def as_numbers(values: Column) -> NDArray[np.float64] | None:
    """Return values as float64: integers to the nearest, times in microseconds, dates in days; None if they are no numbers.

    NaN stays NaN. Decimals are refused too: a column does not know where their point is.
    """
    if not isinstance(values, Words) or values.kind == "decimal":
        return None
    if values.kind in ("float", "double"):
        return values.words.view(np.float32 if values.words.itemsize == HALF else np.float64).astype(np.float64)
    if values.kind in SIGNED:
        return values.words.view(np.int32 if values.words.itemsize == HALF else np.int64).astype(np.float64)
    return values.words.astype(np.float64)


def instants(times: Any, rows: int) -> NDArray[np.int64]:
    """Return an array of times as microseconds since 1970 in UTC.

    Parameters
    ----------
    times : array (rows,), or one instant for all
        int64 in microseconds, datetime64 of any unit, or Arrow timestamps; times without a zone are in UTC, as NumPy has them. None of them
        may be null.
    rows : int
        How many there must be.
    """
    if isinstance(times, int | np.integer | np.datetime64 | datetime):
        return np.full(rows, instant(times), np.int64)
    expected = f"{rows:,} instants, as int64 in microseconds or as timestamps"
    try:
        found = column(np.empty(0, np.int64) if times is None else times)
    except SketchTypeError as error:
        raise _wrong(expected, error.got) from None
    if not isinstance(found, Words) or found.kind not in ("int", "long", "timestamp", "date", "null"):
        raise _wrong(expected, f"values of type {found.kind}")
    if found.rows is not None or len(found) != rows:
        raise _wrong(expected, f"{len(found):,}" if found.rows is None else "nulls")
    numbers = found.words.view(np.int32 if found.words.itemsize == HALF else np.int64).astype(np.int64)
    if found.kind == "date":
        if (np.abs(numbers) > LATEST // MICROSECONDS_OF_A_DAY).any():
            raise _wrong(WITHIN, f"days {numbers.min()} to {numbers.max()}")
        numbers *= MICROSECONDS_OF_A_DAY
    if rows and (numbers.max() > LATEST or numbers.min() < -LATEST):
        raise _wrong(WITHIN, f"{numbers.min()} to {numbers.max()} microseconds")
    return numbers


def instant(time: Any) -> int:
    """Return one time as microseconds since 1970 in UTC: an int of them, a datetime with or without a zone, a datetime64."""
    if isinstance(time, datetime):
        return (time.replace(tzinfo=time.tzinfo or UTC) - EPOCH) // MICROSECOND
    if isinstance(time, int | np.integer | np.datetime64) and not isinstance(time, bool):
        if not isinstance(time, int) or -LATEST <= time <= LATEST:
            return int(instants(np.array([time]), 1)[0])
        raise _wrong(WITHIN, repr(time))
    raise _wrong("an instant: a datetime, a datetime64, or an int of microseconds", repr(time))


def length_us(name: str, length: Any) -> int:
    """Return a duration in microseconds, positive and of at most 285 years."""
    if not isinstance(length, timedelta) or not MICROSECOND <= length <= LONGEST * MICROSECOND:
        expected = "a timedelta from one microsecond to 285 years"
        raise SketchError("use", "parameter", name, expected=expected, got=repr(length), todo="correct it")
    return length // MICROSECOND


def _wrong(expected: str, got: str) -> SketchError:
    return SketchError("use", "argument", "times", expected=expected, got=got, todo="correct them, or leave such rows out")
