"""The proof: topic against package, tables against topic, number by number."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import pandas as pd
from deltalake import DeltaTable

from jobs.flights.check import days
from jobs.flights.check.broker import FIELDS, parse, read_topic
from jobs.flights.check.compare import differences
from jobs.flights.check.expected import flight_events
from jobs.flights.check.lateness import OffsetLog, batch_of, read_offset_log, watermarks_ms
from jobs.flights.check.summaries import departures_weather, hourly_departures, routes

__all__ = ["Result", "Step", "check", "prove"]

LATENESS: Final = timedelta(hours=6)
TABLES: Final = (
    "flight_events",
    "late_events",
    "dead_letters",
    "source_ranges",
    "departures_weather",
    "hourly_departures",
    "routes",
    "daily_departures",
    "late_for_days",
    "ledger",
)
EVENTS: Final = "flights/events"
RECORD: Final = ["partition", "offset"]
COUNTED: Final = ("read", "decoded", "dead", "lost")
SOURCE: Final = {name: f"source.{name}" for name in ("topic", "partition", "offset", "timestamp")}
SOURCE_KEY: Final = [SOURCE[name] for name in RECORD]


@dataclass(frozen=True)
class Step:
    """One thing that was compared: how many rows were expected, and every difference."""

    name: str
    compared: int
    mismatches: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """What the proof found. Counts are rows of the topic and of the tables as they are.

    `outward` are departures and cancellations in the topic, `in_days` those that the days count; `unusual_days` has the hours of the days
    in New York that do not have 24. `epochs` are those of each pipeline in the ledger, `unbalanced` how many of them do not add up.
    """

    broker_rows: int
    facts: int
    dead_letters: int
    late_rows: int
    windows: int
    routes: int
    outward: int
    days: int
    in_days: int
    late_for_days: int
    unusual_days: dict[str, float]
    source: dict[str, int]
    epochs: dict[str, int]
    unbalanced: int
    steps: tuple[Step, ...]

    @property
    def mismatches(self) -> list[str]:
        """All differences in words."""
        return [text for step in self.steps for text in step.mismatches]

    @property
    def ok(self) -> bool:
        """Whether every number agrees."""
        return not self.mismatches


def check(out: Path, bootstrap_servers: str, topic: str, *, lateness: timedelta = LATENESS) -> Result:
    """Compare the flights job's output with the topic and with the package.

    Parameters
    ----------
    out : Path
        The job's folder, with ``tables/`` and ``checkpoints/``. The job must be at rest.
    bootstrap_servers, topic : str
        Where the events are.
    lateness : timedelta
        By how much the watermark stays behind the latest event.

    Raises
    ------
    ProofError
        The topic or the offset log cannot be read.
    """
    return prove(read_topic(bootstrap_servers, topic), flight_events(), out, topic, lateness=lateness)


def prove(records: pd.DataFrame, flights: pd.DataFrame, out: Path, topic: str, *, lateness: timedelta = LATENESS) -> Result:
    """Do what `check` does, for records and flights already at hand.

    Parameters
    ----------
    records : DataFrame
        As `jobs.flights.check.broker.read_topic` returns them.
    flights : DataFrame
        As `jobs.flights.check.expected.flight_events` returns them: the events that the topic must hold.
    out, topic, lateness
        As for `check`.
    """
    tables = {name: _read(out, name) for name in TABLES}
    log = read_offset_log(out / "checkpoints" / "events" / "spark" / "offsets", topic)
    good, bad = parse(records.assign(topic=topic))

    batch = batch_of(good, log)
    watermarks = watermarks_ms(good["event_time"], batch, batches=len(log.ends), lateness=lateness)
    good = good.assign(batch_id=batch, watermark=pd.to_datetime(batch.map(dict(enumerate(watermarks))), unit="ms", utc=True))
    late = good["event_time"].dt.floor("h") + pd.Timedelta(hours=1) <= good["watermark"]
    accepted = good[~late]

    unread = records[batch_of(records, log) == len(log.ends)]
    steps = (
        _step("events in the topic", "topic", _counted(flights), _counted(good[FIELDS]), EVENT_KEY),
        Step(
            "records in batches",
            len(records),
            tuple(f"offset log: expected a batch with {tuple(row)}, got none" for row in unread[RECORD].to_numpy()),
        ),
        _step("source's accounts", "source_ranges", _accounts(records, good), _summed(tables["source_ranges"]), ["partition"]),
        _step("dead letters", "dead_letters", bad, tables["dead_letters"], RECORD),
        _step("watermarks", "offset log", _watermark_frame(watermarks), _watermark_frame(log.watermarks_ms), ["batch"]),
        _step("late events", "late_events", _facts(good[late]), tables["late_events"], SOURCE_KEY),
        _step(
            "flight events", "flight_events", _facts(accepted).drop(columns=["batch_id", "watermark"]), tables["flight_events"], SOURCE_KEY
        ),
        _step(
            "weather as of departure",
            "departures_weather",
            departures_weather(accepted).rename(columns=SOURCE),
            tables["departures_weather"],
            SOURCE_KEY,
        ),
        _step(
            "hourly departures", "hourly_departures", hourly_departures(accepted), tables["hourly_departures"], ["origin", "window_start"]
        ),
        _step("routes", "routes", routes(accepted), tables["routes"], ["origin", "dest", "carrier"]),
        _ledger(records, log, accepted, good[late], bad, tables["ledger"]),
        *_days(good, flights, tables, read_offset_log(out / "checkpoints" / "days" / "spark" / "offsets", topic), lateness),
        _sum(len(records), {name: len(tables[name]) for name in ("flight_events", "dead_letters", "late_events")}),
    )
    return Result(
        broker_rows=len(records),
        facts=len(tables["flight_events"]),
        dead_letters=len(tables["dead_letters"]),
        late_rows=len(tables["late_events"]),
        windows=len(tables["hourly_departures"]),
        routes=len(tables["routes"]),
        outward=int((good["event"] != "arrival").sum()),
        days=len(tables["daily_departures"]),
        in_days=int(tables["daily_departures"][["departures", "cancelled"]].to_numpy().sum()),
        late_for_days=len(tables["late_for_days"]),
        unusual_days=days.unusual_days(tables["daily_departures"]),
        source=_totals(tables["source_ranges"]),
        epochs={str(name): int(count) for name, count in tables["ledger"].groupby("pipeline").size().items()},
        unbalanced=int((~tables["ledger"]["is_balanced"].astype("bool")).sum()),
        steps=steps,
    )


def _ledger(
    records: pd.DataFrame, log: OffsetLog, accepted: pd.DataFrame, late: pd.DataFrame, bad: pd.DataFrame, ledger: pd.DataFrame
) -> Step:
    """Compare what the ledger says of each batch of the events with the topic."""
    batches = pd.Index(range(len(log.ends)), name="batch_id")
    parts = {"read": records, "accepted": accepted, "late": late, "dead": bad}
    counts = {name: batch_of(part, log).value_counts().reindex(batches, fill_value=0) for name, part in parts.items()}
    ours = ledger[(ledger["pipeline"] == EVENTS) & ledger["replay_of"].isna()]
    return _step(
        "ledger of the events", "ledger", pd.DataFrame(counts).astype("int64").reset_index(), ours[["batch_id", *parts]], ["batch_id"]
    )


def _days(good: pd.DataFrame, flights: pd.DataFrame, tables: dict[str, pd.DataFrame], log: OffsetLog, lateness: timedelta) -> list[Step]:
    """Compare the days with the topic, row by row, and with the package, whatever the log says."""
    closed, table = tables["daily_departures"], tables["late_for_days"]
    watermarks = days.clock_watermarks_ms(good, log, lateness=lateness)
    ours = days.with_day(good[good["event"] != "arrival"])
    late = days.late_for_days(ours, watermarks, log)
    expected = late.drop(columns=["scheduled_time", "watermark"]).rename(columns=SOURCE)
    return [
        _step("watermarks of the days", "days' offset log", _watermark_frame(watermarks), _watermark_frame(log.watermarks_ms), ["batch"]),
        _step("late for their day", "late_for_days", expected, table, SOURCE_KEY),
        _step("days", "daily_departures", days.daily_departures(ours.drop(late.index)), closed, DAY_KEY),
        _step("days + late, by the package", "daily_departures + late_for_days", days.by_day(flights), days.tabled(closed, table), DAY_KEY),
    ]


DAY_KEY: Final = ["origin", "day"]
EVENT_KEY: Final = ["event", "carrier", "flight", "origin", "dest", "scheduled_time", "occurrence"]


def _read(out: Path, name: str) -> pd.DataFrame:
    # Arrow splits the struct into columns; pandas would make a dictionary of each row.
    frame: pd.DataFrame = DeltaTable(str(out / "tables" / name)).to_pyarrow_table().flatten().to_pandas(date_as_object=False)
    return frame


def _step(name: str, table: str, expected: pd.DataFrame, got: pd.DataFrame, keys: list[str]) -> Step:
    return Step(name, len(expected), tuple(differences(table, expected, got, keys)))


def _counted(events: pd.DataFrame) -> pd.DataFrame:
    """Count up equal events, so that the comparison is one of multisets."""
    return events.assign(occurrence=events.groupby(EVENT_KEY[:-1]).cumcount())


def _accounts(records: pd.DataFrame, good: pd.DataFrame) -> pd.DataFrame:
    """Count per partition what a source must have met; offsets between the first and the last that are no records are absent."""
    offsets = records.groupby("partition")["offset"]
    counted = pd.DataFrame({"read": offsets.size(), "decoded": good.groupby("partition").size()}).fillna(0).astype("int64")
    counted["dead"] = counted["read"] - counted["decoded"]
    return counted.assign(lost=0, unaccounted=0).reset_index()


def _summed(ranges: pd.DataFrame) -> pd.DataFrame:
    """Add up a source's accounts per partition, and what they leave open."""
    total = ranges.groupby("partition")[["start", "end", *COUNTED, "absent"]].sum()
    total["unaccounted"] = total["end"] - total["start"] - total["read"] - total["lost"] - total["absent"]
    return total[[*COUNTED, "unaccounted"]].astype("int64").reset_index()


def _totals(ranges: pd.DataFrame) -> dict[str, int]:
    return {"offsets": int((ranges["end"] - ranges["start"]).sum())} | {name: int(ranges[name].sum()) for name in (*COUNTED, "absent")}


def _facts(good: pd.DataFrame) -> pd.DataFrame:
    day = good["event_time"].dt.tz_convert(None).dt.normalize()
    return good.rename(columns=SOURCE).assign(event_date=day)


def _watermark_frame(milliseconds: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"batch": range(len(milliseconds)), "batchWatermarkMs": milliseconds})


def _sum(broker_rows: int, tables: dict[str, int]) -> Step:
    total = sum(tables.values())
    text = f"sum: expected {broker_rows:,} rows of the topic in the tables, got {total:,} ({tables})"
    return Step("sum of all rows", broker_rows, () if total == broker_rows else (text,))
