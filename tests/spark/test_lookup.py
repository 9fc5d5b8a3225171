"""Rows meet a table of which each worker has a copy: as Spark joins them."""

from __future__ import annotations

import gc
import weakref
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.errors import EngineError, JoinError, SchemaError, SettingsError
from spark_ext.joins import local_copy
from spark_ext.joins.lookup import lookup
from spark_ext.joins.table_layout import HASHED

pytestmark = pytest.mark.spark
NAN = float("nan")
AT = datetime(2026, 1, 1, tzinfo=UTC)


def rows_of(frame: DataFrame) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in frame.collect()), key=repr)


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    return spark.range(300, numPartitions=3).select(
        F.when(F.col("id") % 11 != 0, (F.col("id") * 7919 % 60).cast("int")).alias("key"),
        F.when(F.col("id") % 13 != 0, F.concat(F.lit("é"), F.col("id") % 4)).alias("part"),
        F.struct(F.col("id").alias("offset")).alias("source"),
        F.timestamp_seconds("id").alias("at"),
        "id",
    )


@pytest.fixture(scope="module")
def table(spark: SparkSession) -> DataFrame:
    """Keys with one to three rows, some null."""
    return spark.range(120).select(
        F.when(F.col("id") % 17 != 0, (F.col("id") % 50).cast("int")).alias("key"),
        F.when(F.col("id") % 19 != 0, F.concat(F.lit("é"), F.col("id") % 4)).alias("part"),
        F.concat(F.lit("name "), "id").alias("name"),
        F.array("id", F.lit(None).cast("bigint")).alias("list"),
        F.map_from_arrays(F.array(F.lit("a")), F.array("id")).alias("map"),
    )


@pytest.mark.parametrize("on", [["key"], ["key", "part"]])
@pytest.mark.parametrize("how", ["left", "inner", "semi", "anti"])
def test_it_joins_as_spark_does(rows: DataFrame, table: DataFrame, how: Any, on: list[str]) -> None:
    chosen = ["name", "list", "map"]
    expected = rows.join(table.select(*on, *chosen), on, how).select(*rows.columns, *(chosen if how in {"left", "inner"} else []))
    got = lookup(rows, table, on=on, how=how, columns=chosen, most_matches=3)
    assert got.schema.simpleString() == expected.schema.simpleString()
    assert rows_of(got) == rows_of(expected)
    assert got.count() not in {0, 300} or how == "left", "or nothing was shown"


KINDS: dict[str, list[Any]] = {
    "boolean": [True, False], "tinyint": [1, -1], "bigint": [2**62, -5], "decimal(20,3)": [Decimal("1.500"), Decimal("-2.000")],
    "string": ["", "ß"], "binary": [b"", b"\xff"], "date": [date(2026, 1, 1), date(1969, 12, 31)], "double": [NAN, -0.0, 0.0, 1.5],
    "timestamp": [AT, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)], "struct<a:int,b:string>": [(1, None), (1, "x")],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_keys_of_each_type(spark: SparkSession, kind: str) -> None:
    values = KINDS[kind]
    keyed = spark.createDataFrame([(value, at) for at, value in enumerate([*values, None, *values])], f"key {kind}, n int")
    named = spark.createDataFrame([(value, f"v{at}") for at, value in enumerate([values[0], None, values[-1]])], f"key {kind}, name string")
    got = [(row.n, row.name) for row in lookup(keyed, named, on="key").collect()]
    expected = [(row.n, row.name) for row in keyed.join(named, "key", "left").collect()]
    assert sorted(got) == sorted(expected)


def test_names_that_are_taken_get_the_suffix_and_columns_can_be_chosen_and_renamed(rows: DataFrame, table: DataFrame) -> None:
    other = table.dropDuplicates(["key"]).select(F.col("key").alias("number"), F.col("part").alias("AT"), "name")
    plain = lookup(rows, other, on={"key": "number"})
    assert plain.columns == [*rows.columns, "AT_right", "name"]
    chosen = lookup(rows, other, on={"key": "number"}, columns={"name": "called", "number": "key"}, suffix="_2")
    assert chosen.columns == [*rows.columns, "called", "key_2"]
    assert chosen.where("called IS NOT NULL AND key <> key_2").count() == 0
    assert chosen.where("key = key_2").count() > 0


def test_names_may_hold_dots_and_backticks(spark: SparkSession) -> None:
    rows = spark.createDataFrame([(1, "a"), (2, "b")], "`the.key` int, `it``s` string")
    table = spark.createDataFrame([(2, "two")], "`its.key` int, `a.name` string")
    got = lookup(rows, table, on={"the.key": "its.key"})
    assert got.columns == ["the.key", "it`s", "a.name"]
    assert rows_of(got) == [(1, "a", None), (2, "b", "two")]


def test_the_table_is_read_once_and_let_go_with_its_frame(spark: SparkSession, tmp_path: Path, rows: DataFrame) -> None:
    pq.write_table(pa.table({"key": pa.array([1, 2], pa.int32()), "name": ["one", "two"]}), tmp_path / "t.parquet")
    table = spark.read.parquet(str(tmp_path / "t.parquet"))
    assert {row.name for row in lookup(rows, table, on="key").collect()} == {"one", "two", None}
    (tmp_path / "t.parquet").unlink()
    assert lookup(rows, table, on="key", how="inner").count() > 0, "from the copy"
    ref, before = weakref.ref(table), len(local_copy._copies)
    del table
    gc.collect()
    assert ref() is None
    assert len(local_copy._copies) == before - 1


def test_nothing_is_shuffled_or_broadcast_by_spark(rows: DataFrame, table: DataFrame) -> None:
    plan = lookup(rows, table, on="key", most_matches=9)._jdf.queryExecution().executedPlan().toString()
    assert "Exchange" not in plan
    assert "MapInArrow" in plan


def test_an_empty_table_and_empty_rows(rows: DataFrame, table: DataFrame) -> None:
    empty = table.where("key = -1")
    assert lookup(rows, empty, on="key").where("name IS NULL").count() == 300
    assert lookup(rows, empty, on="key", how="anti").count() == 300
    assert lookup(rows.where("id < 0"), table, on="key", most_matches=3).count() == 0


def test_a_stream_is_joined_too(spark: SparkSession, tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": [1, 2, 3]}), tmp_path / "a.parquet")
    stream = spark.readStream.schema("key bigint").parquet(str(tmp_path))
    joined = lookup(stream, spark.createDataFrame([(2, "two")], "key bigint, name string"), on="key")
    query = joined.writeStream.format("memory").queryName("looked_up").trigger(availableNow=True).start()
    query.awaitTermination()
    assert rows_of(spark.table("looked_up")) == [(1, None), (2, "two"), (3, None)]


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"on": "key"}, JoinError, r"cannot look up key 'key': expected at most 1 rows of a key in the table, got 3 of \d+; each row with"),
        ({"on": "key", "most_rows": 10, "how": "semi"}, JoinError, r"expected at most 10 rows, got more; .*joins.lookup_keys"),
        ({"on": {"id": "key"}}, SchemaError,
         r"key 'id': expected one type on both sides, bigint as 'id' of the rows, got int as 'key' of the table"),
        ({"on": {"source": "list"}}, SchemaError, "expected one type on both sides"),
        ({"on": "kee"}, SchemaError, "cannot read column of the rows 'kee'"),
        ({"on": {"key": "kee"}}, SchemaError, "cannot read column of the table 'kee'"),
        ({"on": []}, SettingsError, "expected one key or more"),
        ({"on": "key", "how": "right"}, SettingsError, "expected one of left, inner, semi, anti"),
        ({"on": "key", "columns": ["called"]}, SchemaError, "cannot read column of the table 'called'"),
        ({"on": "key", "columns": {"name": HASHED}}, SchemaError, "names that differ"),
        ({"on": "key", "columns": {"name": "x", "part": "X"}}, SchemaError, "names that differ"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_refused(
    rows: DataFrame, table: DataFrame, options: dict[str, Any], kind: type[EngineError], match: str
) -> None:
    with pytest.raises(kind, match=match):
        lookup(rows, table, **options)


def test_collated_keys_and_streams_as_tables_are_refused(spark: SparkSession, rows: DataFrame, tmp_path: Path) -> None:
    named = spark.createDataFrame([("a",)], "part string").withColumn("part", F.collate("part", "UTF8_LCASE"))
    with pytest.raises(SchemaError, match="collate"):
        lookup(named, named, on="part")
    with pytest.raises(SettingsError, match="got a stream"):
        lookup(rows, spark.readStream.schema("key int").parquet(str(tmp_path)), on="key")
