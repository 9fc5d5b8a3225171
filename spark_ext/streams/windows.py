"""Windows with the names of Kafka Streams, as values of `spark_ext.windows`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from spark_ext import windows
from spark_ext.errors import SettingsError
from spark_ext.windows.shapes import Window

__all__ = ["JoinWindows", "SessionWindows", "SlidingWindows", "TimeWindows"]

ZERO = timedelta(0)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class TimeWindows:
    """Windows of one length that begin at multiples of `advance` since 1970: tumbling, or hopping if they overlap; ``[start, end)``.

    Examples
    --------
    >>> TimeWindows.ofSizeWithNoGrace(timedelta(minutes=5)).advanceBy(timedelta(minutes=1)).advance
    datetime.timedelta(seconds=60)
    """

    size: timedelta
    advance: timedelta
    grace: timedelta

    @classmethod
    def ofSizeWithNoGrace(cls, size: timedelta) -> TimeWindows:
        """Return tumbling windows that close when the watermark reaches their end."""
        return cls.ofSizeAndGrace(size, ZERO)

    @classmethod
    def ofSizeAndGrace(cls, size: timedelta, grace: timedelta) -> TimeWindows:
        """Return tumbling windows that stay open until the watermark is `grace` behind their end.

        Raises
        ------
        SettingsError
            `size` is not above zero, or `grace` is below.
        """
        windows.tumbling(size).with_grace(grace)  # checks both
        return cls(size, size, grace)

    def advanceBy(self, advance: timedelta) -> TimeWindows:
        """Return hopping windows: one begins each `advance`, from above zero to the size.

        Raises
        ------
        SettingsError
            `advance` is not in these bounds.
        """
        if not ZERO < advance <= self.size:
            raise _refused("time windows", f"advance above 0, at most {self.size}", repr(advance))
        return replace(self, advance=advance)

    @property
    def window(self) -> Window:
        """The same of `spark_ext.windows`."""
        shape = windows.tumbling(self.size) if self.advance == self.size else windows.sliding(self.size, every=self.advance)
        return shape.with_grace(self.grace)


@dataclass(frozen=True, slots=True)
class SessionWindows:
    """Sessions: records of a key that follow each other within `gap` or less; ``[first, last]``, both included, as Kafka Streams has it."""

    gap: timedelta
    grace: timedelta

    @classmethod
    def ofInactivityGapWithNoGrace(cls, gap: timedelta) -> SessionWindows:
        """Return sessions that close when the watermark is more than `gap` behind their last record."""
        return cls.ofInactivityGapAndGrace(gap, ZERO)

    @classmethod
    def ofInactivityGapAndGrace(cls, gap: timedelta, grace: timedelta) -> SessionWindows:
        """Return sessions that close `grace` later.

        Raises
        ------
        SettingsError
            `gap` is not above zero, or `grace` is below.
        """
        windows.session(gap).with_grace(grace)
        return cls(gap, grace)

    @property
    def gap_us(self) -> int:
        """Microseconds, one more than the gap: here silence of exactly the gap does not end a session."""
        return self.gap // MICROSECOND + 1

    @property
    def window(self) -> Window:
        """The same of `spark_ext.windows`, where a session ends at ``last + gap``, not included."""
        return windows.session(self.gap_us * MICROSECOND).with_grace(self.grace)


@dataclass(frozen=True, slots=True)
class SlidingWindows:
    """For each record the window of `difference` that ends with it, and the one that begins right behind it, if it holds a record.

    Both ends are included; a window begins and ends where the records are, so there are at most two per record.
    """

    difference: timedelta
    grace: timedelta

    @classmethod
    def ofTimeDifferenceWithNoGrace(cls, difference: timedelta) -> SlidingWindows:
        """Return sliding windows that close when the watermark passes their end."""
        return cls.ofTimeDifferenceAndGrace(difference, ZERO)

    @classmethod
    def ofTimeDifferenceAndGrace(cls, difference: timedelta, grace: timedelta) -> SlidingWindows:
        """Return sliding windows that close `grace` later.

        Raises
        ------
        SettingsError
            One of them is below zero.
        """
        if difference < ZERO or grace < ZERO:
            raise _refused("sliding windows", "difference and grace of 0 or more", f"{difference!r}, {grace!r}")
        return cls(difference, grace)


@dataclass(frozen=True, slots=True)
class JoinWindows:
    """How far two records may be apart: a right one from `before_` before to `after_` after the left one, both included.

    Examples
    --------
    Clicks up to ten minutes after their impression:

    >>> JoinWindows.ofTimeDifferenceWithNoGrace(timedelta(minutes=10)).before(timedelta(0))
    JoinWindows(before_=datetime.timedelta(0), after_=datetime.timedelta(seconds=600), grace=datetime.timedelta(0))
    """

    before_: timedelta
    after_: timedelta
    grace: timedelta

    @classmethod
    def ofTimeDifferenceWithNoGrace(cls, difference: timedelta) -> JoinWindows:
        """Return a window of `difference` to both sides; records below the watermark are late."""
        return cls.ofTimeDifferenceAndGrace(difference, ZERO)

    @classmethod
    def ofTimeDifferenceAndGrace(cls, difference: timedelta, grace: timedelta) -> JoinWindows:
        """Return the same with a watermark that stays `grace` more behind.

        Raises
        ------
        SettingsError
            One of them is below zero.
        """
        if difference < ZERO or grace < ZERO:
            raise _refused("join windows", "difference and grace of 0 or more", f"{difference!r}, {grace!r}")
        return cls(difference, difference, grace)

    def before(self, before: timedelta) -> JoinWindows:
        """Return the same, but for how far the right record may be before the left one; below zero: after it at least so far."""
        return self._checked(replace(self, before_=before))

    def after(self, after: timedelta) -> JoinWindows:
        """Return the same, but for how far the right record may be after the left one; below zero: before it at least so far."""
        return self._checked(replace(self, after_=after))

    @staticmethod
    def _checked(found: JoinWindows) -> JoinWindows:
        if -found.before_ > found.after_:
            raise _refused("join windows", "-before <= after", f"before {found.before_!r}, after {found.after_!r}")
        return found


def _refused(kind: str, expected: str, got: str) -> SettingsError:
    return SettingsError("use", "windows", kind, expected=expected, got=got, todo="correct it")
