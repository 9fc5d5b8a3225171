"""Flights out of New York by day, as people there count days.

The question: which days went wrong? A day lasts from midnight to midnight in New York: 23 hours on 10 March 2013, 25 on 3 November.
Shown here: a calendar window in a time zone, time that follows the slowest partition of the topic, rows that come after their day
has closed. Every function is DataFrame in, DataFrame out; the same on a stream and on a table.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_ext import windows
from spark_ext.state.control import Control
from spark_ext.windows import aggregates

__all__ = [
    "BY_DAY",
    "COLUMNS",
    "DAILY_DEPARTURES",
    "LATE_FOR_DAYS",
    "OUTWARD",
    "daily_departures",
    "departures_by_day",
    "end_of_day",
    "late_for_days",
]

NEW_YORK: Final = "America/New_York"
COLUMNS: Final = ("event", "event_time", "carrier", "flight", "tailnum", "origin", "dest", "delay_minutes")
OUTWARD: Final = (("event", "!=", "arrival"),)
# No grace: the watermark waits for late rows already, by the hours in the settings.
BY_DAY: Final = windows.calendar("day", zone=NEW_YORK).without_grace()
BUCKETS: Final = 4  # for three airports; said here so that it does not follow the size of a cluster
DAILY_DEPARTURES: Final = (
    "origin string, day date, window_start timestamp, window_end timestamp, departures bigint, cancelled bigint, "
    "mean_delay_minutes double, worst_delay_minutes int, distinct_aircraft bigint"
)
LATE_FOR_DAYS: Final = (
    "event string, event_time timestamp, carrier string, flight int, tailnum string, origin string, dest string, delay_minutes int, "
    "source struct<topic: string, partition: int, offset: bigint, timestamp: timestamp>, day date, window_start timestamp, "
    "window_end timestamp, lateness_ms bigint, batch_id bigint"
)


def departures_by_day(events: DataFrame, *, control: Control | None = None) -> DataFrame:
    """Group departures and cancellations by origin and day in New York; rows that come after their day come out as well.

    Parameters
    ----------
    events : DataFrame
        `COLUMNS` and ``source`` of good rows: a stream with a watermark, or a table, of which nothing is late.
    control : Control, optional
        Where the end of input is told, so that the last days close.

    Returns
    -------
    DataFrame
        Tagged rows, for `daily_departures` and `late_for_days`.

    State, on a stream: one row per open day and origin, with its tail numbers; gone once the watermark has passed the day.
    """
    left = F.col("event") == "departure"
    # An aggregate looks at one column and passes over nulls: that is how it counts only some rows.
    parts = {
        "departure": F.when(left, F.lit(1)),
        "cancellation": F.when(~left, F.lit(1)),
        "departure_delay": F.when(left, F.col("delay_minutes")),
        "aircraft": F.when(left, F.col("tailnum")),
    }
    return windows.aggregate(
        events.where(F.col("event") != "arrival").withColumns(parts),
        keys=["origin"],
        event_time="event_time",
        window=BY_DAY,
        aggregates={
            "departures": aggregates.count("departure"),
            "cancelled": aggregates.count("cancellation"),
            "mean_delay_minutes": aggregates.mean("departure_delay"),
            "worst_delay_minutes": aggregates.max("departure_delay"),
            "distinct_aircraft": aggregates.distinct("aircraft"),
        },
        columns=[*COLUMNS, "source"],
        buckets=BUCKETS,
        control=control,
    )


def daily_departures(tagged: DataFrame) -> DataFrame:
    """Return one row per origin and closed day, as in `DAILY_DEPARTURES`."""
    return windows.results(tagged).select(
        "origin", *_day(), "departures", "cancelled", "mean_delay_minutes", "worst_delay_minutes", "distinct_aircraft"
    )


def late_for_days(tagged: DataFrame) -> DataFrame:
    """Return the events whose day had closed, as in `LATE_FOR_DAYS` but for the batch: the event, its day, how far behind it came."""
    fields = [F.col(f"event.{name}").alias(name) for name in (*COLUMNS, "source")]
    return windows.late(tagged).select(*fields, *_day(), "lateness_ms")


def end_of_day(moment: datetime) -> datetime:
    """Return the end of the day in New York that holds a moment, in UTC.

    Examples
    --------
    >>> end_of_day(datetime(2013, 3, 10, 12, tzinfo=UTC)).isoformat()
    '2013-03-11T04:00:00+00:00'
    """
    zone = ZoneInfo(NEW_YORK)
    return datetime.combine(moment.astimezone(zone).date() + timedelta(days=1), time.min, zone).astimezone(UTC)


def _day() -> tuple[Column, Column, Column]:
    start, end = F.col("window.start"), F.col("window.end")
    return F.to_date(F.from_utc_timestamp(start, NEW_YORK)).alias("day"), start.alias("window_start"), end.alias("window_end")
