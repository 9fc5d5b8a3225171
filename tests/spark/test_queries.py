"""Checkpoints belong to one pipeline; a stop comes between two batches; a failure says what to do."""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from spark_ext.errors import CheckpointMismatchError, QueryError
from spark_ext.queries import Batch, Checkpoint, Outcome, Query, QueryProgress, run, start

pytestmark = pytest.mark.spark

WAIT_S = 60


def endless(spark: SparkSession) -> DataFrame:
    """Ten rows per batch, for ever; the rows of batch n have event times n seconds after 1970."""
    return spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 10).load().withWatermark("timestamp", "0 seconds")


def claimed(path: str, pipeline: str = "test/endless") -> Checkpoint:
    return Checkpoint.claim(path, pipeline=pipeline, sources=["rate"])


class Recorder:
    """Collects the rows of each batch, and lets a test act in the middle of one."""

    def __init__(self, during: Callable[[Batch], None] = lambda batch: None) -> None:
        self.begun: list[int] = []
        self.done: dict[int, list[int]] = {}
        self.watermarks: list[datetime] = []
        self.during = during

    def __call__(self, batch: Batch) -> None:
        self.begun.append(batch.batch_id)
        self.watermarks.append(batch.watermark)
        self.during(batch)
        self.done[batch.batch_id] = sorted(row.value for row in batch.rows.collect())


def committed(path: str) -> list[int]:
    return sorted(int(file.name) for file in Path(path, "spark", "commits").iterdir() if not file.name.startswith("."))


def test_a_stop_asked_for_in_a_batch_comes_after_it(spark: SparkSession, checkpoint_path: str) -> None:
    stop = threading.Event()
    seen = Recorder(lambda batch: stop.set() if batch.batch_id == 2 else None)
    query = start(endless(spark), seen, checkpoint=claimed(checkpoint_path), every="0 seconds")
    assert run([query], stop=stop) is Outcome.STOPPED
    assert seen.begun == sorted(seen.done), "no batch was cut off"
    assert committed(checkpoint_path) == sorted(seen.done), "what was written is what counts as done"
    assert not query.is_active()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_at_a_batch_boundary(spark: SparkSession, checkpoint_path: str, number: signal.Signals) -> None:
    seen = Recorder(lambda batch: os.kill(os.getpid(), number) if batch.batch_id == 1 else None)
    query = start(endless(spark), seen, checkpoint=claimed(checkpoint_path), every="0 seconds")
    before = signal.getsignal(number)
    assert run([query]) is Outcome.STOPPED
    assert committed(checkpoint_path) == sorted(seen.done) == seen.begun
    assert signal.getsignal(number) is before


def test_a_kill_while_the_first_batch_is_planned_is_ridden_out(spark: SparkSession, checkpoint_path: str) -> None:
    checkpoint = claimed(checkpoint_path)
    offsets = Path(checkpoint_path, "spark", "offsets")
    offsets.mkdir(parents=True)
    for name in [".0.7e7f9d5c.tmp", "..0.7e7f9d5c.tmp.crc"]:  # what such a kill leaves
        (offsets / name).write_bytes(b"v1")
    stop = threading.Event()
    seen = Recorder(lambda _: stop.set())
    assert run([start(endless(spark), seen, checkpoint=checkpoint, every="0 seconds")], stop=stop) is Outcome.STOPPED
    assert seen.done[0] == list(range(10))
    (offsets / ".9.7e7f9d5c.tmp").write_bytes(b"v1")
    checkpoint.forget_unplanned()
    assert (offsets / "0").is_file(), "what has been planned stays"
    assert (offsets / ".9.7e7f9d5c.tmp").is_file(), "Spark sees to these"


def test_a_restart_goes_on_where_the_stop_was(spark: SparkSession, checkpoint_path: str) -> None:
    every: dict[int, list[int]] = {}
    for last in (1, 4):
        stop = threading.Event()
        seen = Recorder(lambda batch, last=last, stop=stop: stop.set() if batch.batch_id >= last else None)  # type: ignore[misc]
        run([start(endless(spark), seen, checkpoint=claimed(checkpoint_path), every="0 seconds")], stop=stop)
        assert not set(every) & set(seen.done), "a batch that was done is not done again"
        every |= seen.done
    assert sorted(value for values in every.values() for value in values) == list(range(10 * len(every)))


def test_an_idle_query_stops_at_once(spark: SparkSession, checkpoint_path: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    idle = spark.readStream.schema("value long").json(str(tmp_path / "in"))
    query = start(idle, Recorder(), checkpoint=claimed(checkpoint_path), every="1 hour")
    assert query.stop(timeout_s=WAIT_S)
    assert not query.is_active()


def test_a_batch_that_takes_too_long_is_cut_off_and_replayed(spark: SparkSession, checkpoint_path: str) -> None:
    inside = threading.Event()

    def hang(batch: Batch) -> None:
        if batch.batch_id == 1:
            inside.set()
            batch.rows.sparkSession.sparkContext._jvm.java.lang.Thread.sleep(WAIT_S * 1000)  # type: ignore[union-attr]  # as a slow job

    query = start(endless(spark), Recorder(hang), checkpoint=claimed(checkpoint_path), every="0 seconds")
    assert inside.wait(WAIT_S)
    assert not query.stop(timeout_s=0.1), "not at a batch boundary"
    assert committed(checkpoint_path) == [0]
    stop = threading.Event()
    seen = Recorder(lambda _: stop.set())
    run([start(endless(spark), seen, checkpoint=claimed(checkpoint_path), every="0 seconds")], stop=stop)
    assert seen.begun[0] == 1


def test_the_watermark_of_a_batch_is_that_of_the_rows_before_it(spark: SparkSession, checkpoint_path: str) -> None:
    stop = threading.Event()
    seen = Recorder(lambda batch: stop.set() if batch.batch_id == 3 else None)
    run([start(endless(spark), seen, checkpoint=claimed(checkpoint_path), every="0 seconds")], stop=stop)
    newest = [datetime.fromtimestamp(second, UTC) for second in range(4)]
    assert seen.watermarks[0] == datetime(1970, 1, 1, tzinfo=UTC)
    assert seen.watermarks[1:4] == newest[:3]


def test_a_failed_batch_names_the_cause_and_the_next_step(spark: SparkSession, checkpoint_path: str) -> None:
    def fail(batch: Batch) -> None:
        msg = "the disk is full"
        raise OSError(msg)

    query = start(endless(spark), Recorder(fail), checkpoint=claimed(checkpoint_path), every="0 seconds")
    with pytest.raises(QueryError, match=r"cannot run query 'test/endless'.*OSError: the disk is full.*same checkpoint"):
        run([query])


def test_one_failure_stops_the_other_queries_whole(spark: SparkSession, tmp_path: Path) -> None:
    going = threading.Event()
    good = Recorder(lambda _: going.set())

    def fail(batch: Batch) -> None:
        going.wait(WAIT_S)
        raise OSError

    one = start(endless(spark), good, checkpoint=claimed(str(tmp_path / "a"), "test/good"), every="0 seconds")
    two = start(endless(spark), Recorder(fail), checkpoint=claimed(str(tmp_path / "b"), "test/bad"), every="0 seconds")
    with pytest.raises(QueryError, match="test/bad"):
        run([one, two])
    assert not one.is_active()
    assert committed(str(tmp_path / "a")) == sorted(good.done) == good.begun


def failing(event: threading.Event) -> Callable[[Batch], None]:
    """Ask for a stop in batch 1, and then fail."""

    def fail(batch: Batch) -> None:
        if batch.batch_id == 1:
            event.set()
            threading.Event().wait(1)  # until run() is in the stop
            msg = "the disk is full"
            raise OSError(msg)

    return fail


def test_a_batch_that_fails_while_a_stop_is_under_way_is_a_failure(spark: SparkSession, checkpoint_path: str) -> None:
    stop = threading.Event()
    query = start(endless(spark), Recorder(failing(stop)), checkpoint=claimed(checkpoint_path), every="0 seconds")
    with pytest.raises(QueryError, match="OSError: the disk is full"):
        run([query], stop=stop)


def test_a_query_that_had_failed_before_the_run_is_a_failure(spark: SparkSession, checkpoint_path: str) -> None:
    stop = threading.Event()
    query = start(endless(spark), Recorder(failing(stop)), checkpoint=claimed(checkpoint_path), every="0 seconds")
    with pytest.raises(QueryError):
        query.await_end(WAIT_S)
    assert stop.is_set()
    assert not query.stop(), "it did not end at a batch boundary"
    with pytest.raises(QueryError, match="OSError: the disk is full"):
        run([query], stop=stop)


def test_a_stop_that_meets_a_failure_says_so(spark: SparkSession, checkpoint_path: str) -> None:
    inside, asked = threading.Event(), threading.Event()

    def fail(batch: Batch) -> None:
        inside.set()
        asked.wait(WAIT_S)
        raise OSError

    query = start(endless(spark), Recorder(fail), checkpoint=claimed(checkpoint_path), every="0 seconds")
    assert inside.wait(WAIT_S)
    threading.Timer(0.5, asked.set).start()
    assert not query.stop(timeout_s=WAIT_S)


def test_a_stop_from_inside_its_own_write_is_refused_at_once(spark: SparkSession, checkpoint_path: str) -> None:
    made: list[Query] = []
    ready = threading.Event()

    def stop_itself(batch: Batch) -> None:
        assert ready.wait(WAIT_S)
        made[0].stop(timeout_s=5)

    made.append(start(endless(spark), stop_itself, checkpoint=claimed(checkpoint_path), every="0 seconds"))
    ready.set()
    with pytest.raises(QueryError, match=r"QueryError: cannot stop query 'test/endless'.*set the stop event that was given to run"):
        made[0].await_end(WAIT_S)


def unstoppable(query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*, timeout_s: float = 0) -> bool:
        really(timeout_s=timeout_s)
        msg = "did not stop in time"
        raise TimeoutError(msg)

    really = query.stop
    monkeypatch.setattr(query, "stop", stop)


def test_a_stop_that_raises_does_not_keep_the_others_running(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queries = [start(endless(spark), Recorder(), checkpoint=claimed(str(tmp_path / name), name), every="0 seconds") for name in "ab"]
    unstoppable(queries[0], monkeypatch)
    stop = threading.Event()
    stop.set()
    with pytest.raises(TimeoutError, match="did not stop in time"):
        run(queries, stop=stop)
    assert [query.is_active() for query in queries] == [False, False]


def test_a_stop_that_raises_does_not_hide_the_failure(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad = start(endless(spark), Recorder(failing(threading.Event())), checkpoint=claimed(str(tmp_path / "bad"), "bad"), every="0 seconds")
    good = [start(endless(spark), Recorder(), checkpoint=claimed(str(tmp_path / name), name), every="0 seconds") for name in "ab"]
    unstoppable(good[0], monkeypatch)
    with caplog.at_level(logging.ERROR, logger="spark_ext.queries.run"), pytest.raises(QueryError, match="OSError: the disk is full"):
        run([*good, bad])
    assert not good[1].is_active()
    logged = [record.getMessage() for record in caplog.records if record.name == "spark_ext.queries.run"]
    assert logged == ["while the queries were being stopped: did not stop in time"]


class Reported:
    """A query of which only Spark's reports are known: batch id and rows."""

    name = "reported"

    def __init__(self, *reports: tuple[int, int]) -> None:
        self.spark_query = self
        self.recentProgress = [
            {"batchId": batch, "numInputRows": rows, "sources": [], "eventTime": {}, "processedRowsPerSecond": 0.0}
            for batch, rows in reports
        ]

    def is_active(self) -> bool:
        return True


def test_progress_counts_the_batch_that_an_idle_trigger_announced(capsys: pytest.CaptureFixture[str]) -> None:
    query = Reported((0, 100), (1, 0))
    with QueryProgress() as progress:
        update = progress.watch([query])  # type: ignore[list-item]  # all that the bars use
        update()
        query.recentProgress += Reported((1, 50), (2, 0)).recentProgress
        update()
    assert "reported: 150 rows in 2 batches" in capsys.readouterr().err


def test_a_query_that_has_ended_is_freed_in_the_jvm(spark: SparkSession, tmp_path: Path) -> None:
    def ended() -> Any:
        held: list[Query] = []
        rows = spark.readStream.schema("n bigint").parquet(str(tmp_path / "in"))
        held.append(start(rows, lambda batch, mine=held: None, checkpoint=claimed(str(tmp_path / "c"))))
        assert held[0].await_end(WAIT_S)
        return jvm.java.lang.ref.WeakReference(held[0].spark_query._jsq)

    jvm: Any = spark._jvm
    spark.range(3).selectExpr("id AS n").write.parquet(str(tmp_path / "in"))
    query = ended()
    for _ in range(100):
        gc.collect()  # the handle in Python first, which lets go of the one in the JVM
        jvm.java.lang.System.gc()
        if query.get() is None or threading.Event().wait(0.1):
            break
    assert query.get() is None


def test_bounded_input_ends_by_itself(spark: SparkSession, checkpoint_path: str, tmp_path: Path) -> None:
    spark.range(25).coalesce(1).write.parquet(str(tmp_path / "in"))
    frame = spark.readStream.schema("id long").parquet(str(tmp_path / "in"))
    counts: list[int] = []
    query: Query = start(frame, lambda batch: counts.append(batch.rows.count()), checkpoint=claimed(checkpoint_path))
    assert run([query]) is Outcome.FINISHED
    assert counts == [25]


@pytest.mark.parametrize(
    ("pipeline", "sources", "message"),
    [
        ("other/job", ["rate"], "expected pipeline 'other/job', got 'test/endless'"),
        ("test/endless", ["kafka topic x"], r"expected sources \['kafka topic x'\], got \['rate'\]"),
    ],
)
def test_a_checkpoint_of_another_job_or_topic_is_refused(checkpoint_path: str, pipeline: str, sources: list[str], message: str) -> None:
    claimed(checkpoint_path)
    with pytest.raises(CheckpointMismatchError, match=rf"cannot use checkpoint .*{message}.*new, empty folder"):
        Checkpoint.claim(checkpoint_path, pipeline=pipeline, sources=sources)


def test_a_checkpoint_that_another_program_made_is_refused(checkpoint_path: str) -> None:
    Path(checkpoint_path, "spark", "offsets").mkdir(parents=True)
    with pytest.raises(CheckpointMismatchError, match=r"expected identity.json beside spark/, got none; another program made it"):
        claimed(checkpoint_path)


def test_a_claimed_checkpoint_keeps_its_name(checkpoint_path: str) -> None:
    assert claimed(checkpoint_path).app_id == claimed(checkpoint_path).app_id
    assert json.loads(Path(checkpoint_path, "identity.json").read_text())["pipeline"] == "test/endless"


def test_a_uri_is_the_same_checkpoint(checkpoint_path: str) -> None:
    assert claimed(f"file://{checkpoint_path}").checkpoint_id == claimed(checkpoint_path).checkpoint_id
