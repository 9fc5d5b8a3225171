"""What a checkpoint says about the state in it, while its query runs and at any batch, and for every kind of table."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from spark_ext.dedup import Dedup
from spark_ext.errors import StateError
from spark_ext.ops.cli import app
from spark_ext.state import inspect
from spark_ext.state.cli import summary
from spark_ext.state.codec import BucketState, Identity, encode
from spark_ext.state.inspect import buckets, entries
from spark_ext.state.kernel import NEVER_US, Kernel, Moment, empty_state
from spark_ext.windows import aggregate, count_tumbling, global_window, keep_last, session, sliding, stage, tumbling
from spark_ext.windows.aggregates import count, max, mean  # noqa: A004
from spark_ext.windows.chain import chain
from spark_ext.windows.evictions import Eviction, keep_all
from spark_ext.windows.kernels import kernel_for
from spark_ext.windows.rows import Layout
from spark_ext.windows.shapes import Window
from spark_ext.windows.triggers import on_close

START = datetime(2013, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
TEN = 10 * SECOND
BUCKETS = 5
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STAMP = pa.timestamp("us", "UTC")
ROWS = pa.schema([("key", pa.string()), ("j", pa.int32()), ("at_us", STAMP), ("v", pa.int64())])

Row = tuple[str | None, int, int | None, int | None]
FILES: list[list[Row]] = [
    [("a", 1, None, 1), ("b", 1, None, 1)],
    [("a", 1, 1, 4), ("a", 1, 2, None), ("b", 1, 11, 5), (None, 2, 3, 6)],
    [("a", 1, 3, 5), ("a", 1, 12, 1), ("c", 2, 12, 2)],
]


@dataclass(frozen=True)
class Run:
    """A query that is running, and where it keeps what it needs."""

    checkpoint: Path
    batches: int


@pytest.fixture(scope="module")
def run(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("inspect")
    (folder / "in").mkdir()
    reader = spark.readStream.schema("key string, j int, at_us timestamp, v bigint").option("maxFilesPerTrigger", 1)
    rows = reader.json(str(folder / "in")).withWatermark("at_us", "100 seconds")
    results = aggregate(
        rows,
        keys=["key", "j"],
        event_time="at_us",
        window=tumbling(TEN).without_grace(),
        aggregates={"n": count(), "m": mean("v")},
        buckets=BUCKETS,
    )
    writer = results.writeStream.format("noop").option("checkpointLocation", str(folder / "checkpoint" / "spark"))
    query = writer.start()
    try:
        for number, file in enumerate(FILES):
            lines = [
                {"key": key, "j": j, "at_us": None if at is None else (START + at * SECOND).isoformat(), "v": v} for key, j, at, v in file
            ]
            aside = folder / f"{number}.json"
            aside.write_text("\n".join(map(json.dumps, lines)))
            aside.rename(folder / "in" / aside.name)
            query.processAllAvailable()
        assert query.lastProgress is not None
        yield Run(folder / "checkpoint", int(query.lastProgress["batchId"]) + 1)
        assert query.isActive, "it was not disturbed"
    finally:
        query.stop()


def open_windows(files: Sequence[Sequence[Row]]) -> Counter[Any]:
    found: dict[Any, list[int | None]] = {}
    for key, j, at, v in [row for file in files for row in file]:
        if at is not None:
            found.setdefault((key, j, at // 10), []).append(v)
    return Counter(
        (*window, len(values), sum(v for v in values if v is not None), sum(v is not None for v in values))
        for window, values in found.items()
    )


def utc(time: datetime) -> datetime:
    return time.astimezone(UTC)


@pytest.mark.spark
@pytest.mark.parametrize(("batch", "files"), [(1, 2), (None, 3)])
def test_entries_are_the_open_windows_of_a_batch(spark: SparkSession, run: Run, batch: int | None, files: int) -> None:
    found = entries(spark, str(run.checkpoint), batch_id=batch)
    assert found.columns == ["_bucket", "key", "window", "state"]
    rows = found.select("_bucket", "key.*", "window.*", "state.*").collect()
    assert found.select("state.*").columns == ["n", "m_0", "m_1", "m_2"]
    windows = [(row.key, row.j, (utc(row.start) - START) // TEN, row.n, row.m_0, row.m_2) for row in rows]
    assert Counter(windows) == open_windows(FILES[:files])
    assert {utc(row.end) - utc(row.start) for row in rows} == {TEN}
    by_key: dict[Any, set[int]] = {}
    for row in rows:
        by_key.setdefault((row.key, row.j), set()).add(row["_bucket"])
    assert all(len(of) == 1 for of in by_key.values())


@pytest.mark.spark
def test_buckets_say_what_they_hold(spark: SparkSession, run: Run) -> None:
    rows = buckets(spark, str(run.checkpoint / "spark")).collect()
    assert len({row.bucket for row in rows}) == len(rows) <= BUCKETS
    assert {row.buckets for row in rows} == {BUCKETS}
    wanted = open_windows(FILES)
    assert sum(row.keys for row in rows) == len({window[:2] for window in wanted}) == 4
    assert sum(row.rows["groups"] for row in rows) == len(wanted)
    assert min(utc(row.oldest) for row in rows if row.oldest is not None) == START + TEN
    assert all(row.bytes > 100 and row.floor is None and row.operator == "time_windows_v1" for row in rows)
    assert {utc(row.oldest) - utc(row.timeout) for row in rows if row.oldest is not None} == {timedelta(milliseconds=1)}
    assert json.loads(rows[0].settings)["keys"] == ["key", "j"]
    earlier = buckets(spark, str(run.checkpoint), batch_id=1).collect()
    assert sum(row.rows["groups"] for row in earlier) == len(open_windows(FILES[:2]))


@pytest.mark.spark
def test_a_state_that_is_empty(spark: SparkSession, run: Run) -> None:
    assert all(
        row.keys == sum(row.rows.values()) == 0 and row.oldest is None for row in buckets(spark, str(run.checkpoint), batch_id=0).collect()
    )
    assert entries(spark, str(run.checkpoint), batch_id=0).collect() == []


@pytest.mark.spark
def test_other_tables(spark: SparkSession, run: Run) -> None:
    keys = entries(spark, str(run.checkpoint), "keys")
    assert {(row.key, row.j) for row in keys.collect()} == {("a", 1), ("b", 1), ("c", 2), (None, 2)}
    panes = entries(spark, str(run.checkpoint), "panes").collect()
    assert {utc(row.end) for row in panes} == {START + TEN, START + 2 * TEN}
    with pytest.raises(StateError, match=r"expected one of the tables \['groups', 'keys', 'meta', 'panes'\], got 'sessions'"):
        entries(spark, str(run.checkpoint), "sessions")


@pytest.mark.spark
def test_what_is_not_there_is_refused(spark: SparkSession, run: Run, tmp_path: Path) -> None:
    for batch in (-1, run.batches):
        with pytest.raises(
            StateError, match=rf"expected one of the batches 0 to {run.batches - 1}, got batch {batch}; these are retained; choose"
        ):
            buckets(spark, str(run.checkpoint), batch_id=batch)
    with pytest.raises(
        StateError, match=r"cannot read state of checkpoint '.*nothing': expected the folder of a checkpoint, got one without commits/"
    ):
        buckets(spark, str(tmp_path / "nothing"))
    rows = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 3).load()
    for name, query in {"agg": rows.groupBy("value").count(), "none": rows}.items():
        writer = query.writeStream.format("noop").outputMode("update").option("checkpointLocation", str(tmp_path / name))
        running = writer.trigger(once=True).start()
        assert running.awaitTermination(120)
    with pytest.raises(StateError, match=r"expected state of an operator of Millrace, got 'stateStoreSave'; .*; name another checkpoint"):
        buckets(spark, str(tmp_path / "agg"))
    with pytest.raises(StateError, match=r"expected state of an operator of Millrace, got no state at all"):
        entries(spark, str(tmp_path / "none"))


@pytest.mark.spark
def test_the_command_shows_size_keys_age_and_skew(spark: SparkSession, run: Run) -> None:
    assert spark is not None
    # A session of its own, which has run no stream.
    command = [
        sys.executable,
        "-c",
        "from spark_ext.ops.cli import main; main()",
        "state",
        "show",
        str(run.checkpoint),
        "--json",
        "--top",
        "1",
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    assert (found["operator"], found["buckets"], found["keys"], len(found["largest"])) == ("time_windows_v1", BUCKETS, 4, 1)
    assert (found["oldest"], found["rows"]["groups"]) == ("2013-01-01 12:00:10Z", len(open_windows(FILES)))
    assert found["skew"] == pytest.approx(found["largest"][0]["bytes"] * BUCKETS / found["bytes"])
    plain = CliRunner().invoke(app, ["state", "show", str(run.checkpoint)], env={"COLUMNS": "200"})
    assert plain.exit_code == 0, plain.output
    assert [word in plain.stdout for word in ("time_windows_v1", "largest buckets", "skew", "2013-01-01 12:00:10Z")] == [True] * 4
    empty = CliRunner().invoke(app, ["state", "show", str(run.checkpoint), "--batch", "0"])
    assert (empty.exit_code, "the state is empty" in empty.output) == (0, True)


def test_a_summary_counts_empty_buckets_in_its_mean() -> None:
    row = {"bucket": 0, "bytes": 30, "rows": {"keys": 2}, "keys": 2, "oldest": None, "floor": None, "timeout": None, "buckets": 4,
           "operator": "x", "settings": "{}"}  # fmt: skip
    found = summary([row, {**row, "bucket": 1, "bytes": 50, "keys": None}], top=1)
    assert (found["skew"], found["bytes"], found["keys"], found["rows"]) == (2.5, 80, None, {"keys": 4})
    assert [one["bucket"] for one in found["largest"]] == [1]
    assert found["in_use"] == 2
    assert summary([{**row, "rows": {"keys": 0}}, {**row, "rows": {}, "floor": START}], top=1)["in_use"] == 1
    assert summary([], top=3) == {"in_use": 0, "bytes": 0, "keys": 0, "rows": {}}


def windows(window: Window, eviction: Eviction | None = None) -> Kernel:
    return kernel_for(layout(), window, on_close(), eviction or keep_all(), None)


def layout(keys: tuple[str, ...] = ("key", "j")) -> Layout:
    return Layout(ROWS, keys, "at_us", (("key_n", count()), ("m", max("v"))), 0, 2**60)


def held(kernel: Kernel, *, floor_us: int = NEVER_US) -> BucketState:
    """State of some rows; the columns of the user have the names that operators use."""
    rows = [("b", 1, 25, 7), ("a", 1, 12, 1), ("a", 1, 14, 2), ("a", 1, 40, 3)]
    keys, others, times, values = ([row[at] for row in rows] for at in range(4))
    stamps = pa.array([time * 1_000_000 for time in times], pa.int64()).view(STAMP)
    table = pa.table([pa.array(keys), pa.array(others, pa.int32()), stamps, pa.array(values, pa.int64())], schema=ROWS)
    step = kernel.step(empty_state(kernel), table, Moment(NEVER_US, 0))
    return BucketState(Identity(kernel.operator, kernel.settings, 4), 3, floor_us, step.state)


DEDUP = {keep: Dedup(ROWS, ("key", "j"), "at_us", TEN, keep) for keep in ("first", "arrived")}
CHAIN = chain(layout(), tumbling(TEN).without_grace(), [stage(session(TEN), {"c": count()}, keys=["j"])])
SHAPES: dict[str, tuple[Kernel, int, int, str, list[str]]] = {
    # the kernel; its oldest entry in seconds; keys; its main table, and that table's columns
    "sliding": (windows(sliding(2 * TEN, every=TEN).without_grace()), 20, 2, "groups", ["key", "window", "state"]),
    "keyless": (kernel_for(layout(()), tumbling(TEN).without_grace(), on_close(), keep_all(), None), 20, 1, "groups", ["window", "state"]),
    "session": (windows(session(TEN).without_grace()), 12, 2, "sessions", ["key", "first", "last", "state"]),
    "count": (windows(count_tumbling(9).without_grace()), 12, 2, "panes", ["key", "pane", "first", "last", "state"]),
    "evicting": (windows(global_window().without_grace(), keep_last(2)), 14, 2, "rows", ["key", "time", "fresh", "c_v"]),
    "first": (DEDUP["first"], 12, 2, "kept", ["key", "j", "at_us"]),
    "arrived": (DEDUP["arrived"], 12, 2, "kept", ["key", "j", "at_us"]),
    "chain": (CHAIN, 20, 1, "0.groups", ["key", "window", "state"]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_tables_of_every_operator_can_be_read(name: str) -> None:
    kernel, oldest, keys, table, columns = SHAPES[name]
    state = held(kernel, floor_us=7_000_000)
    blob = encode(state)
    batch = pa.record_batch(
        [pa.array([99], pa.int32()), pa.array([blob]), pa.array([5_000], pa.int64())], ["_bucket", "blob", "timeout_ms"]
    )
    (described,) = [row for part in inspect._describe([batch]) for row in part.to_pylist()]
    assert described["oldest"] == EPOCH + oldest * SECOND
    assert (described["keys"], described["bucket"], described["buckets"], described["bytes"]) == (keys, 3, 4, len(blob))
    assert (described["floor"], described["timeout"]) == (EPOCH + 7 * SECOND, EPOCH + 5 * SECOND)
    assert dict(described["rows"]) == {name: len(found) for name, found in state.tables.items()}
    assert inspect._main_table(state) == table
    assert inspect._readable(state, table).column_names == ["_bucket", *columns]
    for each in state.tables:
        assert len(inspect._readable(state, each)) == len(state.tables[each])


def test_a_damaged_state_is_named() -> None:
    blob = bytearray(encode(held(SHAPES["session"][0])))
    blob[-1] ^= 1
    batch = pa.record_batch(
        [pa.array([99], pa.int32()), pa.array([bytes(blob)]), pa.array([-1], pa.int64())], ["_bucket", "blob", "timeout_ms"]
    )
    with pytest.raises(StateError, match=r"cannot read state .of label 99.: .*checksum"):
        list(inspect._describe([batch]))


def test_what_tables_refer_to_is_put_in_place() -> None:
    sessions = inspect._readable(held(SHAPES["session"][0]), "sessions").to_pylist()
    found = [(row["key"]["key"], (row["first"] - EPOCH) // SECOND, (row["last"] - EPOCH) // SECOND, row["state"]) for row in sessions]
    wanted = [("a", 12, 14, {"key_n": 2, "m": 2}), ("a", 40, 40, {"key_n": 1, "m": 3}), ("b", 25, 25, {"key_n": 1, "m": 7})]
    assert sorted(found, key=lambda each: each[:2]) == wanted
    counts = inspect._readable(held(SHAPES["evicting"][0]), "counts").to_pylist()
    assert sorted((row["key"]["key"], row["fresh"]) for row in counts) == [("a", 3), ("b", 1)]
    whole = inspect._readable(held(windows(global_window().without_grace())), "groups").to_pylist()
    assert {(row["window"]["start"], row["window"]["end"]) for row in whole} == {(None, None)}
    assert all(not len(times) for times in inspect._entry_times(held(windows(global_window().without_grace()))))
