"""The proof passes on what a slow model wrote, row by row, and reports each kind of damage."""

from __future__ import annotations

import io
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from rich.console import Console

from jobs.flights.check import Result, __main__, expected, prove, summarise
from jobs.flights.check.broker import FIELDS, ProofError, parse
from jobs.flights.check.compare import differences
from jobs.flights.events import dimensions, events
from jobs.flights.publish import records as serialise

Row = dict[str, Any]
FIRST, ROWS, BATCH_ROWS, DAY_BATCH_ROWS, PARTITIONS = 1_300, 900, 100, 300, 2  # over a midnight of New York
STRAGGLERS = slice(10, 25)  # published last of all
SAMPLE = 100
LATENESS = timedelta(hours=1)
NEW_YORK = ZoneInfo("America/New_York")
EPOCH = datetime.fromtimestamp(0, UTC)
PUBLISHED = datetime(2026, 1, 1, 12, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")
GARBAGE = [
    b"no json", b"", None, b"\xff\xfe{}", b"[1]", b'"text"', b'{"event":"departure"}', b"{}{}",
    b'{"event":"diverted","event_time":"2013-01-01T10:17:00Z","scheduled_time":"2013-01-01T10:15:00Z","carrier":"UA","flight":1545,'
    b'"tailnum":null,"origin":"EWR","dest":"IAH","delay_minutes":2}',
    b'{"event":"departure","event_time":"yesterday","scheduled_time":"2013-01-01T10:15:00Z","carrier":"UA","flight":1545,'
    b'"tailnum":null,"origin":"EWR","dest":"IAH","delay_minutes":2}',
    b'{"event":"departure","event_time":"2999-01-01T10:15:00Z","scheduled_time":"2013-01-01T10:15:00Z","carrier":"UA","flight":1545,'
    b'"tailnum":null,"origin":"EWR","dest":"IAH","delay_minutes":2}',
    b'{"event":"departure","event_time":"2013-01-01T10:15:00Z","scheduled_time":"2013-01-01T10:15:00Z","carrier":"UA","flight":"1545",'
    b'"tailnum":null,"origin":"EWR","dest":"IAH","delay_minutes":2}',
    b'{"event":"departure","event_time":"2013-01-01T10:15:00Z","scheduled_time":"2013-01-01T10:15:00Z","carrier":"UA","flight":4294967296,'
    b'"tailnum":null,"origin":"EWR","dest":"IAH","delay_minutes":2}',
]  # fmt: skip

EVENT = [
    ("event", pa.string()), ("event_time", TIME), ("scheduled_time", TIME), ("carrier", pa.string()), ("flight", pa.int32()),
    ("tailnum", pa.string()), ("origin", pa.string()), ("dest", pa.string()), ("delay_minutes", pa.int32()),
    ("source", pa.struct([("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64()), ("timestamp", TIME)])),
    ("event_date", pa.date32()),
]  # fmt: skip
RANGE_COUNTS = ("start", "end", "read", "decoded", "filtered", "dead", "lost", "absent", "drift", "bytes")
SCHEMAS = {
    "flight_events": pa.schema(EVENT),
    "late_events": pa.schema([*EVENT, ("batch_id", pa.int64()), ("watermark", TIME)]),
    "dead_letters": pa.schema(
        [("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64()), ("timestamp", TIME), ("key", pa.binary()),
         ("value", pa.binary()), ("reason", pa.string()), ("detail", pa.string())]
    ),
    "source_ranges": pa.schema(
        [("topic", pa.string()), ("partition", pa.int32()), *((name, pa.int64()) for name in [*RANGE_COUNTS, "batch_id"])]
    ),
    "ledger": pa.schema(
        [("pipeline", pa.string()), ("batch_id", pa.int64()), *((name, pa.int64()) for name in ("read", "accepted", "late", "dead")),
         ("is_balanced", pa.bool_()), ("replay_of", pa.string())]
    ),
    "hourly_departures": pa.schema(
        [("origin", pa.string()), ("window_start", TIME), ("window_end", TIME), ("departures", pa.int64()), ("cancelled", pa.int64()),
         ("mean_delay_minutes", pa.float64()), ("worst_delay_minutes", pa.int32()), ("distinct_aircraft", pa.int64()),
         ("temp", pa.float64()), ("wind_speed", pa.float64()), ("precip", pa.float64()), ("visib", pa.float64())]
    ),
    "departures_weather": pa.schema(
        [*(field for field in EVENT if field[0] in {"event_time", "carrier", "flight", "origin", "dest", "delay_minutes", "source"}),
         ("measured_at", TIME), *((name, pa.float64()) for name in ("temp", "wind_speed", "precip", "visib"))]
    ),
    "daily_departures": pa.schema(
        [("origin", pa.string()), ("day", pa.date32()), ("window_start", TIME), ("window_end", TIME), ("departures", pa.int64()),
         ("cancelled", pa.int64()), ("mean_delay_minutes", pa.float64()), ("worst_delay_minutes", pa.int32()),
         ("distinct_aircraft", pa.int64())]
    ),
    "late_for_days": pa.schema(
        [*(field for field in EVENT[:-1] if field[0] != "scheduled_time"), ("day", pa.date32()), ("window_start", TIME),
         ("window_end", TIME), ("lateness_ms", pa.int64()), ("batch_id", pa.int64())]
    ),
    "routes": pa.schema(
        [("origin", pa.string()), ("dest", pa.string()), ("carrier", pa.string()), ("airline", pa.string()), ("destination", pa.string()),
         ("departures", pa.int64()), ("cancelled", pa.int64()), ("arrivals", pa.int64()), ("mean_arrival_delay_minutes", pa.float64())]
    ),
}  # fmt: skip


@dataclass
class World:
    """A topic and what a right job makes of it, open to damage."""

    records: list[Row]
    flights: pd.DataFrame
    tables: dict[str, list[Row]]
    log: list[tuple[int, dict[str, int]]]  # watermark and end offsets of each batch
    days_log: list[tuple[int, dict[str, int]]]

    def prove(self, out: Path) -> Result:
        for name, rows in self.tables.items():
            write_deltalake(str(out / "tables" / name), pa.Table.from_pylist(rows, SCHEMAS[name]))
        write_log(out, "events", self.log)
        write_log(out, "days", self.days_log, '{"logOffset":0}')
        return prove(frame(self.records), self.flights, out, "flights", lateness=LATENESS)


def write_log(out: Path, query: str, log: list[tuple[int, dict[str, int]]], *more: str) -> None:
    folder = out / "checkpoints" / query / "spark" / "offsets"
    folder.mkdir(parents=True)
    for batch, (watermark, ends) in enumerate(log):
        document = {"topics": {"flights": {"id": "x", "offsets": ends}}}
        lines = ["v1", json.dumps({"batchWatermarkMs": watermark, "conf": {}}), json.dumps(document), *more]
        (folder / str(batch)).write_text("\n".join(lines), encoding="utf-8")
        (folder / f".{batch}.crc").write_bytes(b"crc")


def frame(records: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(records).astype({"timestamp": "datetime64[ms, UTC]", "key": object, "value": object})


@pytest.fixture(scope="module")
def year() -> pd.DataFrame:
    return events()


@pytest.fixture(scope="module")
def names() -> dict[str, pd.DataFrame]:
    return dimensions()


@pytest.fixture
def world(year: pd.DataFrame, names: dict[str, pd.DataFrame]) -> World:
    """One row at a time, dictionaries, no cleverness."""
    some = year.iloc[FIRST : FIRST + ROWS].reset_index(drop=True)
    some = pd.concat([some.drop(some.index[STRAGGLERS]), some[STRAGGLERS]], ignore_index=True)
    values: list[tuple[bytes | None, bytes | None]] = [*serialise(some)]
    for number, value in enumerate(GARBAGE):
        values.insert(50 * (number + 1), (None if number % 2 else b"key", value))
    records: list[Row] = []
    ends = dict.fromkeys(range(PARTITIONS), 0)
    for number, (key, value) in enumerate(values):
        partition = number % PARTITIONS
        records.append({"partition": partition, "offset": ends[partition], "timestamp": PUBLISHED, "key": key, "value": value})
        ends[partition] += 1

    tables: dict[str, list[Row]] = {name: [] for name in SCHEMAS}
    log, watermark, newest = [], datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(0, UTC)
    # Partition 0 is read ahead of partition 1, so that its newer rows make some of the other late.
    by_place = sorted(records, key=lambda record: record["offset"] + 20 * record["partition"])
    for batch, start in enumerate(range(0, len(by_place), BATCH_ROWS)):
        part = by_place[start : start + BATCH_ROWS]
        taken = by_place[: start + BATCH_ROWS]
        log.append((int(watermark.timestamp() * 1000), {str(p): sum(r["partition"] == p for r in taken) for p in range(PARTITIONS)}))
        for partition in range(PARTITIONS):
            tables["source_ranges"].append(account(taken[: -len(part)], part, partition) | {"batch_id": batch})
        before = {name: len(tables[name]) for name in ("flight_events", "late_events", "dead_letters")}
        for record in part:
            newest = max(newest, file_record(record, batch, watermark, tables))
        accepted, late, dead = (len(tables[name]) - count for name, count in before.items())
        counts = {"read": len(part), "accepted": accepted, "late": late, "dead": dead}
        tables["ledger"].append({"pipeline": "flights/events", "batch_id": batch, "is_balanced": True, **counts})
        watermark = max(watermark, newest - LATENESS)
    tables["hourly_departures"] = hours(tables["flight_events"], names["weather"])
    tables["routes"] = routes(tables["flight_events"], names)
    tables["departures_weather"] = weather_then(tables["flight_events"], names["weather"])
    return World(records, some, tables, log, days(by_place, tables))


def account(before: list[Row], part: list[Row], partition: int) -> Row:
    mine = [record for record in part if record["partition"] == partition]
    start = sum(record["partition"] == partition for record in before)
    dead = sum(record["value"] in GARBAGE for record in mine)
    counts = {"read": len(mine), "decoded": len(mine) - dead, "dead": dead, "filtered": 0, "lost": 0, "absent": 0, "drift": 0, "bytes": 0}
    return {"topic": "flights", "partition": partition, "start": start, "end": start + len(mine), **counts}


def file_record(record: Row, batch: int, watermark: datetime, tables: dict[str, list[Row]]) -> datetime:
    source = {"topic": "flights"} | {name: record[name] for name in ("partition", "offset", "timestamp")}
    if record["value"] in GARBAGE:
        tables["dead_letters"].append({**source, "key": record["key"], "value": record["value"], "reason": "garbage"})
        return datetime.fromtimestamp(0, UTC)
    row: Row = json.loads(record["value"])
    for name in ("event_time", "scheduled_time"):
        row[name] = datetime.fromisoformat(row[name])
    row |= {"source": source, "event_date": row["event_time"].date()}
    if hour_of(row) + timedelta(hours=1) <= watermark:
        tables["late_events"].append({**row, "batch_id": batch, "watermark": watermark})
    else:
        tables["flight_events"].append(row)
    moment: datetime = row["event_time"]
    return moment


def days(by_place: list[Row], tables: dict[str, list[Row]]) -> list[tuple[int, dict[str, int]]]:
    """Fill the tables of days and of what is late for them; return the offset log."""
    log, watermark = [], EPOCH
    newest: dict[int, datetime] = {}
    groups = defaultdict(list)
    for batch, start in enumerate(range(0, len(by_place), DAY_BATCH_ROWS)):
        part, taken = by_place[start : start + DAY_BATCH_ROWS], by_place[: start + DAY_BATCH_ROWS]
        log.append((int(watermark.timestamp() * 1000), {str(p): sum(r["partition"] == p for r in taken) for p in range(PARTITIONS)}))
        for record in part:
            if record["value"] in GARBAGE:
                continue
            row: Row = json.loads(record["value"])
            row["event_time"] = datetime.fromisoformat(row["event_time"])
            if row["event"] == "arrival":
                continue
            row |= day_of(row["event_time"]) | {
                "source": {"topic": "flights"} | {x: record[x] for x in ("partition", "offset", "timestamp")}
            }
            if row["window_end"] <= watermark:
                behind_ms = (watermark - row["event_time"]) // timedelta(milliseconds=1)
                tables["late_for_days"].append(row | {"lateness_ms": behind_ms, "batch_id": batch})
            else:
                groups[row["origin"], row["day"]].append(row)
        for partition in range(PARTITIONS):
            for record in [record for record in part if record["partition"] == partition][-SAMPLE:]:
                if record["value"] not in GARBAGE:
                    moment = datetime.fromisoformat(json.loads(record["value"])["event_time"])
                    newest[partition] = max(newest.get(partition, EPOCH), moment)
        if len(newest) == PARTITIONS:
            watermark = max(watermark, min(newest.values()) - LATENESS)
    for (origin, day), rows in groups.items():
        left = [row for row in rows if row["event"] == "departure"]
        delays = [row["delay_minutes"] for row in left]
        tables["daily_departures"].append(
            {
                "origin": origin, "day": day, "window_start": rows[0]["window_start"], "window_end": rows[0]["window_end"],
                "departures": len(left), "cancelled": len(rows) - len(left), "mean_delay_minutes": sum(delays) / len(delays),
                "worst_delay_minutes": max(delays), "distinct_aircraft": len({row["tailnum"] for row in left} - {None}),
            }
        )  # fmt: skip
    return log


def day_of(moment: datetime) -> Row:
    day = moment.astimezone(NEW_YORK).date()
    start, end = (datetime.combine(each, time.min, NEW_YORK).astimezone(UTC) for each in (day, day + timedelta(days=1)))
    return {"day": day, "window_start": start, "window_end": end}


def hour_of(row: Row) -> datetime:
    time: datetime = row["event_time"]
    return time.replace(minute=0, second=0)


def hours(facts: list[Row], weather: pd.DataFrame) -> list[Row]:
    measured = {(row["origin"], row["time_hour"]): row for row in weather.to_dict("records")}
    groups = defaultdict(list)
    for row in facts:
        if row["event"] != "arrival":
            groups[row["origin"], hour_of(row)].append(row)
    result = []
    for (origin, start), rows in groups.items():
        left = [row for row in rows if row["event"] == "departure"]
        delays = [row["delay_minutes"] for row in left]
        weather_then = measured.get((origin, pd.Timestamp(start)), {})
        result.append(
            {
                "origin": origin, "window_start": start, "window_end": start + timedelta(hours=1), "departures": len(left),
                "cancelled": len(rows) - len(left), "mean_delay_minutes": sum(delays) / len(delays) if delays else None,
                "worst_delay_minutes": max(delays, default=None), "distinct_aircraft": len({row["tailnum"] for row in left} - {None}),
                **{name: weather_then.get(name) for name in ("temp", "wind_speed", "precip", "visib")},
            }
        )  # fmt: skip
    return result


def weather_then(facts: list[Row], weather: pd.DataFrame) -> list[Row]:
    measured: dict[tuple[str, datetime], Any] = {(row["origin"], row["time_hour"]): row for row in weather.to_dict("records")}
    result = []
    for row in facts:
        if row["event"] == "departure":
            hours_back = [hour_of(row) - timedelta(hours=back) for back in range(3)]
            near = [one for one in hours_back if (row["origin"], one) in measured and row["event_time"] - one <= timedelta(hours=2)]
            then: Row = measured[row["origin"], near[0]] if near else {}
            found = {name: then.get(name) for name in ("temp", "wind_speed", "precip", "visib")}
            result.append({**row, "measured_at": then.get("time_hour"), **found})
    return result


def routes(facts: list[Row], names: dict[str, pd.DataFrame]) -> list[Row]:
    airlines = dict(zip(names["airlines"]["carrier"], names["airlines"]["name"], strict=True))
    airports = dict(zip(names["airports"]["faa"], names["airports"]["name"], strict=True))
    groups = defaultdict(list)
    for row in facts:
        groups[row["origin"], row["dest"], row["carrier"]].append(row)
    result = []
    for (origin, dest, carrier), rows in groups.items():
        delays = [row["delay_minutes"] for row in rows if row["event"] == "arrival"]
        count = {event: sum(row["event"] == event for row in rows) for event in ("departure", "cancellation", "arrival")}
        result.append(
            {
                "origin": origin, "dest": dest, "carrier": carrier, "airline": airlines[carrier], "destination": airports[dest],
                "departures": count["departure"], "cancelled": count["cancellation"], "arrivals": count["arrival"],
                "mean_arrival_delay_minutes": sum(delays) / len(delays) if delays else None,
            }
        )  # fmt: skip
    return result


def test_a_right_job_passes(world: World, tmp_path: Path) -> None:
    result = world.prove(tmp_path)
    assert result.mismatches == []
    assert result.ok
    assert result.broker_rows == ROWS + len(GARBAGE) == result.facts + result.dead_letters + result.late_rows
    assert result.dead_letters == len(GARBAGE)
    assert result.late_rows > 0, "a test without a late row proves little"
    assert result.late_for_days == len(world.tables["late_for_days"]) > 0, "the same of days"
    assert result.outward == result.in_days + result.late_for_days
    assert result.days == len(world.tables["daily_departures"]) == 6, "two days of three airports"
    assert result.unusual_days == {}
    assert any(row["destination"].startswith("Luis Munoz") for row in world.tables["routes"])


def change(table: str, column: str, value: object, *, where: Callable[[Row], bool] = lambda _: True) -> Callable[[World], None]:
    def damage(world: World) -> None:
        row = next(row for row in world.tables[table] if where(row))
        row[column] = value

    return damage


def drop(table: str) -> Callable[[World], None]:
    def damage(world: World) -> None:
        world.tables[table].pop(3)

    return damage


def repeat(table: str) -> Callable[[World], None]:
    return lambda world: world.tables[table].append(world.tables[table][0])


def nudge_a_mean(world: World) -> None:
    row = next(row for row in world.tables["hourly_departures"] if row["mean_delay_minutes"])
    row["mean_delay_minutes"] *= 1 + 1e-7


def invent_a_window(world: World) -> None:
    world.tables["hourly_departures"].append({**world.tables["hourly_departures"][0], "origin": "XXX"})


def accept_a_late_row(world: World) -> None:
    row = world.tables["late_events"].pop(0)
    world.tables["flight_events"].append({name: row[name] for name in SCHEMAS["flight_events"].names})


def call_a_fact_late(world: World) -> None:
    row = world.tables["flight_events"].pop(0)
    world.tables["late_events"].append({**row, "batch_id": 0, "watermark": PUBLISHED})


def bury_a_fact(world: World) -> None:
    source = world.tables["flight_events"].pop(0)["source"]
    world.tables["dead_letters"].append({**source, "key": None, "value": b"?", "reason": "none"})


def lose_a_record(world: World) -> None:
    world.records.pop(10)


def publish_twice(world: World) -> None:
    last = max(record["offset"] for record in world.records if record["partition"] == 0)
    world.records.append({**world.records[0], "offset": last + 1})


def move_a_watermark(world: World) -> None:
    watermark, ends = world.log[4]
    world.log[4] = (watermark + 1, ends)


def accept_a_row_that_missed_its_day(world: World) -> None:
    row = world.tables["late_for_days"].pop(0)
    kind = "departures" if row["event"] == "departure" else "cancelled"
    world.tables["daily_departures"][0 if kind else 1][kind] += 1


def move_a_watermark_of_the_days(world: World) -> None:
    watermark, ends = world.days_log[2]
    world.days_log[2] = (watermark + 1, ends)


def forget_the_last_batch(world: World) -> None:
    world.log.pop()


DAMAGE = {
    "a changed mean": (nudge_a_mean, r"hourly_departures \(origin \w{3}, window_start .*\), mean_delay_minutes: expected .*, got"),
    "a mean gone": (change("hourly_departures", "mean_delay_minutes", None, where=lambda row: row["departures"] > 0), "got null"),
    "a changed worst delay": (change("hourly_departures", "worst_delay_minutes", 9999), "worst_delay_minutes: expected .*, got 9999"),
    "a changed count": (change("hourly_departures", "departures", 77), "departures: expected .*, got 77"),
    "aircraft counted twice": (change("hourly_departures", "distinct_aircraft", 77), "distinct_aircraft: expected .*, got 77"),
    "other weather": (change("hourly_departures", "temp", -40.0), "temp: expected .*, got -40.0"),
    "weather of another hour": (
        change("departures_weather", "measured_at", PUBLISHED),
        r"departures_weather .*, measured_at: expected 2013-.*, got 2026-",
    ),
    "another wind at departure": (change("departures_weather", "wind_speed", -1.0), "wind_speed: expected .*, got -1.0"),
    "a departure without weather": (drop("departures_weather"), "departures_weather .*: expected a row, got none"),
    "a missing window": (drop("hourly_departures"), "hourly_departures .*: expected a row, got none"),
    "an invented window": (invent_a_window, r"hourly_departures \(origin XXX, .*: expected no row, got one"),
    "a repeated window": (repeat("hourly_departures"), "hourly_departures .*: expected one row, got another"),
    "a renamed airline": (change("routes", "airline", "Nobody"), "routes .*airline: expected .*, got Nobody"),
    "a renamed airport": (change("routes", "destination", None), "routes .*destination: expected .*, got null"),
    "a missing route": (drop("routes"), "routes .*: expected a row, got none"),
    "a lost fact": (drop("flight_events"), "flight_events .*: expected a row, got none"),
    "a fact written twice": (repeat("flight_events"), "flight_events .*: expected one row, got another"),
    "a changed fact": (change("flight_events", "tailnum", "N1"), "tailnum: expected N\\w+, got N1"),
    "a fact of another day": (change("flight_events", "event_date", datetime(1999, 1, 1, tzinfo=UTC).date()), "event_date: expected 2013"),
    "a late row accepted": (accept_a_late_row, "late_events .*: expected a row, got none"),
    "a fact called late": (call_a_fact_late, "late_events .*: expected no row, got one"),
    "a late row of another batch": (change("late_events", "batch_id", 99), "late_events .*batch_id: expected .*, got 99"),
    "a range that was read twice": (repeat("source_ranges"), "source_ranges .*"),
    "a record that nobody counted": (change("source_ranges", "decoded", 1), "source_ranges .*decoded: expected"),
    "an epoch twice in the ledger": (repeat("ledger"), "ledger .*"),
    "a row that the ledger does not know": (change("ledger", "late", 99), "ledger .*late: expected .*, got 99"),
    "an epoch that the ledger forgot": (drop("ledger"), "ledger .*: expected a row, got none"),
    "an altered dead letter": (change("dead_letters", "value", b"no jsom"), "dead_letters .*value: expected b'no json', got b'no jsom'"),
    "a lost dead letter": (drop("dead_letters"), "dead_letters .*: expected a row, got none"),
    "a fact among the dead": (bury_a_fact, "dead_letters .*: expected no row, got one"),
    "a lost record": (lose_a_record, "topic .*: expected a row, got none"),
    "an event published twice": (publish_twice, "topic .*occurrence 1.*: expected no row, got one"),
    "another watermark": (move_a_watermark, r"offset log \(batch 4\), batchWatermarkMs: expected"),
    "a changed day": (
        change("daily_departures", "cancelled", 77),
        r"daily_departures \(origin \w{3}, day 2013-.*cancelled: .* got 77",
    ),
    "a day's mean gone": (change("daily_departures", "mean_delay_minutes", None), "daily_departures .*mean_delay_minutes: expected .*null"),
    "a day's aircraft counted twice": (
        change("daily_departures", "distinct_aircraft", 77),
        "daily_departures .*distinct_aircraft: expected",
    ),
    "a day in UTC": (
        change("daily_departures", "window_start", datetime(2013, 1, 1, tzinfo=UTC)),
        "daily_departures .*window_start: expected .*T05:00",
    ),
    "a missing day": (drop("daily_departures"), "daily_departures .*: expected a row, got none"),
    "a repeated day": (repeat("daily_departures"), "daily_departures .*: expected one row, got another"),
    "a day that the package knows otherwise": (
        change("daily_departures", "departures", 77),
        r"daily_departures \+ late_for_days .*departures: expected",
    ),
    "a late row taken in after its day": (accept_a_row_that_missed_its_day, "late_for_days .*: expected a row, got none"),
    "a row that missed its day, lost": (drop("late_for_days"), r"daily_departures \+ late_for_days .*: expected .*, got"),
    "a row that missed its day, twice": (repeat("late_for_days"), "late_for_days .*: expected one row, got another"),
    "a late row that nobody sent": (change("late_for_days", "flight", 1), "late_for_days .*flight: expected .*, got 1"),
    "another lateness": (change("late_for_days", "lateness_ms", 1), "late_for_days .*lateness_ms: expected .*, got 1"),
    "another watermark of the days": (move_a_watermark_of_the_days, r"days' offset log \(batch 2\), batchWatermarkMs: expected"),
    "rows that nobody read": (forget_the_last_batch, "offset log: expected a batch with"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_reported(kind: str, world: World, tmp_path: Path) -> None:
    damage, text = DAMAGE[kind]
    damage(world)
    result = world.prove(tmp_path)
    assert not result.ok
    assert [found for found in result.mismatches if re.search(text, found)], result.mismatches[:5]


def test_the_sum_of_rows_is_shown_and_compared(world: World, tmp_path: Path) -> None:
    drop("flight_events")(world)
    result = world.prove(tmp_path)
    assert "sum: expected 913 rows of the topic in the tables, got 912" in result.mismatches[-1]
    screen = io.StringIO()
    summarise(result, console=Console(file=screen, width=200))
    assert f"913 broker rows ≠ {result.facts} facts + 13 dead letters + {result.late_rows} late rows" in screen.getvalue()


def test_a_good_result_says_that_all_windows_are_equal(world: World, tmp_path: Path) -> None:
    screen = io.StringIO()
    result = world.prove(tmp_path)
    summarise(result, console=Console(file=screen, width=200))
    assert f"all {result.windows} windows and {result.routes} routes equal" in screen.getvalue()


def test_many_differences_are_cut(world: World, tmp_path: Path) -> None:
    world.tables["flight_events"].clear()
    screen = io.StringIO()
    result = world.prove(tmp_path)
    summarise(result, console=Console(file=screen, width=200))
    assert screen.getvalue().count("expected a row, got none") == 20
    assert f"and {len(result.mismatches) - 20} more differences" in screen.getvalue()


def test_a_forgotten_start_of_the_offset_log_is_an_error(world: World, tmp_path: Path) -> None:
    world.prove(tmp_path)
    (tmp_path / "checkpoints" / "events" / "spark" / "offsets" / "0").unlink()
    with pytest.raises(ProofError, match=r"expected every batch from 0 on, got batches 1 to 9 .*minBatchesToRetain"):
        prove(frame(world.records), world.flights, tmp_path, "flights")


def test_events_of_every_shape_are_told_from_garbage(world: World) -> None:
    good, bad = parse(frame(world.records))
    assert bad["value"].tolist() == GARBAGE
    pd.testing.assert_frame_equal(good[FIELDS].reset_index(drop=True), world.flights[FIELDS])


@pytest.mark.parametrize(
    ("got", "equal"),
    [([1.0, None], True), ([1.0 + 1e-12, None], True), ([1.0 + 1e-8, None], False), ([1.0, 0.0], False), ([None, None], False)],
)
def test_floats_are_compared_closely_and_null_only_equals_null(got: list[float | None], equal: bool) -> None:
    frames = [pd.DataFrame({"key": [1, 2], "mean": pd.Series(values, dtype="float64")}) for values in ([1.0, None], got)]
    assert (differences("t", frames[0], frames[1], ["key"]) == []) is equal


def test_a_missing_column_is_a_difference() -> None:
    expected_rows = pd.DataFrame({"key": [1], "mean": [1.0]})
    assert differences("t", expected_rows, expected_rows[["key"]], ["key"]) == ["t: expected a column 'mean', got ['key']"]
    assert differences("t", expected_rows, expected_rows[["mean"]], ["key"]) == ["t: expected a column 'key', got ['mean']"]


@pytest.mark.parametrize(("damaged", "code"), [(False, 0), (True, 1)])
def test_the_exit_code_tells(damaged: bool, code: int, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if damaged:
        drop("routes")(world)
    result = world.prove(tmp_path)
    monkeypatch.setattr(__main__, "check", lambda *_, **__: result)
    monkeypatch.setattr(sys, "argv", ["check", "--out", str(tmp_path), "--bootstrap-servers", "nowhere:1"])
    assert __main__.main() == code


def test_missing_tables_are_one_line_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], world: World
) -> None:
    monkeypatch.setattr(__main__, "check", lambda *_, **__: prove(frame(world.records), world.flights, tmp_path, "flights"))
    monkeypatch.setattr(sys, "argv", ["check", "--out", str(tmp_path), "--bootstrap-servers", "nowhere:1"])
    assert __main__.main() == 1
    assert "error:" in capsys.readouterr().out


def test_the_proof_knows_airlines_by_name() -> None:
    assert expected.airline_names()["UA"] == "United Air Lines Inc."
