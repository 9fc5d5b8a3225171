"""Dead letters come in after a fix, each once, wherever a replay is cut off."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import DataType, LongType, StringType, StructField, StructType

from spark_ext import epochs
from spark_ext.delta import create_table
from spark_ext.epochs.dead_letters import Replayable, reasons, replay
from spark_ext.epochs.points import watched
from spark_ext.errors import EpochError, SettingsError
from spark_ext.ingest import JsonFormat, accepted
from spark_ext.ingest.tags import DEAD_LETTER_SCHEMA
from spark_ext.queries import Checkpoint

pytestmark = pytest.mark.spark
AT = datetime(2026, 1, 1, tzinfo=UTC)


def prices(kind: DataType) -> JsonFormat:
    return JsonFormat(StructType([StructField("id", LongType()), StructField("price", kind)]))


FIXED, STRICT = prices(StringType()), prices(LongType())


def route(epoch: epochs.Epoch) -> Mapping[str, DataFrame]:
    good = accepted(epoch.rows)
    return {
        "facts": good.selectExpr("id", "price", "source.offset"),
        "newest": good.select("id", "price"),
        "dead": FIXED.dead_letters(epoch.rows),
    }


def add(spark: SparkSession, root: Path, offsets: range, *, reason: str = "bad_value") -> None:
    """Add letters: those with even offsets are good JSON with a word for a price, the others none."""
    rows = [
        ("t", 0, at, AT, b"k", json.dumps({"id": at, "price": "dear"}).encode() if at % 2 == 0 else b"{", reason, "price") for at in offsets
    ]
    spark.createDataFrame(rows, DEAD_LETTER_SCHEMA).coalesce(1).write.format("delta").mode("append").save(str(root / "dead"))


@pytest.fixture
def job(spark: SparkSession, tmp_path: Path) -> Replayable:
    schemas = {"facts": "id bigint, price string, offset bigint", "newest": "id bigint, price string", "dead": DEAD_LETTER_SCHEMA}
    for name, schema in schemas.items():
        create_table(spark, str(tmp_path / name), schema)
    add(spark, tmp_path, range(10))
    pipeline = epochs.Pipeline(
        checkpoint=Checkpoint.claim(str(tmp_path / "checkpoint"), pipeline="shop", sources=["s"]),
        ledger=str(tmp_path / "ledger"),
        sinks={
            "facts": epochs.Append(str(tmp_path / "facts"), counts_as="accepted"),
            "newest": epochs.Upsert(str(tmp_path / "newest"), keys=["id"]),
            "dead": epochs.Append(str(tmp_path / "dead"), counts_as="dead"),
        },
        on_imbalance="stop",
    )
    return Replayable(pipeline, route, FIXED)


def facts(root: Path) -> list[int]:
    table = DeltaTable(str(root / "facts")).to_pyarrow_table()
    assert table["id"].to_pylist() == table["offset"].to_pylist(), "a letter keeps its place"
    return sorted(table["id"].to_pylist())


def test_each_letter_comes_in_once(spark: SparkSession, tmp_path: Path, job: Replayable) -> None:
    [row] = replay(spark, job, where="offset < 6")
    assert facts(tmp_path) == [0, 2, 4]
    assert (row.pipeline, row.epoch, row.read, row.accepted, row.dead, row.is_balanced) == ("shop/replay", 0, 3, 3, 0, True)
    said = json.loads((row.replay_of or "").removeprefix("dead letters "))
    assert said == {"table": str(tmp_path / "dead"), "version": 1, "where": "offset < 6"}
    [row] = replay(spark, job)
    assert (row.epoch, row.read) == (1, 2)
    assert facts(tmp_path) == [0, 2, 4, 6, 8]
    assert replay(spark, job) == [], "the rest is bad still"
    add(spark, tmp_path, range(10, 13), reason="other")
    assert [row.read for row in replay(spark, job)] == [2]
    assert facts(tmp_path) == [0, 2, 4, 6, 8, 10, 12]
    assert DeltaTable(str(tmp_path / "newest")).count() == 7
    assert DeltaTable(str(tmp_path / "dead")).count() == 13, "letters stay as evidence"
    assert [(one.reason, one.count, one.replayed) for one in reasons(str(tmp_path / "dead"))] == [("bad_value", 10, 5), ("other", 3, 2)]


@pytest.mark.parametrize("cut", [("after_read", ""), ("after_sink", "facts"), ("before_ledger", "")])
def test_a_replay_cut_off_is_completed_with_the_same_letters(
    spark: SparkSession, tmp_path: Path, job: Replayable, cut: tuple[str, str]
) -> None:
    def crash(point: str, _: int, sink: str) -> None:
        if (point, sink) == cut:
            raise KeyboardInterrupt

    with watched(crash), pytest.raises(KeyboardInterrupt):
        replay(spark, job, where="offset < 6")
    add(spark, tmp_path, range(-4, 0))
    rows = replay(spark, job, where="offset >= 6")
    assert [row.read for row in rows] == [3, 2]
    assert facts(tmp_path) == [0, 2, 4, 6, 8]


def test_a_format_that_is_not_mended_brings_nothing_in(spark: SparkSession, tmp_path: Path, job: Replayable) -> None:
    assert replay(spark, replace(job, format=STRICT)) == []
    assert facts(tmp_path) == []
    assert [row.read for row in replay(spark, job)] == [5]


def test_a_replay_whose_plan_is_gone_is_refused(spark: SparkSession, tmp_path: Path, job: Replayable) -> None:
    def crash(point: str, _: int, sink: str) -> None:
        if (point, sink) == ("after_sink", "facts"):
            raise KeyboardInterrupt

    with watched(crash), pytest.raises(KeyboardInterrupt):
        replay(spark, job)
    (tmp_path / "dead" / "_replays" / "0.json").unlink()
    with pytest.raises(EpochError, match=r"expected _replays/0.json beside the letters, as sink 'facts' has rows of it, got no such file"):
        replay(spark, job)


def test_a_pipeline_without_letters_is_refused(spark: SparkSession, job: Replayable) -> None:
    sinks = {name: sink for name, sink in job.pipeline.sinks.items() if name != "dead"}
    with pytest.raises(SettingsError, match="expected one sink that counts as dead"):
        replay(spark, replace(job, pipeline=replace(job.pipeline, sinks=sinks)))
