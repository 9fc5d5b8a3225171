"""Appends happen once, upserts keep one row per key; read back by delta-rs, which is not Spark."""

from __future__ import annotations

from pathlib import Path

import pytest
from deltalake import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession

from spark_ext.delta import append, append_small, create_table, upsert
from spark_ext.errors import SettingsError

pytestmark = pytest.mark.spark


def rows(path: Path) -> list[tuple[object, ...]]:
    frame = DeltaTable(str(path)).to_pandas()
    return sorted(frame.itertuples(index=False, name=None), key=repr)


@pytest.fixture
def two(spark: SparkSession) -> tuple[DataFrame, DataFrame]:
    return spark.createDataFrame([(1, "a"), (2, "b")], "id long, v string"), spark.createDataFrame([(9,)], "id long")


def test_a_replayed_batch_adds_nothing(tmp_path: Path, two: tuple[DataFrame, DataFrame]) -> None:
    frames = {str(tmp_path / "one"): two[0], str(tmp_path / "two"): two[1]}
    for _ in range(3):
        append(frames, app_id="p:1", batch_id=0)
    assert (rows(tmp_path / "one"), rows(tmp_path / "two")) == ([(1, "a"), (2, "b")], [(9,)])


def test_a_batch_cut_off_between_two_tables_is_completed_by_its_replay(tmp_path: Path, two: tuple[DataFrame, DataFrame]) -> None:
    append({str(tmp_path / "one"): two[0]}, app_id="p:1", batch_id=0)
    append({str(tmp_path / "one"): two[0], str(tmp_path / "two"): two[1]}, app_id="p:1", batch_id=0)
    assert (rows(tmp_path / "one"), rows(tmp_path / "two")) == ([(1, "a"), (2, "b")], [(9,)])


def test_the_next_batch_and_another_writer_are_new(tmp_path: Path, two: tuple[DataFrame, DataFrame]) -> None:
    path = str(tmp_path / "two")
    append({path: two[1]}, app_id="p:1", batch_id=0)
    append({path: two[1]}, app_id="p:1", batch_id=1)
    append({path: two[1]}, app_id="p:2", batch_id=0)
    assert rows(tmp_path / "two") == [(9,), (9,), (9,)]


def test_a_small_append_and_one_by_spark_know_each_others_batches(tmp_path: Path, two: tuple[DataFrame, DataFrame]) -> None:
    path = str(tmp_path / "two")
    append({path: two[1]}, app_id="p:1", batch_id=0)
    for batch_id in (0, 1, 1, 0):
        append_small(two[1], path, app_id="p:1", batch_id=batch_id)
    append({path: two[1]}, app_id="p:1", batch_id=1)
    append_small(two[1], f"file://{path}", app_id="p:1", batch_id=2)
    assert rows(tmp_path / "two") == [(9,), (9,), (9,)]
    assert two[1].sparkSession.read.format("delta").load(path).count() == 3


def test_a_small_append_makes_the_table_that_is_not_there(tmp_path: Path, two: tuple[DataFrame, DataFrame]) -> None:
    path = str(tmp_path / "two")
    for batch_id in (0, 0, 1):
        append_small(two[1], path, app_id="p:1", batch_id=batch_id)
    assert rows(tmp_path / "two") == [(9,), (9,)]


def test_upsert_replaces_adds_and_keeps(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "t"
    create_table(spark, str(path), "k string, n long")
    upsert(spark.createDataFrame([("a", 1), ("b", 2), (None, 3)], "k string, n long"), str(path), keys=["k"])
    for _ in range(2):  # again changes nothing
        upsert(spark.createDataFrame([("b", 20), ("c", 4), (None, 30)], "k string, n long"), str(path), keys=["k"])
    frame = DeltaTable(str(path)).to_pandas()
    assert sorted((str(k), n) for k, n in zip(frame["k"], frame["n"], strict=True)) == [("None", 30), ("a", 1), ("b", 20), ("c", 4)]


def test_an_upsert_without_a_key_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot upsert table .*expected at least one key, got \[\]; name the columns"):
        upsert(spark.range(1), str(tmp_path), keys=[])


def test_a_key_is_a_name_and_nothing_else(spark: SparkSession, tmp_path: Path) -> None:
    create_table(spark, str(tmp_path), "a int, v int")
    frame = spark.createDataFrame([(1, 2)], "a int, v int")
    upsert(frame, str(tmp_path), keys=["a"])
    # PySpark fails to format Delta's AnalysisException; both carry its name.
    with pytest.raises((AnalysisException, Py4JJavaError), match="DELTA_MERGE_UNRESOLVED_EXPRESSION"):
        upsert(frame, str(tmp_path), keys=["a` <=> new.`a` OR true OR new.`a"])


def test_creating_a_table_twice_keeps_its_rows(spark: SparkSession, tmp_path: Path, two: tuple[DataFrame, DataFrame]) -> None:
    path = tmp_path / "t"
    create_table(spark, str(path), "id long")
    append({str(path): two[1]}, app_id="p:1", batch_id=0)
    create_table(spark, str(path), "id long")
    assert rows(path) == [(9,)]
