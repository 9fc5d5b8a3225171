"""The Kafka word count, run with a broker; what it prints beside a plain count, over a restart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Producer
from pyspark.sql import SparkSession

from jobs.dstream_examples import kafka_wordcount
from spark_ext.broker import Broker
from tests.dstream_examples import Printed, running, until

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

FIRST = ["to be or not to be", "", "that is the question"]
SECOND = ["to die to sleep", "to dream"]


def send(broker: Broker, topic: str, lines: list[str | None]) -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 5})
    for number, line in enumerate(lines):
        producer.produce(topic, line, partition=number % 2)
    assert producer.flush(30) == 0


def words(*rounds: list[str]) -> Counter[str]:
    return Counter(word for lines in rounds for line in lines for word in line.split())


def test_kafka_word_count(broker: Broker, spark: SparkSession, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    topics = ("example-lines", "example-more")
    for topic in topics:
        broker.create_topic(topic, partitions=2)
    printed = Printed(capsys)

    def counts() -> Counter[str]:
        return Counter(word for batch in printed.batches() for word, count in batch for _ in range(count))

    def start(then: Counter[str]) -> None:
        arguments = (broker.bootstrap_servers, ",".join(topics), str(tmp_path))
        with running(kafka_wordcount.main, *arguments, start="earliest", interval=0.5):
            until(lambda: counts().total() >= then.total())
        assert counts() == then

    send(broker, topics[0], [*FIRST, None])
    start(words(FIRST))
    send(broker, topics[1], [*SECOND])  # while it is down
    start(words(FIRST, SECOND))
