"""The commands as a person gives them: rewind with the tables set back, start again, check the ledger."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType, TimestampType
from typer.testing import CliRunner, Result

from spark_ext import epochs, kafka
from spark_ext.broker import Broker
from spark_ext.epochs.maintenance import Rules
from spark_ext.epochs.position import starting
from spark_ext.epochs.recount import UNCHECKED
from spark_ext.ingest import JsonFormat, accepted
from spark_ext.ops.cli import app
from spark_ext.queries import Checkpoint
from spark_ext.sketching.tables import create_sketch_table
from tests.kafka_topics import produce
from tests.outbox_epochs import epoch_row

pytestmark = [pytest.mark.spark, pytest.mark.kafka]
PIPELINE = "amounts"
FORMAT = JsonFormat(StructType([StructField("n", LongType()), StructField("key", LongType()), StructField("at", TimestampType())]))
COUNT = 120
EPOCHS = 6
KEYS = 7
SINKS = ("facts", "again", "dead", "latest", "versions", "totals", "outbox")
RUNNER = CliRunner(env={"COLUMNS": "300"})


def message(n: int, *, good: int) -> bytes:
    """Number `n` as JSON; each tenth is none, but for the first `good`."""
    at = f"2026-01-01T00:{n // 60:02}:{n % 60:02}Z"
    return json.dumps({"n": n, "key": n % KEYS, "at": at}).encode() if n % 10 or n < good else b"{"


def route(epoch: epochs.Epoch) -> Mapping[str, DataFrame]:
    good = accepted(epoch.rows)
    rows = good.select("n", "key", "at")
    return {
        "facts": rows,
        "again": rows,
        "dead": epoch.rows.where("dead IS NOT NULL").selectExpr("source.offset"),
        "latest": rows,
        "versions": rows,
        "totals": rows.select("key", "n"),
        "outbox": rows.select(
            F.lit("out").alias("topic"),
            F.lit(None).cast("binary").alias("key"),
            F.col("n").cast("string").cast("binary").alias("value"),
        ),
    }


class Job:
    """One sink of each kind, two of them not exactly once, tidied up after each second epoch."""

    def __init__(self, spark: SparkSession, broker: Broker, topic: str, root: Path) -> None:
        self.spark, self.broker, self.topic, self.root = spark, broker, topic, root
        self.ledger = epochs.Ledger(str(root / "ledger"))

    def run(self) -> None:
        servers = self.broker.bootstrap_servers
        sources = kafka.identify(self.spark, bootstrap_servers=servers, topics=self.topic)
        checkpoint = Checkpoint.claim(str(self.root / "checkpoint"), pipeline=PIPELINE, sources=sources)
        frame = kafka.read(
            self.spark,
            bootstrap_servers=servers,
            topics=self.topic,
            format=FORMAT,
            starting=starting(checkpoint),
            max_offsets_per_trigger=COUNT // EPOCHS,
        )
        path = {name: str(self.root / name) for name in SINKS}
        sinks: dict[str, epochs.Sink] = {
            "facts": epochs.Append(path["facts"], counts_as="accepted"),
            "again": epochs.Append(path["again"], delivery="at_least_once"),
            "dead": epochs.Append(path["dead"], counts_as="dead"),
            "latest": epochs.Upsert(path["latest"], keys=["key"], sequence="at"),
            "versions": epochs.History(path["versions"], keys=["key"], sequence="at"),
            "totals": epochs.Sketches(path["totals"], keys=["key"]),
            "outbox": epochs.Outbox(path["outbox"]),
        }
        create_sketch_table(path["totals"], keys={"key": "bigint"}, measures={"n": "sum"})
        rules = Rules(every=2, small_files=2, log_commits=3)
        pipeline = epochs.Pipeline(checkpoint, ledger=self.ledger.path, sinks=sinks, on_imbalance="stop", maintenance=rules)
        assert epochs.start(frame, route, pipeline=pipeline).await_end(120)

    def rewind(self, to: str) -> Result:
        line = [PIPELINE, "--ledger", self.ledger.path, "--checkpoint", str(self.root / "checkpoint"), "--to", to, "--restore-tables"]
        return RUNNER.invoke(app, ["rewind", *line, "--bootstrap-servers", self.broker.bootstrap_servers, "--yes"])

    def check(self) -> tuple[int, list[dict[str, Any]]]:
        """The exit code, and what is wrong: not what only cannot be checked any more."""
        line = ["ledger", "check", self.ledger.path, "--bootstrap-servers", self.broker.bootstrap_servers]
        found = RUNNER.invoke(app, [*line, "--json"])
        return found.exit_code, [one for one in json.loads(found.stdout) if one["kind"] != UNCHECKED]

    def rows(self, table: str) -> Counter[tuple[Any, ...]]:
        path = str(self.root / table)
        if not DeltaTable.is_deltatable(path):
            return Counter()
        found = DeltaTable(path).to_pyarrow_table()
        names = sorted(name for name in found.column_names if name not in ("epoch", "seq"))  # a new epoch has a new number
        return Counter(tuple(row[name] for name in names) for row in found.to_pylist())

    def content(self) -> dict[str, Counter[tuple[Any, ...]]]:
        return {name: self.rows(name) for name in SINKS}


@pytest.fixture
def job(spark: SparkSession, broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Job:
    """A job that has taken all messages; the first `request.param` of them are good."""
    topic = "restore-" + "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    broker.create_topic(topic, partitions=2)
    produce(broker, topic, [message(n, good=request.param) for n in range(COUNT)], partitions=2)
    made = Job(spark, broker, topic, tmp_path)
    made.run()
    return made


@pytest.mark.parametrize("job", [0], indirect=True)
@pytest.mark.parametrize("epoch", [0, 3, EPOCHS - 1])
def test_a_pipeline_that_was_set_back_ends_where_it_was_and_its_ledger_is_right(job: Job, epoch: int) -> None:
    before = job.content()
    assert [sum(rows.values()) for rows in before.values()] == [108, 108, 12, KEYS, 108, KEYS, 108]
    assert job.check() == (0, [])
    done = job.rewind(f"epoch:{epoch}")
    assert done.exit_code == 0, done.output
    read = sum(row.accepted for row in job.ledger.rows(PIPELINE)[: epoch + 1])
    assert [sum(job.rows(name).values()) for name in ("facts", "again", "versions", "outbox")] == [read] * 4, "set back"
    assert job.check() == (0, []), "between rewind and start"
    job.run()
    assert job.content() == before
    assert job.check() == (0, [])
    rows = job.ledger.rows(PIPELINE)
    assert [row.epoch for row in rows] == list(range(len(rows)))
    assert sum(row.read for row in rows) == COUNT + COUNT - (epoch + 1) * (COUNT // EPOCHS)


@pytest.mark.parametrize("job", [0], indirect=True)
def test_it_can_be_set_back_to_an_epoch_of_the_second_life_and_then_of_the_first(job: Job) -> None:
    before = job.content()
    assert job.rewind("epoch:1").exit_code == 0
    job.run()
    last = job.ledger.last(PIPELINE)
    assert last is not None
    assert job.rewind(f"epoch:{last.epoch - 1}").exit_code == 0  # the last but one, of the second checkpoint
    job.run()
    assert job.content() == before
    assert job.rewind("epoch:0").exit_code == 0  # of the first, over which tables have been restored since
    job.run()
    assert job.content() == before
    assert job.check() == (0, [])


@pytest.mark.parametrize("job", [COUNT // 2], indirect=True)
def test_a_table_that_was_not_there_yet_is_set_back_as_well(job: Job) -> None:
    before = job.content()
    done = job.rewind("epoch:0")
    assert done.exit_code == 0
    assert "emptied" in done.output
    assert job.check() == (0, []), "between rewind and start"
    job.run()
    assert job.content() == before
    assert job.check() == (0, [])


def test_pipelines_of_one_ledger_are_found_after_its_compaction(tmp_path: Path) -> None:
    ledger = epochs.Ledger(str(tmp_path / "ledger"))
    ledger.create()
    for pipeline, count in (("ahead", 5), ("behind", 2)):
        token = ledger.take_lease(pipeline)
        for number in range(count):
            ledger.append(epoch_row(pipeline, number, token=token), app_id=f"{pipeline}:c")
    ledger.table().optimize.compact()
    assert [row.epoch for row in ledger.rows("behind")] == [0, 1]
    found = {pipeline: ledger.last(pipeline) for pipeline in ("ahead", "behind")}
    assert {pipeline: row and row.epoch for pipeline, row in found.items()} == {"ahead": 4, "behind": 1}
