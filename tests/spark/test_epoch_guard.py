"""The guard against what Spark really leaves: it lets every crash be repaired, and refuses what cannot be."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from spark_ext import epochs
from spark_ext.epochs import rewind
from spark_ext.epochs.points import POINTS, Point, watched
from spark_ext.errors import CheckpointMismatchError, EpochError, QueryError
from spark_ext.queries import Checkpoint
from tests.spark.test_epoch_reading import ROWS, make, run, write_input

pytestmark = pytest.mark.spark


def counts(root: Path) -> tuple[int, int]:
    return DeltaTable(str(root / "thirds")).count(), DeltaTable(str(root / "others")).count()


def test_every_crash_is_let_through_and_repaired(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = make(spark, tmp_path)
    points = [point for point in POINTS if point != "in_maintenance"]
    write_input(tmp_path / "input", 0, len(points))
    for batch, point in enumerate(points):

        def crash(reached: Point, batch_id: int, sink: str, *, at: tuple[Point, int] = (point, batch)) -> None:
            if (reached, batch_id) == at and sink in ("", "others"):
                raise RuntimeError(reached)

        with watched(crash), pytest.raises(QueryError, match=point):
            run(spark, tmp_path, pipeline)
    run(spark, tmp_path, pipeline)
    assert counts(tmp_path) == (len(points) * ROWS // 3, len(points) * ROWS * 2 // 3)
    assert [row.epoch for row in epochs.Ledger(pipeline.ledger).rows("thirds")] == list(range(len(points)))
    assert not (tmp_path / "checkpoint" / "owner.json").exists(), "whoever has ended drives nothing"


def test_a_deleted_checkpoint_reads_nothing_and_a_rewind_resolves_it(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = make(spark, tmp_path)
    write_input(tmp_path / "input", 0, 2)
    run(spark, tmp_path, pipeline)
    shutil.rmtree(tmp_path / "checkpoint")
    pipeline = make(spark, tmp_path)
    with pytest.raises(CheckpointMismatchError, match="one that the ledger does not know"):
        run(spark, tmp_path, pipeline)
    assert not (tmp_path / "checkpoint" / "spark").exists()
    planned = rewind.plan(Checkpoint.find(str(tmp_path / "checkpoint"), pipeline="thirds"), epochs.Ledger(pipeline.ledger), to="earliest")
    assert [(one.sink, one.rows_again) for one in planned.effects] == [("thirds", 20), ("others", 40), ("totals", 6)]
    rewind.apply(planned)
    pipeline = make(spark, tmp_path)
    run(spark, tmp_path, pipeline)
    assert counts(tmp_path) == (40, 80), "as the plan said: appended rows are there twice"
    assert DeltaTable(str(tmp_path / "totals")).count() == 3, "and upserted ones are not"
    assert [(row.epoch, row.read) for row in epochs.Ledger(pipeline.ledger).rows("thirds")] == [(0, 30), (1, 30), (2, 0), (3, 30), (4, 30)]
    write_input(tmp_path / "input", 2, 1)
    run(spark, tmp_path, pipeline)
    assert epochs.Ledger(pipeline.ledger).last("thirds").epoch == 5  # type: ignore[union-attr]


def test_a_table_restored_by_spark_is_refused_and_undone(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = make(spark, tmp_path)
    write_input(tmp_path / "input", 0, 3)
    run(spark, tmp_path, pipeline)
    table = f"delta.`{tmp_path / 'thirds'}`"
    before = DeltaTable(str(tmp_path / "thirds")).version()
    spark.sql(f"RESTORE TABLE {table} TO VERSION AS OF {before - 1}")
    with pytest.raises(
        EpochError, match=rf"sink 'thirds': expected the rows of version {before}, got those of version {before - 1}; it was restored"
    ):
        run(spark, tmp_path, pipeline)
    spark.sql(f"RESTORE TABLE {table} TO VERSION AS OF {before}")
    write_input(tmp_path / "input", 3, 1)
    run(spark, tmp_path, pipeline)
    assert counts(tmp_path) == (40, 80)
