"""Which rows of two streams may meet: how far apart they are in event time, or how many rows lie between."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, TypeAlias

from spark_ext.errors import SettingsError

__all__ = ["Counts", "Interval", "Within", "checked_within", "interval", "one_window", "two_windows"]

MICROSECOND: Final = timedelta(microseconds=1)
LONGEST: Final = timedelta(days=366 * 200)

Kept = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A right row is a partner of a left one if its event time is in ``[left + lower, left + upper]``, both ends included."""

    lower_us: int
    upper_us: int


@dataclass(frozen=True, slots=True)
class Counts:
    """A row is joined with the last rows of its key on the other side, by event time.

    Attributes
    ----------
    left, right : int
        How many rows of that side are kept for each key; 0: the side only triggers.
    """

    left: int
    right: int


Within: TypeAlias = Interval | Counts


def interval(lower: timedelta, upper: timedelta) -> Interval:
    """Let rows meet whose event times are near: ``left.time + lower <= right.time <= left.time + upper``.

    Parameters
    ----------
    lower, upper : timedelta
        Whole microseconds; either may be negative, ``lower <= upper``.

    Examples
    --------
    Clicks up to ten minutes after their impression:

    >>> interval(timedelta(0), timedelta(minutes=10))
    Interval(lower_us=0, upper_us=600000000)
    """
    if not all(isinstance(bound, timedelta) and abs(bound) <= LONGEST for bound in (lower, upper)) or lower > upper:
        raise _refused("interval", "lower <= upper, both timedelta of at most 200 years", f"{lower!r} to {upper!r}")
    return Interval(lower // MICROSECOND, upper // MICROSECOND)


def one_window(*, kept: Kept, length: timedelta | None = None, rows: int | None = None) -> Within:
    """Keep one side in a window; each row of the other side is joined with what the window holds at its event time.

    Parameters
    ----------
    kept : {"left", "right"}
        The side that is kept. Its rows trigger nothing, by event time: one that arrives after a row that it was there for is found all the
        same.
    length : timedelta > 0, optional
        The window is the time up to this before the triggering row, both ends included: an `interval`, and planned as one.
    rows : int >= 1, optional
        The window is this many last rows of the key, up to the time of the triggering row. Give this or `length`.

    Examples
    --------
    >>> one_window(kept="left", length=timedelta(seconds=1))
    Interval(lower_us=0, upper_us=1000000)
    >>> one_window(kept="right", rows=3)
    Counts(left=0, right=3)
    """
    if kept not in {"left", "right"}:
        raise _refused("window", "kept 'left' or 'right'", repr(kept))
    if (length is None) == (rows is None):
        raise _refused("window", "a length or a number of rows", f"length={length!r}, rows={rows!r}")
    if length is not None:
        _check_length(length)
        return interval(timedelta(0), length) if kept == "left" else interval(-length, timedelta(0))
    _check_rows(rows)
    return Counts(rows or 0, 0) if kept == "left" else Counts(0, rows or 0)


def two_windows(*, left: timedelta | int, right: timedelta | int) -> Within:
    """Keep both sides in windows; each row is joined with what the window of the other side holds at its event time.

    Parameters
    ----------
    left, right : timedelta > 0, or int >= 1
        How long rows of that side stay, or how many last rows of a key; both of one kind.

    Examples
    --------
    >>> two_windows(left=timedelta(seconds=2), right=timedelta(seconds=1))
    Interval(lower_us=-1000000, upper_us=2000000)
    >>> two_windows(left=5, right=5)
    Counts(left=5, right=5)
    """
    if isinstance(left, timedelta) and isinstance(right, timedelta):
        _check_length(left)
        _check_length(right)
        return interval(-right, left)
    if isinstance(left, timedelta) or isinstance(right, timedelta):
        raise _refused("windows", "two lengths or two numbers of rows", f"left={left!r}, right={right!r}")
    _check_rows(left)
    _check_rows(right)
    return Counts(left, right)


def checked_within(within: object) -> Within:
    """Return it if it is one.

    Raises
    ------
    SettingsError
        It is none.
    """
    if isinstance(within, Interval | Counts):
        return within
    raise _refused("shape", "interval(...), one_window(...) or two_windows(...)", repr(within))


def _check_length(length: object) -> None:
    if not isinstance(length, timedelta) or not timedelta(0) < length <= LONGEST:
        raise _refused("window", "a length above 0, at most 200 years", repr(length))


def _check_rows(rows: object) -> None:
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise _refused("window", "a number of rows, 1 or more", repr(rows))


def _refused(kind: str, expected: str, got: str) -> SettingsError:
    return SettingsError("join by", kind, "of two streams", expected=expected, got=got, todo="correct it")
