"""Shapes of windows: what they refuse, how they are told apart, and panes on a grid against a model in plain integers."""

import json
import pickle
from datetime import UTC, date, datetime, time, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spark_ext.errors import SettingsError
from spark_ext.state.kernel import FOREVER_US, NEVER_US
from spark_ext.windows.aligned_kernel import AlignedPanes, distinct, window_of_panes
from spark_ext.windows.panes import Panes
from spark_ext.windows.shapes import (
    Shape,
    TimeShape,
    Window,
    assigned,
    business_hours,
    calendar,
    checked_window,
    count_sliding,
    count_tumbling,
    global_window,
    session,
    sliding,
    tumbling,
)

SECOND = timedelta(seconds=1)
FIRST_US, LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999  # years 1 to 9999

small = st.integers(1, 60)
microseconds = st.one_of(small, st.integers(1, 10**7), st.sampled_from([86_400_000_000, 60_000_000, 3_652_425 * 86_400_000_000]))
near = st.lists(st.integers(-200, 200), max_size=30)
moments = st.one_of(near, st.lists(st.integers(FIRST_US, LAST_US), max_size=8), near.map(lambda each: [t * 1_000_000 for t in each]))


def us(microseconds: int) -> timedelta:
    return timedelta(microseconds=microseconds)


def rows_of(times: list[int], panes: Panes) -> list[tuple[int, int]]:
    """The pane of each row, after checking what every assigner promises."""
    pairs = list(zip(panes.starts.tolist(), panes.ends.tolist(), strict=True))
    assert {panes.index.dtype, panes.starts.dtype, panes.ends.dtype} == {np.dtype(np.int64)}
    assert pairs == sorted(set(pairs)), "distinct and ascending"
    assert sorted(set(panes.index.tolist())) == list(range(len(pairs))), "each has a row"
    assert len(panes.index) == len(times)
    return [pairs[at] for at in panes.index.tolist()]


def slow_windows(time_: int, length: int, every: int, offset: int) -> list[tuple[int, int]]:
    """Walk back from some start behind the time until windows no longer reach it."""
    start = offset + ((time_ - offset) // every + 1) * every
    found = []
    while start > time_ - length:
        if start <= time_ < start + length:
            found.append((start, start + length))
        start -= every
    return found[::-1]


@settings(max_examples=2000, deadline=None)
@given(times=moments, length=microseconds, offset=st.integers(-(10**8), 10**8))
@example(times=[-1, 0, -10, -11], length=10, offset=0)
def test_tumbling_panes_are_the_windows(times: list[int], length: int, offset: int) -> None:
    panes = tumbling(us(length), offset=us(offset)).assigner().panes(np.array(times, np.int64))
    for time_, (start, end) in zip(times, rows_of(times, panes), strict=True):
        assert start <= time_ < end
        assert end - start == length
        assert (start - offset) % length == 0


@settings(max_examples=2000, deadline=None)
@given(times=moments, every=microseconds, more=st.integers(0, 300), whole=st.integers(1, 20), offset=st.integers(-(10**8), 10**8))
@example(times=[-1, 0, 29, 30], every=20, more=10, whole=1, offset=0)
def test_sliding_panes_tell_the_windows(times: list[int], every: int, more: int, whole: int, offset: int) -> None:
    length = min(every * whole + more, 3_652_425 * 86_400_000_000)
    shape = sliding(us(length), every=us(every), offset=us(offset))
    panes = shape.assigner().panes(np.array(times, np.int64))
    first, count = window_of_panes(panes.starts, length_us=shape.length_us, every_us=shape.every_us, offset_us=shape.offset_us)
    for at, time_, (start, end) in zip(panes.index.tolist(), times, rows_of(times, panes), strict=True):
        assert start <= time_ < end
        windows = [(s, s + length) for s in range(int(first[at]), int(first[at]) + int(count[at]) * every, every)]
        assert windows == slow_windows(time_, length, every, offset)
        assert all(s <= start and end <= e for s, e in windows), "windows are whole panes"


@given(times=moments, every=small, more=st.integers(0, 300))
def test_windows_are_covered_by_panes_without_gap(times: list[int], every: int, more: int) -> None:
    shape = sliding(us(every + more), every=us(every))
    grid = list(range(-200, 200))
    panes = shape.assigner().panes(np.array(grid, np.int64))
    assert panes.starts[1:].tolist() == panes.ends[:-1].tolist()
    assert len(panes.starts) <= 2 * (400 // every + 2), "two per interval, however odd the length"
    some = shape.assigner().panes(np.array(times, np.int64))
    known = set(zip(panes.starts.tolist(), panes.ends.tolist(), strict=True))
    for time_, pane in zip(times, rows_of(times, some), strict=True):
        assert pane in known or not -200 <= time_ < 200, "the same pane for the same time in every batch"


@settings(max_examples=2000, deadline=None)
@given(times=moments)
def test_the_global_window_holds_everything(times: list[int]) -> None:
    panes = global_window().assigner().panes(np.array(times, np.int64))
    assert rows_of(times, panes) == [(NEVER_US, FOREVER_US)] * len(times)


@settings(max_examples=500, deadline=None)
@given(codes=st.lists(st.one_of(st.integers(-40, 40), st.integers(-(2**61), 2**61)), max_size=40), stretch=st.sampled_from([1, 3, 10**6]))
@example(codes=[0, 200_000], stretch=1)
def test_distinct_codes(codes: list[int], stretch: int) -> None:
    codes = [code * stretch for code in codes if abs(code * stretch) < 2**61]
    index, values = distinct(np.array(codes, np.int64))
    assert values.tolist() == sorted(set(codes))
    assert values[index].tolist() == codes


def test_a_sliding_pane_is_an_interval_where_it_fits() -> None:
    panes = sliding(us(30), every=us(10), offset=us(3)).assigner().panes(np.arange(3, 23))
    assert (panes.starts.tolist(), panes.ends.tolist()) == ([3, 13], [13, 23])
    panes = AlignedPanes(length_us=25, every_us=10, offset_us=0).panes(np.arange(20))
    assert (panes.starts.tolist(), panes.ends.tolist()) == ([0, 5, 10, 15], [5, 10, 15, 20])


def test_input_stays_as_it_was() -> None:
    times = np.array([5, 3, 8], np.int64)
    times.flags.writeable = False
    for shape in ALL:
        if isinstance(shape, TimeShape) and shape.kind != "assigned":
            shape.assigner().panes(times)
    assert times.tolist() == [5, 3, 8]


def minutes(times_us: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    starts = times_us // 60_000_000 * 60_000_000
    return starts, starts + 60_000_000


ALL: list[Shape] = [
    tumbling(SECOND),
    tumbling(2 * SECOND),
    tumbling(2 * SECOND, offset=SECOND),
    sliding(2 * SECOND, every=2 * SECOND),
    sliding(2 * SECOND, every=SECOND),
    sliding(2 * SECOND, every=SECOND, offset=us(1)),
    session(SECOND),
    session(SECOND, maximum=SECOND),
    count_tumbling(10),
    count_sliding(10, every=10),
    count_sliding(10, every=5),
    calendar("day", zone="UTC"),
    calendar("week", zone="UTC"),
    calendar("day", zone="Asia/Kolkata"),
    business_hours("UTC"),
    business_hours("Asia/Kolkata"),
    business_hours("UTC", opens=time(8)),
    business_hours("UTC", closes=time(18)),
    business_hours("UTC", days=[0]),
    business_hours("UTC", holidays=[date(2024, 12, 25)]),
    global_window(),
    assigned(minutes, name="minutes"),
    assigned(minutes, name="minutes_v2"),
]


def test_shapes_are_told_apart_by_value_and_by_settings() -> None:
    windows = [shape.with_grace(grace) for shape in ALL for grace in (timedelta(0), SECOND)]
    for i, one in enumerate(windows):
        for j, other in enumerate(windows):
            assert (one == other) is (i == j)
            assert (one.settings == other.settings) is (i == j)
    assert len(set(windows)) == len(windows)


@pytest.mark.parametrize("shape", ALL, ids=lambda shape: shape.kind)
def test_windows_can_be_sent_and_written_down(shape: Shape) -> None:
    window = shape.with_grace(SECOND)
    assert pickle.loads(pickle.dumps(window)) == window  # noqa: S301 - our own bytes
    assert json.loads(json.dumps(window.settings)) == window.settings
    assert window == Window(shape, 1_000_000)
    assert shape.without_grace() == shape.with_grace(timedelta(0))
    assert isinstance(shape, TimeShape) is hasattr(shape, "assigner")
    with pytest.raises(AttributeError):
        window.grace_us = 0  # type: ignore[misc]


def test_settings_are_written_out() -> None:
    shape = business_hours("Asia/Tokyo", opens=time(22, 30), closes=time(6), days=[4, 0, 0], holidays=[date(2025, 1, 1), date(2024, 1, 1)])
    assert shape.without_grace().settings == {
        "window": {
            "kind": "business_hours",
            "zone": "Asia/Tokyo",
            "opens_us": 81_000_000_000,
            "closes_us": 21_600_000_000,
            "days": [0, 4],
            "holidays": ["2024-01-01", "2025-01-01"],
        },
        "grace_us": 0,
    }
    assert sliding(3 * SECOND, every=SECOND, offset=-us(1)).settings == {
        "kind": "sliding",
        "length_us": 3_000_000,
        "every_us": 1_000_000,
        "offset_us": 999_999,
    }


def test_a_shape_without_a_lateness_policy_cannot_be_used() -> None:
    window = tumbling(SECOND).without_grace()
    assert checked_window(window) is window
    with pytest.raises(SettingsError, match=r"cannot use window 'tumbling': expected a lateness policy, got none; .*add \.with_grace"):
        checked_window(tumbling(SECOND))
    with pytest.raises(SettingsError, match="cannot use window '1 minute': expected a window, got str; make one with"):
        checked_window("1 minute")


def test_pandas_durations_are_taken_where_they_are_exact() -> None:
    assert tumbling(pd.Timedelta(minutes=1, microseconds=7)) == tumbling(timedelta(minutes=1, microseconds=7))
    assert tumbling(SECOND, offset=pd.Timedelta(microseconds=-1)).offset_us == 999_999
    assert count_tumbling(np.int64(3)).settings == {"kind": "count_tumbling", "rows": 3}
    assert type(count_tumbling(np.int64(3)).rows) is int


REFUSED = [
    (lambda: tumbling(timedelta(0)), r"cannot build window 'tumbling': expected length > 0, got datetime.timedelta\(0\); give a positive"),
    (lambda: tumbling(-SECOND), "expected length > 0"),
    (lambda: tumbling(60), "expected length as a datetime.timedelta, got 60; plain numbers have no unit; give a timedelta"),
    (lambda: tumbling("1 minute"), "got '1 minute'"),
    (lambda: tumbling(np.timedelta64(1, "s")), "expected length as a datetime.timedelta"),
    (lambda: tumbling(pd.NaT), "expected length as a datetime.timedelta, got NaT"),
    (lambda: tumbling(pd.Timedelta(microseconds=1, nanoseconds=1)), "expected length in whole microseconds"),
    (lambda: tumbling(timedelta(days=3_652_426)), "expected length of at most 10,000 years, .*; use global_window"),
    (lambda: tumbling(SECOND, offset=1), "expected offset as a datetime.timedelta"),
    (lambda: tumbling(SECOND, offset=timedelta.min), "expected offset of at most 10,000 years"),
    (lambda: sliding(SECOND, every=timedelta(0)), "expected every > 0"),
    (
        lambda: sliding(SECOND, every=2 * SECOND),
        "'sliding': expected every of at most the length .*; rows between two windows would be in none; ",
    ),
    (lambda: sliding(timedelta(days=2), every=SECOND), "every of at least 1/100,000 of the length, .*each row would be in 172,800 windows"),
    (lambda: session(timedelta(0)), "'session': expected gap > 0"),
    (lambda: session(SECOND, maximum=us(999_999)), "expected maximum of at least the gap"),
    (lambda: session(SECOND, maximum=5), "expected maximum as a datetime.timedelta"),
    (lambda: count_tumbling(0), "'count_tumbling': expected rows from 1 to 2,147,483,647, got 0"),
    (lambda: count_tumbling(1.0), "expected rows from 1 to 2,147,483,647, got 1.0; give a whole number"),
    (lambda: count_tumbling(True), "got True"),
    (lambda: count_tumbling(2**31), "got 2147483648"),
    (lambda: count_sliding(2, every=3), "expected every of at most rows = 2, got 3; rows between two windows would be in none"),
    (lambda: count_sliding(2, every=0), "'count_sliding': expected every from 1"),
    (lambda: calendar("fortnight", zone="UTC"), "'calendar': expected a unit among hour, day, week, month, quarter, year, got 'fortnight'"),
    (lambda: calendar("months", zone="UTC"), "did you mean 'month'"),
    (lambda: calendar("day", zone="Europe/Berln"), "got 'Europe/Berln'; did you mean 'Europe/Berlin'"),
    (lambda: calendar("day", zone="New York"), "did you mean 'America/New_York'"),
    (lambda: calendar("day", zone="xqzw"), "expected a zone of the time zone database, got 'xqzw'; give a name such as 'Europe/Berlin'"),
    (lambda: calendar("day", zone=""), "expected a zone"),
    (lambda: calendar("day", zone="../../etc/passwd"), "expected a zone"),
    (lambda: calendar("day", zone="America"), "expected a zone"),
    (lambda: calendar("day", zone="localtime"), "expected a zone"),
    (lambda: calendar("day", zone=None), "expected a zone of the time zone database, got None"),
    (lambda: calendar("day", zone=timezone.utc), "expected a zone of the time zone database, got datetime.timezone.utc"),  # noqa: UP017
    (lambda: business_hours("Mars/Base"), "'business_hours': expected a zone"),
    (lambda: business_hours("UTC", opens=time(9), closes=time(9)), "expected opens and closes that differ"),
    (lambda: business_hours("UTC", opens=9), "expected opens as a local time of day, got 9"),
    (lambda: business_hours("UTC", closes=time(9, tzinfo=UTC)), "expected closes as a local time of day, .*without tzinfo"),
    (lambda: business_hours("UTC", days=[]), "expected at least one weekday, .*it would never open"),
    (lambda: business_hours("UTC", days=[7]), "expected days from 0 .* got 7"),
    (lambda: business_hours("UTC", days="01"), "expected days as a list, got '01'"),
    (lambda: business_hours("UTC", days=3), "expected days as a list, got 3"),
    (lambda: business_hours("UTC", holidays=["2024-01-01"]), "expected holidays as datetime.date, got '2024-01-01'"),
    (lambda: business_hours("UTC", holidays=[datetime(2024, 1, 1, tzinfo=UTC)]), r"of a datetime that is .date\(\)"),
    (lambda: assigned(3, name="three"), "'assigned': expected a function of event times, got 3"),
    (lambda: assigned(minutes, name=" "), "expected a name, got ' '; checkpoints know the function by it"),
    (lambda: tumbling(SECOND).with_grace(-SECOND), "'tumbling': expected grace >= 0, .*; use without_grace"),
    (lambda: tumbling(SECOND).with_grace(None), "expected grace as a datetime.timedelta, got None"),
    (lambda: tumbling(SECOND).with_grace(timedelta.max), "expected grace of at most 10,000 years"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED)
def test_what_makes_no_window_is_refused(build: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build()  # type: ignore[operator]
