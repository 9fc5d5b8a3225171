"""The days of New York: which rows came after theirs had closed, and what the days say.

Of the query's offset log only this is believed: which offsets made up each batch. How far time had come by then is recomputed from the
topic, and so are the bounds of each day, from the time zone database.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import pandas as pd

from jobs.flights.check.lateness import OffsetLog, batch_of

__all__ = ["by_day", "clock_watermarks_ms", "daily_departures", "late_for_days", "tabled", "unusual_days", "with_day"]

NEW_YORK: Final = "America/New_York"
SAMPLE: Final = 100  # records before the end of a partition's part of a batch that the event clock looks at
USUAL_HOURS: Final = 24
HOUR_S: Final = 3_600
KEYS: Final = ["origin", "day"]


def clock_watermarks_ms(events: pd.DataFrame, log: OffsetLog, *, lateness: timedelta) -> list[int]:
    """Return the watermark of each batch, as an event clock gives it.

    The time of a partition is the latest event among the last 100 records of its part of any batch so far. The clock shows the earliest
    of these times, once every partition has one; the watermark of the next batch is that, less the lateness, never falling.
    Not for a topic of which a partition is idle for long: such a one is left out, at a moment that is not written down.

    Parameters
    ----------
    events : DataFrame
        Good rows: ``partition``, ``offset``, ``event_time``.
    """
    batch = batch_of(events, log)
    read = events.assign(batch=batch, ms=events["event_time"].dt.tz_convert(None).astype("datetime64[ms]").astype("int64"))
    read = read[batch < len(log.ends)]
    end = pd.Series(
        [log.ends[number].get(partition, 0) for number, partition in zip(read["batch"], read["partition"], strict=True)],
        read.index,
        dtype="int64",
    )
    last = read[read["offset"] >= end - SAMPLE]
    newest = last.groupby(["batch", "partition"])["ms"].max().unstack("partition")
    newest = newest.reindex(index=range(len(log.ends)), columns=sorted(log.ends[-1])).cummax().ffill()
    clock = newest.min(axis="columns", skipna=False).shift(1)
    behind = int(lateness.total_seconds() * 1000)
    watermarks = (clock - behind).clip(lower=0).fillna(0).cummax()
    return [int(time) for time in watermarks]


def with_day(events: pd.DataFrame) -> pd.DataFrame:
    """Add ``day``, ``window_start`` and ``window_end`` of the day in New York that holds ``event_time``."""
    day = events["event_time"].dt.tz_convert(NEW_YORK).dt.tz_localize(None).dt.normalize()
    return events.assign(day=day, window_start=_midnight(day), window_end=_midnight(day + pd.Timedelta(days=1)))


def late_for_days(events: pd.DataFrame, watermarks_ms: list[int], log: OffsetLog) -> pd.DataFrame:
    """Return the rows of `with_day` whose day had ended at the watermark of their batch, with ``batch_id`` and ``lateness_ms``."""
    batch = batch_of(events, log)
    watermark = batch.map(dict(enumerate(watermarks_ms))).astype("float64")
    moment = pd.to_datetime(watermark, unit="ms", utc=True)
    behind_s = (moment - events["event_time"]).dt.total_seconds()
    late = events.assign(batch_id=batch, lateness_ms=(behind_s * 1000).round())
    late = late[events["window_end"] <= moment]
    return late.astype({"lateness_ms": "int64"})


def daily_departures(events: pd.DataFrame) -> pd.DataFrame:
    """Compute one row per origin and day from the rows of `with_day` that were in time."""
    left = events["event"] == "departure"
    rows = events.assign(left=left, delay=events["delay_minutes"].where(left), tail=events["tailnum"].where(left))
    grouped = rows.groupby(KEYS)
    result = pd.DataFrame(
        {
            "window_start": grouped["window_start"].first(),
            "window_end": grouped["window_end"].first(),
            "departures": grouped["left"].sum().astype("int64"),
            "cancelled": (grouped.size() - grouped["left"].sum()).astype("int64"),
            "mean_delay_minutes": grouped["delay"].mean().astype("float64"),
            "worst_delay_minutes": grouped["delay"].max(),
            "distinct_aircraft": grouped["tail"].nunique(),
        }
    )
    return result.reset_index()


def by_day(flights: pd.DataFrame) -> pd.DataFrame:
    """Count what the package knows: ``departures`` and ``cancelled`` by origin and day."""
    ours = with_day(flights[flights["event"] != "arrival"])
    return _counts(ours["event"] == "departure", ours)


def tabled(days: pd.DataFrame, late: pd.DataFrame) -> pd.DataFrame:
    """Add the late rows to the days they missed: ``departures`` and ``cancelled`` by origin and day, from the two tables."""
    missed = _counts(late["event"] == "departure", late)
    both = pd.concat([days[[*KEYS, "departures", "cancelled"]], missed])
    return both.groupby(KEYS, as_index=False).sum()


def unusual_days(days: pd.DataFrame) -> dict[str, float]:
    """Return the hours of the days that do not have 24, by day, from the bounds in the table."""
    hours = (days["window_end"] - days["window_start"]).dt.total_seconds() / HOUR_S
    odd = days.assign(hours=hours)[hours != USUAL_HOURS].drop_duplicates("day").sort_values("day")
    return {f"{day:%Y-%m-%d}": float(length) for day, length in zip(odd["day"], odd["hours"], strict=True)}


def _counts(left: pd.Series, rows: pd.DataFrame) -> pd.DataFrame:
    counted = rows[KEYS].assign(departures=left.astype("int64"), cancelled=(~left).astype("int64"))
    return counted.groupby(KEYS, as_index=False).sum()


def _midnight(day: pd.Series) -> pd.Series:
    # New York's clocks change at two in the morning: there is one midnight every day.
    moments: pd.Series = day.dt.tz_localize(NEW_YORK, ambiguous="raise", nonexistent="raise").dt.tz_convert("UTC")
    return moments
