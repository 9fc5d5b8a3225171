"""Spark gets the generated rows as they are: in one bounded frame, and batch by batch from Delta tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import LongType, StringType, TimestampType

from jobs.nexmark.batches import append, batches, follow, frames
from jobs.nexmark.events import SCHEMAS, events
from jobs.nexmark.numbering import EventSettings

pytestmark = pytest.mark.spark

SIZES = [200, 1, 0, 300]
UNTIDY = EventSettings(rate=100, out_of_order=30)
SPARK_TYPES = {pa.int64(): LongType(), pa.string(): StringType(), pa.timestamp("us", "UTC"): TimestampType()}


def test_bounded_frames_have_the_rows_and_types_of_the_tables(spark: SparkSession) -> None:
    made = events(0, 500, settings=UNTIDY)
    for name, frame in frames(spark, made).items():
        assert [(field.name, field.dataType) for field in frame.schema] == [
            (field.name, SPARK_TYPES[field.type]) for field in SCHEMAS[name]
        ]
        assert frame.toArrow().cast(SCHEMAS[name]).equals(made[name])
    assert frames(spark, events(0, 1))["bids"].count() == 0


def test_a_stream_takes_a_batch_that_was_appended_at_a_time(spark: SparkSession, tmp_path: Path) -> None:
    made = list(batches(SIZES, settings=UNTIDY))
    for part in made:
        append(part, str(tmp_path / "tables"))
    for name, stream in follow(spark, str(tmp_path / "tables")).items():
        assert stream.isStreaming
        seen: list[Any] = []

        def keep(rows: DataFrame, _: int, seen: list[Any] = seen, name: str = name) -> None:
            seen.append(rows.toArrow().cast(SCHEMAS[name]).sort_by("date_time"))

        query = (
            stream.writeStream.foreachBatch(keep)
            .option("checkpointLocation", str(tmp_path / "checkpoints" / name))
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()
        assert [table for table in seen if table.num_rows] == [part[name].sort_by("date_time") for part in made if part[name].num_rows]


def test_batches_without_rows_do_not_end_a_bounded_frame(spark: SparkSession) -> None:
    made = list(batches(SIZES, settings=UNTIDY))
    tables = {name: pa.concat_tables([part[name] for part in made]) for name in SCHEMAS}
    for name, frame in frames(spark, tables).items():
        assert frame.where("extra IS NOT NULL").count() == tables[name].num_rows
