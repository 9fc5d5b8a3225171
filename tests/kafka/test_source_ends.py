"""Where a read starts and ends: by time, by offsets, and when the topic is another one or has grown in between."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from spark_ext import kafka
from spark_ext.broker import Broker
from spark_ext.errors import SettingsError
from tests.kafka_topics import make_again, produce, run_to_end

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

AT = datetime(2013, 1, 1, tzinfo=UTC)


def read(spark: SparkSession, broker: Broker, topics: Any, **given: Any) -> DataFrame:
    return kafka.read(spark, bootstrap_servers=broker.bootstrap_servers, topics=topics, **given)


def add_partition(broker: Broker, topic: str, total: int) -> None:
    client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    client.create_partitions([NewPartitions(topic, total)])[topic].result(30)


@pytest.mark.parametrize(
    ("starting", "expected"),
    [
        (datetime(1, 1, 1, tzinfo=UTC), 4),
        (datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC), 4),
        (datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=1))), 4),
        (AT, 4),
        (AT + timedelta(microseconds=1), 3),
        (AT + timedelta(milliseconds=1), 3),
        (AT + timedelta(milliseconds=1, microseconds=1), 2),
        (AT + timedelta(milliseconds=4), 0),
    ],
)
def test_a_time_stands_for_the_first_record_at_or_after_it(spark: SparkSession, broker: Broker, starting: datetime, expected: int) -> None:
    topic = "by-time"
    if topic not in AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(timeout=30).topics:
        broker.create_topic(topic, config={"retention.ms": "-1"})  # or the broker deletes what is so old, some minutes after it started
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        for step in range(4):
            producer.produce(topic, b"x", timestamp=int(AT.timestamp() * 1000) + step)
        assert producer.flush(30) == 0
    assert read(spark, broker, topic, starting=starting, streaming=False).count() == expected
    assert read(spark, broker, topic, ending=starting, streaming=False).count() == 4 - expected


def test_a_batch_of_a_topic_that_was_made_again_is_refused(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("batch-remade")
    produce(broker, "batch-remade", [b"a"] * 10)
    frame = read(spark, broker, "batch-remade", streaming=False)
    make_again(broker, "batch-remade")
    produce(broker, "batch-remade", [b"b"] * 20)
    with pytest.raises(
        PySparkException, match=r"cannot go on with topic 'batch-remade': expected id '.*', got id '.*deleted or made again"
    ):
        frame.collect()


def test_a_batch_covers_the_partitions_that_were_there_at_the_call(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("grown-1")
    produce(broker, "grown-1", [b"a"] * 10)
    by_name = read(spark, broker, "grown-1", streaming=False)
    by_pattern = read(spark, broker, re.compile(r"grown-\d"), streaming=False)
    add_partition(broker, "grown-1", 2)
    broker.create_topic("grown-2")
    produce(broker, "grown-1", [b"b"] * 5, first=1)
    produce(broker, "grown-2", [b"c"] * 5)
    assert by_name.count() == by_pattern.count() == 10
    assert read(spark, broker, re.compile(r"grown-\d"), streaming=False).count() == 20


def test_offsets_for_some_partitions_leave_the_others_at_their_start(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("some")
    produce(broker, "some", [b"a"] * 10)
    starting = {"some": {0: 4}}
    first = run_to_end(read(spark, broker, "some", starting=starting), tmp_path / "c")
    add_partition(broker, "some", 2)
    produce(broker, "some", [b"b"] * 3, first=1)
    again = run_to_end(read(spark, broker, "some", starting=starting), tmp_path / "c")
    assert [offset for _, _, offset, _, _ in first.messages] == list(range(4, 10))
    assert [(partition, offset) for _, partition, offset, _, _ in again.messages] == [(1, 0), (1, 1), (1, 2)]
    assert read(spark, broker, "some", starting=starting, ending={"some": {0: 6}}, streaming=False).count() == 2 + 3


def test_partitions_that_no_topic_has_are_refused(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("matched")
    with pytest.raises(
        SettingsError, match=r"cannot read partitions 'matched': expected some of other\[0\], got none among the topics that"
    ):
        read(spark, broker, re.compile("matched"), partitions={"other": [0]})


def test_a_checkpoint_of_more_topics_is_refused(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    for topic in ("kept", "left-out"):
        broker.create_topic(topic)
        produce(broker, topic, [b"a"] * 5)
    run_to_end(read(spark, broker, ["kept", "left-out"]), tmp_path / "c")
    with pytest.raises(
        PySparkException, match=r"topic 'left-out': expected id .* got no such topic among those that are read; it was left out"
    ):
        run_to_end(read(spark, broker, "kept"), tmp_path / "c")


def test_a_replay_beyond_the_end_of_the_log_is_refused_at_once(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("shorter")
    produce(broker, "shorter", [b"a"] * 10)
    run_to_end(read(spark, broker, "shorter"), tmp_path / "c")
    planned = tmp_path / "c" / "offsets" / "0"
    planned.write_text(planned.read_text().replace('{"0": 10}', '{"0": 30}'))
    for stale in (planned.with_name(".0.crc"), tmp_path / "c" / "commits" / "0", tmp_path / "c" / "commits" / ".0.crc"):
        stale.unlink()
    with pytest.raises(
        PySparkException, match=r"cannot read offsets 'shorter\[0\]': expected an end of at least 30, which was read, got 10"
    ):
        run_to_end(read(spark, broker, "shorter"), tmp_path / "c")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine": "flink"}, "cannot use argument 'engine': expected 'millrace' or 'spark', got 'flink'"),
        ({"starting": None}, "cannot use argument 'starting': expected 'earliest', 'latest', a time with its zone, or offsets, got None"),
        ({"starting": 5}, "cannot use argument 'starting'"),
        ({"max_offsets_per_trigger": "10"}, "expected at least one topic and max_offsets_per_trigger > 0, got .* and '10'"),
        ({"topics": ["matched-once", "matched-once"]}, "cannot use option 'topics': expected different names"),
        ({"group": ""}, "cannot use option 'group': expected the name of a consumer group"),
        ({"options": {"format": "null"}}, "cannot use option 'format': expected the text of a format"),
        ({"options": {"kafka.check.crcs": "false"}}, "cannot use option 'kafka.check.crcs'.*leave it out"),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(spark: SparkSession, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        kafka.read(spark, bootstrap_servers="127.0.0.1:1", **{"topics": "t", **given})
