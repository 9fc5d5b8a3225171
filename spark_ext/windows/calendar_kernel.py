"""Panes that follow the clock on the wall of a named zone: calendar periods and business hours.

All of it rests on one function of time that never falls: the furthest that the local clock has got. Where the clock is put back
it stands still until the clock has caught up, so periods stay in order and every instant is in exactly one.
"""

from __future__ import annotations

import struct
import zoneinfo
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from spark_ext.state.kernel import FOREVER_US, NEVER_US
from spark_ext.windows.aligned_kernel import distinct
from spark_ext.windows.panes import OUTSIDE, Panes

__all__ = ["UNITS", "BusinessPanes", "CalendarPanes", "Clock", "clock"]

Array = NDArray[np.int64]

UNITS: Final = ("hour", "day", "week", "month", "quarter", "year")
HOUR_US: Final = 3_600_000_000
DAY_US: Final = 24 * HOUR_US
CYCLE_S: Final = 146_097 * 86_400  # 400 years, whole weeks: rules of daylight saving repeat exactly
PROBE_S: Final = 21 * 86_400  # divides the cycle
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_S: Final = -62_135_596_800 + 2 * 86_400  # year 1, and a day on either side that any offset can use up
LAST_S: Final = 253_402_300_800 + 366 * 86_400  # year 10000: windows of 9999 end there


@dataclass(frozen=True, slots=True, eq=False)
class Clock:
    """The local clock of a zone, as stretches of time in which its offset from UTC is the same.

    Attributes
    ----------
    since : ndarray (k,) int64
        Start of each stretch, microseconds since 1970 in UTC, ascending; the first is `NEVER_US`.
    offset : ndarray (k,) int64
        Local time less UTC in that stretch, microseconds.
    reached : ndarray (k,) int64
        The furthest the local clock had got before the stretch, microseconds since 1970 in local time; ascending.
    """

    since: Array
    offset: Array
    reached: Array

    def stretch(self, times_us: Array) -> Array:
        """Return the stretch of each instant, ndarray (n,) int64; `times_us` not empty."""
        first, last = self._span(times_us)
        if first == last:  # the usual batch: nobody sets the clock
            return np.full(len(times_us), first, dtype=np.int64)
        return first + np.searchsorted(self.since[first + 1 : last + 1], times_us, "right")

    def furthest(self, times_us: Array) -> Array:
        """Return the furthest the local clock has got at each instant, ndarray (n,) int64; never falls with time."""
        first, last = self._span(times_us)
        if first == last:
            local: Array = times_us + self.offset[first]
            reached: Array = self.reached[first : first + 1]
            return local if local.min() >= reached[0] else np.maximum(local, reached)
        stretch = first + np.searchsorted(self.since[first + 1 : last + 1], times_us, "right")
        furthest: Array = np.maximum(times_us + self.offset[stretch], self.reached[stretch])
        return furthest

    def first(self, local_us: Array) -> Array:
        """Return the first instant at which the clock shows each local time or a later one, ndarray (n,) int64.

        A time that the clock leaps over: where it has leapt. One that it shows twice: the first of the two.
        """
        stretch = np.searchsorted(self.reached[1:], local_us, "left")
        first: Array = np.maximum(local_us - self.offset[stretch], self.since[stretch])
        return first

    def _span(self, times_us: Array) -> tuple[int, int]:
        first, last = np.searchsorted(self.since, [times_us.min(), times_us.max()], "right") - 1
        return int(first), int(last)


@dataclass(frozen=True, slots=True)
class CalendarPanes:
    """Calendar periods in a zone.

    Guarantee: the periods cover all time without overlap. One starts at the first instant at which the local clock shows its
    beginning or something later: where midnight does not exist, the first instant after; where it comes twice, the first. A day
    the zone left out has no window. What the clock shows twice because it was put back over a beginning stays in the later period.
    Hours are those of the clock, each of its own: one that comes twice is two windows, and where the clock is set an hour ends.

    Parameters
    ----------
    unit : str
        One of `UNITS`. Weeks are ISO weeks, which start on Monday.
    zone : str
        Name in the time zone database. Rules that change with a release of the database change later windows only.

    State
        Up to 400 KB per zone and process for its changes of offset up to the year 10000, for the last 64 zones used.

    References
    ----------
    RFC 8536, "The Time Zone Information Format (TZif)", section 3.

    Examples
    --------
    The day on which New York put its clocks forward had 23 hours:

    >>> import numpy as np
    >>> noon = np.array(["2024-03-10T12:00"], "datetime64[us]").astype(np.int64)
    >>> panes = CalendarPanes("day", "America/New_York").panes(noon)
    >>> panes.starts.astype("datetime64[us]").astype(str).tolist(), ((panes.ends - panes.starts) / 3_600_000_000).tolist()
    (['2024-03-10T05:00:00.000000'], [23.0])
    """

    unit: str
    zone: str

    def panes(self, times_us: NDArray[np.int64]) -> Panes:
        """Return the pane of each event time, see `PaneAssigner.panes`."""
        if not len(times_us):
            return no_panes()
        local = clock(self.zone)
        if self.unit == "hour":
            return _hours(local, times_us)
        index, days = distinct(local.furthest(times_us) // DAY_US)
        periods = days
        if self.unit != "day":
            of_day, periods = distinct(_period(days, self.unit))
            index = of_day[index]
        starts, ends = (local.first(_first_day(each, self.unit) * DAY_US) for each in (periods, periods + 1))
        return Panes(index, starts, ends)


@dataclass(frozen=True, slots=True)
class BusinessPanes:
    """Opening hours in a zone: one window per working day; other times are in none.

    Guarantee: a window starts at the first instant at which the local clock shows the opening time or a later one, and ends at
    the first at which it shows the closing time or a later one; so a day whose opening the clock leaps over opens with the leap,
    and hours that fall on a day that the zone left out have no window. Windows never overlap.

    Parameters
    ----------
    zone : str
        Name in the time zone database.
    opens_us, closes_us : int
        Opening and closing in microseconds of the local day, from 0 to 24 h - 1, not equal. Closing that is not after opening is on
        the next day.
    days : tuple of int
        Weekdays on which it opens, Monday is 0.
    holidays : tuple of int
        Dates on which it does not open, as days since 1970, ascending.

    Examples
    --------
    >>> import numpy as np
    >>> hour = 3_600_000_000
    >>> office = BusinessPanes("UTC", opens_us=9 * hour, closes_us=17 * hour, days=(0, 1, 2, 3, 4), holidays=())
    >>> panes = office.panes(np.array([8, 9, 16, 17]) * hour)  # a Thursday
    >>> panes.index.tolist(), (panes.starts // hour).tolist(), (panes.ends // hour).tolist()
    ([-1, 0, 0, -1], [9], [17])
    """

    zone: str
    opens_us: int
    closes_us: int
    days: tuple[int, ...]
    holidays: tuple[int, ...]

    def panes(self, times_us: NDArray[np.int64]) -> Panes:
        """Return the pane of each event time, see `PaneAssigner.panes`."""
        if not len(times_us):
            return no_panes()
        local = clock(self.zone)
        # Days that begin with the opening: one that ends after midnight is no special case.
        since_opening = local.furthest(times_us) - self.opens_us
        day = since_opening // DAY_US
        length = (self.closes_us - self.opens_us) % DAY_US
        inside = np.flatnonzero(since_opening - day * DAY_US < length)
        which, days = distinct(day[inside])
        works = np.isin((days + 3) % 7, self.days) & ~np.isin(days, self.holidays)
        index = np.full(len(times_us), OUTSIDE, dtype=np.int64)
        index[inside] = np.where(works, np.cumsum(works) - 1, OUTSIDE)[which]
        opening = days[works] * DAY_US + self.opens_us
        return Panes(index, local.first(opening), local.first(opening + length))


@lru_cache(maxsize=64)
def clock(zone: str) -> Clock:
    """Return the clock of a zone; tens of milliseconds for the first call.

    Offsets are those that `zoneinfo` gives for year 1 to 9999; only the instants at which they may change come from elsewhere.
    """
    rules = ZoneInfo(zone)
    changes = _recorded_changes(zone)
    last = changes[-1] if changes else 0
    cycle = _changes_by_rule(rules, last)
    instants = [FIRST_S, *changes, *cycle]
    offsets = [_offset_s(rules, each) for each in instants]
    by_rule = offsets[len(offsets) - len(cycle) :]
    for ahead in range(CYCLE_S, LAST_S - last, CYCLE_S):  # `datetime` knows no year 10000
        instants += [change + ahead for change in cycle]
        offsets += by_rule
    kept = [0, *(i for i, (before, after) in enumerate(pairwise(offsets), 1) if before != after)]
    since = np.array([instants[i] for i in kept], np.int64) * 1_000_000
    offset = np.array([offsets[i] for i in kept], np.int64) * 1_000_000
    since[0] = NEVER_US
    reached = np.maximum.accumulate(np.append(2 * NEVER_US + 1, since[1:] + offset[:-1] - 1))
    for array in (since, offset, reached):
        array.flags.writeable = False  # shared by all who ask
    return Clock(since, offset, reached)


def no_panes() -> Panes:
    """Return the panes of no rows."""
    return Panes(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))


def _hours(local: Clock, times_us: Array) -> Panes:
    stretch = local.stretch(times_us)
    hour = (times_us + local.offset[stretch]) // HOUR_US
    # One code for stretch and hour, small while the batch is short.
    first, least, width = int(stretch.min()), int(hour.min()), int(hour.max() - hour.min()) + 1
    index, codes = distinct((stretch - first) * width + (hour - least))
    stretch, starts = codes // width + first, (codes % width + least) * HOUR_US
    starts -= local.offset[stretch]
    until = np.append(local.since[1:], FOREVER_US)[stretch]
    return Panes(index, np.maximum(starts, local.since[stretch]), np.minimum(starts + HOUR_US, until))


def _period(days: Array, unit: str) -> Array:
    if unit == "week":
        return (days + 3) // 7  # 1970 began on a Thursday
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    return months // {"month": 1, "quarter": 3, "year": 12}[unit]


def _first_day(periods: Array, unit: str) -> Array:
    if unit == "day":
        return periods
    if unit == "week":
        return periods * 7 - 3
    months = periods * {"month": 1, "quarter": 3, "year": 12}[unit]
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def _offset_s(rules: ZoneInfo, instant_s: int) -> int:
    offset = (EPOCH + timedelta(seconds=instant_s)).astimezone(rules).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def _changes_by_rule(rules: ZoneInfo, after_s: int) -> list[int]:
    """Return the changes of one cycle behind the last recorded one. A rule sets the clock every year, for more than three weeks."""
    probes = range(after_s, after_s + CYCLE_S + 1, PROBE_S)
    if len({_offset_s(rules, each) for each in probes[:36]}) == 1:  # two years
        return []
    offsets = [_offset_s(rules, each) for each in probes]
    changes = []
    for probe, (before, after) in zip(probes, pairwise(offsets), strict=False):
        if before != after:
            within = range(probe, probe + PROBE_S + 1)
            changes.append(within[bisect_left(within, True, key=partial(_differs, rules, before))])
    return changes


def _differs(rules: ZoneInfo, offset_s: int, instant_s: int) -> bool:
    return _offset_s(rules, instant_s) != offset_s


def _recorded_changes(zone: str) -> list[int]:
    """Return the instants at which the zone's file says that something changes, seconds since 1970, ascending."""
    data = _zone_file(zone)
    counts = struct.unpack_from(">4sc15x6l", data)
    at, item = 44, ">i4"
    if counts[1] >= b"2":  # behind the old table, the same with 64 bits
        _, _, utc, standard, leaps, times, types, chars = counts
        at += times * 5 + types * 6 + chars + leaps * 8 + standard + utc
        counts = struct.unpack_from(">4sc15x6l", data, at)
        at, item = at + 44, ">i8"
    changes = np.frombuffer(data, item, counts[5], at).tolist()
    return [each for each in changes if FIRST_S < each < LAST_S - CYCLE_S]


def _zone_file(zone: str) -> bytes:
    for place in zoneinfo.TZPATH:
        if (path := Path(place, zone)).is_file():
            return path.read_bytes()
    return resources.files("tzdata").joinpath("zoneinfo", *zone.split("/")).read_bytes()
