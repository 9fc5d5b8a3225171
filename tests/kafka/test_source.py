"""The source millrace_kafka against a real broker: the rows of Spark's connector and of a plain consumer, once each."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer
from confluent_kafka.admin import AdminClient, NewPartitions
from pyspark.sql import DataFrame, SparkSession

from spark_ext import kafka
from spark_ext.broker import Broker
from spark_ext.errors import SettingsError
from tests.kafka_topics import Batches, consume, in_transaction, plain, produce, run_to_end, running

pytestmark = [pytest.mark.kafka, pytest.mark.spark]


def read(spark: SparkSession, broker: Broker, topics: Any, **given: Any) -> DataFrame:
    return kafka.read(spark, bootstrap_servers=broker.bootstrap_servers, topics=topics, **given)


def document(checkpoint: Path, batch: int) -> Any:
    """The source's part of what Spark wrote down before it ran the batch."""
    return json.loads((checkpoint / "offsets" / str(batch)).read_text(encoding="utf-8").splitlines()[2])


def test_stream_and_batch_equal_spark_s_connector_and_a_consumer(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("equal", partitions=3, config={"retention.ms": "-1"})
    values = [None if n % 7 == 0 else b"" if n % 11 == 0 else b"\xff%d" % n for n in range(1000)]
    produce(broker, "equal", values, partitions=3)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    producer.produce("equal", b"v", partition=1, headers=[("a", b"1"), ("a", None), ("\u00e9", b"")])
    producer.produce("equal", b"v", partition=1, timestamp=1)
    assert producer.flush(30) == 0
    expected = consume(broker, "equal", 3)
    frames = {engine: read(spark, broker, "equal", streaming=False, headers=True, engine=engine) for engine in ("millrace", "spark")}
    assert frames["millrace"].schema == frames["spark"].schema
    rows = {engine: sorted(frame.collect(), key=lambda row: row[2:5]) for engine, frame in frames.items()}
    assert rows["millrace"] == rows["spark"]
    assert plain(rows["millrace"]) == expected
    for engine in ("millrace", "spark"):
        stream = read(spark, broker, "equal", max_offsets_per_trigger=300, engine=engine)
        assert tuple(stream.columns) == kafka.RECORD_COLUMNS
        batches = run_to_end(stream, tmp_path / engine)
        assert batches.messages == expected
        assert engine == "spark" or batches.sizes == [300, 300, 300, 102], "our limit is kept to the row"


def test_a_restart_goes_on_where_the_checkpoint_stands(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("restart", partitions=2)
    produce(broker, "restart", [b"%d" % n for n in range(100)], partitions=2)
    batches = run_to_end(read(spark, broker, "restart"), tmp_path / "c")
    assert batches.sizes == [100]
    produce(broker, "restart", [b"%d" % n for n in range(50)], partitions=2)
    stream = read(spark, broker, "restart", starting="latest")  # which counts for a new checkpoint only
    with running(stream, tmp_path / "c", batches) as query:
        query.processAllAvailable()
        produce(broker, "restart", [b"%d" % n for n in range(7)], partitions=2)
        query.processAllAvailable()
        latest = json.loads(query.lastProgress["sources"][0]["latestOffset"])
    assert batches.messages == consume(broker, "restart", 2)
    assert sum(batches.sizes) == 157
    assert latest["topics"]["restart"]["offsets"] == {"0": 79, "1": 78}


def test_a_batch_that_was_not_finished_is_given_out_again_as_it_was(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("replay", partitions=2)
    produce(broker, "replay", [b"%d" % n for n in range(100)], partitions=2)
    whole = run_to_end(read(spark, broker, "replay", max_offsets_per_trigger=40), tmp_path / "c")
    (tmp_path / "c" / "commits" / "2").unlink()
    (tmp_path / "c" / "commits" / ".2.crc").unlink()
    produce(broker, "replay", [b"more"] * 10, partitions=2)
    again = run_to_end(read(spark, broker, "replay", max_offsets_per_trigger=1000), tmp_path / "c")
    assert again.rows[2] == whole.rows[2]
    assert [len(again.rows[2]), len(again.rows[3])] == [20, 10]


def test_a_first_batch_from_the_latest_offset_is_given_out_again_as_it_was(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("replay-latest")
    produce(broker, "replay-latest", [b"old"] * 10)
    batches = Batches()
    stream = read(spark, broker, "replay-latest", starting="latest")
    with running(stream, tmp_path / "c", batches) as query:
        query.processAllAvailable()
        produce(broker, "replay-latest", [b"new"] * 10)
        query.processAllAvailable()
    assert sum(batches.sizes) == 10
    last = max(batches.rows)
    for name in (str(last), f".{last}.crc"):
        (tmp_path / "c" / "commits" / name).unlink()
    produce(broker, "replay-latest", [b"newer"] * 10)
    again = run_to_end(stream, tmp_path / "c")
    assert again.rows[last] == batches.rows[last]
    assert len(again.rows[last + 1]) == 10


def test_a_large_range_is_read_by_more_tasks_and_small_ones_by_fewer(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("split", partitions=2)
    produce(broker, "split", [b"%d" % n for n in range(1000)])
    options = {"tasks": "4", "min_offsets_per_task": "100"}
    batches = run_to_end(read(spark, broker, "split", options=options), tmp_path / "c")
    assert batches.tasks == {0: 4}
    assert batches.messages == consume(broker, "split", 2)
    broker.create_topic("group", partitions=8)
    produce(broker, "group", [b"%d" % n for n in range(80)], partitions=8)
    batches = run_to_end(read(spark, broker, "group"), tmp_path / "d")
    assert batches.tasks == {0: 1}
    assert batches.messages == consume(broker, "group", 8)


def test_limits_change_while_the_query_runs(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("limits", partitions=2)
    produce(broker, "limits", [b"x" * 100] * 100, partitions=2)
    limits = kafka.ReadLimits(max_offsets_per_trigger=30)
    batches = Batches()
    stream = read(spark, broker, "limits", limits=limits)
    with running(stream, tmp_path / "c", batches) as query:
        query.processAllAvailable()
        assert batches.sizes == [30, 30, 30, 10]
        limits.set(max_offsets_per_trigger=None, max_offsets_per_partition=25)
        produce(broker, "limits", [b"x"] * 100, partitions=2)
        query.processAllAvailable()
    assert max(batches.sizes[4:]) <= 50
    assert batches.messages == consume(broker, "limits", 2)


def test_a_limit_in_bytes_is_kept_about(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("bytes", partitions=2)
    produce(broker, "bytes", [b"x" * 98] * 100, partitions=2)  # with keys of one or two bytes
    stream = read(spark, broker, "bytes", limits=kafka.ReadLimits(max_bytes_per_trigger=3000))
    assert run_to_end(stream, tmp_path / "c").sizes == [30, 30, 30, 10]


def test_a_new_partition_is_read_from_its_start(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("grows")
    produce(broker, "grows", [b"a"] * 10)
    client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    batches = Batches()
    with running(read(spark, broker, "grows", starting="latest"), tmp_path / "c", batches) as query:
        query.processAllAvailable()
        client.create_partitions([NewPartitions("grows", 2)])["grows"].result(30)
        produce(broker, "grows", [b"b"] * 5, first=1)
        query.processAllAvailable()
    assert batches.messages == [("grows", 1, n, b"%d" % n, b"b") for n in range(5)]


def test_a_pattern_picks_topics_up_when_they_come(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("Pat-one")
    broker.create_topic("xpat-one")
    produce(broker, "Pat-one", [b"a"] * 3)
    produce(broker, "xpat-one", [b"no"] * 3)
    batches = Batches()
    pattern = re.compile("pat-.*", re.IGNORECASE)
    with running(read(spark, broker, pattern), tmp_path / "c", batches) as query:
        query.processAllAvailable()
        broker.create_topic("Pat-two")
        produce(broker, "Pat-two", [b"b"] * 4)
        query.processAllAvailable()
    assert batches.messages == consume(broker, "Pat-one", 1) + consume(broker, "Pat-two", 1)
    (name,) = kafka.identify(spark, bootstrap_servers=broker.bootstrap_servers, topics=pattern)
    assert re.fullmatch(r"kafka topics matching pat-\.\* of cluster \S{22}", name)


def test_only_assigned_partitions_are_read(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("assigned", partitions=3)
    produce(broker, "assigned", [b"%d" % n for n in range(30)], partitions=3)
    for engine in ("millrace", "spark"):
        frame = read(spark, broker, "assigned", partitions={"assigned": [2, 0]}, streaming=False, engine=engine)
        assert plain(frame.collect()) == [one for one in consume(broker, "assigned", 3) if one[1] != 1]
    with pytest.raises(SettingsError, match=r"cannot read partitions 'assigned\[3\]'.*correct `partitions`"):
        read(spark, broker, "assigned", partitions={"assigned": [3]})


def test_a_batch_covers_what_was_there_at_the_call(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("fixed", partitions=2, config={"retention.ms": "-1"})
    at = datetime(2020, 1, 1, tzinfo=UTC)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for n in range(10):
        producer.produce("fixed", b"%d" % n, partition=0, timestamp=int(at.timestamp() * 1000) + n)
    assert producer.flush(30) == 0
    frame = read(spark, broker, "fixed", streaming=False, starting={"fixed": {0: 3, 1: -2}})
    produce(broker, "fixed", [b"later"])
    assert [row.offset for row in frame.collect()] == [3, 4, 5, 6, 7, 8, 9]
    assert [row.offset for row in read(spark, broker, "fixed", streaming=False, ending={"fixed": {0: 2, 1: 0}}).collect()] == [0, 1]
    since = datetime.fromtimestamp(at.timestamp() + 0.008, UTC)
    assert [row.offset for row in read(spark, broker, "fixed", streaming=False, starting=since).collect()] == [8, 9, 10]
    assert [row.offset for row in read(spark, broker, "fixed", streaming=False, starting=at, ending=since).collect()] == list(range(8))
    assert read(spark, broker, "fixed", streaming=False, starting="latest").collect() == []


def test_aborted_and_open_transactions_are_not_seen(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("source-transactions")
    produce(broker, "source-transactions", [b"a"] * 5)
    in_transaction(broker, "source-transactions", [b"aborted"] * 7, commit=False)
    in_transaction(broker, "source-transactions", [b"b"] * 3, commit=True)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": "open"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce("source-transactions", b"open")
    assert producer.flush(30) == 0
    batches = run_to_end(read(spark, broker, "source-transactions", max_offsets_per_trigger=4), tmp_path / "c")
    assert [row.value for row in batches.rows[0]] == [b"a"] * 4
    assert batches.messages == consume(broker, "source-transactions", 1)
    assert sum(batches.sizes) == 8
    assert document(tmp_path / "c", 4)["topics"]["source-transactions"]["offsets"] == {"0": 17}, "the last stable offset"
    producer.commit_transaction(30)
    assert run_to_end(read(spark, broker, "source-transactions"), tmp_path / "c").sizes == [1]
    dirty = read(spark, broker, "source-transactions", streaming=False, isolation="read_uncommitted")
    assert plain(dirty.collect()) == consume(broker, "source-transactions", 1, isolation="read_uncommitted")


def test_a_group_shows_how_far_the_query_is(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("lag", partitions=2)
    produce(broker, "lag", [b"a"] * 11, partitions=2)
    run_to_end(read(spark, broker, "lag", group="watchers"), tmp_path / "c")
    client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    (asked,) = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions("watchers")]).values()
    shown = {one.partition: one.offset for one in asked.result(30).topic_partitions}
    assert shown == {0: 6, 1: 5}


def test_the_source_works_by_hand(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("by-hand")
    produce(broker, "by-hand", [b"a"] * 3)
    kafka.register(spark)
    frame = spark.read.format("millrace_kafka").options(bootstrap_servers=broker.bootstrap_servers, topics="by-hand").load()
    assert plain(frame.collect()) == consume(broker, "by-hand", 1)


def test_no_secret_is_in_the_plan_or_the_checkpoint(
    spark: SparkSession,
    broker: Broker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2-in-a-file\n", encoding="utf-8")
    broker.create_topic("secrets")
    produce(broker, "secrets", [b"a"] * 3)
    options = {"kafka.sasl.password": f"${{file:{secret}}}", "kafka.sasl.username": "u"}  # ignored by a plain listener
    with caplog.at_level("DEBUG", logger="spark_ext"):
        frame = read(spark, broker, "secrets", options=options)
        assert run_to_end(frame, tmp_path / "c").sizes == [3]
        batch = read(spark, broker, "secrets", options=options, streaming=False)
        assert batch.count() == 3
        batch.explain(extended=True)
    shown = capfd.readouterr()
    assert "millrace_kafka" in shown.out
    kept = [file.read_bytes() for file in (tmp_path / "c").rglob("*") if file.is_file()]
    assert kept
    for text in (shown.out, shown.err, caplog.text, *(one.decode("latin-1") for one in kept)):
        assert "hunter2" not in text
