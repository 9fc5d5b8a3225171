"""The shapes of windows, and what makes a window of one: a lateness policy.

A shape alone cannot be used, because how long to wait for late rows has no right default::

    tumbling(timedelta(minutes=1)).with_grace(timedelta(seconds=30))
    session(timedelta(minutes=5)).without_grace()
"""

from __future__ import annotations

import difflib
import operator
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, fields
from datetime import date, datetime, time, timedelta
from typing import ClassVar, Final, NoReturn
from zoneinfo import ZoneInfo, available_timezones

from spark_ext.errors import SettingsError
from spark_ext.windows.aligned_kernel import AlignedPanes, GlobalPane
from spark_ext.windows.assigned import AssignedPanes, Assigner
from spark_ext.windows.calendar_kernel import UNITS, BusinessPanes, CalendarPanes
from spark_ext.windows.panes import PaneAssigner

__all__ = [
    "Assigned",
    "BusinessHours",
    "Calendar",
    "CountSliding",
    "CountTumbling",
    "Global",
    "Session",
    "Shape",
    "Sliding",
    "TimeShape",
    "Tumbling",
    "Window",
    "assigned",
    "business_hours",
    "calendar",
    "checked_window",
    "count_sliding",
    "count_tumbling",
    "global_window",
    "session",
    "sliding",
    "tumbling",
]

LONGEST: Final = timedelta(days=3_652_425)  # 10,000 years
MOST_ROWS: Final = 2**31 - 1
MOST_WINDOWS: Final = 100_000
EPOCH: Final = date(1970, 1, 1)
ZERO: Final = timedelta(0)


class Shape(ABC):
    """Which rows belong together, without a lateness policy. Instances are frozen, compare by value and can be sent to workers."""

    __slots__ = ()
    kind: ClassVar[str]

    @property
    def settings(self) -> dict[str, object]:
        """All that describes the shape, as JSON has it: part of what a checkpoint is compared with."""
        described = {each.name: getattr(self, each.name) for each in fields(self) if each.compare}  # type: ignore[arg-type]
        return {"kind": self.kind} | {name: list(value) if isinstance(value, tuple) else value for name, value in described.items()}

    def with_grace(self, grace: timedelta) -> Window:
        """Return windows of this shape that stay open for late rows until the watermark is `grace` behind their end.

        Parameters
        ----------
        grace : timedelta
            From 0 to 10,000 years. A row is late when the watermark has reached the end of its window plus `grace`.

        Raises
        ------
        SettingsError
            `grace` is not such a duration.

        Examples
        --------
        >>> tumbling(timedelta(minutes=1)).with_grace(timedelta(seconds=30)).grace_us
        30000000
        """
        return Window(self, _microseconds(self.kind, "grace", grace, least=0))

    def without_grace(self) -> Window:
        """Return windows of this shape that close when the watermark reaches their end."""
        return Window(self, 0)


class TimeShape(Shape):
    """A shape whose windows depend on event time alone."""

    __slots__ = ()

    @abstractmethod
    def assigner(self) -> PaneAssigner:
        """Return what gives rows their panes."""


@dataclass(frozen=True, slots=True)
class Window:
    """Windows of a shape with their lateness policy; made by `Shape.with_grace` and `Shape.without_grace`.

    Attributes
    ----------
    shape : Shape
        Which rows belong together.
    grace_us : int
        How far the watermark must be behind a window's end before it closes, microseconds.

    Examples
    --------
    >>> tumbling(timedelta(seconds=1)).without_grace().settings
    {'window': {'kind': 'tumbling', 'length_us': 1000000, 'offset_us': 0}, 'grace_us': 0}
    """

    shape: Shape
    grace_us: int

    @property
    def settings(self) -> dict[str, object]:
        """All that describes the windows, as JSON has it; a checkpoint made with other settings is refused."""
        return {"window": self.shape.settings, "grace_us": self.grace_us}


@dataclass(frozen=True, slots=True)
class Tumbling(TimeShape):
    """See `tumbling`."""

    kind: ClassVar[str] = "tumbling"
    length_us: int
    offset_us: int

    def assigner(self) -> PaneAssigner:
        """Return panes that are the windows."""
        return AlignedPanes(self.length_us, self.length_us, self.offset_us)


@dataclass(frozen=True, slots=True)
class Sliding(TimeShape):
    """See `sliding`. `spark_ext.windows.cover.Cover` says which windows its panes belong to."""

    kind: ClassVar[str] = "sliding"
    length_us: int
    every_us: int
    offset_us: int

    def assigner(self) -> PaneAssigner:
        """Return panes of which the windows consist."""
        return AlignedPanes(self.length_us, self.every_us, self.offset_us)


@dataclass(frozen=True, slots=True)
class Session(Shape):
    """See `session`."""

    kind: ClassVar[str] = "session"
    gap_us: int
    maximum_us: int | None


@dataclass(frozen=True, slots=True)
class CountTumbling(Shape):
    """See `count_tumbling`."""

    kind: ClassVar[str] = "count_tumbling"
    rows: int


@dataclass(frozen=True, slots=True)
class CountSliding(Shape):
    """See `count_sliding`."""

    kind: ClassVar[str] = "count_sliding"
    rows: int
    every: int


@dataclass(frozen=True, slots=True)
class Calendar(TimeShape):
    """See `calendar`."""

    kind: ClassVar[str] = "calendar"
    unit: str
    zone: str

    def assigner(self) -> PaneAssigner:
        """Return panes that are the windows."""
        return CalendarPanes(self.unit, self.zone)


@dataclass(frozen=True, slots=True)
class BusinessHours(TimeShape):
    """See `business_hours`. Times are microseconds of the local day, days are weekdays from Monday = 0, holidays ISO dates."""

    kind: ClassVar[str] = "business_hours"
    zone: str
    opens_us: int
    closes_us: int
    days: tuple[int, ...]
    holidays: tuple[str, ...]

    def assigner(self) -> PaneAssigner:
        """Return panes that are the windows."""
        holidays = tuple((date.fromisoformat(each) - EPOCH).days for each in self.holidays)
        return BusinessPanes(self.zone, self.opens_us, self.closes_us, self.days, holidays)


@dataclass(frozen=True, slots=True)
class Global(TimeShape):
    """See `global_window`."""

    kind: ClassVar[str] = "global"

    def assigner(self) -> PaneAssigner:
        """Return the one pane."""
        return GlobalPane()


@dataclass(frozen=True, slots=True)
class Assigned(TimeShape):
    """See `assigned`. Compared by `name` alone."""

    kind: ClassVar[str] = "assigned"
    function: Assigner = field(compare=False)
    name: str

    def assigner(self) -> PaneAssigner:
        """Return panes that are the windows."""
        return AssignedPanes(self.function, self.name)


def tumbling(length: timedelta, *, offset: timedelta = ZERO) -> Tumbling:
    """Return windows of one length that follow each other without gap.

    Parameters
    ----------
    length : timedelta
        From 1 microsecond to 10,000 years. Windows are elapsed time: for days of a place use `calendar`.
    offset : timedelta
        A window starts this long after 1970-01-01T00:00Z; may be negative. Only what is left after whole lengths counts.

    Raises
    ------
    SettingsError
        A duration is no timedelta, out of range or has parts of a microsecond.

    Examples
    --------
    >>> tumbling(timedelta(hours=24), offset=timedelta(hours=-1)) == tumbling(timedelta(days=1), offset=timedelta(hours=23))
    True
    """
    length_us = _microseconds("tumbling", "length", length)
    return Tumbling(length_us, _microseconds("tumbling", "offset", offset, least=None) % length_us)


def sliding(length: timedelta, *, every: timedelta, offset: timedelta = ZERO) -> Sliding:
    """Return windows of one length that start at regular intervals and overlap; a row is in each that contains its time.

    Windows share panes, so what a row costs does not grow with ``length / every``; what a window costs does.

    Parameters
    ----------
    length : timedelta
        From 1 microsecond to 10,000 years.
    every : timedelta
        Time between starts: from 1 microsecond to `length`, which need not be a multiple of it, and not below 1/100,000 of it.
    offset : timedelta
        A window starts this long after 1970-01-01T00:00Z; may be negative. Only what is left after whole intervals counts.

    Raises
    ------
    SettingsError
        A duration is no timedelta, out of range or has parts of a microsecond.

    Examples
    --------
    >>> sliding(timedelta(seconds=60), every=timedelta(seconds=5))
    Sliding(length_us=60000000, every_us=5000000, offset_us=0)
    """
    length_us, every_us = _microseconds("sliding", "length", length), _microseconds("sliding", "every", every)
    if every_us > length_us:
        why = "rows between two windows would be in none"
        todo = "choose every <= length, or filter the rows and use tumbling windows"
        _refuse("sliding", f"every of at most the length {length!r}", repr(every), why=why, todo=todo)
    if length_us // every_us > MOST_WINDOWS:
        why = f"each row would be in {length_us // every_us:,} windows"
        _refuse("sliding", f"every of at least 1/{MOST_WINDOWS:,} of the length", repr(every), why=why, todo="choose a longer interval")
    return Sliding(length_us, every_us, _microseconds("sliding", "offset", offset, least=None) % every_us)


def session(gap: timedelta, *, maximum: timedelta | None = None) -> Session:
    """Return windows that last, per key, as long as rows follow each other within less than `gap`.

    A session is ``[first, last + gap)``, with the event times of its first and last row, unless `maximum` ends it.

    Parameters
    ----------
    gap : timedelta
        From 1 microsecond to 10,000 years.
    maximum : timedelta, optional
        The most that a session may last, at least `gap`: no session spans a multiple of it, counted from 1970, so where one is cut
        does not depend on when it began. Without it a key that is never silent has a session that never closes.

    Raises
    ------
    SettingsError
        A duration is no timedelta, out of range or has parts of a microsecond.

    Examples
    --------
    >>> session(timedelta(minutes=5), maximum=timedelta(hours=1))
    Session(gap_us=300000000, maximum_us=3600000000)
    """
    gap_us = _microseconds("session", "gap", gap)
    if maximum is None:
        return Session(gap_us, None)
    maximum_us = _microseconds("session", "maximum", maximum)
    if maximum_us < gap_us:
        why = "a session of one row lasts as long as the gap"
        _refuse("session", f"maximum of at least the gap {gap!r}", repr(maximum), why=why, todo="give a longer maximum or none")
    return Session(gap_us, maximum_us)


def count_tumbling(rows: int) -> CountTumbling:
    """Return windows of a number of rows of a key, in order of event time, each row in one.

    Parameters
    ----------
    rows : int
        Rows of a window, from 1 to 2,147,483,647.

    Raises
    ------
    SettingsError
        `rows` is no such number.
    """
    return CountTumbling(_rows("count_tumbling", "rows", rows))


def count_sliding(rows: int, *, every: int) -> CountSliding:
    """Return windows of a number of rows of a key, in order of event time, one window every so many rows.

    Parameters
    ----------
    rows : int
        Rows of a window, from 1 to 2,147,483,647.
    every : int
        Rows from one window to the next, from 1 to `rows`.

    Raises
    ------
    SettingsError
        A number is none, or out of range.
    """
    shape = CountSliding(_rows("count_sliding", "rows", rows), _rows("count_sliding", "every", every))
    if shape.every > shape.rows:
        why = "rows between two windows would be in none"
        _refuse("count_sliding", f"every of at most rows = {rows}", repr(every), why=why, todo="choose every <= rows")
    return shape


def calendar(unit: str, *, zone: str) -> Calendar:
    """Return windows that are calendar periods of a place, as long as its clocks make them.

    Parameters
    ----------
    unit : {"hour", "day", "week", "month", "quarter", "year"}
        Weeks are ISO weeks. `spark_ext.windows.calendar_kernel.CalendarPanes` says what happens when clocks are set.
    zone : str
        Name in the time zone database, such as ``"America/New_York"``.

    Raises
    ------
    SettingsError
        There is no such unit or zone.

    Examples
    --------
    >>> calendar("day", zone="Asia/Kolkata").with_grace(timedelta(hours=1)).shape
    Calendar(unit='day', zone='Asia/Kolkata')
    """
    if unit not in UNITS:
        todo = _nearest(str(unit), UNITS) or "choose one of these, or tumbling() for other lengths"
        _refuse("calendar", f"a unit among {', '.join(UNITS)}", repr(unit), todo=todo)
    return Calendar(unit, _zone("calendar", zone))


def business_hours(
    zone: str,
    *,
    opens: time = time(9),
    closes: time = time(17),
    days: Iterable[int] = (0, 1, 2, 3, 4),
    holidays: Iterable[date] = (),
) -> BusinessHours:
    """Return one window per working day, from opening to closing by the local clock; rows outside are in no window.

    Parameters
    ----------
    zone : str
        Name in the time zone database.
    opens, closes : time
        Local times without zone, not equal. If it closes before it opens, or at midnight, that is on the next day.
    days : iterable of int
        Weekdays on which it opens, Monday is 0, at least one.
    holidays : iterable of date
        Local dates on which it does not open.

    Raises
    ------
    SettingsError
        There is no such zone, or an argument is none of these.

    Examples
    --------
    >>> shape = business_hours("America/New_York", opens=time(9, 30), closes=time(16), holidays=[date(2024, 7, 4)])
    >>> shape.days, shape.holidays
    ((0, 1, 2, 3, 4), ('2024-07-04',))
    """
    opens_us, closes_us = _of_day("opens", opens), _of_day("closes", closes)
    if opens_us == closes_us:
        why = "that is no time, or a whole day"
        _refuse("business_hours", "opens and closes that differ", repr(opens), why=why, todo="use calendar('day') for whole days")
    weekdays = sorted({_weekday(each) for each in _some("days", days)})
    if not weekdays:
        _refuse("business_hours", "at least one weekday", repr(days), why="it would never open", todo="give days from 0 to 6")
    off = sorted({_holiday(each) for each in _some("holidays", holidays)})
    return BusinessHours(_zone("business_hours", zone), opens_us, closes_us, tuple(weekdays), tuple(off))


def global_window() -> Global:
    """Return the one window that holds everything. It closes at the end of a bounded input; on a stream it needs a trigger."""
    return Global()


def assigned(function: Assigner, *, name: str) -> Assigned:
    """Return windows that a function assigns, one per row or none.

    Parameters
    ----------
    function : callable
        From event times to ``(starts, ends)``, see `spark_ext.windows.assigned.AssignedPanes`. It is sent to workers.
    name : str
        Stands for the function in checkpoints: change it whenever the function assigns other windows, since nothing else shows
        that state of the old ones does not fit.

    Raises
    ------
    SettingsError
        `function` cannot be called, or `name` is empty.

    Examples
    --------
    >>> assigned(lambda times_us: (times_us, times_us + 1), name="moments_v1").settings
    {'kind': 'assigned', 'name': 'moments_v1'}
    """
    if not callable(function):
        _refuse("assigned", "a function of event times", repr(function), todo="pass the function itself, not its result")
    if not isinstance(name, str) or not name.strip():
        why = "checkpoints know the function by it"
        _refuse("assigned", "a name", repr(name), why=why, todo="name it, with a version, such as 'shifts_v1'")
    return Assigned(function, name)


def checked_window(window: object) -> Window:
    """Return `window`, which must be a shape with its lateness policy.

    Raises
    ------
    SettingsError
        It is a shape without one, or something else.
    """
    if isinstance(window, Window):
        return window
    why = "there is no default for how long to wait for late rows"
    todo = "add .with_grace(timedelta(...)) or .without_grace()"
    if isinstance(window, Shape):
        raise SettingsError("use", "window", window.kind, expected="a lateness policy", got="none", why=why, todo=todo)
    todo = "make one with a function of spark_ext.windows, such as tumbling(...), and " + todo
    raise SettingsError("use", "window", str(window), expected="a window", got=type(window).__name__, todo=todo)


def _microseconds(kind: str, what: str, value: object, *, least: int | None = 1) -> int:
    if not isinstance(value, timedelta):
        _refuse(kind, f"{what} as a datetime.timedelta", repr(value), why="plain numbers have no unit", todo="give a timedelta")
    if getattr(value, "nanoseconds", 0):  # pandas has a subclass that is finer
        _refuse(kind, f"{what} in whole microseconds", repr(value), why="event times have no finer unit", todo="round it")
    total = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    if abs(value) > LONGEST:
        todo = "use global_window() for a window without end" if what == "length" else "give a shorter one"
        _refuse(kind, f"{what} of at most 10,000 years", repr(value), why="event times end with the year 9999", todo=todo)
    if least is not None and total < least:
        todo = "use without_grace() to close windows at their end" if what == "grace" else f"give a positive {what}"
        _refuse(kind, f"{what} {'>= 0' if least == 0 else '> 0'}", repr(value), todo=todo)
    return total


def _rows(kind: str, what: str, value: int) -> int:
    expected = f"{what} from 1 to {MOST_ROWS:,}"
    try:
        rows = operator.index(value)
    except TypeError:
        _refuse(kind, expected, repr(value), todo="give a whole number")
    if isinstance(value, bool) or not 1 <= rows <= MOST_ROWS:
        _refuse(kind, expected, repr(value), todo="give a number of rows in that range")
    return rows


def _zone(kind: str, zone: str) -> str:
    try:
        if zone != "localtime":  # what this machine's clock shows: another on the next machine
            ZoneInfo(zone)
            return zone
    except (KeyError, ValueError, TypeError, OSError, AttributeError):
        pass
    names = sorted(available_timezones())
    todo = _nearest(str(zone), names) or "give a name such as 'Europe/Berlin'"
    return _refuse(kind, "a zone of the time zone database", repr(zone), todo=todo)


def _nearest(given: str, names: Collection[str]) -> str:
    known = {name.rsplit("/", 1)[-1].lower(): name for name in names} | {name.lower(): name for name in names}
    found = difflib.get_close_matches(given.lower().replace(" ", "_"), known, n=3, cutoff=0.7)
    return f"did you mean {' or '.join(dict.fromkeys(repr(known[each]) for each in found))}?" if found else ""


def _of_day(what: str, value: object) -> int:
    if not isinstance(value, time) or value.tzinfo is not None:
        todo = "give datetime.time without tzinfo; the zone is named once"
        _refuse("business_hours", f"{what} as a local time of day", repr(value), todo=todo)
    return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond


def _some(what: str, values: Iterable[object]) -> list[object]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        _refuse("business_hours", f"{what} as a list", repr(values), todo="give a list, also of one")
    return list(values)


def _weekday(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in range(7):
        _refuse("business_hours", "days from 0 (Monday) to 6 (Sunday)", repr(value), todo="give weekdays as date.weekday() does")
    return value


def _holiday(value: object) -> str:
    if not isinstance(value, date) or isinstance(value, datetime):
        _refuse("business_hours", "holidays as datetime.date", repr(value), todo="give dates; of a datetime that is .date()")
    return value.isoformat()


def _refuse(kind: str, expected: str, got: str, *, todo: str, why: str = "") -> NoReturn:
    raise SettingsError("build", "window", kind, expected=expected, got=got, why=why, todo=todo)
