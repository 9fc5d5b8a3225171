"""The ledger knows how much there is still to be read, without a broker to ask: a plain client of the broker says the same."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import LongType, StructField, StructType
from typer.testing import CliRunner

from spark_ext import epochs, kafka
from spark_ext.broker import Broker
from spark_ext.delta import create_table
from spark_ext.epochs import ledger_cli
from spark_ext.epochs.points import watched
from spark_ext.errors import QueryError
from spark_ext.ingest import JsonFormat, accepted
from spark_ext.kafka.offsets import Document
from spark_ext.kafka.options import SourceOptions
from spark_ext.kafka.planner import Planner
from spark_ext.queries import Checkpoint
from tests.kafka_topics import produce

pytestmark = [pytest.mark.spark, pytest.mark.kafka]
FORMAT = JsonFormat(StructType([StructField("n", LongType())]))
PARTITIONS = 3
COUNT = 60


def route(epoch: epochs.Epoch) -> Mapping[str, DataFrame]:
    return {"facts": accepted(epoch.rows).selectExpr("n", "source.partition")}


def run(spark: SparkSession, broker: Broker, topic: str, root: Path, *, most: int) -> None:
    sources = kafka.identify(spark, bootstrap_servers=broker.bootstrap_servers, topics=topic)
    checkpoint = Checkpoint.claim(str(root / "checkpoint"), pipeline="numbers", sources=sources)
    frame = kafka.read(spark, bootstrap_servers=broker.bootstrap_servers, topics=topic, format=FORMAT, max_offsets_per_trigger=most)
    sinks: dict[str, epochs.Sink] = {"facts": epochs.Append(str(root / "facts"), counts_as="accepted")}
    pipeline = epochs.Pipeline(checkpoint=checkpoint, ledger=str(root / "ledger"), sinks=sinks, on_imbalance="stop")
    epochs.start(frame, route, pipeline=pipeline).await_end()


def left(broker: Broker, topic: str, root: Path) -> dict[int, int]:
    """What the client says there is, less the rows that are in the table."""
    done = Counter(DeltaTable(str(root / "facts")).to_pyarrow_table()["partition"].to_pylist())
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "lag"})
    ends = {number: consumer.get_watermark_offsets(TopicPartition(topic, number), 30)[1] for number in range(PARTITIONS)}
    consumer.close()
    return {number: end - done[number] for number, end in ends.items()}


def lag(root: Path) -> dict[int, int | None]:
    told = json.loads(CliRunner().invoke(ledger_cli.app, ["lag", str(root / "ledger"), "--json"], catch_exceptions=False).output)
    return {one["partition"]: one["lag"] for one in told}


def test_lag_of_a_job_that_stopped_while_rows_remain(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    topic = "epoch-lag"
    broker.create_topic(topic, partitions=PARTITIONS)
    produce(broker, topic, [json.dumps({"n": n}).encode() for n in range(COUNT)], partitions=PARTITIONS)
    create_table(spark, str(tmp_path / "facts"), "n bigint, partition int")

    def stop(point: str, batch_id: int, sink: str) -> None:
        if (point, batch_id) == ("after_ledger", 1):
            raise RuntimeError("stopped here")

    with watched(stop), pytest.raises(QueryError, match="stopped here"):
        run(spark, broker, topic, tmp_path, most=2)
    expected = left(broker, topic, tmp_path)
    assert sorted(expected.values()) == [18, 19, 19], "the second epoch read nothing of one partition"
    assert lag(tmp_path) == expected
    produce(broker, topic, [b'{"n": 1000}'] * 7)
    run(spark, broker, topic, tmp_path, most=COUNT // 2)
    rows = epochs.Ledger(str(tmp_path / "ledger")).rows()
    assert sum(row.accepted for row in rows) == COUNT + 7
    assert lag(tmp_path) == left(broker, topic, tmp_path) == dict.fromkeys(range(PARTITIONS), 0)
    assert all(one.latest is not None and one.latest >= one.end for row in rows for one in row.ranges)
    assert [sum(one.latest or 0 for one in row.ranges) for row in rows if row.epoch > 1] == [COUNT + 7] * (len(rows) - 2)


@pytest.mark.parametrize(("isolation", "end"), [("read_committed", 10), ("read_uncommitted", 13)])
def test_the_end_is_that_of_what_the_query_may_read(broker: Broker, isolation: str, end: int) -> None:
    topic = f"lag-{isolation}"
    broker.create_topic(topic)
    produce(broker, topic, [b"x"] * 10)
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    for _ in range(3):
        producer.produce(topic, b"x")
    assert producer.flush(30) == 0
    given = {"bootstrap_servers": broker.bootstrap_servers, "topics": json.dumps([topic]), "isolation": isolation}
    planner = Planner(SourceOptions.from_options({**given, "max_offsets_per_trigger": "4"}))
    document: Document = planner.initial()
    told = []
    for _ in range(2):
        document = planner.next(document, unlimited=False)
        told.append((document.offsets[topic, 0], document.latest[topic, 0]))
    planner.close()
    assert told == [(4, end), (8, end)]
    producer.abort_transaction(30)
