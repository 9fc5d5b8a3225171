"""Rows of sketches added up are the sketches of all their rows; what is no sketch fails, or is left out, by choice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sketches import CountMinSketch, HyperLogLog, MisraGries, ReservoirSample
from sketches import functions as plain
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.sketching import aggregate, functions, merged, rollup, sketch
from spark_ext.windows import aggregate as windowed
from spark_ext.windows import aggregates, results, tumbling

pytestmark = pytest.mark.spark

MEASURES = {
    "n": aggregates.count(),
    "least": aggregates.min("v"),
    "d": sketch(HyperLogLog(8), "v"),
    "c": sketch(CountMinSketch(2, 32), "v"),
    "hot": sketch(MisraGries(32), "w"),
    "some": sketch(ReservoirSample(4), "v"),
}


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    ids = spark.range(0, 6000, 1, 3)
    at = F.timestamp_seconds(F.lit(1_767_225_600) + F.col("id") % 900)
    minute = F.date_trunc("minute", at)
    return ids.select(
        minute.alias("minute"), F.when(F.col("id") % 4 > 0, F.col("id") % 4).alias("page"), (F.col("id") % 701).alias("v"),
        (F.col("id") % 7).alias("w"), at.alias("at"),
    ).persist()  # fmt: skip


@pytest.fixture(scope="module")
def minutes(rows: DataFrame) -> DataFrame:
    return aggregate(rows, keys=["minute", "page"], aggregates=MEASURES).persist()


@pytest.mark.parametrize("keys", [["page"], [], ["minute"]])
def test_sums_of_parts_are_the_whole(rows: DataFrame, minutes: DataFrame, keys: list[str]) -> None:
    found, whole = rollup(minutes, keys=keys), aggregate(rows, keys=keys, aggregates=MEASURES)
    assert found.columns == whole.columns
    same = ["n", "least", "d", "c"]
    by_key = {tuple(row[key] for key in keys): row for row in whole.collect()}
    for row in found.collect():
        other = by_key.pop(tuple(row[key] for key in keys))
        assert [row[name] for name in same] == [other[name] for name in same]
        assert {hot.item: hot.lower for hot in MisraGries.from_bytes(bytes(row.hot)).top(9)} == {
            hot.item: hot.lower for hot in MisraGries.from_bytes(bytes(other.hot)).top(9)
        }
        assert ReservoirSample.from_bytes(bytes(row.some)).count == row.n
    assert not by_key


def test_the_same_from_arrow_and_by_the_functions(minutes: DataFrame) -> None:
    table = pa.Table.from_pylist([row.asDict() for row in minutes.select("page", "d").collect()])
    by_arrow = {row["page"]: bytes(row["d"]) for row in plain.merge_by(table, ["page"], ["d"]).to_pylist()}
    by_column = {row.page: bytes(row.d) for row in minutes.groupBy("page").agg(functions.merge("d").alias("d")).collect()}
    assert {row.page: bytes(row.d) for row in rollup(minutes, keys=["page"]).collect()} == by_arrow == by_column


def test_windows_merge_sketches_too(rows: DataFrame, minutes: DataFrame) -> None:
    asked: dict[str, Any] = {"event_time": "minute", "window": tumbling(timedelta(minutes=5)).without_grace()}
    of_minutes = results(
        windowed(minutes, keys=["page"], aggregates={"n": aggregates.sum("n"), "d": merged(HyperLogLog(8), "d")}, columns=[], **asked)
    )
    of_rows = results(windowed(rows, keys=["page"], aggregates={"n": aggregates.count(), "d": sketch(HyperLogLog(8), "v")}, **asked))
    found = {tuple(row) for row in of_minutes.select("page", "window.start", "n", "d").collect()}
    assert found == {tuple(row) for row in of_rows.select("page", "window.start", "n", "d").collect()}
    assert len(found) == 12


def damaged(spark: SparkSession) -> DataFrame:
    good, other = HyperLogLog(8), HyperLogLog(9)
    good.update_many(np.arange(5))
    sick = bytearray(good.to_bytes())
    sick[-1] ^= 1
    rows = [
        (1, good.to_bytes()),
        (1, bytes(sick)),
        (1, None),
        (2, None),
        (3, other.to_bytes()),
        (4, b""),
        (4, CountMinSketch(1, 1).to_bytes()),
    ]
    metadata = {"millrace.sketch": '{"kind": "hyperloglog", "parameters": {"precision": 8, "hash": "xxh64"}}'}
    frame = spark.createDataFrame(rows, "k int, d binary").coalesce(1)
    return frame.withColumn("d", F.col("d").alias("d", metadata=metadata))


def test_rows_that_are_no_such_sketch_are_left_out_by_choice(spark: SparkSession) -> None:
    frame = damaged(spark)
    found = {row.k: HyperLogLog.from_bytes(bytes(row.d)).estimate() for row in rollup(frame, keys=["k"], on_error="null").collect()}
    assert found == {1: pytest.approx(5, abs=0.2), 2: 0, 3: 0, 4: 0}
    flagged = [row.k for row in frame.where(functions.error("d").isNotNull()).collect()]
    assert flagged == [1, 4]


@pytest.mark.parametrize(("key", "text"), [(1, "checksum"), (3, "precision 8"), (4, "begin with b'MLSK'")])
def test_rows_that_are_no_such_sketch_fail(spark: SparkSession, key: int, text: str) -> None:
    with pytest.raises(PySparkException, match=text):
        rollup(damaged(spark).where(F.col("k") == key), keys=["k"]).collect()


def test_without_rows(minutes: DataFrame) -> None:
    none = minutes.where("n < 0")
    assert rollup(none, keys=["page"]).collect() == []
    (row,) = rollup(none, keys=[]).collect()
    assert (row.n, row.least, bytes(row.d)) == (None, None, HyperLogLog(8).to_bytes())


def test_what_does_not_fit_is_refused(spark: SparkSession, rows: DataFrame, minutes: DataFrame) -> None:
    with pytest.raises(SchemaError, match="measures"):
        rollup(rows, keys=["page"])
    with pytest.raises(SettingsError, match="one of fail, null"):
        rollup(minutes, keys=["page"], on_error="skip")  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match="expected binary"):
        aggregate(rows, keys=["page"], aggregates={"d": merged(HyperLogLog(8), "v")})
