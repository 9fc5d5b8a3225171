"""Calendar windows against a model that walks with zoneinfo, a row at a time."""

import zoneinfo
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spark_ext.state.kernel import NEVER_US
from spark_ext.windows.calendar_kernel import UNITS, CalendarPanes, _zone_file, clock
from spark_ext.windows.panes import OUTSIDE, PaneAssigner
from spark_ext.windows.shapes import business_hours, calendar

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
US = timedelta(microseconds=1)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

ZONES = [
    "UTC",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Africa/Monrovia",
    "America/Caracas",
    "America/Havana",
    "America/Juneau",
    "America/New_York",
    "America/Sao_Paulo",
    "America/Scoresbysund",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Manila",
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Australia/Lord_Howe",
    "Europe/Amsterdam",
    "Europe/Dublin",
    "Europe/Lisbon",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
]


def us(moment: datetime) -> int:
    return (moment - EPOCH) // US


def instant(microseconds: int) -> datetime:
    return EPOCH + microseconds * US


@cache
def set_days(zone: str) -> list[datetime]:
    """Days on which the clock was set, to the day: what examples are drawn around."""
    rules, found = ZoneInfo(zone), []
    offset = None
    for number in range(-52_000, 35_000):  # 1827 to 2065
        moment = EPOCH + number * DAY
        now = moment.astimezone(rules).utcoffset()
        if offset is not None and now != offset:
            found.append(moment)
        offset = now
    return found


def place_of(zone: str, picks: list[int], minutes: list[int], anywhere: list[int]) -> tuple[str, list[datetime]]:
    """Few draws per example, because drawing is what takes time."""
    days = [*set_days(zone), EPOCH]
    near = [days[picks[at % len(picks)] % len(days)] + each * timedelta(minutes=1) for at, each in enumerate(minutes)]
    return zone, [*near, *(instant(each) for each in anywhere)]


MINUTES = 4_320
places = st.builds(
    place_of,
    st.sampled_from(ZONES),
    st.lists(st.integers(0, 999), min_size=1, max_size=2),
    st.lists(st.one_of(st.integers(-MINUTES, MINUTES), st.integers(-12, 12).map(lambda each: each * 30)), max_size=7),
    st.lists(st.integers(us(datetime(3, 1, 1, tzinfo=UTC)), us(datetime(9990, 1, 1, tzinfo=UTC))), max_size=2),
)


# The model.


def offset_at(zone: str, moment: datetime) -> timedelta:
    return moment.astimezone(ZoneInfo(zone)).utcoffset() or timedelta(0)


def last_set(zone: str, low: datetime, high: datetime) -> datetime:
    """The instant in (low, high] at which the clock was set; there is one."""
    before = offset_at(zone, low)
    while high - low > US:
        middle = low + (high - low) // US // 2 * US
        low, high = (middle, high) if offset_at(zone, middle) == before else (low, middle)
    return high


@cache
def first_shown(zone: str, local: datetime) -> datetime:
    """The first instant at which the clock shows `local`, or where it leaps over it, the leap."""
    moment = local.replace(tzinfo=ZoneInfo(zone), fold=0).astimezone(UTC)
    if moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == local:
        return moment
    return last_set(zone, moment - 25 * HOUR, moment)


def period_start(day: date, unit: str) -> date:
    if unit == "week":
        return day - day.weekday() * DAY
    if unit == "month":
        return day.replace(day=1)
    if unit == "quarter":
        return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
    return day.replace(month=1, day=1) if unit == "year" else day


def midnight(day: date) -> datetime:
    return datetime.combine(day, time())


def slow_period(zone: str, moment: datetime, unit: str) -> tuple[datetime, datetime]:
    shown = moment.astimezone(ZoneInfo(zone)).date()
    here = period_start(shown, unit)
    longest = {"day": 1, "week": 7, "month": 31, "quarter": 92, "year": 366}[unit]
    days = {period_start(here + (periods * longest + days) * DAY, unit) for periods in range(3) for days in (-3, -2, -1, 0, 4)}
    starts = [first_shown(zone, midnight(day)) for day in days]
    return max(each for each in starts if each <= moment), min(each for each in starts if each > moment)


def slow_hour(zone: str, moment: datetime) -> tuple[datetime, datetime]:
    local = moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    start = moment - (local - local.replace(minute=0, second=0, microsecond=0))
    end = start + HOUR
    if offset_at(zone, start) != offset_at(zone, moment):
        start = last_set(zone, start, moment)
    if offset_at(zone, end) != offset_at(zone, moment):
        end = last_set(zone, moment, end)
    return start, end


def slow_business(
    zone: str, moment: datetime, *, opens: time, closes: time, days: set[int], holidays: set[date]
) -> tuple[datetime, datetime] | None:
    shown = moment.astimezone(ZoneInfo(zone)).date()
    for number in range(-3, 4):
        day = shown + number * DAY
        if day.weekday() in days and day not in holidays:
            start = first_shown(zone, datetime.combine(day, opens))
            end = first_shown(zone, datetime.combine(day if opens < closes else day + DAY, closes))
            if start <= moment < end:
                return start, end
    return None


# The kernel.


def windows(assigner: PaneAssigner, times: list[datetime]) -> list[tuple[datetime, datetime] | None]:
    panes = assigner.panes(np.array([us(each) for each in times], np.int64))
    pairs = list(zip(panes.starts.tolist(), panes.ends.tolist(), strict=True))
    assert {panes.index.dtype, panes.starts.dtype, panes.ends.dtype} == {np.dtype(np.int64)}
    assert pairs == sorted(set(pairs)), "distinct and ascending"
    assert sorted({*panes.index.tolist()} - {OUTSIDE}) == list(range(len(pairs))), "each has a row"
    assert all(start < end for start, end in pairs)
    assert all(ends <= starts for (_, ends), (starts, _) in pairwise(pairs)), "no overlap"
    return [None if at == OUTSIDE else (instant(pairs[at][0]), instant(pairs[at][1])) for at in panes.index.tolist()]


@pytest.mark.parametrize("unit", UNITS)
def test_calendar_periods_against_the_model(unit: str) -> None:
    @settings(max_examples=2000, deadline=None)
    @given(place=places)
    def check(place: tuple[str, list[datetime]]) -> None:
        zone, times = place
        found = windows(calendar(unit, zone=zone).assigner(), times)
        expected = [slow_hour(zone, each) if unit == "hour" else slow_period(zone, each, unit) for each in times]
        assert found == expected

    check()


quarters = st.integers(0, 95).map(lambda each: time(each // 4, each % 4 * 15))


@settings(max_examples=2000, deadline=None)
@given(
    place=places,
    opens=st.one_of(quarters, st.just(time(0))),
    closes=st.one_of(quarters, st.sampled_from([time(0), time(23, 59, 59, 999_999)])),
    days=st.sets(st.integers(0, 6), min_size=1),
    closed=st.lists(st.integers(0, 7)),
)
@example(place=("UTC", [EPOCH + 23 * HOUR, EPOCH + 30 * HOUR]), opens=time(22), closes=time(6), days={3}, closed=[])
def test_business_hours_against_the_model(
    place: tuple[str, list[datetime]], opens: time, closes: time, days: set[int], closed: list[int]
) -> None:
    zone, times = place
    if opens == closes:
        closes = time(12, 1)
    holidays = {times[at].date() for at in closed if at < len(times)}
    assigner = business_hours(zone, opens=opens, closes=closes, days=days, holidays=holidays).assigner()
    expected = [slow_business(zone, each, opens=opens, closes=closes, days=days, holidays=holidays) for each in times]
    assert windows(assigner, times) == expected


ODD = [
    ("America/Havana", "2024-11-03"),
    ("America/Juneau", "1867-10-19"),
    ("America/Sao_Paulo", "2018-11-04"),
    ("America/St_Johns", "2010-11-07"),
    ("Asia/Gaza", "2011-08-01"),
    ("Asia/Manila", "1844-12-31"),
    ("Australia/Lord_Howe", "2024-04-06"),
    ("Pacific/Apia", "2011-12-30"),
    ("Pacific/Kwajalein", "1969-09-30"),
]


@pytest.mark.parametrize(("zone", "day"), ODD)
def test_odd_days_in_one_batch(zone: str, day: str) -> None:
    times = [utc(day) + minutes * timedelta(minutes=1) for minutes in range(-3 * 1440, 3 * 1440, 15)]
    for unit in UNITS[:3]:
        expected = [slow_hour(zone, each) if unit == "hour" else slow_period(zone, each, unit) for each in times]
        assert windows(calendar(unit, zone=zone).assigner(), times) == expected
    for opens, closes in ((time(23, 30), time(0, 30)), (time(0, 30), time(23, 59, 59, 999_999)), (time(0), time(12))):
        expected = [slow_business(zone, each, opens=opens, closes=closes, days={*range(7)}, holidays=set()) for each in times]
        assert windows(business_hours(zone, opens=opens, closes=closes, days=range(7)).assigner(), times) == expected


def window_at(assigner: PaneAssigner, text: str) -> tuple[datetime, datetime]:
    (window,) = windows(assigner, [datetime.fromisoformat(text)])
    assert window is not None
    return window


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "moment", "start", "end"),
    [
        ("America/Sao_Paulo", "2018-11-04T12:00Z", "2018-11-04T03:00", "2018-11-05T02:00"),  # 00:00 does not exist: from 01:00 on
        ("America/Sao_Paulo", "2018-02-18T02:30Z", "2018-02-17T02:00", "2018-02-18T03:00"),  # 23:00 comes twice
        ("Asia/Beirut", "2024-03-31T12:00Z", "2024-03-30T22:00", "2024-03-31T21:00"),  # 00:00 does not exist
        ("America/Havana", "2024-03-10T12:00Z", "2024-03-10T05:00", "2024-03-11T04:00"),  # 00:00 does not exist
        ("America/Havana", "2024-11-03T12:00Z", "2024-11-03T04:00", "2024-11-04T05:00"),  # 00:00 comes twice
        ("America/St_Johns", "2010-11-07T02:45Z", "2010-11-07T02:30", "2010-11-08T03:30"),  # 00:01 back to 23:01
        ("Pacific/Apia", "2011-12-30T09:59Z", "2011-12-29T10:00", "2011-12-30T10:00"),  # and the 30th was left out
        ("Pacific/Apia", "2011-12-30T10:00Z", "2011-12-30T10:00", "2011-12-31T10:00"),  # this is the 31st
        ("Africa/Monrovia", "1972-01-06T12:00Z", "1972-01-06T00:44:30", "1972-01-07T00:44:30"),
        ("Africa/Monrovia", "1972-01-07T12:00Z", "1972-01-07T00:44:30", "1972-01-08T00:00"),
        ("Asia/Kolkata", "1969-12-31T18:29:59.999999Z", "1969-12-30T18:30", "1969-12-31T18:30"),
        ("America/New_York", "9998-07-01T12:00Z", "9998-07-01T04:00", "9998-07-02T04:00"),
    ],
)
def test_days_that_are_known(zone: str, moment: str, start: str, end: str) -> None:
    assert window_at(calendar("day", zone=zone).assigner(), moment) == (utc(start), utc(end))


@pytest.mark.parametrize(
    ("unit", "zone", "moment", "start", "end"),
    [
        ("week", "Europe/Dublin", "2021-01-03T23:59:59Z", "2020-12-28", "2021-01-04"),
        ("quarter", "UTC", "2024-03-31T23:00:00Z", "2024-01-01", "2024-04-01"),
        ("year", "Asia/Kolkata", "1969-12-31T19:00Z", "1969-12-31T18:30", "1970-12-31T18:30"),
    ],
)
def test_longer_periods_that_are_known(unit: str, zone: str, moment: str, start: str, end: str) -> None:
    assert window_at(calendar(unit, zone=zone).assigner(), moment) == (utc(start), utc(end))


def test_an_hour_that_comes_twice_is_two_windows() -> None:
    hours = CalendarPanes("hour", "America/New_York").panes(np.array([us(utc("2024-11-03T05:30")), us(utc("2024-11-03T06:30"))]))
    assert (hours.ends - hours.starts).tolist() == [3_600_000_000] * 2
    lord_howe = CalendarPanes("hour", "Australia/Lord_Howe")
    assert window_at(lord_howe, "2024-04-06T15:10Z") == (utc("2024-04-06T15:00"), utc("2024-04-06T15:30")), "set back by half an hour"


def test_a_day_whose_opening_is_leapt_over_opens_with_the_leap() -> None:
    shift = business_hours("America/New_York", opens=time(2, 30), closes=time(4), days=range(7)).assigner()
    assert window_at(shift, "2024-03-10T07:00Z") == (utc("2024-03-10T07:00"), utc("2024-03-10T08:00"))
    assert windows(shift, [utc("2024-03-10T06:59:59")]) == [None]
    gone = business_hours("Pacific/Apia", days=[4]).assigner()
    week = [utc("2011-12-28") + hour * HOUR for hour in range(24 * 6)]
    assert windows(gone, week) == [None] * len(week), "Friday the 30th was left out"


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata", "Pacific/Kiritimati"])
def test_the_first_and_the_last_year_have_windows(unit: str, zone: str) -> None:
    times = np.array([-62_135_596_800_000_000, 253_402_300_799_999_999], np.int64)
    panes = CalendarPanes(unit, zone).panes(times)
    assert panes.index.tolist() == [0, 1]
    assert (panes.starts <= times).all()
    assert (times < panes.ends).all()
    assert (panes.ends - panes.starts <= 367 * 86_400_000_000).all()


@pytest.mark.parametrize("unit", UNITS)
def test_ten_thousand_years_in_one_batch(unit: str) -> None:
    times = np.linspace(-62_135_596_800_000_000, 253_402_300_799_999_999, 50_000).astype(np.int64)
    panes = CalendarPanes(unit, "America/New_York").panes(np.random.default_rng(5).permutation(times))
    if unit == "year":
        assert len(panes.starts) == 10_000, "New York was still in the year 0"
    assert (panes.starts[1:] >= panes.ends[:-1]).all()


@pytest.mark.parametrize("assigner", [*(CalendarPanes(unit, "Asia/Kolkata") for unit in UNITS), business_hours("UTC").assigner()])
def test_no_rows_have_no_panes(assigner: PaneAssigner) -> None:
    assert windows(assigner, []) == []


def test_zones_have_the_offsets_that_zoneinfo_gives() -> None:
    random = np.random.default_rng(11)
    years = np.concatenate([random.uniform(1840, 2110, 60), random.uniform(2, 9990, 30)])
    seconds = ((years - 1970) * 31_556_952).astype(np.int64)
    for zone in sorted(available_timezones())[::5]:
        local = clock(zone)
        assert local.since[0] == NEVER_US
        assert (np.diff(local.since) > 0).all()
        assert (np.diff(local.offset) != 0).all()
        found = local.offset[local.stretch(seconds * 1_000_000)] // 1_000_000
        expected = [int(offset_at(zone, EPOCH + timedelta(seconds=int(each))).total_seconds()) for each in seconds]
        assert found.tolist() == expected, zone


def test_changes_of_offset_are_exact() -> None:
    for zone in ZONES:
        local = clock(zone)
        for since, before, after in zip(local.since[1:300], local.offset, local.offset[1:], strict=False):
            moment = instant(int(since))
            assert offset_at(zone, moment - US) == int(before) * US
            assert offset_at(zone, moment) == int(after) * US


def test_zone_files_come_from_the_package_where_the_system_has_none() -> None:
    before = zoneinfo.TZPATH
    try:
        zoneinfo.reset_tzpath([])
        assert _zone_file("America/New_York").startswith(b"TZif")
        assert len(clock.__wrapped__("America/New_York").since) > 1000
    finally:
        zoneinfo.reset_tzpath(before)
