"""Of a large table only what the keys of a batch need is read; the rows are those of Spark's join."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.errors import JoinError, SettingsError
from spark_ext.joins.lookup_keys import lookup_keys, narrowed
from spark_ext.joins.table_layout import TableLayout

pytestmark = pytest.mark.spark
FILES = 20
KEYS = 20_000


@pytest.fixture(scope="module")
def table(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    """Clustered by key: each file has a thousand of them."""
    path = str(tmp_path_factory.mktemp("large") / "table")
    numbers = spark.range(0, KEYS, 1, FILES)  # exact bounds; those of repartitionByRange are drawn
    keyed = numbers.select(F.col("id").alias("key"), (F.col("id") % 3).cast("int").alias("part"), F.hex("id").alias("name"))
    keyed.write.format("delta").save(path)
    return spark.read.format("delta").option("versionAsOf", 0).load(path)


def some(spark: SparkSession, *keys: int | None) -> DataFrame:
    return spark.createDataFrame([(key, at, at % 3) for at, key in enumerate(keys)], "key bigint, n int, part int")


def rows_of(frame: DataFrame) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in frame.collect()), key=repr)


def found(rows: DataFrame, table: DataFrame, on: Any = "key", *, most_keys: int = 100) -> DataFrame:
    return narrowed(rows, table, TableLayout.of(rows, table, on=on, how="left", columns=["name"]), most_keys=most_keys)


@pytest.mark.parametrize("on", [["key"], ["key", "part"]])
@pytest.mark.parametrize("how", ["left", "inner", "semi", "anti"])
@pytest.mark.parametrize("most_keys", [3, 1_000], ids=["by a filter", "by keys"])
def test_it_joins_as_spark_does(spark: SparkSession, table: DataFrame, how: Any, on: list[str], most_keys: int) -> None:
    rows = some(spark, 5, 7, 7, None, 12_345, 99_999, -1, 19_999)
    expected = rows.join(table.select(*on, "name"), on, how).select(*rows.columns, *(["name"] if how in {"left", "inner"} else []))
    assert rows_of(lookup_keys(rows, table, on=on, how=how, columns=["name"], most_keys=most_keys)) == rows_of(expected)


@pytest.mark.parametrize("most_keys", [1, 1_000], ids=["by a filter", "by keys"])
@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("timestamp_ntz", ["2020-03-29 02:30:00", "1500-03-01 00:00:00", "0001-01-01 00:00:00"]),
        ("timestamp", ["2020-03-29 02:30:00", "1500-03-01 00:00:00", "0001-01-01 00:00:00"]),
        ("date", ["2020-03-29", "1500-03-01", "0001-01-01"]),
        ("double", ["NaN", "-0.0"]),
    ],
)
def test_keys_of_each_type(spark: SparkSession, monkeypatch: pytest.MonkeyPatch, kind: str, keys: list[str], most_keys: int) -> None:
    """Python's time zone is another than the session's, which is UTC."""
    rows = spark.createDataFrame([(one,) for one in keys], "key string").selectExpr(f"CAST(key AS {kind}) AS `the.key`", "key")
    table = rows.selectExpr("`the.key` AS `its.key`", "key AS name").localCheckpoint()
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        got = lookup_keys(rows, table, on={"the.key": "its.key"}, most_keys=most_keys).select("key", "name").collect()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert sorted(map(tuple, got)) == sorted((one, one) for one in keys)


def test_files_without_a_key_of_the_batch_are_not_read(spark: SparkSession, table: DataFrame) -> None:
    assert len(table.inputFiles()) == FILES
    assert len(found(some(spark, 5, 17, 998, 15_500), table).inputFiles()) == 2
    spread = found(some(spark, *range(0, 10_000, 50)), table, most_keys=1_000)
    assert len(spread.inputFiles()) == FILES // 2, "more keys than ranges"
    assert found(some(spark, None), table).count() == 0


def test_the_table_is_neither_broadcast_nor_shuffled(spark: SparkSession, table: DataFrame) -> None:
    plan = found(some(spark, 1, 2, 3), table)._jdf.queryExecution().executedPlan().toString()
    exchanges = [line for line in plan.splitlines() if "Exchange" in line]
    assert len(exchanges) == 1, plan
    (at,) = [number for number, line in enumerate(plan.splitlines()) if "BroadcastExchange" in line]
    assert "Scan parquet" not in plan.splitlines()[at + 1], "what is broadcast are the keys"
    assert "LocalTableScan" in "".join(plan.splitlines()[at + 1 :])
    rows = some(spark, 1, 2, 3)
    joined = lookup_keys(rows, table, on="key")._jdf.queryExecution().executedPlan().toString()
    assert "parquet" not in joined
    assert "BroadcastExchange" not in joined


def test_too_many_rows_or_partners_are_refused_and_a_stream_too(spark: SparkSession, table: DataFrame, tmp_path: Path) -> None:
    twice = table.unionByName(table)
    with pytest.raises(JoinError, match="got 2 of 8; each row with that key"):
        lookup_keys(some(spark, 8), twice, on="key")
    assert lookup_keys(some(spark, 8), twice, on="key", most_matches=2).count() == 2
    with pytest.raises(JoinError, match="expected at most 3 rows, got more"):
        lookup_keys(some(spark, 1, 2, 3, 4), table, on="key", most_rows=3)
    with pytest.raises(SettingsError, match="expected the frame of a batch, got a stream"):
        lookup_keys(spark.readStream.schema("key bigint").parquet(str(tmp_path)), table, on="key")
