"""The day of a moment in New York, and when a job says that the input has ended."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest

from jobs.flights.check.days import clock_watermarks_ms, unusual_days, with_day
from jobs.flights.check.lateness import OffsetLog
from jobs.flights.days import end_of_day

# what: (moment, end of its day in New York)
MOMENTS = {
    "winter": ("2013-01-01T10:00", "2013-01-02T05:00"),
    "last second of a day": ("2013-01-02T04:59:59", "2013-01-02T05:00"),
    "midnight belongs to the day that begins": ("2013-01-02T05:00", "2013-01-03T05:00"),
    "summer": ("2013-07-01T03:59", "2013-07-01T04:00"),
    "23 hours": ("2013-03-10T05:00", "2013-03-11T04:00"),
    "25 hours": ("2013-11-03T04:00", "2013-11-04T05:00"),
    "the hour that comes twice": ("2013-11-03T06:30", "2013-11-04T05:00"),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_both_sides_end_a_day_at_midnight_in_new_york(name: str) -> None:
    moment, end = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in MOMENTS[name])
    assert end_of_day(moment) == end
    assert end_of_day(moment).tzinfo is UTC
    assert with_day(pd.DataFrame({"event_time": [pd.Timestamp(moment)]}))["window_end"].tolist() == [end]


def test_days_that_have_another_length_are_named_once() -> None:
    times = pd.to_datetime(["2013-03-09T12:00Z", "2013-03-10T12:00Z", "2013-03-10T13:00Z", "2013-11-03T12:00Z"])
    assert unusual_days(with_day(pd.DataFrame({"event_time": times}))) == {"2013-03-10": 23.0, "2013-11-03": 25.0}


def test_the_slowest_partition_holds_the_watermark_and_only_its_last_records_count() -> None:
    rows = [(0, at, f"2013-01-01T{10 if at < 50 else 6}:00Z") for at in range(200)]  # the ten o'clocks are not among the last 100
    rows += [(1, at, "2013-01-01T08:00Z") for at in range(100)] + [(1, at, "2013-01-01T07:00Z") for at in range(100, 110)]
    events = pd.DataFrame(rows, columns=["partition", "offset", "event_time"])
    events["event_time"] = pd.to_datetime(events["event_time"], utc=True)
    log = OffsetLog(ends=[{0: 0, 1: 100}, {0: 200, 1: 100}, {0: 200, 1: 110}, {0: 200, 1: 110}], watermarks_ms=[])
    hour = pd.Timedelta(hours=1)
    found = clock_watermarks_ms(events, log, lateness=hour)
    # One has nothing yet: no time. Then 6 of 6 and 8, for good, as neither goes back.
    assert found == [0, 0, *[pd.Timestamp("2013-01-01T05:00Z").value // 1_000_000] * 2]
