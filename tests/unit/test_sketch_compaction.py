"""Minutes become hours and days: totals stay, sketches are those of one pass, in one commit, and never against a writer."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from tenacity import wait_none
from typer.testing import CliRunner

from sketches import HyperLogLog, MisraGries
from sketches.errors import SketchBytesError
from spark_ext.delta import Txn, append, combine, conflicts
from spark_ext.errors import EpochError, SchemaError, SettingsError
from spark_ext.ops.cli import app
from spark_ext.sketching import compaction, create_sketch_table, sketch_schema
from spark_ext.sketching.combiner import Combiner
from spark_ext.sketching.compaction import Compacted, compact
from spark_ext.sketching.grains import grains
from spark_ext.windows import business_hours, global_window, sliding, tumbling

START = datetime(2026, 3, 28, tzinfo=UTC)  # the day after, Berlin sets its clocks
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
HLL, TOP = HyperLogLog(7), MisraGries(50)
RUNNER = CliRunner(env={"COLUMNS": "200"})
Key = tuple[datetime, datetime, str | None]


def stored(template: Any, values: Any) -> bytes:
    sketch = template.copy()
    sketch.update_many(np.array(values, np.int64))
    return bytes(sketch.to_bytes())


class Visits:
    """A table of minutes, and all values that were counted in it, by minute and page."""

    def __init__(self, path: str, *, partition_by: list[str] | None = None) -> None:
        self.path = path
        self.values: dict[tuple[datetime, str | None], list[int]] = defaultdict(list)
        keys = {"window_start": "timestamp", "window_end": "timestamp", "page": "string"}
        create_sketch_table(path, keys=keys, measures={"visitors": HLL, "top": TOP, "views": "sum"}, partition_by=partition_by or [])
        self.schema = sketch_schema(path)

    def rows(self, *counted: tuple[datetime, str | None, list[int]], length: timedelta = MINUTE) -> pa.Table:
        found = []
        for at, page, values in counted:
            self.values[at, page] += values
            window = {"window_start": at, "window_end": at + length}
            found.append({**window, "page": page, "visitors": stored(HLL, values), "top": stored(TOP, values), "views": len(values)})
        return pa.Table.from_pylist(found, schema=self.schema.columns)

    def add(self, rows: pa.Table, txn: Txn | None = None) -> None:
        combine(rows, self.path, keys=self.schema.keys, with_=Combiner(self.schema, self.path), txn=txn)

    def fill(self, seed: int, *, since: datetime = START, span: timedelta = DAY, count: int = 300, batches: int = 3) -> Visits:
        dice = random.Random(seed)  # noqa: S311 (no secrets)
        for _ in range(batches):
            rows = []
            for _ in range(count):
                at = since + dice.randrange(span // MINUTE) * MINUTE
                rows.append((at, dice.choice(["a", "b", None]), [dice.randrange(500) for _ in range(dice.randint(1, 5))]))
            self.add(self.rows(*rows))
        return self

    def found(self) -> dict[Key, dict[str, Any]]:
        rows = DeltaTable(self.path).to_pyarrow_table().to_pylist()
        by_key = {(row["window_start"], row["window_end"], row["page"]): row for row in rows}
        assert len(by_key) == len(rows)
        return by_key

    def expected(self, freq: str, zone: str, cutoff: datetime) -> dict[Key, list[int]]:
        """What the rows must stand for, by pandas: whole periods before the cutoff, else minutes."""
        found: dict[Key, list[int]] = defaultdict(list)
        for (at, page), values in self.values.items():
            local = pd.Timestamp(at).tz_convert(zone)
            start = local.floor(freq) if freq == "h" else local.normalize() if freq == "D" else local.normalize().replace(day=1)
            step = {"h": pd.Timedelta(hours=1), "D": pd.DateOffset(days=1), "M": pd.DateOffset(months=1)}[freq]
            first, last = start.tz_convert("UTC").to_pydatetime(), (start + step).tz_convert("UTC").to_pydatetime()
            key = (first, last, page) if last <= cutoff else (at, at + MINUTE, page)
            found[key] += values
        return found

    def compare(self, expected: dict[Key, list[int]]) -> None:
        rows = self.found()
        assert rows.keys() == expected.keys()
        for key, values in expected.items():
            assert rows[key]["visitors"] == stored(HLL, values)
            assert rows[key]["views"] == MisraGries.from_bytes(rows[key]["top"]).total == len(values)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "t")


# what comes out


@pytest.mark.parametrize("partition_by", [[], ["page"]])
def test_minutes_become_hours_in_one_commit_and_a_second_call_changes_nothing(path: str, partition_by: list[str]) -> None:
    visits = Visits(path, partition_by=partition_by).fill(0, span=6 * HOUR)
    cutoff, version, before = START + timedelta(hours=4, minutes=30), DeltaTable(path).version(), len(visits.found())
    inside = len([1 for _, end, _ in visits.found() if end <= START + 4 * HOUR])
    size = sum(len(row["visitors"]) + len(row["top"]) for (_, end, _), row in visits.found().items() if end <= START + 4 * HOUR)
    seen: list[tuple[int, int]] = []
    done = compact(path, to="hour", older_than=cutoff, progress=lambda rows, total: seen.append((rows, total)))
    expected = visits.expected("h", "UTC", cutoff)
    visits.compare(expected)
    assert DeltaTable(path).version() == version + 1
    assert (done.periods, done.commits, done.rows_astride, done.rows_damaged) == (4, 1, 0, 0)
    assert (done.rows_before, done.rows_after) == (inside, inside - before + len(expected))
    rows = visits.found()
    assert (done.bytes_before, done.bytes_after) == (
        size, sum(len(row["visitors"]) + len(row["top"]) for (_, end, _), row in rows.items() if end <= START + 4 * HOUR),
    )  # fmt: skip
    assert seen[-1] == (inside, inside)
    assert compact(path, to="hour", older_than=cutoff) == Compacted(0, 0, 0)
    assert DeltaTable(path).version() == version + 1
    assert sketch_schema(path) == visits.schema


@pytest.mark.parametrize(
    ("to", "freq", "zone"),
    [("day", "D", "UTC"), ("day", "D", "Europe/Berlin"), ("month", "M", "Europe/Berlin"), ("hour", "h", "Asia/Kolkata")],
)
def test_periods_are_those_of_the_zones_calendar(path: str, to: str, freq: str, zone: str) -> None:
    visits = Visits(path).fill(1, span=8 * DAY, count=400, batches=2)
    cutoff = START + 7 * DAY
    compact(path, to=to, zone=zone, older_than=cutoff)
    visits.compare(visits.expected(freq, zone, cutoff))
    if (to, zone) == ("day", "Europe/Berlin"):
        short = datetime(2026, 3, 29, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
        assert {end - start for start, end, _ in visits.found() if start == short} == {23 * HOUR}


def test_minutes_to_hours_to_days_is_the_same_as_minutes_to_days(tmp_path: Path) -> None:
    steps, once = (Visits(str(tmp_path / name)).fill(2, span=2 * DAY) for name in ("steps", "once"))
    cutoff = START + 3 * DAY
    for to in (tumbling(timedelta(minutes=15)), "hour", "day"):
        compact(steps.path, to=to, older_than=cutoff)
    compact(once.path, to="day", older_than=cutoff)
    steps.compare(steps.expected("D", "UTC", cutoff))
    assert {key: row["visitors"] for key, row in steps.found().items()} == {key: row["visitors"] for key, row in once.found().items()}


def test_a_late_minute_stands_beside_its_hour_until_the_next_compaction(path: str) -> None:
    visits = Visits(path).fill(3, span=2 * HOUR)
    cutoff = START + DAY
    compact(path, to="hour", older_than=cutoff)
    at = START + 7 * MINUTE
    visits.add(visits.rows((at, "a", [1, 2, 3]), (at, "new", [4])), Txn("p:1", 0))
    assert (at, at + MINUTE, "a") in visits.found()
    done = compact(path, to="hour", older_than=cutoff)
    visits.compare(visits.expected("h", "UTC", cutoff))
    assert (done.periods, done.rows_before, done.rows_after) == (1, 5, 4), "the other hour is not touched"
    assert DeltaTable(path).transaction_version("p:1") == 0


def test_what_lies_in_no_single_period_stays(path: str) -> None:
    visits = Visits(path)
    odd = {"page": "a", "visitors": stored(HLL, [9]), "top": None, "views": 1}
    whole = [
        {"window_start": START + 30 * MINUTE, "window_end": START + 90 * MINUTE, **odd},  # in two hours
        {"window_start": START + 5 * MINUTE, "window_end": START + 5 * MINUTE, **odd},  # no time at all
        {"window_start": START, "window_end": START + DAY, **odd},  # longer
        {"window_start": None, "window_end": START + MINUTE, **odd},
        {"window_start": START + MINUTE, "window_end": None, **odd},
        {"window_start": None, "window_end": None, **odd, "views": None},
    ]
    append(pa.Table.from_pylist(whole, schema=visits.schema.columns), path, txn=None)
    visits.add(visits.rows((START, "a", [1]), (START + MINUTE, "a", [2]), (START + 61 * MINUTE, "a", [3])))
    done = compact(path, to="hour", older_than=START + 2 * DAY)
    rows = visits.found()
    assert {(one["window_start"], one["window_end"], "a") for one in whole} <= rows.keys()
    assert (done.rows_before, done.rows_after, done.rows_astride) == (3, 2, 1)
    assert Counter(row["views"] for row in rows.values()) == {1: 6, None: 1, 2: 1}
    assert rows[START, START + HOUR, "a"]["visitors"] == stored(HLL, [1, 2])


def test_business_hours_take_what_lies_in_them(path: str) -> None:
    visits = Visits(path)
    monday = START + 2 * DAY
    visits.add(visits.rows((monday + 10 * HOUR, "a", [1]), (monday + 11 * HOUR, "a", [2]), (monday + 20 * HOUR, "a", [3])))
    compact(path, to=business_hours("UTC"), older_than=monday + 5 * DAY)
    left = {(9 * HOUR, 17 * HOUR), (20 * HOUR, 20 * HOUR + MINUTE)}
    assert {(start - monday, end - monday) for start, end, _ in visits.found()} == left
    assert compact(path, to=business_hours("UTC", days=[6]), older_than=monday + 5 * DAY) == Compacted(0, 0, 0), "it was never open"


def test_rows_of_one_key_that_others_appended_are_merged(path: str) -> None:
    visits = Visits(path)
    for _ in range(2):
        append(visits.rows((START, None, [1, 2])), path, txn=None)
    compact(path, to="hour", older_than=START + DAY)
    visits.compare(visits.expected("h", "UTC", START + DAY))


def test_an_empty_table_and_one_that_is_all_new_are_left_alone(path: str) -> None:
    visits = Visits(path)
    assert compact(path, to="day", older_than=START) == Compacted(0, 0, 0)
    visits.fill(4)
    version = DeltaTable(path).version()
    assert compact(path, to="day", older_than=START + DAY - MINUTE) == Compacted(0, 0, 0), "the day is not over"
    assert DeltaTable(path).version() == version


def test_a_dry_run_says_what_would_be(path: str) -> None:
    visits = Visits(path).fill(5, span=5 * HOUR)
    version, cutoff = DeltaTable(path).version(), START + 3 * HOUR
    would = compact(path, to="hour", older_than=cutoff, dry_run=True)
    assert DeltaTable(path).version() == version
    done = compact(path, to="hour", older_than=cutoff)
    assert (would.periods, would.rows_before, would.rows_after) == (done.periods, done.rows_before, done.rows_after)
    assert (would.commits, would.bytes_before) == (0, None)
    visits.compare(visits.expected("h", "UTC", cutoff))


@pytest.mark.parametrize("on_damage", ["fail", "keep"])
def test_large_tables_are_merged_block_by_block_and_step_by_step(path: str, monkeypatch: pytest.MonkeyPatch, on_damage: Any) -> None:
    visits = Visits(path).fill(6, span=12 * HOUR)
    monkeypatch.setattr(compaction, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(compaction, "STEP_BYTES", 2_000)
    version = DeltaTable(path).version()
    done = compact(path, to="hour", older_than=START + DAY, on_damage=on_damage)
    visits.compare(visits.expected("h", "UTC", START + DAY))
    assert done.commits == DeltaTable(path).version() - version > 3
    assert (done.periods, done.rows_after) == (12, len(visits.found()))


def test_a_run_that_was_cut_off_goes_on_where_it_ended(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visits = Visits(path).fill(7, span=12 * HOUR)
    monkeypatch.setattr(compaction, "BLOCK_BYTES", 20_000)

    def stop(rows: int, total: int) -> None:
        if rows > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compact(path, to="hour", older_than=START + DAY, progress=stop)
    assert {end - start for start, end, _ in visits.found()} == {MINUTE, HOUR}
    assert sum(row["views"] for row in visits.found().values()) == sum(map(len, visits.values.values()))
    compact(path, to="hour", older_than=START + DAY)
    visits.compare(visits.expected("h", "UTC", START + DAY))


# other writers


def meanwhile(monkeypatch: pytest.MonkeyPatch, *acts: Callable[[], object]) -> None:
    """Let somebody else write between the reading and the commit of a block, once for each act."""
    monkeypatch.setattr(conflicts, "WAITS", wait_none())
    real, left = compaction.write_deltalake, list(acts)

    def write(*given: Any, **named: Any) -> None:
        if left:
            left.pop(0)()
        real(*given, **named)

    monkeypatch.setattr(compaction, "write_deltalake", write)


@pytest.mark.parametrize("page", ["a", "new", None])
def test_late_rows_of_an_epoch_that_come_meanwhile_are_not_lost(path: str, monkeypatch: pytest.MonkeyPatch, page: str | None) -> None:
    visits = Visits(path).fill(8, span=3 * HOUR)
    late = [visits.rows((START + number * HOUR, page, [number])) for number in range(2)]
    meanwhile(monkeypatch, *(partial(visits.add, one, Txn("p:1", number)) for number, one in enumerate(late)))
    compact(path, to="hour", older_than=START + DAY)
    compact(path, to="hour", older_than=START + DAY)
    visits.compare(visits.expected("h", "UTC", START + DAY))
    assert DeltaTable(path).transaction_version("p:1") == 1


def test_an_epoch_that_reads_before_a_compaction_and_writes_behind_it_looks_again(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from spark_ext.delta import by_driver  # noqa: PLC0415

    visits = Visits(path).fill(9, span=3 * HOUR)
    late = visits.rows(*[(START + number * MINUTE, "a", [number]) for number in range(180)])
    real, left = by_driver._known, [1]

    def known(*given: Any) -> pa.Table:
        found = real(*given)
        if left:
            left.pop()
            compact(path, to="hour", older_than=START + DAY)
        return found

    monkeypatch.setattr(by_driver, "_known", known)
    visits.add(late)
    compact(path, to="hour", older_than=START + DAY)
    visits.compare(visits.expected("h", "UTC", START + DAY))


def test_rows_that_come_elsewhere_are_no_conflict(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visits = Visits(path).fill(10, span=2 * HOUR)
    new = visits.rows((START + 5 * DAY, "a", [1]))
    calls: list[int] = []
    meanwhile(monkeypatch, lambda: (calls.append(1), visits.add(new)))
    version = DeltaTable(path).version()
    compact(path, to="hour", older_than=START + DAY)
    assert (calls, DeltaTable(path).version()) == ([1], version + 2)
    visits.compare(visits.expected("h", "UTC", START + DAY))


def test_two_compactions_at_once_make_one(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visits = Visits(path).fill(11, span=2 * HOUR)
    meanwhile(monkeypatch, lambda: compact(path, to="hour", older_than=START + DAY))
    done = compact(path, to="hour", older_than=START + DAY)
    visits.compare(visits.expected("h", "UTC", START + DAY))
    assert done.commits == 0


def test_conflicts_without_an_end_are_refused_with_the_period_as_it_was(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visits = Visits(path).fill(12, span=HOUR)
    meanwhile(monkeypatch, *[lambda: visits.add(visits.rows((START, "a", [1])))] * 9)
    with pytest.raises(EpochError, match="expected a moment without other writers, got 5 conflicts in a row"):
        compact(path, to="hour", older_than=START + DAY)
    visits.compare(visits.expected("h", "UTC", START))


def test_threads_that_write_and_compact_lose_nothing(path: str) -> None:
    visits = Visits(path).fill(13, span=2 * HOUR, count=50)
    batches = [visits.rows((START + number * MINUTE, "a", [number]), (START, "b", [number])) for number in range(12)]
    together, failed = threading.Barrier(2), []

    def write() -> None:
        together.wait()
        for number, one in enumerate(batches):
            try:
                visits.add(one, Txn("p:1", number))
            except EpochError:
                failed.append(one)

    thread = threading.Thread(target=write)
    thread.start()
    together.wait()
    for _ in range(4):
        try:
            compact(path, to="hour", older_than=START + DAY)
        except EpochError:  # it may lose five times
            continue
    thread.join()
    assert failed == []
    compact(path, to="hour", older_than=START + DAY)
    visits.compare(visits.expected("h", "UTC", START + DAY))


# what is refused


def damage(visits: Visits, *keys: tuple[datetime, str | None], length: timedelta = MINUTE) -> None:
    rows = visits.rows(*((at, page, [1]) for at, page in keys), length=length)
    for at, page in keys:
        visits.values[at, page].pop()
    append(rows.set_column(3, rows.schema.field(3), pa.array([b"MLSK damaged"] * len(keys), pa.binary())), visits.path, txn=None)


@pytest.mark.parametrize("length", [MINUTE, HOUR])
def test_a_damaged_sketch_stops_it_or_its_key_stays_as_it_is(path: str, length: timedelta) -> None:
    visits = Visits(path)
    damage(visits, (START, "bad"), length=length)
    visits.add(visits.rows((START + MINUTE, "bad", [1]), (START + 2 * MINUTE, "bad", [2]), (START, "a", [3]), (START + MINUTE, "a", [4])))
    before = visits.found()
    with pytest.raises(
        SketchBytesError, match=r"cannot compact sketch table .*column 'visitors' of the row with .*page 'bad'.*'keep'"
    ) as caught:
        compact(path, to="hour", older_than=START + DAY)
    assert "these periods stay as they were" in str(caught.value)
    assert visits.found() == before
    done = compact(path, to="hour", older_than=START + DAY, on_damage="keep")
    rows = visits.found()
    assert {key: row for key, row in rows.items() if key[2] == "bad"} == {key: row for key, row in before.items() if key[2] == "bad"}
    assert rows[START, START + HOUR, "a"]["views"] == 2
    assert (done.rows_before, done.rows_after, done.rows_damaged) == (5, 4, 3)
    assert compact(path, to="hour", older_than=START + DAY, on_damage="keep").commits == 0


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"to": "fortnight"}, SettingsError, "expected a unit among hour, day"),
        ({"to": "day", "zone": "Europe/Nowhere"}, SettingsError, "expected a zone of the time zone database"),
        (
            {"to": sliding(HOUR, every=MINUTE)},
            SettingsError,
            r"cannot compact sketches 'to': expected periods that follow each other.*, got slid",
        ),
        ({"to": global_window()}, SettingsError, "got global"),
        ({"to": tumbling(HOUR).without_grace()}, SettingsError, "got Window"),
        ({"to": "day", "older_than": datetime(2026, 1, 1)}, SettingsError, "'older_than': expected a time with its zone"),  # noqa: DTZ001
        ({"to": "day", "on_damage": "skip"}, SettingsError, "expected one of fail, keep, got 'skip'"),
    ],
)
def test_arguments_that_are_none_are_refused(path: str, given: Any, error: type[Exception], message: str) -> None:
    Visits(path)
    with pytest.raises(error, match=message):
        compact(path, **{"older_than": START, **given})


def test_tables_without_windows_and_other_tables_are_refused(path: str, tmp_path: Path) -> None:
    create_sketch_table(path, keys={"page": "string"}, measures={"n": "sum"})
    with pytest.raises(SchemaError, match="expected keys window_start and window_end, timestamps, got keys page"):
        compact(path, to="day", older_than=START)
    assert [(one.length, one.rows) for one in grains(path)] == []
    write_deltalake(str(tmp_path / "other"), pa.table({"n": [1]}))
    with pytest.raises(SchemaError, match="cannot read sketch table"):
        compact(str(tmp_path / "other"), to="day", older_than=START)


# the commands


def test_the_commands_show_and_compact(path: str) -> None:
    visits = Visits(path, partition_by=["page"]).fill(14, span=3 * HOUR)
    line = ["sketches", "compact", path, "--to", "hour", "--older-than", "2026-03-28T02:00Z"]
    dry = RUNNER.invoke(app, [*line, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "would be" in dry.output
    assert "periods: 2, commits: 0" in dry.output
    assert {one.length for one in grains(path)} == {MINUTE}
    done = RUNNER.invoke(app, [*line, "--json"])
    told = json.loads(done.stdout)
    assert (told["periods"], told["commits"], told["dry_run"]) == (2, 1, False)
    visits.compare(visits.expected("h", "UTC", START + 2 * HOUR))
    again = RUNNER.invoke(app, line)
    assert "nothing to do: no period has rows for shorter times" in again.output
    shown = RUNNER.invoke(app, ["sketches", "show", path])
    assert shown.exit_code == 0, shown.output
    for text in ("HyperLogLog(precision=7", "key string, folders", "sum", "1 m", "1 h", "2026-03-28 00:00Z"):
        assert text in shown.output
    told = json.loads(RUNNER.invoke(app, ["sketches", "show", path, "--json"]).stdout)
    assert [(one["length"], one["rows"]) for one in told["grains"]] == [
        (text, sum(end - start == length for start, end, _ in visits.found())) for text, length in (("1 m", MINUTE), ("1 h", HOUR))
    ]
    assert told["measures"] == {"visitors": "HyperLogLog(precision=7, hash='xxh64')", "top": "MisraGries(capacity=50)", "views": "sum"}


def test_lengths_are_read_and_others_refused(path: str) -> None:
    visits = Visits(path).fill(15, span=HOUR)
    done = RUNNER.invoke(app, ["sketches", "compact", path, "--to", "15m", "--older-than", "0s", "--zone", "Europe/Berlin"])
    assert done.exit_code == 0 or datetime.now(UTC) < START + HOUR, done.output
    assert {end - start for start, end, _ in visits.found()} == {15 * MINUTE}
    for text in ("2 days", "2026-01-01", "x"):
        refused = RUNNER.invoke(app, ["sketches", "compact", path, "--to", "day", "--older-than", text])
        assert isinstance(refused.exception, SettingsError)
        assert "cannot compact sketches '--older-than': expected a length such as 2d, or a time with its zone" in str(refused.exception)


def test_rows_without_a_time_are_a_grain_of_their_own(path: str) -> None:
    create_sketch_table(path, keys={"page": "string"}, measures={"h": HLL})
    append(pa.table({"page": ["a", "b"], "h": [stored(HLL, [1]), None]}), path, txn=None)
    (one,) = grains(path)
    assert (one.length, one.rows, one.sketch_bytes, one.first) == (None, 2, len(stored(HLL, [1])), None)
