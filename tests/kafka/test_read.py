"""Reading topics: identity kept, limits kept, and clear words when there is no broker or no topic."""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from pyspark.sql import SparkSession
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from jobs.flights import tables
from jobs.flights.main import start_events
from jobs.flights.settings import Settings
from spark_ext import kafka
from spark_ext.broker import Broker
from spark_ext.errors import BrokerError, BrokerUnavailableError, CheckpointMismatchError, SettingsError
from spark_ext.queries import Batch, Checkpoint, run, start

pytestmark = [pytest.mark.kafka, pytest.mark.spark]


def produce(broker: Broker, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
    for at, value in enumerate(values):
        producer.produce(topic, value, key=b"k", partition=at % 2)
    assert producer.flush(30) == 0


def identity(spark: SparkSession, broker: Broker, *topics: str) -> list[str]:
    return kafka.identify(spark, bootstrap_servers=broker.bootstrap_servers, topics=topics)


def test_every_record_comes_once_with_its_place_in_small_batches(spark: SparkSession, broker: Broker, checkpoint_path: str) -> None:
    broker.create_topic("read-small", partitions=2)
    produce(broker, "read-small", [b"%d" % n for n in range(100)])
    frame = kafka.read(spark, bootstrap_servers=broker.bootstrap_servers, topics="read-small", max_offsets_per_trigger=30)
    assert tuple(frame.columns) == kafka.RECORD_COLUMNS
    batches: list[list[tuple[int, int, bytes]]] = []

    def write(batch: Batch) -> None:
        batches.append([(row.partition, row.offset, bytes(row.value)) for row in batch.rows.collect()])

    checkpoint = Checkpoint.claim(checkpoint_path, pipeline="test/read", sources=identity(spark, broker, "read-small"))
    run([start(frame, write, checkpoint=checkpoint)])
    assert [len(batch) for batch in batches] == [30, 30, 30, 10]
    assert sorted(row for batch in batches for row in batch) == sorted((n % 2, n // 2, b"%d" % n) for n in range(100))


def test_no_broker_is_an_error_within_30_seconds(spark: SparkSession) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: nobody answers, and nobody else gets the port
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(BrokerUnavailableError, match=rf"cannot reach broker '{address}'.*millrace broker up"):
            kafka.read(spark, bootstrap_servers=address, topics="any")
        assert time.monotonic() - began < 30


def test_an_address_that_is_none_is_an_error(spark: SparkSession) -> None:
    with pytest.raises(BrokerUnavailableError, match=r"cannot reach broker 'nonsense'.*correct bootstrap_servers"):
        kafka.read(spark, bootstrap_servers="nonsense", topics="any")


def test_a_missing_topic_is_named(spark: SparkSession, broker: Broker) -> None:
    with pytest.raises(BrokerUnavailableError, match=r"cannot read topics 'nowhere'.*create the topic first"):
        kafka.read(spark, bootstrap_servers=broker.bootstrap_servers, topics="nowhere")


@pytest.mark.parametrize(("topics", "limit"), [("t", 0), ("t", -1), ([], 5)])
def test_a_read_without_a_limit_or_a_topic_is_refused(spark: SparkSession, topics: str | list[str], limit: int) -> None:
    with pytest.raises(SettingsError, match="expected at least one topic and max_offsets_per_trigger > 0"):
        kafka.read(spark, bootstrap_servers="127.0.0.1:1", topics=topics, max_offsets_per_trigger=limit)


def test_a_topic_is_known_by_its_id(
    spark: SparkSession, broker: Broker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.create_topic("id-a")
    broker.create_topic("id-b")
    names = identity(spark, broker, "id-b", "id-a")
    assert [name.rsplit(" ", 1)[0] for name in names] == ["kafka topic id-b", "kafka topic id-a"]
    ids = {name.rsplit(" ", 1)[1] for name in names}
    assert len(ids) == 2
    assert {len(one) for one in ids} == {22}
    assert identity(spark, broker, "id-b", "id-a") == names, "the same at every start"
    assert kafka.identify(spark, bootstrap_servers=broker.bootstrap_servers, topics="id-a") == names[1:]
    assert not caplog.records
    monkeypatch.setattr("spark_ext.kafka.topics.NO_ID", names[0].rsplit(" ", 1)[1])
    with caplog.at_level(logging.WARNING, logger="spark_ext.kafka.topics"):
        identity(spark, broker, "id-b")
    assert "gives topics no id" in caplog.text


def test_a_topic_to_identify_must_be_there(spark: SparkSession, broker: Broker) -> None:
    with pytest.raises(BrokerUnavailableError, match=r"cannot read topics 'nowhere'.*create the topic first"):
        identity(spark, broker, "nowhere")
    with pytest.raises(SettingsError, match="expected at least one topic, got none"):
        identity(spark, broker)


def test_a_checkpoint_of_another_topic_is_refused(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("one")
    broker.create_topic("two")
    settings = Settings.load("local", out=str(tmp_path), topic="one", bootstrap_servers=broker.bootstrap_servers)
    Checkpoint.claim(settings.checkpoint("events"), pipeline="flights/events", sources=identity(spark, broker, "two"))
    with pytest.raises(CheckpointMismatchError, match=r"expected sources \['kafka topic one .*'\], got \['kafka topic two .*'\]"):
        start_events(spark, settings, None)


def test_a_topic_that_was_made_again_is_refused(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    settings = Settings.load("local", out=str(tmp_path), topic="again", bootstrap_servers=broker.bootstrap_servers)
    broker.create_topic("again")
    tables.create_tables(spark, settings)
    start_events(spark, settings, None).await_end(60)
    client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    client.delete_topics(["again"])["again"].result(30)
    for attempt in Retrying(stop=stop_after_delay(30), wait=wait_fixed(0.2), retry=retry_if_exception_type(BrokerError)):
        with attempt:  # the broker deletes in the background
            broker.create_topic("again")
    with pytest.raises(
        CheckpointMismatchError,
        match=r"expected sources \['kafka topic again .*a topic that is made anew is another one.*new, empty folder",
    ):
        start_events(spark, settings, None)
