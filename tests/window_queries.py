"""Scripted streams of windowed queries, one file per batch, and obvious models of what has to come out of each batch."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from spark_ext.queries import Batch, Checkpoint, Query, start

SCHEMA = "n long, k string, ts timestamp, v long"
ARROW = pa.schema([("n", pa.int64()), ("k", pa.string()), ("ts", pa.timestamp("us", "UTC")), ("v", pa.int64())])
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000
NEVER = -(10**18)
EARLIEST, LATEST = -2_208_988_800 * SECOND, 7_258_118_400 * SECOND  # 1900 and 2200
WAIT_S = 200
NAMES = ("a", "é", "東京", "", None)

Line = tuple[Any, ...]


class Event(NamedTuple):
    """A row: its number, key, event time in microseconds since 1970, value."""

    n: int
    k: str | None
    ts: int | None
    v: int | None


def us(value: datetime | None) -> int | None:
    return None if value is None else (value - EPOCH) // timedelta(microseconds=1)


def moment(value: int | None) -> datetime | None:
    return None if value is None else EPOCH + timedelta(microseconds=value)


def table(events: Sequence[Event]) -> pa.Table:
    return pa.Table.from_pylist([event._asdict() | {"ts": moment(event.ts)} for event in events], schema=ARROW)


def disorder(seed: int, *, origin: int, unit: int, batches: int = 3, rows: int = 30) -> list[list[Event]]:
    """Rows in disorder: each batch goes two units on, a row may be six units behind; some have no time, or an absurd one."""
    dice, out, n = random.Random(seed), [], 0  # noqa: S311 (no secret)
    for number in range(batches):
        events = []
        for _ in range(rows):
            time: int | None = origin + 2 * unit * number + dice.randrange(-6 * unit, 2 * unit)
            if not dice.randrange(12):
                time = dice.choice([None, EARLIEST - 1])
            events.append(Event(n, dice.choice(NAMES), time, dice.choice([None, dice.randrange(-99, 99)])))
            n += 1
        out.append(events)
    return out


def add(folder: Path, number: int, events: Sequence[Event] | pa.Table) -> None:
    """Put a file in place: the one of batch `number`."""
    folder.mkdir(exist_ok=True, parents=True)
    aside = folder / f".{number}"
    pq.write_table(events if isinstance(events, pa.Table) else table(events), aside)
    os.utime(aside, (1_600_000_000 + number, 1_600_000_000 + number))
    aside.rename(folder / f"{number:03d}.parquet")


def source(spark: SparkSession, folder: Path, *, delay: timedelta | None, schema: str | StructType = SCHEMA) -> DataFrame:
    """The files of a folder as a stream, one per batch."""
    folder.mkdir(exist_ok=True, parents=True)
    rows = spark.readStream.schema(schema).option("maxFilesPerTrigger", 1).parquet(str(folder))
    return rows if delay is None else rows.withWatermark("ts", f"{delay // timedelta(milliseconds=1)} milliseconds")


@dataclass
class Sink:
    """What each batch gave out, and the watermark that Spark wrote down for it."""

    rows: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    watermarks: dict[int, int] = field(default_factory=dict)

    def __call__(self, batch: Batch) -> None:
        assert batch.batch_id not in self.rows, "done once"
        found = batch.rows.toArrow().to_pylist()
        self.rows[batch.batch_id] = found
        at = us(batch.watermark)
        self.watermarks[batch.batch_id] = at or NEVER

    def put_behind(self, earlier: Sink) -> None:
        """Take in what an earlier run of the same query did; no batch may have been done twice."""
        assert not set(earlier.rows) & set(self.rows)
        self.rows, self.watermarks = earlier.rows | self.rows, earlier.watermarks | self.watermarks

    def lines_of(self, batch: int) -> Counter[Line]:
        return Counter(map(plain, self.rows[batch]))

    def lines(self, tag: str | None = None) -> Counter[Line]:
        return Counter(line for rows in self.rows.values() for line in map(plain, rows) if tag in (None, line[0]))


def begin(frame: DataFrame, sink: Callable[[Batch], None], checkpoint: Path) -> Query:
    """Start a query over what there is now; several may run at a time."""
    claimed = Checkpoint.claim(str(checkpoint), pipeline=f"test/{checkpoint.parent.name}/{checkpoint.name}", sources=["files"])
    return start(frame, sink, checkpoint=claimed)


def finish(*queries: Query) -> None:
    for query in queries:
        try:
            assert query.await_end(WAIT_S)
        finally:
            query.spark_query.stop()


def play(frame: DataFrame, checkpoint: Path) -> Sink:
    """Run a query over what there is, until nothing is left to do."""
    sink = Sink()
    finish(begin(frame, sink, checkpoint))
    return sink


def plain(row: Mapping[str, Any]) -> Line:
    """A tagged row as a tuple that a model can make as well: tag first; a rejected row is known by its number."""
    window = row["window"] or {"start": None, "end": None}
    span = us(window["start"]), us(window["end"])
    if row["tag"] == "window":
        assert row["event"] is None
        return "window", row["k"], *span, row["rows"], row["total"], row["is_final"]
    event = Event(**{**row["event"], "ts": us(row["event"]["ts"])})
    assert (row["k"], row["rows"], row["total"], row["is_final"]) == (event.k, None, None, None)
    return (row["tag"], event, *span, row["lateness_ms"], row["missed"], row["windows"])


class Model(Protocol):
    """A window in plain Python: what comes out of a batch, given the watermark at its start."""

    def step(self, batch: Sequence[Event], now: int) -> list[Line]: ...

    def held(self) -> Counter[Event]:
        """Count the rows that have not been given out in a final result, each once per window."""
        ...


def results(events: Sequence[Event]) -> tuple[int, int | None]:
    values = [event.v for event in events if event.v is not None]
    return len(events), sum(values) if values else None


def is_valid(event: Event) -> bool:
    return event.ts is not None and EARLIEST <= event.ts <= LATEST


def aside(tag: str, event: Event) -> Line:
    return tag, event, None, None, None, None, None


@dataclass
class TimeModel:
    """Windows that follow from a row's time."""

    windows: Callable[[int], Sequence[tuple[int | None, int | None]]]
    grace: int
    each_batch: bool = False
    open: dict[tuple[Any, ...], list[Event]] = field(default_factory=dict)

    def over(self, end: int | None, now: int) -> bool:
        return end is not None and end + self.grace <= now

    def step(self, batch: Sequence[Event], now: int) -> list[Line]:
        closing = [window for window in self.open if self.over(window[2], now)]
        out: list[Line] = [("window", *window, *results(self.open.pop(window)), True) for window in closing]
        touched: dict[tuple[Any, ...], None] = {}
        for event in batch:
            if event.ts is None or not is_valid(event):
                out.append(aside("invalid", event))
                continue
            windows = self.windows(event.ts)
            missed = [window for window in windows if self.over(window[1], now)]
            if not windows:
                out.append(aside("outside", event))
            if missed:
                out.append(("late", event, *missed[-1], (now - event.ts) // 1_000, len(missed), len(windows)))
            for window in windows:
                if window not in missed:
                    self.open.setdefault((event.k, *window), []).append(event)
                    touched[event.k, *window] = None
        return out + [("window", *window, *results(self.open[window]), False) for window in touched if self.each_batch]

    def held(self) -> Counter[Event]:
        return Counter(event for events in self.open.values() for event in events)


@dataclass
class SessionModel:
    """Windows that end with silence; rows exactly `gap` apart are in two."""

    gap: int
    grace: int
    open: list[list[Event]] = field(default_factory=list)

    def over(self, events: Sequence[Event], now: int) -> bool:
        return self.span(events)[1] + self.grace <= now

    def span(self, events: Sequence[Event]) -> tuple[int, int]:
        times = sorted(event.ts for event in events if event.ts is not None)
        return times[0], times[-1] + self.gap

    def step(self, batch: Sequence[Event], now: int) -> list[Line]:
        closed = [events for events in self.open if self.over(events, now)]
        self.open = [events for events in self.open if events not in closed]
        out: list[Line] = [("window", events[0].k, *self.span(events), *results(events), True) for events in closed]
        out += [aside("invalid", event) for event in batch if not is_valid(event)]
        sessions = self.open + [[event] for event in batch if is_valid(event)]
        while (pair := self.overlapping(sessions)) is not None:
            one, other = pair
            sessions = [each for at, each in enumerate(sessions) if at not in pair] + [sessions[one] + sessions[other]]
        self.open = [events for events in sessions if not self.over(events, now)]
        for events in sessions:
            if self.over(events, now):
                out += [("late", event, *self.span(events), (now - (event.ts or 0)) // 1_000, 1, 1) for event in events]
        return out

    def overlapping(self, sessions: Sequence[Sequence[Event]]) -> tuple[int, int] | None:
        spans = [(events[0].k, *self.span(events)) for events in sessions]
        for one, (key, begins, end) in enumerate(spans):
            for other, (other_key, other_start, other_end) in enumerate(spans[:one]):
                if key == other_key and begins < other_end and other_start < end:
                    return other, one
        return None

    def held(self) -> Counter[Event]:
        return Counter(event for events in self.open for event in events)


@dataclass
class CountModel:
    """Windows of so many rows, one every so many, by event time; a row is counted when the watermark has passed it."""

    rows: int
    every: int
    grace: int
    waiting: list[Event] = field(default_factory=list)
    counted: dict[str | None, list[Event]] = field(default_factory=dict)

    def step(self, batch: Sequence[Event], now: int) -> list[Line]:
        out: list[Line] = []
        ready = sorted((event for event in self.waiting if (event.ts or 0) + self.grace <= now), key=lambda event: event.ts or 0)
        for event in ready:
            self.waiting.remove(event)
            rows = self.counted.setdefault(event.k, [])
            rows.append(event)
            if len(rows) >= self.rows and not (len(rows) - self.rows) % self.every:
                full = rows[-self.rows :]
                out.append(("window", event.k, full[0].ts, full[-1].ts, *results(full), True))
        for event in batch:
            if event.ts is None or not is_valid(event):
                out.append(aside("invalid", event))
            elif event.ts + self.grace <= now:
                out.append(("late", event, None, None, (now - event.ts) // 1_000, 1, 1))
            else:
                self.waiting.append(event)
        return out

    def held(self) -> Counter[Event]:
        """Of windows that follow each other: the rows that wait, and those of windows that are not full."""
        begun = [event for rows in self.counted.values() for event in rows[len(rows) // self.rows * self.rows :]]
        return Counter([*self.waiting, *begun])


@dataclass
class LastModel:
    """The last rows of each key, given out with each batch that brings one."""

    keep: int
    kept: dict[str | None, list[Event]] = field(default_factory=dict)

    def step(self, batch: Sequence[Event], now: int) -> list[Line]:
        assert now >= NEVER
        out: list[Line] = []
        before = {key: list(rows) for key, rows in self.kept.items()}
        touched: dict[str | None, None] = {}
        for event in batch:
            rows = before.get(event.k, [])
            if event.ts is None or not is_valid(event):
                out.append(aside("invalid", event))
            elif len(rows) == self.keep and event.ts < (rows[0].ts or 0):
                behind = ((rows[-1].ts or 0) - event.ts) // 1_000
                out.append(("late", event, rows[0].ts, rows[-1].ts, behind, 1, 1))
            else:
                self.kept.setdefault(event.k, []).append(event)
                touched[event.k] = None
        for key in touched:
            rows = self.kept[key] = sorted(self.kept[key], key=lambda event: event.ts or 0)[-self.keep :]
            out.append(("window", key, rows[0].ts, rows[-1].ts, *results(rows), False))
        return out

    def held(self) -> Counter[Event]:
        return Counter(event for rows in self.kept.values() for event in rows)


def aligned(length: int, every: int) -> Callable[[int], list[tuple[int | None, int | None]]]:
    """Windows of one length at regular intervals since 1970."""

    def windows(time: int) -> Iterator[tuple[int | None, int | None]]:
        start = time // every * every
        while start > time - length:
            yield start, start + length
            start -= every

    return lambda time: sorted(windows(time), key=lambda window: window[0] or 0)


def local_days(zone: str) -> Callable[[int], list[tuple[int | None, int | None]]]:
    """Days of a place, from midnight to midnight."""

    def windows(time: int) -> list[tuple[int | None, int | None]]:
        day = (EPOCH + timedelta(microseconds=time)).astimezone(ZoneInfo(zone)).date()
        midnights = [datetime(each.year, each.month, each.day, tzinfo=ZoneInfo(zone)) for each in (day, day + timedelta(days=1))]
        return [(us(midnights[0].astimezone(UTC)), us(midnights[1].astimezone(UTC)))]

    return windows


def everything(_: int) -> list[tuple[int | None, int | None]]:
    return [(None, None)]


def evens(time: int) -> list[tuple[int | None, int | None]]:
    """One minute in two."""
    start = time // MINUTE * MINUTE
    return [(start, start + MINUTE)] if start // MINUTE % 2 == 0 else []
