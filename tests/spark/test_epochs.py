"""Epochs over a real stream: what each sink gets, what the ledger says, and what is refused before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext import epochs
from spark_ext.epochs.points import watched
from spark_ext.errors import EngineError, QueryError, SchemaError
from spark_ext.queries import Checkpoint

pytestmark = pytest.mark.spark
NAME = "numbers"
ROWS = 40
START_S = 1_700_000_000


class Job:
    """A stream of numbers, a file per batch, into whatever sinks a test wants."""

    def __init__(self, spark: SparkSession, root: Path, sinks: Mapping[str, epochs.Sink], route: epochs.Route, **settings: Any) -> None:
        self.spark, self.root, self.route = spark, root, route
        checkpoint = Checkpoint.claim(str(root / "checkpoint"), pipeline=NAME, sources=["files"])
        self.pipeline = epochs.Pipeline(checkpoint, ledger=str(root / "ledger"), sinks=sinks, **settings)
        self.batches = 0

    def feed(self, count: int = 1, rows: int = ROWS) -> Job:
        """Add batches of consecutive numbers."""
        (self.root / "input").mkdir(exist_ok=True)
        for _ in range(count):
            start = self.batches * ROWS
            table = pa.table({"n": pa.array(range(start, start + rows), pa.int64())})
            file = self.root / "input" / f"{self.batches:03d}.parquet"
            pq.write_table(table, file)
            os.utime(file, (START_S + self.batches, START_S + self.batches))  # Spark takes files by their times
            self.batches += 1
        return self

    def run(self) -> list[epochs.EpochRow]:
        """Take what is there and end; return the ledger."""
        frame = self.spark.readStream.schema("n bigint").option("maxFilesPerTrigger", 1).parquet(str(self.root / "input"))
        epochs.start(frame, self.route, pipeline=self.pipeline).await_end()
        return epochs.Ledger(self.pipeline.ledger).rows(NAME)

    def fails(self, kind: type[EngineError] | None = None, match: str = "") -> None:
        """Run, and expect the query to fail with this in its error."""
        with pytest.raises(QueryError) as caught:
            self.run()
        cause = str(caught.value.__cause__)
        assert match in cause, cause
        assert kind is None or kind.__name__ in cause

    def numbers(self, sink: str) -> list[int]:
        path = self.pipeline.sinks[sink].path
        return sorted(DeltaTable(path).to_pyarrow_table().column("n").to_pylist()) if DeltaTable.is_deltatable(path) else []


def parts(epoch: epochs.Epoch) -> dict[str, DataFrame]:
    kinds = {"good": "n % 10 < 7", "late": "n % 10 = 7", "dead": "n % 10 = 8", "again": "n % 10 = 9"}
    return {name: epoch.rows.where(condition) for name, condition in kinds.items()}


def four(root: Path) -> dict[str, epochs.Sink]:
    kinds: dict[str, epochs.CountsAs] = {"good": "accepted", "late": "late", "dead": "dead", "again": "duplicate"}
    return {name: epochs.Append(str(root / name), counts_as=kind) for name, kind in kinds.items()}


def only(sink: str, change: Callable[[DataFrame], DataFrame] = lambda rows: rows) -> epochs.Route:
    return lambda epoch: {sink: change(epoch.rows)}


@pytest.mark.parametrize("driver_rows", [0, 5, 100_000], ids=["by spark", "by both", "by the driver"])
def test_each_row_is_in_one_table_and_the_ledger_balances(spark: SparkSession, tmp_path: Path, driver_rows: int) -> None:
    job = Job(spark, tmp_path, four(tmp_path), parts, on_imbalance="stop", driver_rows=driver_rows).feed(3)
    ledger = job.run()
    everything = list(range(3 * ROWS))
    assert job.numbers("good") == [n for n in everything if n % 10 < 7]
    assert sorted(n for sink in job.pipeline.sinks for n in job.numbers(sink)) == everything
    assert [(row.epoch, row.batch_id, row.read, row.accepted, row.late, row.dead, row.duplicate) for row in ledger] == [
        (number, number, ROWS, 28, 4, 4, 4) for number in range(3)
    ]
    assert all(row.is_balanced and not row.is_derived for row in ledger)
    writers = {one.writer for row in ledger for one in row.sinks}
    assert writers == {0: {"spark"}, 5: {"spark", "driver"}, 100_000: {"driver"}}[driver_rows]
    for row in ledger:
        for one in row.sinks:
            table = DeltaTable(one.path, version=one.version)
            assert str(table.metadata().id) == one.table_id
            assert table.to_pyarrow_table().num_rows == sum(
                other.rows for before in ledger[: row.epoch + 1] for other in before.sinks if other.name == one.name
            )


def test_the_ledger_notes_the_bounds_of_event_time_alike_for_few_and_many_rows(spark: SparkSession, tmp_path: Path) -> None:
    bounds = []
    for name, driver_rows in (("few", 100_000), ("many", 0)):
        root = tmp_path / name
        root.mkdir()
        route = only("good", lambda rows: rows.withColumn("at", F.timestamp_seconds("n")))
        sinks = {"good": epochs.Append(str(root / "good"), counts_as="accepted")}
        (row,) = Job(spark, root, sinks, route, event_time="at", driver_rows=driver_rows).feed().run()
        assert row.first_event is not None
        assert row.last_event is not None
        bounds.append((row.first_event.timestamp(), row.last_event.timestamp()))
    assert bounds == [(0.0, ROWS - 1.0)] * 2


def test_more_rows_than_were_read_still_go_to_spark_when_they_are_many(spark: SparkSession, tmp_path: Path) -> None:
    route = only("copies", lambda rows: rows.withColumn("copy", F.explode(F.sequence(F.lit(1), F.lit(10)))))
    job = Job(spark, tmp_path, {"copies": epochs.Append(str(tmp_path / "copies"))}, route, driver_rows=ROWS).feed()
    (row,) = job.run()
    assert (row.sinks[0].rows, row.sinks[0].writer) == (10 * ROWS, "spark")


def test_an_epoch_that_does_not_balance_is_refused_before_anything_is_written(spark: SparkSession, tmp_path: Path) -> None:
    def loses_one(epoch: epochs.Epoch) -> dict[str, DataFrame]:
        return {**parts(epoch), "good": epoch.rows.where("n % 10 < 7 AND n <> 41")}

    job = Job(spark, tmp_path, four(tmp_path), loses_one, on_imbalance="stop").feed(2)
    job.fails(match="read 40, accepted 27 + late 4 + dead 4 + duplicate 4")
    assert [row.epoch for row in epochs.Ledger(job.pipeline.ledger).rows(NAME)] == [0]
    assert max(n for sink in job.pipeline.sinks for n in job.numbers(sink)) < ROWS, "nothing of the second batch"
    job.route = parts
    assert [row.epoch for row in job.run()] == [0, 1], "mended, it goes on where it was"


def test_or_is_committed_with_a_warning(spark: SparkSession, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job = Job(spark, tmp_path, four(tmp_path), lambda epoch: {**parts(epoch), "again": epoch.rows.limit(0)}).feed()
    (row,) = job.run()
    assert not row.is_balanced
    assert "epoch 0 does not balance: read 40, accepted 28 + late 4 + dead 4" in caplog.text


def test_an_epoch_without_rows_for_a_sink_leaves_its_table_alone(spark: SparkSession, tmp_path: Path) -> None:
    job = Job(spark, tmp_path, four(tmp_path), lambda epoch: {"good": epoch.rows}).feed(2)
    ledger = job.run()
    assert not DeltaTable.is_deltatable(job.pipeline.sinks["late"].path)
    assert [(one.rows, one.version, one.writer) for one in ledger[1].sinks if one.name == "late"] == [(0, -1, None)]


def test_a_name_that_is_no_sink_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    Job(spark, tmp_path, four(tmp_path), only("elsewhere")).feed().fails(match="elsewhere")


@pytest.mark.parametrize("evolve", [False, True])
def test_rows_that_do_not_fit_are_refused_before_a_row_is_read(spark: SparkSession, tmp_path: Path, *, evolve: bool) -> None:
    write_deltalake(str(tmp_path / "late"), pa.table({"n": pa.array([], pa.int64())}))
    sinks = {**four(tmp_path), "late": epochs.Append(str(tmp_path / "late"), counts_as="late", evolve=evolve)}
    reads: list[str] = []

    def widened(epoch: epochs.Epoch) -> dict[str, DataFrame]:
        return {**parts(epoch), "late": parts(epoch)["late"].withColumn("why", F.lit("slow"))}

    job = Job(spark, tmp_path, sinks, widened).feed()
    with watched(lambda point, batch_id, sink: reads.append(point)):
        if not evolve:
            job.fails(SchemaError, match="why")
            assert reads == []
            assert job.numbers("good") == []
            return
        job.run()
    assert DeltaTable(str(tmp_path / "late")).to_pyarrow_table().column("why").to_pylist() == ["slow"] * 4


class CrashError(Exception):
    """Ends an attempt."""


@pytest.mark.parametrize(
    ("delivery", "point", "times"),
    [
        ("exactly_once", "before_sink", 1), ("exactly_once", "after_sink", 1),
        ("at_least_once", "before_sink", 1), ("at_least_once", "after_sink", 2),
        ("at_most_once", "before_sink", 0), ("at_most_once", "after_sink", 1),
    ],
)  # fmt: skip
def test_how_often_rows_are_there_after_a_crash_by_delivery(
    spark: SparkSession, tmp_path: Path, delivery: epochs.Delivery, point: str, times: int
) -> None:
    sinks = {"good": epochs.Append(str(tmp_path / "good"), counts_as="accepted", delivery=delivery)}
    job = Job(spark, tmp_path, sinks, only("good")).feed()

    def crash(at: str, batch_id: int, sink: str) -> None:
        if at == point:
            raise CrashError(at)

    with watched(crash):
        job.fails(match="CrashError")
    (row,) = job.run()
    assert job.numbers("good") == sorted(list(range(ROWS)) * times)
    assert (row.accepted, row.shed) == ((ROWS, 0) if times else (0, ROWS))


def test_a_driver_that_was_overtaken_commits_nothing_more(spark: SparkSession, tmp_path: Path) -> None:
    job = Job(spark, tmp_path, four(tmp_path), parts).feed(2)

    def overtake(point: str, batch_id: int, sink: str) -> None:
        if (point, batch_id) == ("before_ledger", 1):
            epochs.Ledger(job.pipeline.ledger).take_lease(NAME)

    with watched(overtake):
        job.fails(match="expected lease 1, got lease 2")
    assert [row.epoch for row in epochs.Ledger(job.pipeline.ledger).rows(NAME)] == [0]
    assert [(row.epoch, row.token) for row in job.run()] == [(0, 1), (1, 3)]
    assert sorted(n for sink in job.pipeline.sinks for n in job.numbers(sink)) == list(range(2 * ROWS)), "the sinks know the batch already"


def test_one_sink_that_fails_ten_times_loses_nothing(spark: SparkSession, tmp_path: Path) -> None:
    job = Job(spark, tmp_path, four(tmp_path), parts, on_imbalance="stop").feed(2)
    left = [10]

    def fail(point: str, batch_id: int, sink: str) -> None:
        if (point, batch_id, sink) == ("before_sink", 1, "dead") and left[0]:
            left[0] -= 1
            raise CrashError(sink)

    with watched(fail):
        for _ in range(10):
            job.fails(match="CrashError")
        ledger = job.run()
    assert [row.is_balanced for row in ledger] == [True, True]
    assert sorted(n for sink in job.pipeline.sinks for n in job.numbers(sink)) == list(range(2 * ROWS))


def test_an_outbox_gets_epoch_and_order_from_both_writers(spark: SparkSession, tmp_path: Path) -> None:
    def route(epoch: epochs.Epoch) -> dict[str, DataFrame]:
        value = F.col("n").cast("string").cast("binary")
        return {"outbox": epoch.rows.select(F.lit("alerts").alias("topic"), F.lit(None).cast("binary").alias("key"), value.alias("value"))}

    for name, driver_rows in (("few", 100_000), ("many", 0)):
        root = tmp_path / name
        root.mkdir()
        job = Job(spark, root, {"outbox": epochs.Outbox(str(root / "outbox"))}, route, driver_rows=driver_rows).feed(2)
        job.run()
        rows = DeltaTable(str(root / "outbox")).to_pyarrow_table().to_pylist()
        places = [(row["epoch"], row["seq"]) for row in rows]
        assert len(set(places)) == 2 * ROWS
        assert {epoch for epoch, _ in places} == {0, 1}


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"sinks": {}}, "at least one"), ({"on_imbalance": "shrug"}, "warn or stop"), ({"driver_rows": -1}, "0 or more")],
    ids=["no sink", "policy", "rows"],
)
def test_a_pipeline_that_cannot_be_is_refused(spark: SparkSession, tmp_path: Path, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(EngineError, match=match):
        Job(spark, tmp_path, **{"sinks": four(tmp_path), "route": parts, **settings})


def test_two_sinks_in_one_table_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    twice = {"one": epochs.Append(str(tmp_path / "same")), "other": epochs.Append(str(tmp_path / "x" / ".." / "same"))}
    with pytest.raises(EngineError, match="a table for each"):
        Job(spark, tmp_path, twice, parts)
