"""Readers that follow the ledger see several tables at one point, whatever is being written meanwhile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext import epochs
from spark_ext.delta import create_table
from spark_ext.epochs.points import watched
from spark_ext.epochs.reading import create_views, read, versions
from spark_ext.errors import EpochError
from spark_ext.queries import Checkpoint

pytestmark = pytest.mark.spark
BATCHES, ROWS = 4, 30


def write_input(folder: Path, first: int, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(first, first + count):
        start = number * ROWS
        file = folder / f"{number:03d}.parquet"
        pq.write_table(pa.table({"n": pa.array(range(start, start + ROWS), pa.int64())}), file)
        os.utime(file, (1_700_000_000 + number, 1_700_000_000 + number))  # by which Spark orders them


def route(epoch: epochs.Epoch) -> Mapping[str, DataFrame]:
    rows = epoch.rows
    totals = rows.groupBy((F.col("n") % 3).alias("rest")).agg(F.max("n").alias("newest"))
    return {"thirds": rows.where("n % 3 = 0"), "others": rows.where("n % 3 <> 0"), "totals": totals}


def make(spark: SparkSession, root: Path) -> epochs.Pipeline:
    for name, schema in (("thirds", "n bigint"), ("others", "n bigint"), ("totals", "rest bigint, newest bigint")):
        create_table(spark, str(root / name), schema)
    return epochs.Pipeline(
        checkpoint=Checkpoint.claim(str(root / "checkpoint"), pipeline="thirds", sources=["files"]),
        ledger=str(root / "ledger"),
        sinks={
            "thirds": epochs.Append(str(root / "thirds"), counts_as="accepted"),
            "others": epochs.Append(str(root / "others"), counts_as="late"),
            "totals": epochs.Upsert(str(root / "totals"), keys=["rest"], sequence="newest"),
        },
    )


def run(spark: SparkSession, root: Path, pipeline: epochs.Pipeline) -> None:
    frame = spark.readStream.schema("n bigint").option("maxFilesPerTrigger", 1).parquet(str(root / "input"))
    epochs.start(frame, route, pipeline=pipeline).await_end()


def test_tables_agree_at_every_step_of_every_epoch(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = make(spark, tmp_path)
    write_input(tmp_path / "input", 0, BATCHES)
    ledger = epochs.Ledger(pipeline.ledger)
    seen: list[tuple[int, int]] = []

    def look(point: str, batch_id: int, sink: str) -> None:
        if batch_id == 0 and point != "after_ledger":
            return
        known = versions(ledger, "thirds")
        tables = {name: DeltaTable(one.path, version=one.version).to_pyarrow_table() for name, one in known.items()}
        read_so_far = sum(row.read for row in ledger.rows("thirds"))
        assert tables["thirds"].num_rows + tables["others"].num_rows == read_so_far, (point, batch_id, sink)
        assert max(tables["totals"]["newest"].to_pylist()) == read_so_far - 1
        seen.append((batch_id, read_so_far))

    with watched(look):
        run(spark, tmp_path, pipeline)
    assert {(1, ROWS), (1, 2 * ROWS), (3, 4 * ROWS)} <= set(seen), "also between two sinks of an epoch"

    for epoch in range(BATCHES):
        views = create_views(spark, ledger=ledger, pipeline="thirds", as_of_epoch=epoch, prefix="as of ")
        counted = spark.sql(
            f"SELECT (SELECT count(*) FROM {views['thirds']}) + (SELECT count(*) FROM {views['others']}), sum(read) FROM {views['ledger']}"  # noqa: S608
        ).first()
        assert counted is not None
        assert tuple(counted) == ((epoch + 1) * ROWS, (epoch + 1) * ROWS)
        assert read(spark, "thirds", ledger=ledger, pipeline="thirds", as_of_epoch=epoch).count() == (epoch + 1) * ROWS // 3


def test_names_that_sql_takes_are_left_as_they_are(spark: SparkSession, tmp_path: Path) -> None:
    pipeline = make(spark, tmp_path)
    write_input(tmp_path / "input", 0, 1)
    run(spark, tmp_path, pipeline)
    ledger = epochs.Ledger(pipeline.ledger)
    assert create_views(spark, ledger=ledger, pipeline="thirds", prefix="now_")["totals"] == "now_totals"
    assert spark.table("now_totals").count() == 3
    with pytest.raises(EpochError, match=r"cannot read sink 'more': expected a sink of 'thirds': 'thirds', 'others', 'totals'"):
        read(spark, "more", ledger=ledger, pipeline="thirds")


def test_duckdb_reads_the_same_point(spark: SparkSession, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    pipeline = make(spark, tmp_path)
    write_input(tmp_path / "input", 0, 2)
    run(spark, tmp_path, pipeline)
    known = versions(epochs.Ledger(pipeline.ledger), "thirds", as_of_epoch=0)
    with duckdb.connect() as connection:
        for name, one in known.items():
            connection.register(name, DeltaTable(one.path, version=one.version).to_pyarrow_table())
        found = connection.sql("SELECT (SELECT count(*) FROM thirds) + (SELECT count(*) FROM others)").fetchall()
    assert found == [(ROWS,)]
