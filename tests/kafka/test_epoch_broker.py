"""A broker that is gone for a minute under a pipeline: it goes on by itself or says so, and each row is there once."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import LongType, StructField, StructType

from spark_ext import epochs, kafka
from spark_ext.broker import Broker
from spark_ext.delta import create_table
from spark_ext.epochs import points
from spark_ext.epochs.recount import check
from spark_ext.errors import QueryError
from spark_ext.ingest import JsonFormat, accepted
from spark_ext.queries import Checkpoint, Query
from tests.kafka_topics import produce

pytestmark = [pytest.mark.spark, pytest.mark.kafka]
FORMAT = JsonFormat(StructType([StructField("n", LongType())]))
TOPIC = "away"
COUNT = 120
OF_A_BATCH = 20
GOOD = [n for n in range(COUNT) if n % 10]
DEAD = [n // 2 for n in range(0, COUNT, 10)]  # offsets of what is no JSON, all in partition 0
PAD = "x" * 700_000  # a batch is more than a worker reads ahead
AWAY_S = 60
END_S = 180


def route(epoch: epochs.Epoch) -> Mapping[str, DataFrame]:
    return {"facts": accepted(epoch.rows).select("n"), "dead": epoch.rows.where("dead IS NOT NULL").selectExpr("source.offset")}


class Job:
    """Facts and dead letters of one topic, in batches of `OF_A_BATCH`."""

    def __init__(self, spark: SparkSession, broker: Broker, root: Path) -> None:
        self.spark, self.broker, self.root = spark, broker, root
        for name, schema in (("facts", "n bigint"), ("dead", "offset bigint")):
            create_table(spark, str(root / name), schema)
        self.ledger = epochs.Ledger(str(root / "ledger"))

    def start(self, see: Callable[[int], None] = lambda _: None, **options: str) -> Query:
        """Start on what is there now; `see` is told the number of each batch before it is read."""
        servers = self.broker.bootstrap_servers
        sources = kafka.identify(self.spark, bootstrap_servers=servers, topics=TOPIC)
        checkpoint = Checkpoint.claim(str(self.root / "checkpoint"), pipeline="numbers", sources=sources)
        frame = kafka.read(
            self.spark, bootstrap_servers=servers, topics=TOPIC, format=FORMAT, max_offsets_per_trigger=OF_A_BATCH, options=options
        )
        sinks: dict[str, epochs.Sink] = {
            "facts": epochs.Append(str(self.root / "facts"), counts_as="accepted"),
            "dead": epochs.Append(str(self.root / "dead"), counts_as="dead"),
        }

        def seen(epoch: epochs.Epoch) -> Mapping[str, DataFrame]:
            see(epoch.batch_id)
            return route(epoch)

        return epochs.start(frame, seen, pipeline=epochs.Pipeline(checkpoint, ledger=self.ledger.path, sinks=sinks, on_imbalance="stop"))

    def column(self, table: str, name: str) -> list[int]:
        return sorted(DeltaTable(str(self.root / table)).to_pyarrow_table()[name].to_pylist())

    def assert_whole(self) -> None:
        """Nothing lost, nothing twice; the ledger says so, and so does who counts again."""
        assert self.column("facts", "n") == GOOD
        assert self.column("dead", "offset") == DEAD
        rows = self.ledger.rows("numbers")
        assert [row.read for row in rows] == [OF_A_BATCH] * (COUNT // OF_A_BATCH)
        assert all(row.is_balanced for row in rows)
        assert sum(row.accepted for row in rows) == len(GOOD)
        assert sum(row.dead for row in rows) == len(DEAD)
        assert check(self.ledger, "numbers", self.broker.bootstrap_servers) == []


class Outage:
    """The broker's process is killed at a batch, and stays away for a minute."""

    def __init__(self, broker: Broker, *, batch: int) -> None:
        self._broker, self._batch = broker, batch
        self._gone = Event()
        self._since = 0.0

    def begin(self, batch: int) -> None:
        if batch == self._batch and not self._gone.is_set():
            self._broker.kill()
            self._since = time.monotonic()
            self._gone.set()

    def outlast(self, query: Query) -> str:
        """Start the broker again when the minute is over; return what the query says if it has failed meanwhile."""
        assert self._gone.wait(END_S), "the batch came"
        error = ""
        try:
            assert not query.await_end(self._left()), "rows remain"
        except QueryError as failed:
            error = str(failed)
        Event().wait(self._left())  # a query that fails early does not shorten it
        assert [node.state() for node in self._broker.nodes] == ["down"]
        self._broker.restart()
        return error

    def _left(self) -> float:
        return max(0.0, self._since + AWAY_S - time.monotonic())


@pytest.fixture
def job(spark: SparkSession, tmp_path: Path) -> Iterator[Job]:
    with Broker(directory=tmp_path / "broker") as broker:
        broker.create_topic(TOPIC, partitions=2)
        produce(broker, TOPIC, [json.dumps({"n": n, "pad": PAD}).encode() if n % 10 else b"{" for n in range(COUNT)], partitions=2)
        yield Job(spark, broker, tmp_path)


@pytest.mark.slow
def test_a_minute_without_broker_before_a_batch_is_read_fails_it_and_the_restart_reads_it(job: Job) -> None:
    outage = Outage(job.broker, batch=2)
    query = job.start(outage.begin)
    error = outage.outlast(query)
    said = r"cannot run query 'numbers'.*cannot reach broker .*expected records \d+ to \d+ of away-[01].* within 30 s.*start the broker"
    assert re.search(said, error), error
    assert [row.read for row in job.ledger.rows("numbers")] == [OF_A_BATCH] * 2, "epochs before it are whole"
    assert len(job.column("facts", "n")) + len(job.column("dead", "offset")) == 2 * OF_A_BATCH
    assert job.start().await_end(END_S)
    job.assert_whole()


@pytest.mark.slow
def test_a_minute_without_broker_between_two_batches_is_waited_for(job: Job) -> None:
    outage = Outage(job.broker, batch=2)
    # Its rows are there: this epoch needs the broker no more, the next one does.
    with points.watched(lambda point, batch, _: outage.begin(batch) if point == "after_read" else None):
        query = job.start(patience_s="180")
        assert outage.outlast(query) == ""
        assert [row.read for row in job.ledger.rows("numbers")][:3] == [OF_A_BATCH] * 3, "an epoch that was read came through"
        assert query.await_end(END_S)
    job.assert_whole()
