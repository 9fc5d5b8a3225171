"""Epochs with an outbox, committed without Spark; and what independent consumers see of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from kafka import KafkaConsumer
from kafka import TopicPartition as Place

from spark_ext.broker import Broker
from spark_ext.epochs.ledger import EpochRow, Ledger, RangeRow, SinkRow

SCHEMA = pa.schema([
    ("topic", pa.string()), ("key", pa.binary()), ("value", pa.binary()),
    ("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))), ("partition", pa.int32()),
    ("epoch", pa.int64()), ("seq", pa.int64()),
])  # fmt: skip
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

Row = Mapping[str, Any]


def row(topic: str, value: str, key: str | None = "k", **others: Any) -> Row:
    return {"topic": topic, "key": None if key is None else key.encode(), "value": value.encode(), **others}


def epoch_row(pipeline: str, epoch: int, **others: Any) -> EpochRow:
    own: dict[str, Any] = {"pipeline": pipeline, "checkpoint_id": "c", "epoch": epoch, "batch_id": epoch, "token": 1}
    return EpochRow(**{**own, "started_at": NOON, "committed_at": NOON, "ranges": [], "sinks": [], **others})


@dataclass
class Epochs:
    """A pipeline's ledger and outbox, as the commit protocol leaves them."""

    folder: Path
    pipeline: str = "p"
    ledger_path: str = ""
    next_epoch: int = 0
    ledger: Ledger = field(init=False)
    outbox: str = field(init=False)

    def __post_init__(self) -> None:
        self.ledger_path = self.ledger_path or str(self.folder / "ledger")
        self.outbox = str(self.folder / f"outbox-{self.pipeline}")
        self.ledger = Ledger(self.ledger_path)
        if not self.ledger.exists():
            self.ledger.create()
        self.ledger.take_lease(self.pipeline)
        write_deltalake(self.outbox, SCHEMA.empty_table())

    @property
    def app_id(self) -> str:
        return f"{self.pipeline}:c"

    def write(self, rows: Sequence[Row], *, files: int = 1, step: int = 1, first: int = 0) -> SinkRow:
        """Step 4 of the protocol; the rows of several files are not in their order."""
        numbered = [{"headers": None, "partition": None, **one, "epoch": self.next_epoch, "seq": n * step} for n, one in enumerate(rows)]
        for part in range(files) if rows else ():
            table = pa.Table.from_pylist(numbered[part::files], schema=SCHEMA)
            marks = [Transaction(self.app_id, self.next_epoch)] if part == files - 1 else []
            write_deltalake(self.outbox, table, mode="append", commit_properties=CommitProperties(app_transactions=marks))
        table = DeltaTable(self.outbox)
        return SinkRow(
            "outbox", self.outbox, str(table.metadata().id), "outbox", None, len(rows), table.version(), "driver" if rows else None
        )

    def commit(self, rows: Sequence[Row], *, files: int = 1, step: int = 1, ranges: Sequence[RangeRow] = (), **others: Any) -> int:
        """A whole epoch; returns its number."""
        sink = self.write(rows, files=files, step=step)
        read = sum(one.read for one in ranges)
        told = {"ranges": list(ranges), "read": read, "accepted": read, "sinks": [sink], **others}
        self.ledger.append(epoch_row(self.pipeline, self.next_epoch, **told), app_id=self.app_id)
        self.next_epoch += 1
        return self.next_epoch - 1


def seen(broker: Broker, topic: str, partitions: int = 1, *, isolation: str = "read_committed") -> list[list[str]]:
    """The values in each partition, as both independent consumers see them."""
    by_confluent = by_librdkafka(broker, topic, partitions, isolation=isolation)
    by_kafka_python = [[(one.value or b"").decode() for one in each] for each in by_python(broker, topic, partitions, isolation=isolation)]
    assert by_confluent == by_kafka_python
    return by_confluent


def by_librdkafka(broker: Broker, topic: str, partitions: int = 1, *, isolation: str) -> list[list[str]]:
    """The values in each partition, by confluent-kafka."""
    settings = {"group.id": "expected", "enable.auto.commit": False, "auto.offset.reset": "earliest", "enable.partition.eof": True}
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "isolation.level": isolation, **settings})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    found: list[list[str]] = [[] for _ in range(partitions)]
    ended: set[int] = set()
    while len(ended) < partitions:
        for one in consumer.consume(10_000, 0.02):
            if one.error() is None:
                found[one.partition()].append((one.value() or b"").decode())
            else:
                ended.add(one.partition())
    consumer.close()
    return found


def by_python(broker: Broker, topic: str, partitions: int = 1, *, isolation: str = "read_committed") -> list[list[Any]]:
    """The records in each partition, by kafka-python."""
    settings = {"isolation_level": isolation, "auto_offset_reset": "earliest", "enable_auto_commit": False, "group_id": None}
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap_servers, **settings)
    places = [Place(topic, number) for number in range(partitions)]
    try:
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        consumer.seek_to_beginning(*places)
        found: dict[Place, list[Any]] = {place: [] for place in places}
        while any(consumer.position(place) < ends[place] for place in places):
            for place, records in consumer.poll(timeout_ms=200).items():
                found[place] += records
        return [found[place] for place in places]
    finally:
        consumer.close()
