"""Duplicates over real streams: each row comes out once, as many are kept as Spark keeps, and a restart changes nothing."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from spark_ext.dedup import drop_duplicates, duplicates, invalid, late, unique
from spark_ext.errors import SchemaError, SettingsError

pytestmark = pytest.mark.spark

SCHEMA = "k string, at timestamp, n bigint"
START = datetime(2013, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HORIZON = 10 * SECOND
DELAY = "10 seconds"

Row = tuple[str | None, float | None, int]  # key, seconds, number
# Bursts of a key are within the horizon, and the next one comes when the watermark has left the last one behind, two batches ago:
# Spark forgets at the end of a batch, and looks at no time, so that a batch earlier it would drop the next burst too.
FILES: list[list[Row]] = [
    [("a", 9, 0), ("a", 2, 5), ("b", 5, 2), (None, 5, 3), (None, 6, 4), ("a", 2, 1)],
    [("a", 12, 6), ("b", 6, 7), ("c", 7, 8), ("b", 14, 9)],
    [("tick", 60, 10)],
    [("tock", 60, 17)],
    [("a", 61, 11), ("a", 55, 12), ("b", 65, 13), (None, 52, 14), ("b", 65, 15)],
    [("end", 200, 16)],
]


def add(folder: Path, number: int, rows: Sequence[Row]) -> None:
    folder.mkdir(exist_ok=True)
    lines = [{"k": k, "at": None if at is None else (START + at * SECOND).isoformat(), "n": n} for k, at, n in rows]
    aside = folder.parent / f"{number}.json"
    aside.write_text("\n".join(map(json.dumps, lines)))
    os.utime(aside, (number, number))  # batches in this order
    aside.rename(folder / aside.name)


def source(spark: SparkSession, folder: Path) -> DataFrame:
    reader = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1)
    return reader.json(str(folder)).withWatermark("at", DELAY)


def run(frame: DataFrame, checkpoint: Path) -> list[Any]:
    """Do all there is, one batch after the other, and return the rows that came out."""
    found: list[Any] = []
    writer = frame.writeStream.foreachBatch(lambda rows, _: found.extend(rows.collect()))
    query = writer.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).start()
    try:
        assert query.awaitTermination(200)
    finally:
        query.stop()
    return found


def told(frame: DataFrame, keep: Any, **more: Any) -> DataFrame:
    return drop_duplicates(frame, keys=["k"], event_time="at", horizon=HORIZON, keep=keep, buckets=3, **more)


def numbers(rows: Sequence[Any], tag: str) -> set[int]:
    return {row.n for row in rows if row.tag == tag}


@pytest.mark.parametrize("keep", ["first", "arrived"])
def test_as_many_are_kept_as_spark_keeps_and_no_row_is_lost(spark: SparkSession, tmp_path: Path, keep: str) -> None:
    folder = tmp_path / "in"
    for number in (0, 1):
        add(folder, number, FILES[number])
    begun = run(told(source(spark, folder), keep, order=["n"]), tmp_path / "ours")
    for number in (2, 3, 4, 5):
        add(folder, number, FILES[number])
    found = begun + run(told(source(spark, folder), keep, order=["n"]), tmp_path / "ours")
    everything = [row for file in FILES for row in file]
    waiting = {16} if keep == "first" else set()  # the watermark has not passed it
    assert sorted(row.n for row in found) == sorted({row[2] for row in everything} - waiting)
    assert {row.tag for row in found} == {"unique", "duplicate"}
    firsts = {"first": {1, 2, 3, 8, 10, 12, 13, 14, 17}, "arrived": {1, 2, 3, 8, 10, 12, 13, 14, 17, 16}}
    assert numbers(found, "unique") == firsts[keep]
    theirs = run(source(spark, folder).dropDuplicatesWithinWatermark(["k"]), tmp_path / "theirs")
    kept = Counter(row.k for row in found if row.tag == "unique") + Counter(["end"] * len(waiting))
    assert kept == Counter(row.k for row in theirs) == {"a": 2, "b": 2, "c": 1, None: 2, "tick": 1, "tock": 1, "end": 1}


@pytest.mark.parametrize("keep", ["first", "arrived"])
def test_bounded_rows_are_told_apart_in_one_pass(spark: SparkSession, keep: str) -> None:
    rows = [(k, None if at is None else START + at * SECOND, n) for file in FILES for k, at, n in file]
    rows += [("a", None, 27), ("a", datetime(2300, 1, 1, tzinfo=UTC), 28)]
    tagged = told(spark.createDataFrame(rows, SCHEMA), keep, order=["n"]).persist()
    assert {row.n for row in unique(tagged).collect()} == {1, 2, 3, 8, 10, 12, 13, 14, 17, 16}
    assert {row.n for row in invalid(tagged).collect()} == {27, 28}
    assert late(tagged).count() == 0
    assert tagged.count() == len(rows)
    assert unique(tagged).columns == duplicates(tagged).columns == invalid(tagged).columns == ["k", "at", "n"]
    assert {row.k for row in duplicates(tagged).collect()} == {"a", "b", None}
    tagged.unpersist()


def test_a_row_behind_the_watermark_is_late_unless_it_repeats_one_that_is_known(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    add(folder, 0, [("a", 10, 0), ("b", 28, 1)])
    add(folder, 1, [("a", 11, 2), ("c", 16.5, 3), ("b", 27, 4), ("d", None, 5)])
    found = run(told(source(spark, folder), "arrived"), tmp_path / "checkpoint")
    assert {tag: numbers(found, tag) for tag in ("unique", "duplicate", "late", "invalid")} == {
        "unique": {0, 1}, "duplicate": {2, 4}, "late": {3}, "invalid": {5},
    }  # fmt: skip
    (row,) = [row for row in found if row.tag == "late"]
    assert (row.k, row.lateness_ms) == ("c", 1_500)
    assert [each.lateness_ms for each in found if each.tag != "late"] == [None] * 5


def test_what_cannot_be_told_apart_is_refused(spark: SparkSession) -> None:
    rows = spark.createDataFrame([], SCHEMA)
    for renamed in ("tag", "Lateness_ms"):
        with pytest.raises(
            SchemaError, match=rf"cannot deduplicate frame with columns '{renamed}': expected columns with names of their own"
        ):
            told(rows.withColumnRenamed("n", renamed), "first")
    with pytest.raises(SchemaError, match="cannot read column 'x': expected one of"):
        drop_duplicates(rows, keys=["x"], event_time="at", horizon=HORIZON, keep="first")
    with pytest.raises(SettingsError, match="expected one key or more"):
        drop_duplicates(rows, keys=[], event_time="at", horizon=HORIZON, keep="first")
    with pytest.raises(SettingsError, match="buckets"):
        drop_duplicates(rows, keys=["k"], event_time="at", horizon=HORIZON, keep="first", buckets=0)
    stream = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 3).load()
    with pytest.raises(SettingsError, match=r"cannot use stream 'without a watermark': .*; nothing would ever close, .*; use"):
        drop_duplicates(stream, keys=["value"], event_time="timestamp", horizon=HORIZON, keep="arrived")
