"""The source millrace_kafka with a format: good rows, dead rows, and one row that accounts for each range."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.types import LongType, StringType, StructField, StructType

from spark_ext import kafka
from spark_ext.broker import Broker
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.ingest import JsonFormat
from tests.kafka_topics import Batches, consume, delete_records, in_transaction, produce, run_to_end

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

FORMAT = JsonFormat(StructType([StructField("n", LongType(), False), StructField("name", StringType())]))


def read(spark: SparkSession, broker: Broker, topic: str, **given: Any) -> DataFrame:
    return kafka.read(spark, bootstrap_servers=broker.bootstrap_servers, topics=topic, format=FORMAT, **given)


def value(n: int) -> bytes | None:
    """Every fifth record is bad."""
    if n % 5 == 0:
        return [b"{", b"", None, b'{"name": "x"}'][n // 5 % 4]
    return json.dumps({"n": n, "name": f"name {n}"}).encode()


def ranges(rows: list[Row]) -> list[dict[str, Any]]:
    """The accounts of the ranges, each of which must hold."""
    found = [{**row.range.asDict(), **row.source.asDict()} for row in rows if row.range is not None]
    for one in found:
        assert one["end"] - one["start"] == one["read"] + one["absent"] + one["lost"]
        assert one["read"] == one["decoded"] + one["dead"]
        assert (one["offset"], one["timestamp"]) == (one["end"], None)
    return found


def total(rows: list[Row], name: str) -> int:
    return sum(one[name] for one in ranges(rows))


def everything(batches: Batches) -> list[Row]:
    return [row for rows in batches.rows.values() for row in rows]


def test_every_record_is_a_good_row_or_a_dead_one(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("decoded", partitions=2)
    produce(broker, "decoded", [value(n) for n in range(1000)], partitions=2)
    frame = read(spark, broker, "decoded", max_offsets_per_trigger=400, options={"max_rows_per_block": "70"})
    assert frame.columns == ["n", "name", "source", "dead", "range"]
    batches = run_to_end(frame, tmp_path / "c")
    rows = everything(batches)
    records = [row for row in rows if row.range is None]
    expected = {(one[1], one[2]): one for one in consume(broker, "decoded", 2)}
    assert len(records) == len(expected) == 1000
    for row in records:
        _, _, _, key, sent = expected.pop((row.source.partition, row.source.offset))
        number = int(key or b"")
        if number % 5:
            assert (row.n, row.name, row.dead) == (number, f"name {number}", None)
        else:
            reason = ["malformed", "empty", "tombstone", "required_field"][number // 5 % 4]
            assert (row.n, row.name) == (None, None)
            assert (row.dead.key, row.dead.value, row.dead.reason) == (key, sent, reason)
            assert row.dead.detail == ("n" if reason == "required_field" else None)
        assert row.source.timestamp is not None
    assert not expected
    assert [sum(one["end"] - one["start"] for one in ranges(rows)) for rows in batches.rows.values()] == [400, 400, 200]
    assert (total(rows, "read"), total(rows, "dead"), total(rows, "filtered")) == (1000, 200, 0)


def test_fewer_columns_a_filter_and_no_place(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("filtered")
    produce(broker, "filtered", [value(n) for n in range(100)])
    frame = read(spark, broker, "filtered", streaming=False, columns=["name"], where=[("n", "<", 50)], source=False)
    assert frame.columns == ["name", "source", "dead", "range"]
    rows = frame.collect()
    good = [row for row in rows if row.dead is None and row.range is None]
    assert [row.name for row in good] == [f"name {n}" for n in range(50) if n % 5]
    assert {row.source for row in good} == {None}
    assert all(row.source.offset % 5 == 0 for row in rows if row.dead is not None)
    (account,) = ranges(rows)
    assert (account["read"], account["decoded"], account["filtered"], account["dead"]) == (100, 80, 40, 20)


def test_what_is_absent_and_what_is_lost_is_counted(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("counted", partitions=2)
    produce(broker, "counted", [value(n) for n in range(20)], partitions=2)
    in_transaction(broker, "counted", [value(n) or b"" for n in range(6)], commit=False)
    in_transaction(broker, "counted", [value(n) or b"" for n in range(6, 9)], commit=True)
    delete_records(broker, "counted", {1: 4})
    batches = run_to_end(read(spark, broker, "counted", on_lost="record", starting={"counted": {0: 0, 1: 0}}), tmp_path / "c")
    by_partition = {one["partition"]: one for one in ranges(everything(batches))}
    assert {name: by_partition[0][name] for name in ("start", "end", "read", "absent", "lost")} == {
        "start": 0,
        "end": 21,
        "read": 13,
        "absent": 8,  # six aborted records and two markers
        "lost": 0,
    }
    assert {name: by_partition[1][name] for name in ("start", "end", "read", "absent", "lost")} == {
        "start": 0,
        "end": 10,
        "read": 6,
        "absent": 0,
        "lost": 4,
    }


def test_a_replay_gives_the_same_rows(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("decoded-replay", partitions=2)
    produce(broker, "decoded-replay", [value(n) for n in range(300)], partitions=2)
    options = {"max_rows_per_block": "40", "tasks": "3", "min_offsets_per_task": "50"}
    whole = run_to_end(read(spark, broker, "decoded-replay", options=options), tmp_path / "c")
    assert whole.tasks == {0: 3}
    (tmp_path / "c" / "commits" / "0").unlink()
    (tmp_path / "c" / "commits" / ".0.crc").unlink()
    again = run_to_end(read(spark, broker, "decoded-replay", options=options), tmp_path / "c")
    assert again.rows == whole.rows


def test_what_a_format_cannot_do_is_refused_at_once(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("refused")
    with pytest.raises(SchemaError, match=r"cannot select columns 'x'"):
        read(spark, broker, "refused", columns=["x"])
    with pytest.raises(SettingsError, match="cannot use filter"):
        read(spark, broker, "refused", where=[("x", "=", 1)])
    with pytest.raises(SettingsError, match="cannot use argument 'columns or where': expected a format"):
        kafka.read(spark, bootstrap_servers=broker.bootstrap_servers, topics="refused", columns=["n"])


def test_spark_s_connector_parses_the_same(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("both")
    produce(broker, "both", [value(n) for n in range(100)])
    ours = read(spark, broker, "both", streaming=False).where("range is null")
    theirs = read(spark, broker, "both", streaming=False, engine="spark")
    for condition in ("dead is null", "dead is not null"):
        names = ["n", "name", "source"] if condition == "dead is null" else ["source", "dead.key", "dead.value"]
        assert sorted(ours.where(condition).select(*names).collect(), key=lambda row: row.source.offset) == sorted(
            theirs.where(condition).select(*names).collect(), key=lambda row: row.source.offset
        )
