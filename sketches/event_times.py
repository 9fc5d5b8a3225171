"""The times of events, as sketches that forget take them: one for each value, brought to int64 microseconds."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches.columns import Column, Words, column, one
from sketches.errors import SketchError

__all__ = ["microseconds", "microseconds_of_one"]

FARTHEST: Final = 1 << 62  # there is room to reckon with
KINDS: Final = ("int", "long", "timestamp")


def microseconds(times: Any, count: int, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Return the times of the values that are not null.

    Parameters
    ----------
    times : array (count,), or one time for all
        Integers are microseconds since 1970; NumPy or Arrow timestamps of any unit; none of them null.
    count : int
        Rows that were given.
    rows : ndarray, optional
        Those whose values are not null.

    Raises
    ------
    SketchError
        Other times: nothing was taken.
    """
    if isinstance(times, int | np.integer | np.datetime64 | datetime):
        return np.full(count if rows is None else len(rows), microseconds_of_one(times))
    found = column(times)
    if len(times) != count or len(found) != count:
        got = f"{len(times):,}" if len(times) != count else f"{count - len(found):,} nulls"
        raise _refused(f"{count:,} times", got)
    numbers = _checked(found)
    return numbers if rows is None else numbers[rows]


def microseconds_of_one(time: Any) -> int:
    """Return one time."""
    found = one(time)
    if not len(found):
        raise _refused("a time", repr(time))
    return int(_checked(found)[0])


def _checked(found: Column) -> NDArray[np.int64]:
    if found.kind not in KINDS or not isinstance(found, Words):
        raise _refused("integers (microseconds) or timestamps", found.kind)
    numbers = found.words.view(np.int32 if found.kind == "int" else np.int64).astype(np.int64)
    far = np.flatnonzero((numbers > FARTHEST) | (numbers < -FARTHEST))
    if far.size:
        raise _refused("microseconds from -2^62 to 2^62", f"{numbers[far[0]]} at {far[0]}")
    return numbers


def _refused(expected: str, got: str) -> SketchError:
    return SketchError("use", "argument", "times", expected=expected, got=got, todo="give one time for each value")
