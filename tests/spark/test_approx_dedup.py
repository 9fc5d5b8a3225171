"""Approximate duplicates over real streams: no duplicate passes, each row comes out once, restarts change nothing, state is readable."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.dedup import approx_drop_duplicates, drop_duplicates, duplicates, invalid, late, unique
from spark_ext.dedup.approx_plan import key_hash
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.state import inspect

pytestmark = pytest.mark.spark

SCHEMA = "k string, j int, at timestamp, n bigint"
START = datetime(2013, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HORIZON = 10 * SECOND
FILES = 4

Row = tuple[str | None, int | None, float | None, int]  # key in two columns, seconds, number


def file(number: int) -> list[Row]:
    """1,000 rows over 20 seconds, each key twice, 6 seconds apart, next to another whose nulls are elsewhere."""
    rows: list[Row] = []
    for one in range(250):
        at = 20 * number + one * 0.05
        key = str(1000 * number + one)
        rows += [
            (key, None, at, 4 * one),
            (None, int(key), at, 4 * one + 1),
            (key, None, at + 6, 4 * one + 2),
            (None, int(key), at + 6, 4 * one + 3),
        ]
    return [(k, j, at, 1000 * number + n) for k, j, at, n in rows]


def add(folder: Path, number: int, rows: Sequence[Row]) -> None:
    folder.mkdir(exist_ok=True)
    lines = [{"k": k, "j": j, "at": None if at is None else (START + at * SECOND).isoformat(), "n": n} for k, j, at, n in rows]
    aside = folder.parent / f"{number}.json"
    aside.write_text("\n".join(map(json.dumps, lines)))
    os.utime(aside, (number, number))  # batches in this order
    aside.rename(folder / aside.name)


def source(spark: SparkSession, folder: Path) -> DataFrame:
    reader = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1)
    return reader.json(str(folder)).withWatermark("at", "20 seconds")


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


def told(frame: DataFrame, **more: Any) -> DataFrame:
    given = {"keys": ["k", "j"], "horizon": HORIZON, "false_drop_rate": 1e-3, "expected_keys": 500, "buckets": 3, **more}
    return approx_drop_duplicates(frame, event_time="at", **given)


def by_tag(rows: Sequence[Any]) -> dict[str, set[int]]:
    tags: dict[str, set[int]] = {}
    for row in rows:
        tags.setdefault(row.tag, set()).add(row.n)
    return tags


def test_a_stream_with_restarts_says_what_one_pass_says_and_what_is_exact(spark: SparkSession, tmp_path: Path) -> None:
    folder, everything = tmp_path / "in", [row for number in range(FILES) for row in file(number)]
    found = []
    for number in range(FILES):
        add(folder, number, file(number))
        found += run(told(source(spark, folder), expected_keys=500 * (number + 1)), tmp_path / "checkpoint")  # may change
    assert sorted(row.n for row in found) == sorted(row[3] for row in everything), "each row once"
    frame = spark.createDataFrame([(k, j, START + (at or 0) * SECOND, n) for k, j, at, n in everything], SCHEMA)
    # Keys come once per file, and each file's first half of rows is new: three mistakes in 2,000 are within chance.
    exact = by_tag(drop_duplicates(frame, keys=["k", "j"], event_time="at", horizon=HORIZON, keep="arrived").collect())
    assert len(exact["unique"]) == FILES * 500
    for rows in (found, told(frame).collect()):
        tags = by_tag(rows)
        assert set(tags) == {"unique", "duplicate"}
        assert tags["unique"] <= exact["unique"], "no duplicate passes"
        assert len(exact["unique"]) - len(tags["unique"]) <= 12


def test_each_tag_has_its_rows(spark: SparkSession, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    add(folder, 0, [("a", 1, 10, 0), ("b", 1, 40, 1)])
    add(folder, 1, [("a", 1, 11, 2), ("c", 1, 18.5, 3), ("b", 1, 39, 4), ("d", 1, None, 5)])
    found = run(told(source(spark, folder)), tmp_path / "checkpoint")
    assert by_tag(found) == {"unique": {0, 1}, "duplicate": {2, 4}, "late": {3}, "invalid": {5}}
    assert [row.lateness_ms for row in found if row.tag == "late"] == [1_500]
    frame = spark.createDataFrame([("a", 1, START, 0), ("a", 1, START, 1), ("a", 1, None, 2)], SCHEMA)
    tagged = told(frame, order=["n"]).persist()
    assert [[row.n for row in part(tagged).collect()] for part in (unique, duplicates, late, invalid)] == [[0], [1], [], [2]]
    assert unique(tagged).columns == duplicates(tagged).columns == invalid(tagged).columns == ["k", "j", "at", "n"]
    tagged.unpersist()


def test_the_state_says_how_full_it_is_and_settings_are_kept(spark: SparkSession, tmp_path: Path) -> None:
    folder, checkpoint = tmp_path / "in", tmp_path / "checkpoint"
    add(folder, 0, file(0))
    found = by_tag(run(told(source(spark, folder), expected_keys=30, buckets=1), checkpoint))
    slices = inspect.entries(spark, str(checkpoint))
    assert slices.columns == ["_bucket", "first", "layer", "capacity", "keys", "rate", "filter"]
    of_slices = (
        slices.groupBy("first").agg(F.sum("keys").alias("keys"), F.sum("rate").alias("rate"), F.max("layer").alias("layer")).collect()
    )
    assert sum(row["keys"] for row in of_slices) == len(found["unique"])
    assert max(row.layer for row in of_slices) >= 2, "16 keys of a slice were expected, 100 came"
    assert max(row.rate for row in of_slices) < 1e-3 / 9 * 2
    (whole,) = inspect.buckets(spark, str(checkpoint)).collect()
    assert (whole.operator, whole.buckets, whole["keys"]) == ("approx_dedup_v1", 1, None)
    assert whole.oldest == START.replace(tzinfo=None)
    add(folder, 1, file(1))
    with pytest.raises(StreamingQueryException, match=r"expected false_drop_rate 0.01, got false_drop_rate 0.001; the checkpoint was made"):
        run(told(source(spark, folder), buckets=1, false_drop_rate=0.01), checkpoint)


def test_keys_hash_alike_where_group_by_has_them_equal_and_not_elsewhere(spark: SparkSession) -> None:
    kind = "a string, b string, d double, s struct<x: int, y: string>"
    rows = [
        (None, "a", 0.0, (1, None)), ("a", None, 0.0, (1, None)), (None, None, 0.0, (1, None)), ("", None, 0.0, (1, None)),
        (None, "a", math.nan, (1, None)), (None, "a", None, (1, None)), (None, "a", 0.0, None), (None, "a", 0.0, (None, None)),
        (None, "a", 0.0, (None, "1")), ("a", "", 0.0, None), ("", "a", 0.0, None),
    ]  # fmt: skip
    same = [(None, "a", -0.0, (1, None)), (None, "a", -math.nan, (1, None))]
    frame = spark.createDataFrame([*rows, *same], kind)
    hashed = frame.select("*", key_hash(frame, frame.columns).alias("hash"))
    assert hashed.groupBy(*frame.columns).agg(F.count_distinct("hash").alias("n")).where("n > 1").count() == 0
    assert hashed.select("hash").distinct().count() == frame.distinct().count() == len(rows)


def test_what_cannot_be_told_apart_is_refused(spark: SparkSession) -> None:
    rows = spark.createDataFrame([], SCHEMA)
    for renamed in ("tag", "Lateness_ms", "_key_hash"):
        with pytest.raises(
            SchemaError, match=rf"cannot deduplicate frame with columns '{renamed}': expected columns with names of their own"
        ):
            told(rows.withColumnRenamed("n", renamed))
    with pytest.raises(SchemaError, match="cannot read column 'x': expected one of"):
        told(rows, keys=["x"])
    with pytest.raises(SettingsError, match="expected one key or more"):
        told(rows, keys=[])
    with pytest.raises(SettingsError, match="at not among them"):
        told(rows, keys=["at"])
    with pytest.raises(SettingsError, match="expected_keys from 1"):
        told(rows, expected_keys=0)
    with pytest.raises(SettingsError, match="buckets"):
        told(rows, buckets=0)
    with pytest.raises(SchemaError, match="arrays and maps are not compared"):
        told(rows.withColumn("m", F.create_map("k", "j")), keys=["m"])
