"""What becomes of an epoch when its disk is full, or somebody takes a table away: an error that says so, and nothing lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext import epochs
from spark_ext.epochs.points import watched
from spark_ext.errors import EpochError
from tests.spark.test_epochs import ROWS, Job, four, parts

pytestmark = pytest.mark.spark
MANY = 20_000  # rows of 192 bytes that no compression makes small


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False).returncode:
        pytest.skip("a disk of one's own takes root and mount")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("driver_rows", [0, 100_000], ids=["by spark", "by the driver"])
def test_a_full_disk_fails_the_epoch_and_room_mends_it(spark: SparkSession, tmp_path: Path, small_disk: Path, driver_rows: int) -> None:
    def wide(epoch: epochs.Epoch) -> dict[str, DataFrame]:
        hashes = [F.sha2((F.col("n") * factor).cast("string"), 256) for factor in (3, 5, 7)]
        return {**parts(epoch), "good": parts(epoch)["good"].withColumn("text", F.concat(*hashes))}

    sinks = {**four(tmp_path), "good": epochs.Append(str(small_disk / "good"), counts_as="accepted")}
    job = Job(spark, tmp_path, sinks, wide, on_imbalance="stop", driver_rows=driver_rows).feed().feed(rows=MANY)
    job.fails(match="No space left on device")
    assert [row.epoch for row in epochs.Ledger(job.pipeline.ledger).rows("numbers")] == [0], "readers see the epoch nowhere"
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    ledger = job.run()
    assert [(row.read, row.is_balanced) for row in ledger] == [(ROWS, True), (MANY, True)]
    assert sorted(n for sink in sinks for n in job.numbers(sink)) == sorted([*range(ROWS), *range(ROWS, ROWS + MANY)])


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_table_that_goes_while_the_pipeline_runs_stops_it(spark: SparkSession, tmp_path: Path, *, made_anew: bool) -> None:
    job = Job(spark, tmp_path, four(tmp_path), parts).feed(3)
    path = Path(job.pipeline.sinks["late"].path)
    kept = tmp_path / "kept"

    def take(point: str, batch_id: int, sink: str) -> None:
        if (point, batch_id) == ("after_ledger", 1):
            shutil.move(path, kept)
            if made_anew:
                write_deltalake(str(path), pa.table({"n": pa.array([], pa.int64())}))

    with watched(take):
        job.fails(EpochError, match="it was taken away or made anew while the pipeline ran")
    assert [row.epoch for row in epochs.Ledger(job.pipeline.ledger).rows("numbers")] == [0, 1]
    assert max(n for sink in ("good", "dead", "again") for n in job.numbers(sink)) < 2 * ROWS, "nothing of the third batch"
    shutil.rmtree(path, ignore_errors=True)
    shutil.move(kept, path)
    assert [row.epoch for row in job.run()] == [0, 1, 2]
    assert sorted(n for sink in job.pipeline.sinks for n in job.numbers(sink)) == list(range(3 * ROWS))
    assert DeltaTable(str(path)).version() == 2
