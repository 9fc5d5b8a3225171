"""Maintenance between batches does not disturb the stream, nor one that follows its table."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from spark_ext import epochs
from spark_ext.epochs.maintenance import Rules, maintain
from spark_ext.epochs.points import watched
from spark_ext.epochs.reading import read
from tests.spark.test_epoch_reading import ROWS, make, run, write_input

pytestmark = pytest.mark.spark


def test_a_stream_and_its_follower_do_not_notice(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = make(spark, tmp_path)
    write_input(tmp_path / "input", 0, 4)
    ledger, works = epochs.Ledger(pipeline.ledger), set()
    rules = Rules(small_files=2, log_commits=2, every=1)

    def look(point: str, batch_id: int, _: str) -> None:
        if point == "after_ledger":
            works.update((one.name, one.work) for one in maintain(pipeline.sinks, ledger, rules, pipeline="thirds", now=datetime.now(UTC)))

    followed: list[int] = []

    def follow() -> None:
        stream = spark.readStream.format("delta").option("startingVersion", 0).load(str(tmp_path / "thirds"))
        writer = stream.writeStream.option("checkpointLocation", str(tmp_path / "follower")).trigger(availableNow=True)
        writer.foreachBatch(lambda rows, _: followed.extend(row.n for row in rows.collect())).start().awaitTermination()

    with watched(look):
        run(spark, tmp_path, pipeline)
    follow()
    write_input(tmp_path / "input", 4, 2)
    with watched(look):
        run(spark, tmp_path, pipeline)
    follow()
    assert {("thirds", "compact"), ("others", "compact"), ("ledger", "compact"), ("thirds", "log checkpoint")} <= works
    assert not any(work == "skipped" for _, work in works)
    assert sorted(followed) == list(range(0, 6 * ROWS, 3)), "each row once, whatever was compacted meanwhile"
    assert len(DeltaTable(str(tmp_path / "thirds")).file_uris()) == 1
    for epoch in range(6):
        assert read(spark, "thirds", ledger=ledger, pipeline="thirds", as_of_epoch=epoch).count() == (epoch + 1) * ROWS // 3
