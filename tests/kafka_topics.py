"""Topics for tests: filled, read back by a client of its own, and read by queries batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from pyspark.sql import DataFrame, Row
from pyspark.sql.streaming.query import StreamingQuery
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from spark_ext.broker import Broker
from spark_ext.errors import BrokerError

Message = tuple[str, int, int, bytes | None, bytes | None]  # topic, partition, offset, key, value


def produce(broker: Broker, topic: str, values: Sequence[bytes | None], *, partitions: int = 1, first: int = 0) -> None:
    """Value ``i`` goes to partition ``first + i % partitions``, with its number as key."""
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 5})
    for at, value in enumerate(values):
        producer.produce(topic, value, key=b"%d" % at, partition=first + at % partitions)
        if at % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0


def in_transaction(broker: Broker, topic: str, values: Sequence[bytes], *, commit: bool, name: str = "tests") -> None:
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": name})
    producer.init_transactions(30)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0
    if commit:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)


def consume(broker: Broker, topic: str, partitions: int, *, isolation: str = "read_committed") -> list[Message]:
    """Everything that a plain consumer sees from the first offset to the end, sorted."""
    settings = {"group.id": "expected", "enable.auto.commit": False, "auto.offset.reset": "earliest", "enable.partition.eof": True}
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "isolation.level": isolation, **settings})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    found: list[Message] = []
    ended: set[int] = set()
    while len(ended) < partitions:
        for one in consumer.consume(10_000, 1.0):
            if one.error() is not None:
                ended.add(one.partition())
            else:
                found.append((topic, one.partition(), one.offset(), one.key(), one.value()))
    consumer.close()
    return sorted(found, key=lambda one: one[:3])


def delete_records(broker: Broker, topic: str, before: dict[int, int]) -> None:
    client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    asked = client.delete_records([TopicPartition(topic, number, offset) for number, offset in before.items()])
    for future in asked.values():
        future.result(30)


def make_again(broker: Broker, topic: str) -> None:
    client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    client.delete_topics([topic])[topic].result(30)
    for attempt in Retrying(stop=stop_after_delay(30), wait=wait_fixed(0.2), retry=retry_if_exception_type(BrokerError)):
        with attempt:  # the broker deletes in the background
            broker.create_topic(topic)


def plain(rows: Sequence[Row]) -> list[Message]:
    found = [(row.topic, row.partition, row.offset, _bytes(row.key), _bytes(row.value)) for row in rows]
    return sorted(found, key=lambda one: one[:3])


def _bytes(value: bytearray | None) -> bytes | None:
    return bytes(value) if value is not None else None


@dataclass
class Batches:
    """What a query gave out, by batch; a batch that is replayed stands where it stood."""

    rows: dict[int, list[Row]] = field(default_factory=dict)
    tasks: dict[int, int] = field(default_factory=dict)

    def take(self, frame: DataFrame, batch_id: int) -> None:
        self.tasks[batch_id] = frame.rdd.getNumPartitions()
        self.rows[batch_id] = frame.collect()

    @property
    def sizes(self) -> list[int]:
        return [len(self.rows[number]) for number in sorted(self.rows)]

    @property
    def messages(self) -> list[Message]:
        return plain([row for rows in self.rows.values() for row in rows])


@contextmanager
def running(frame: DataFrame, checkpoint: Path, batches: Batches) -> Any:
    """A query that goes on until the block ends."""
    query: StreamingQuery = frame.writeStream.foreachBatch(batches.take).option("checkpointLocation", str(checkpoint)).start()
    try:
        yield query
    finally:
        query.stop()


def run_to_end(frame: DataFrame, checkpoint: Path, batches: Batches | None = None) -> Batches:
    """Read what is there now, in as many batches as it takes."""
    batches = batches or Batches()
    writer = frame.writeStream.foreachBatch(batches.take).option("checkpointLocation", str(checkpoint)).trigger(availableNow=True)
    query = writer.start()
    try:
        assert query.awaitTermination(120), "did not end"
    finally:
        query.stop()
    return batches
