"""Scripts run as they say, and the kit finds what is wrong with jobs that are wrong on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.epochs.points import reach
from spark_ext.errors import QueryError
from spark_ext.queries import Batch, Checkpoint, Query, start
from spark_ext.testing import (
    At,
    Check,
    Clock,
    Crash,
    CrashInOperator,
    DifferenceError,
    JobUnderTest,
    Restart,
    Result,
    Rows,
    ScriptError,
    SimulatedCrashError,
    Start,
    Step,
    Stop,
    assert_same,
    crash_site,
    run_script,
    without_crashes,
)

pytestmark = pytest.mark.spark

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
SCHEMA = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us", "UTC"))])
Write = Callable[[Batch, Path], None]


def rows(*minutes: int) -> Rows:
    return Rows([{"id": minute, "at": NOON + timedelta(minutes=minute)} for minute in minutes])


def commit(table: pa.Table, path: Path, batch: Batch, *, with_txn: bool = True) -> None:
    """Append with the batch's transaction id, unless the table has it."""
    if DeltaTable.is_deltatable(str(path)) and with_txn and DeltaTable(str(path)).transaction_version(batch.app_id) is not None:
        done = DeltaTable(str(path)).transaction_version(batch.app_id)
        if done is not None and done >= batch.batch_id:
            return
    marks = [Transaction(batch.app_id, batch.batch_id)] if with_txn else []
    write_deltalake(str(path), table, mode="append", commit_properties=CommitProperties(app_transactions=marks))


def stamped(batch: Batch) -> pa.Table:
    """The rows with what the batch says about itself."""
    columns = {"batch": F.lit(batch.batch_id).cast("bigint"), "watermark": F.lit(batch.watermark)}
    return batch.rows.withColumns(columns).toArrow()


def write_right(batch: Batch, folder: Path) -> None:
    """Two tables, each exactly once."""
    reach("after_read", batch.batch_id)
    for name in ("first", "second"):
        reach("before_sink", batch.batch_id, name)
        commit(stamped(batch), folder / name, batch)
        reach("after_sink", batch.batch_id, name)
    reach("after_sinks", batch.batch_id)


def write_without_txn(batch: Batch, folder: Path) -> None:
    """At least once."""
    for name in ("first", "second"):
        commit(stamped(batch), folder / name, batch, with_txn=False)
        reach("after_sink", batch.batch_id, name)


def write_mark_first(batch: Batch, folder: Path) -> None:
    """At most once: what says that the batch is done comes before its rows."""
    mark = folder / f"done-{batch.batch_id}"
    if mark.exists():
        return
    mark.touch()
    reach("before_sink", batch.batch_id, "first")
    for name in ("first", "second"):
        commit(stamped(batch), folder / name, batch)


def write_impure(batch: Batch, folder: Path) -> None:
    """Rows that say how often they were tried."""
    tried = folder / "tried"
    tried.write_text(tried.read_text() + "x" if tried.exists() else "x")
    attempt = len(tried.read_text())
    reach("before_sink", batch.batch_id, "first")
    commit(stamped(batch).append_column("attempt", pa.array([attempt] * batch.rows.count())), folder / "first", batch)
    commit(stamped(batch), folder / "second", batch)


def job(write: Write = write_right, *, delay: str = "2 minutes", **more: Any) -> JobUnderTest:
    def build(spark: SparkSession, stream: DataFrame, folder: Path) -> Query:
        checkpoint = Checkpoint.claim(str(folder / "checkpoint"), pipeline="test/script", sources=["script"])
        frame = more.get("shape", lambda frame, _: frame)(stream.withWatermark("at", delay), folder)
        return start(frame, lambda batch: write(batch, folder), checkpoint=checkpoint, every=more.get("every", "0 seconds"))

    return JobUnderTest(SCHEMA, build, {"first": "first", "second": "second"}, keys={"first": ["id"]})


def run_and_compare(spark: SparkSession, one: JobUnderTest, steps: list[Step], folder: Path) -> Result:
    reference = run_script(spark, one, without_crashes(steps), folder / "reference")
    assert reference.hits == []
    result = run_script(spark, one, steps, folder / "crashed")
    assert_same(result, reference, repeat="this test")
    return result


def by_batch(result: Result) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row in result.rows("first"):
        found.setdefault(row["batch"], []).append(row["id"])
    return {number: found[number] for number in sorted(found)}


def test_each_step_with_rows_is_a_batch_with_the_watermark_of_the_rows_before(spark: SparkSession, tmp_path: Path) -> None:
    steps: list[Step] = [rows(3, 1, 2), rows(), rows(9), Restart(), rows(4), Stop(), rows(5), rows(6), Start(), rows(7)]
    result = run_script(spark, job(), steps, tmp_path)
    assert by_batch(result) == {0: [3, 1, 2], 2: [9], 3: [4], 4: [5], 5: [6], 6: [7]}
    watermarks = {row["batch"]: row["watermark"] for row in result.rows("second")}
    newest = {2: NOON + timedelta(minutes=1), 3: NOON + timedelta(minutes=7), 6: NOON + timedelta(minutes=7)}
    assert {number: watermarks[number] for number in newest} == newest
    assert (result.batches, result.starts, result.hits) == (7, 3, [])


def test_rows_that_came_while_the_job_was_stopped_are_read_at_the_end(spark: SparkSession, tmp_path: Path) -> None:
    assert by_batch(run_script(spark, job(), [Stop(), rows(1), rows(2)], tmp_path)) == {0: [1], 1: [2]}


def test_a_right_job_survives_a_crash_at_each_of_its_points(spark: SparkSession, tmp_path: Path) -> None:
    steps: list[Step] = [
        Crash("after_read"), rows(1, 2), Crash("before_sink"), rows(3), Crash("before_sink", "second", hits=2), Crash("after_sinks"),
        rows(4), CrashInOperator(), rows(5, 6), Stop(), rows(), Crash("after_sink", "first"), rows(7), Start(), rows(8),
    ]  # fmt: skip
    result = run_and_compare(spark, job(), steps, tmp_path)
    assert [(hit.point, hit.sink, hit.batch_id) for hit in result.hits] == [
        ("after_read", "", 0),
        ("before_sink", "first", 1),
        ("before_sink", "second", 2),
        ("before_sink", "second", 2),
        ("after_sinks", "", 2),
        ("in_operator", "input", None),
        ("after_sink", "first", 4),
    ]
    assert result.starts == 1 + 7 + 1
    assert by_batch(result) == {0: [1, 2], 1: [3], 2: [4], 3: [5, 6], 5: [7], 6: [8]}


CRASH_AT_FIRST: list[Step] = [rows(1, 2), Crash("after_sink", "first"), rows(3, 4), rows(5)]
CRASH_BEFORE_FIRST: list[Step] = [rows(1, 2), Crash("before_sink", "first"), rows(3, 4), rows(5)]


def test_a_job_without_transaction_ids_is_found_out(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DifferenceError) as raised:
        run_and_compare(spark, job(write_without_txn), CRASH_AT_FIRST, tmp_path)
    (found,) = raised.value.differences
    assert (found.table, [(row[0], due, got) for row, due, got in found.duplicated]) == ("first", [(3, 1, 2), (4, 1, 2)])
    assert not found.lost
    text = str(raised.value)
    assert "after_sink of 'first' in batch 1" in text
    assert 'offsets: {"logOffset": 2}' in text
    assert '"batchId": ' in text
    assert "== Physical Plan ==" in text
    assert "Crash('after_sink', 'first')," in text


def test_a_job_that_marks_a_batch_as_done_before_its_rows_is_found_out(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DifferenceError) as raised:
        run_and_compare(spark, job(write_mark_first), CRASH_BEFORE_FIRST, tmp_path)
    first, second = raised.value.differences
    assert [row[0] for row in first.lost] == [row[0] for row in second.lost if row[0] != 5] == [3, 4]
    # As nobody looked at the rows of the replay, they are not in the watermark either.
    assert [(due[0], due[3], got[3]) for due, got in first.altered] == [(5, NOON + timedelta(minutes=2), NOON)]


def test_a_job_whose_rows_are_others_at_a_replay_is_found_out(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DifferenceError) as raised:
        run_and_compare(spark, job(write_impure), CRASH_BEFORE_FIRST, tmp_path)
    (found,) = raised.value.differences
    assert [(due[0], due[-1], got[-1]) for due, got in found.altered] == [(3, 2, 3), (4, 2, 3), (5, 3, 4)]
    assert not found.lost


def test_the_right_rows_may_come_from_a_model(spark: SparkSession, tmp_path: Path) -> None:
    result = run_script(spark, job(), CRASH_AT_FIRST, tmp_path)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    marks = [epoch, NOON, NOON + timedelta(minutes=2)]
    expected = [
        {"id": one, "at": NOON + timedelta(minutes=one), "batch": number, "watermark": marks[number]}
        for number, ids in enumerate([[1, 2], [3, 4], [5]])
        for one in ids
    ]
    assert_same(result, {"first": expected, "second": expected})
    with pytest.raises(DifferenceError, match="1 unexpected"):
        assert_same(result, {"first": expected[1:], "second": expected})


# Crashes that are no crashes ---------------------------------------------------------------------------------------------


def test_a_job_that_catches_its_crash_is_found_out(spark: SparkSession, tmp_path: Path) -> None:
    def swallow(batch: Batch, folder: Path) -> None:
        try:
            reach("after_read", batch.batch_id)
        except Exception:  # noqa: BLE001 (the mistake)
            commit(stamped(batch), folder / "first", batch)

    with pytest.raises(
        ScriptError, match="expected nothing after the crash at after_read, got a query that goes on; the job caught the crash"
    ):
        run_script(spark, job(swallow), [Crash("after_read"), rows(1)], tmp_path / "goes on")

    def go_on(batch: Batch, folder: Path) -> None:
        try:
            reach("after_read", batch.batch_id)
        except SimulatedCrashError:
            reach("after_sinks", batch.batch_id)

    with pytest.raises(ScriptError, match="got point after_sinks"):
        run_script(spark, job(go_on), [Crash("after_read"), rows(1)], tmp_path / "reaches")


def test_a_crash_that_does_not_come_is_an_error_unless_it_is_optional(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"cannot crash .*before_ledger.*expected a batch that comes there, got points after_read"):
        run_script(spark, job(), [Crash("before_ledger"), rows(1)], tmp_path / "a")
    with pytest.raises(ScriptError, match="a batch that comes there"):
        run_script(spark, job(), [CrashInOperator(), rows()], tmp_path / "b")
    steps: list[Step] = [Crash("in_maintenance", optional=True), rows(1), CrashInOperator(optional=True), rows(), rows(2)]
    result = run_script(spark, job(), steps, tmp_path / "c")
    assert result.missed == [steps[0], steps[2]]
    assert by_batch(result) == {0: [1], 2: [2]}


def test_an_operator_crashes_as_often_as_it_was_told(spark: SparkSession, tmp_path: Path) -> None:
    twice: list[Step] = [CrashInOperator(), CrashInOperator(), rows(1, 2), rows(3)]
    result = run_and_compare(spark, job(), twice, tmp_path / "a")
    assert [hit.point for hit in result.hits] == ["in_operator"] * 2
    assert by_batch(result) == {0: [1, 2], 1: [3]}
    none: list[Step] = [CrashInOperator(optional=True), CrashInOperator(optional=True), rows(), rows(1)]
    assert run_script(spark, job(), none, tmp_path / "b").missed == none[:2]


def test_a_failure_of_the_job_is_no_crash_of_the_script(spark: SparkSession, tmp_path: Path) -> None:
    def fail(batch: Batch, folder: Path) -> None:
        if batch.batch_id == 1:
            msg = "the disk is full"
            raise OSError(msg)
        write_right(batch, folder)

    with pytest.raises(QueryError, match="OSError: the disk is full"):
        run_script(spark, job(fail), [Crash("after_sinks"), rows(1), rows(2)], tmp_path)


def test_a_query_that_ends_by_itself_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"got one that ended by itself; let `build` start it with every=\"0 seconds\""):
        run_script(spark, job(every=None), [rows(1)], tmp_path)


def test_a_folder_that_was_used_and_rows_of_another_shape_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(ScriptError, match="expected a new folder, got files in it"):
        run_script(spark, job(), [], tmp_path)
    with pytest.raises(ScriptError, match=r"expected columns \['id', 'at'\], got \['wrong'\]"):
        run_script(spark, job(), [Rows([{"wrong": 1}])], tmp_path / "a")


# Time, checks, state -----------------------------------------------------------------------------------------------------


def test_the_clock_of_a_script_is_seen_by_driver_and_workers(spark: SparkSession, tmp_path: Path) -> None:
    def shape(frame: DataFrame, folder: Path) -> DataFrame:
        clock = Clock.of(folder)

        def with_now(blocks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for block in blocks:
                yield block.append_column("worker", pa.array([clock.now().minute] * block.num_rows, pa.int64()))

        return frame.mapInArrow(with_now, "id long, at timestamp, worker long")

    def write(batch: Batch, folder: Path) -> None:
        driver = F.lit(Clock.of(folder).now().minute).cast("bigint")
        commit(batch.rows.drop("at").withColumn("driver", driver).toArrow(), folder / "first", batch)

    steps: list[Step] = [rows(1), At(NOON + timedelta(minutes=7)), rows(2), rows(3), At(NOON + timedelta(minutes=9)), rows(4)]
    result = run_script(spark, job(write, shape=shape), steps, tmp_path)
    seen = sorted((row["id"], row["worker"], row["driver"]) for row in result.rows("first"))
    assert seen == [(1, 0, 0), (2, 7, 7), (3, 7, 7), (4, 9, 9)]


def test_a_check_sees_what_is_there_between_two_batches(spark: SparkSession, tmp_path: Path) -> None:
    seen: list[tuple[int, int, int]] = []

    def look(result: Result) -> None:
        seen.append((len(result.tables["first"]), result.starts, len(result.hits)))

    run_script(spark, job(), [Check(look), rows(1, 2), Check(look), Crash("after_sinks"), rows(3), Check(look)], tmp_path)
    assert seen == [(0, 1, 0), (2, 1, 0), (3, 2, 1)]


def test_a_task_that_dies_behind_a_state_has_not_changed_it(spark: SparkSession, tmp_path: Path) -> None:
    def shape(frame: DataFrame, folder: Path) -> DataFrame:
        return crash_site(frame.dropDuplicatesWithinWatermark(["id"]), folder, "dedup")

    first, again = [1, 2, 3, 4], [3, 4, 5, 6]
    steps: list[Step] = [
        CrashInOperator("dedup"),
        rows(*first),
        rows(*again),
        CrashInOperator("dedup"),
        rows(60),
        CrashInOperator("dedup"),
        rows(6, 61),
    ]
    result = run_and_compare(spark, job(shape=shape, delay="10 minutes"), steps, tmp_path)
    assert [(hit.point, hit.sink) for hit in result.hits] == [("in_operator", "dedup")] * 3
    assert sorted(row["id"] for row in result.rows("first")) == [1, 2, 3, 4, 5, 6, 60, 61]
    assert result.batches > 4, "Spark closed state in batches without rows"
