"""Rows meet the version of a table that was there when they happened: as a slow loop over the versions has it."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.errors import JoinError, SchemaError, SettingsError
from spark_ext.joins.lookup_versions import _place, lookup_versions

pytestmark = pytest.mark.spark

NAMES = pa.schema([("k", pa.string()), ("v", pa.int64())])
HOW: dict[str, Any] = {"on": "k", "event_time": "at"}


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = str(tmp_path / "names")
    for number, rows in enumerate([{"a": 1}, {"a": 2, "b": 20}, {"b": 30}]):
        made = pa.table([list(rows), list(rows.values())], schema=NAMES)
        write_deltalake(path, made, mode="overwrite", commit_properties=CommitProperties(custom_metadata={"number": str(number)}))
    return path


def committed(path: str) -> list[datetime]:
    times = {one["version"]: one["timestamp"] for one in DeltaTable(path).history()}
    return [datetime.fromtimestamp(times[version] / 1000, UTC) for version in sorted(times)]


def rows_of(spark: SparkSession, times: list[datetime | None]) -> DataFrame:
    return spark.createDataFrame([(key, at, n) for n, at in enumerate(times) for key in ("a", "b", None)], "k string, at timestamp, n int")


def test_each_row_meets_the_last_version_committed_by_its_time(spark: SparkSession, table: str) -> None:
    commits = committed(table)
    ms = timedelta(milliseconds=1)
    times = [None, commits[0] - ms, *commits, *(at + ms / 2 for at in commits), commits[2] + timedelta(days=1)]
    states = [{"a": 1}, {"a": 2, "b": 20}, {"b": 30}]
    for newest in (None, 1):
        expected = set()
        for n, at in enumerate(times):
            before = [one for one, done in enumerate(commits) if at is not None and done <= at and (newest is None or one <= newest)]
            for key in ("a", "b", None):
                expected.add((key, n, states[before[-1]].get(key) if before and key else None))
        found = lookup_versions(rows_of(spark, times), table, newest=newest, **HOW)
        assert found.columns == ["k", "at", "n", "v"]
        assert {(row.k, row.n, row.v) for row in found.collect()} == expected
        inner = lookup_versions(rows_of(spark, times), table, newest=newest, how="inner", **HOW)
        assert {(row.k, row.n, row.v) for row in inner.collect()} == {one for one in expected if one[2] is not None}


def test_a_column_that_came_later_is_null_before(spark: SparkSession, table: str) -> None:
    wider = pa.table({"k": ["a"], "v": [4], "more": ["x"]}, schema=NAMES.append(pa.field("more", pa.string())))
    write_deltalake(table, wider, mode="overwrite", schema_mode="overwrite")
    found = lookup_versions(rows_of(spark, [committed(table)[1], committed(table)[3]]), table, how="inner", **HOW)
    assert {(row.k, row.v, row.more) for row in found.collect()} == {("a", 2, None), ("b", 20, None), ("a", 4, "x")}


def test_what_was_cleaned_up_is_said(spark: SparkSession, table: str) -> None:
    DeltaTable(table).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(JoinError, match=r"expected version 1 with all its files, got 1 of them missing; somebody has cleaned the table up"):
        lookup_versions(rows_of(spark, [committed(table)[1]]), table, **HOW)
    assert lookup_versions(rows_of(spark, [committed(table)[2]]), table, how="inner", **HOW).count() == 1


def test_thousands_of_commits_within_a_batch(spark: SparkSession) -> None:
    times = sorted([*range(0, 30_000, 10), 500, 500])
    asked = [-1, 0, 9, 10, 499, 500, 501, 29_989, 29_990, 40_000]
    rows = spark.createDataFrame([(one,) for one in asked], "at bigint").coalesce(1)
    found = [row.place for row in rows.select(_place(F.col("at"), times, 7).alias("place")).collect()]
    assert found == [7 + bisect_right(times, one) for one in asked]


def test_many_versions_are_refused(spark: SparkSession, table: str) -> None:
    with pytest.raises(JoinError, match="expected at most 2 versions for one batch, got 3; each is read as a whole"):
        lookup_versions(rows_of(spark, list(committed(table))), table, most_versions=2, **HOW)


def test_what_cannot_be_asked(spark: SparkSession, table: str, tmp_path: Path) -> None:
    rows = rows_of(spark, [None])
    with pytest.raises(SettingsError, match="expected a Delta table, got none"):
        lookup_versions(rows, str(tmp_path / "none"), **HOW)
    with pytest.raises(SettingsError, match="expected one of 0 to 2, got 7"):
        lookup_versions(rows, table, newest=7, **HOW)
    with pytest.raises(SchemaError, match="expected a column of type timestamp, got int"):
        lookup_versions(rows, table, on="k", event_time="n")
    with pytest.raises(SettingsError, match="expected the frame of a batch, got a stream"):
        lookup_versions(spark.readStream.format("rate").load(), table, **HOW)
    assert lookup_versions(rows, table, **HOW).count() == 3
