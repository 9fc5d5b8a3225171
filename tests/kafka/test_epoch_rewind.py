"""A rewind of a pipeline that reads Kafka: with the tables set back, nothing is there twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import LongType, StructField, StructType

from spark_ext import epochs, kafka
from spark_ext.broker import Broker
from spark_ext.delta import create_table
from spark_ext.epochs import ledger_cli, rewind
from spark_ext.epochs.position import starting
from spark_ext.errors import CheckpointMismatchError, QueryError
from spark_ext.ingest import JsonFormat, accepted
from spark_ext.queries import Checkpoint
from tests.kafka_topics import produce

pytestmark = [pytest.mark.spark, pytest.mark.kafka]
FORMAT = JsonFormat(StructType([StructField("n", LongType())]))
COUNT = 40
GOOD = [n for n in range(COUNT) if n % 10]


def route(epoch: epochs.Epoch) -> Mapping[str, DataFrame]:
    return {"facts": accepted(epoch.rows).select("n"), "dead": epoch.rows.where("dead IS NOT NULL").selectExpr("source.offset")}


class Job:
    def __init__(self, spark: SparkSession, broker: Broker, topic: str, root: Path) -> None:
        self.spark, self.broker, self.topic, self.root = spark, broker, topic, root
        for name, schema in (("facts", "n bigint"), ("dead", "offset bigint")):
            create_table(spark, str(root / name), schema)
        self.ledger = epochs.Ledger(str(root / "ledger"))

    def run(self, *, ask: bool = True) -> None:
        sources = kafka.identify(self.spark, bootstrap_servers=self.broker.bootstrap_servers, topics=self.topic)
        checkpoint = Checkpoint.claim(str(self.root / "checkpoint"), pipeline="numbers", sources=sources)
        frame = kafka.read(
            self.spark,
            bootstrap_servers=self.broker.bootstrap_servers,
            topics=self.topic,
            format=FORMAT,
            starting=starting(checkpoint) if ask else "earliest",
            max_offsets_per_trigger=COUNT // 4,
        )
        sinks: dict[str, epochs.Sink] = {
            "facts": epochs.Append(str(self.root / "facts"), counts_as="accepted"),
            "dead": epochs.Append(str(self.root / "dead"), counts_as="dead"),
        }
        pipeline = epochs.Pipeline(checkpoint=checkpoint, ledger=self.ledger.path, sinks=sinks, on_imbalance="stop")
        epochs.start(frame, route, pipeline=pipeline).await_end()

    def rewind(self, to: str, *, restore_tables: bool = False) -> rewind.Plan:
        found = Checkpoint.find(str(self.root / "checkpoint"), pipeline="numbers")
        servers = self.broker.bootstrap_servers
        planned = rewind.plan(found, self.ledger, to=to, restore_tables=restore_tables, bootstrap_servers=servers)
        rewind.apply(planned)
        return planned

    def facts(self) -> list[int]:
        return sorted(DeltaTable(str(self.root / "facts")).to_pyarrow_table()["n"].to_pylist())


@pytest.fixture
def job(spark: SparkSession, broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Job:
    topic = f"rewind-{request.node.name}"
    broker.create_topic(topic, partitions=2)
    produce(broker, topic, [json.dumps({"n": n}).encode() if n % 10 else b"{" for n in range(COUNT)], partitions=2)
    return Job(spark, broker, topic, tmp_path)


def test_back_to_an_epoch_with_the_tables_gives_the_same_rows(job: Job) -> None:
    job.run()
    assert job.facts() == GOOD
    at = job.ledger.rows("numbers")[1]
    planned = job.rewind("epoch:1", restore_tables=True)
    assert planned.again == COUNT - sum(one.end for one in at.ranges)
    assert len(job.facts()) == sum(one.rows for row in job.ledger.rows("numbers")[:2] for one in row.sinks if one.name == "facts")
    job.run()
    assert job.facts() == GOOD
    rows = job.ledger.rows("numbers")
    assert [row.read for row in rows] == [10, 10, 10, 10, 0, 10, 10]
    assert all(row.is_balanced for row in rows)
    assert [one.start for one in rows[5].ranges] == [one.end for one in at.ranges]
    assert [one.end for one in ledger_cli.lags(rows)] == [COUNT // 2] * 2


def test_a_word_becomes_offsets_and_a_job_that_does_not_ask_is_found_out(job: Job) -> None:
    job.run()
    planned = job.rewind("latest")
    assert planned.position == {job.topic: {0: COUNT // 2, 1: COUNT // 2}}
    assert (planned.again, planned.passed_over) == (0, 0)
    assert set(planned.topic_ids) == {job.topic}
    produce(job.broker, job.topic, [b'{"n": 100}'])
    job.run()
    assert job.facts() == [*GOOD, 100]
    job.rewind("latest")
    with pytest.raises(QueryError, match=r"cannot start pipeline 'numbers': expected rewind-.*as the rewind says, got from 0"):
        job.run(ask=False)
    assert job.facts() == [*GOOD, 100], "nothing was written"
    with pytest.raises(CheckpointMismatchError, match=r"as the rewind says, got from 0"):
        job.run()  # its first batch is planned already
    job.rewind("latest")
    job.run()
    assert job.facts() == [*GOOD, 100]
