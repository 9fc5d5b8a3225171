"""The flights job on a slice of the year: garbage between good rows, kills in the middle, the same checked answer."""

from __future__ import annotations

import json
import random
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pyarrow as pa
import pytest
from confluent_kafka import Producer
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from jobs.flights import tables
from jobs.flights.check import Result, prove
from jobs.flights.check.broker import read_topic
from jobs.flights.check.expected import flight_events
from jobs.flights.events import events
from jobs.flights.main import PROGRAM, close_days, start_days, start_events, start_hours, start_routes
from jobs.flights.settings import Settings
from spark_ext import kafka
from spark_ext.broker import Broker
from spark_ext.epochs import Ledger
from spark_ext.epochs.recount import check
from spark_ext.queries import Checkpoint, run
from spark_ext.testing import JobUnderTest, differences, kill_cycles
from spark_ext.testing import Result as Left
from spark_ext.testing.result import read_tables
from tests.process_tree import ProcessTree

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

END = pd.Timestamp("2013-01-11", tz="UTC")
DAY_MS = 86_400_000
LAST_DAY = date(2013, 1, 10)
GARBAGE: dict[str, bytes | None] = {
    "malformed": b'{"event":"departure", broken',
    "type": b'{"event":"departure","event_time":"2013-01-01T10:17:00Z","scheduled_time":"2013-01-01T10:15:00Z","carrier":"UA",'
    b'"flight":"fifteen","tailnum":null,"origin":"EWR","dest":"IAH","delay_minutes":2}',
    "required_field": b'{"event":"departure","event_time":"2013-01-01T10:17:00Z"}',
    "event_time_range": b'{"event":"departure","event_time":"9999-12-31T23:59:59Z","scheduled_time":"2013-01-01T10:15:00Z","carrier":"UA",'
    b'"flight":15,"tailnum":null,"origin":"EWR","dest":"IAH","delay_minutes":2}',
    "unknown_event": b'{"event":"diversion","event_time":"2013-01-01T10:17:00Z","scheduled_time":"2013-01-01T10:15:00Z","carrier":"UA",'
    b'"flight":15,"tailnum":null,"origin":"EWR","dest":"IAH","delay_minutes":2}',
    "empty": b"",
    "tombstone": None,
    "too_large": b"\x00garbage\xff" * 222_223,  # 2 MB
}
KILLS = 50
OFFSETS = "170"  # of a batch, so that there are batches for all lives
QUERIES = ("events", "days", "hours", "routes")
TABLES = (
    "flight_events", "late_events", "dead_letters", "source_ranges", "hourly_departures", "routes", "daily_departures", "late_for_days",
    "departures_weather",
)  # fmt: skip
COUNTS = ("read", "accepted", "filtered", "late", "dead", "duplicate", "shed", "absent", "lost")


def some_events() -> pd.DataFrame:
    year = events()
    return year[year["scheduled_time"] < END]


def send(broker: Broker, topic: str, frame: pd.DataFrame, garbage: list[bytes | None]) -> int:
    """Publish events with garbage spread evenly between them; return how many records the topic has."""
    broker.create_topic(topic, partitions=2, config={"max.message.bytes": "4000000"})
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "message.max.bytes": 4_000_000, "linger.ms": 20})
    lines = frame.to_json(orient="records", lines=True, date_format="iso", date_unit="s").splitlines()
    step = len(lines) // (len(garbage) + 1)
    for at, (line, tail) in enumerate(zip(lines, frame["tailnum"], strict=True)):
        producer.produce(topic, line.encode(), key=tail if isinstance(tail, str) else None)
        if at % step == step - 1 and at // step < len(garbage):
            producer.produce(topic, garbage[at // step], partition=at % 2)
        producer.poll(0)
    assert producer.flush(60) == 0
    return len(lines) + len(garbage)


def proven(broker: Broker, topic: str, out: Path) -> Result:
    flights = flight_events()
    return prove(read_topic(broker.bootstrap_servers, topic), flights[flights["scheduled_time"] < END], out, topic)


def test_garbage_becomes_dead_letters_and_every_other_row_is_counted(spark: SparkSession, tmp_path: Path) -> None:
    with Broker(properties={"message.max.bytes": "4000000"}) as broker:
        year = some_events()
        held = year.iloc[4_000:4_020]  # of the third day, sent last of all
        sent = send(broker, "garbage", pd.concat([year.drop(held.index), held]), list(GARBAGE.values()))
        settings = Settings.load(
            "local", out=str(tmp_path), topic="garbage", bootstrap_servers=broker.bootstrap_servers, max_offsets_per_trigger=5_000
        )
        tables.create_tables(spark, settings)
        run([start_events(spark, settings, None), start_days(spark, settings, None)])
        assert max(DeltaTable(settings.table("daily_departures")).to_pandas()["day"]) < LAST_DAY, "open until the end is told"
        close_days(spark, settings)
        run([start_hours(spark, settings, None), start_routes(spark, settings, None), start_days(spark, settings, None)])
        proof = proven(broker, "garbage", tmp_path)
    assert proof.mismatches == []
    assert proof.broker_rows == sent == proof.facts + proof.dead_letters + proof.late_rows
    letters = spark.read.format("delta").load(settings.table("dead_letters")).collect()
    assert {row.reason: None if row.value is None else bytes(row.value) for row in letters} == GARBAGE
    assert proof.late_rows > 0, "or lateness was not tested"
    assert proof.late_for_days == (held["event"] != "arrival").sum() > 0, "nor was that of days"
    assert proof.outward == proof.in_days + proof.late_for_days
    late = DeltaTable(settings.table("late_for_days")).to_pandas()
    assert set(late["day"]) == {date(2013, 1, 3)}
    assert (late["lateness_ms"] > DAY_MS).all()
    assert not proof.unusual_days
    read = {row.pipeline: [(one.name, one.version) for one in row.tables] for row in Ledger(settings.table("ledger")).rows()}
    assert read == {
        "flights/events": [("weather", 0)], "flights/hours": [("weather", 0)], "flights/days": [],
        "flights/routes": [("airlines", 0), ("airports", 0)],
    }  # fmt: skip


def batches(out: Path, query: str, log: str) -> int:
    """How many batches a query has planned (``offsets``) or finished (``commits``)."""
    folder = out / "checkpoints" / query / "spark" / log
    return len([file for file in folder.glob("*") if not file.name.startswith(".")]) if folder.is_dir() else 0


class Job(ProcessTree):
    """The job under spark-submit, as a process tree that can be killed."""

    def __init__(self, broker: Broker, out: Path, *options: str) -> None:
        line = [str(Path(sys.executable).with_name("millrace")), "submit", str(PROGRAM), "--bootstrap-servers", broker.bootstrap_servers]
        line += ["--out", str(out), "--max-offsets-per-trigger", "2000", "--topic", "kills", *options]
        super().__init__(line, {"PYTHONUNBUFFERED": "1"})

    def wait_for(self, out: Path, query: str, log: str, at_least: int) -> None:
        self.wait_until(lambda: batches(out, query, log) >= at_least)


@pytest.fixture(scope="module")
def published(broker: Broker) -> Broker:
    send(broker, "kills", some_events(), [])
    return broker


@pytest.mark.slow
def test_kills_in_the_middle_change_nothing(published: Broker, tmp_path: Path) -> None:
    for query, log, at_least, victim in [
        ("days", "commits", 3, "java"),
        ("events", "offsets", 5, "python"),
        ("hours", "offsets", 1, "java"),
    ]:
        with Job(published, tmp_path) as job:
            job.wait_for(tmp_path, query, log, at_least)
            job.kill(victim)
    with Job(published, tmp_path) as last:
        assert last.process.wait(240) == 0
    proof = proven(published, "kills", tmp_path)
    assert proof.mismatches == []
    offsets = tmp_path / "checkpoints" / "events" / "spark" / "offsets"
    assert json.loads((offsets / "0").read_text().splitlines()[2]), "the log that the proof used is there"


def no_build(*_: Any) -> Any:
    raise AssertionError("only its tables are read")


class Lives:
    """The job as a plain program in a folder: killed again and again, or left alone."""

    job = JobUnderTest(
        schema=pa.schema([]),
        build=no_build,
        tables={name: f"tables/{name}" for name in TABLES},
        keys={
            "daily_departures": ["origin", "day"],
            "hourly_departures": ["origin", "window_start"],
            "routes": ["origin", "dest", "carrier"],
        },
    )

    def __init__(self, broker: Broker, topic: str, out: Path) -> None:
        self.broker, self.topic, self.out = broker, topic, out
        out.mkdir()
        # The proof goes by the offset log, of which Spark keeps a hundred batches if it is not told otherwise.
        # And a life is too short for more of a compiler.
        conf = ["spark.sql.streaming.minBatchesToRetain 10000", "spark.ui.enabled false"]
        (out / "spark-defaults.conf").write_text("\n".join([*conf, "spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1"]))
        self.unfinished: list[list[str]] = []
        self.running: Sequence[str] = QUERIES
        self.steps = self.steps_before = 0
        self.wanted = 1

    def command(self, life: int, kills: int) -> list[str]:
        """Every second life that is killed follows the stream: only then do all four queries run at once."""
        follows = life < kills and life % 2 == 1
        self.running = QUERIES if follows else QUERIES[:2]  # the others come when all is read, which is in the last life
        self.wanted = random.Random(life).randint(1, 4)  # noqa: S311 (a test's moments are no secrets)
        line = [sys.executable, "-m", "jobs.flights.main", "--bootstrap-servers", self.broker.bootstrap_servers, "--topic", self.topic]
        line += ["--out", str(self.out), "--max-offsets-per-trigger", OFFSETS]
        return [*line, "--follow"] if follows else line

    def has_worked(self) -> bool:
        """Tell whether this life has planned and finished as much as it is to have done before it is killed."""
        self.steps = sum(batches(self.out, query, log) for query in QUERIES for log in ("offsets", "commits"))
        return self.steps >= self.steps_before + self.wanted

    def note(self, life: int) -> None:
        """Write down which queries were in the middle of a batch when they were killed."""
        assert self.has_worked(), f"life {life} did not come so far; see {self.out / 'lives.txt'}"
        self.unfinished.append(
            [query for query in self.running if batches(self.out, query, "offsets") > batches(self.out, query, "commits")]
        )
        done = ", ".join(f"{query} {batches(self.out, query, 'commits')}" for query in QUERIES)
        with (self.out / "lives.txt").open("a") as notes:
            notes.write(f"life {life}: {self.steps - self.steps_before} steps; unfinished {self.unfinished[-1]}; {done}\n")
        self.steps_before = self.steps

    def live(self, kills: int) -> Counter[str]:
        found = kill_cycles(
            lambda life: self.command(life, kills),
            cycles=kills,
            seed=50,
            within=(0, 1.5),
            victims=("driver", "jvm", "all"),
            is_up=self.has_worked,
            after_death=self.note,
            environment={"SPARK_CONF_DIR": str(self.out)},
            timeout_s=900,
        )
        return Counter(one.victim for one in found)

    def left(self) -> Left:
        return Left(job=self.job, steps=[], folder=self.out, tables=read_tables(self.job, self.out), ledger=[], facts=[])

    def sums(self, query: str) -> dict[str, int]:
        """What the ledger says of a pipeline, over all epochs."""
        rows = self.ledger.rows(f"flights/{query}")
        assert all(row.is_balanced for row in rows), query
        return {name: sum(getattr(row, name) for row in rows) for name in COUNTS}

    @property
    def ledger(self) -> Ledger:
        return Ledger(str(self.out / "tables" / "ledger"))


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_fifty_kills_of_the_flights_job_change_nothing(broker: Broker, tmp_path: Path) -> None:
    year = some_events()
    held = year.iloc[4_000:4_020]  # late
    garbage = [value for name, value in GARBAGE.items() if name != "too_large"]
    sent = send(broker, "fifty", pd.concat([year.drop(held.index), held]), garbage)
    undisturbed, killed = Lives(broker, "fifty", tmp_path / "undisturbed"), Lives(broker, "fifty", tmp_path / "killed")
    assert undisturbed.live(0) == {"none": 1}
    victims = killed.live(KILLS)
    assert (victims["none"], victims["itself"]) == (1, 0), "each life but the last was killed"
    assert min(victims[one] for one in ("driver", "jvm", "all")) >= KILLS // 10
    assert sum(map(bool, killed.unfinished)) >= KILLS // 2, "most of them in the middle of a batch"
    assert min(sum(query in each for each in killed.unfinished) for query in QUERIES) >= KILLS // 10, "of each query"

    assert "\n".join(one.text for one in differences(killed.left(), undisturbed.left(), ledger=False)) == ""
    for query in QUERIES:
        assert killed.sums(query) == undisturbed.sums(query), query
        assert [one for one in check(killed.ledger, f"flights/{query}", broker.bootstrap_servers) if one.is_fault] == []
    proof = proven(broker, "fifty", killed.out)
    assert proof.mismatches == []
    assert proof.broker_rows == sent == proof.facts + proof.dead_letters + proof.late_rows
    assert min(proof.dead_letters, proof.late_rows, proof.late_for_days) > 0, "or these were not tested"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_live_job_under_spark_submit_stops_between_two_batches(
    spark: SparkSession, published: Broker, tmp_path: Path, number: signal.Signals
) -> None:
    with Job(published, tmp_path, "--follow") as job:
        job.wait_for(tmp_path, "events", "commits", 3)
        tree = psutil.Process(job.process.pid).children(recursive=True)
        job.process.send_signal(number)  # to the JVM only, as a cluster manager does
        job.process.wait(120)
    gone, alive = psutil.wait_procs(tree, timeout=30)
    assert not alive
    assert gone
    settings = Settings.load("local", out=str(tmp_path), topic="kills")
    sources = kafka.identify(spark, bootstrap_servers=published.bootstrap_servers, topics="kills")
    checkpoint = Checkpoint.claim(settings.checkpoint("events"), pipeline="flights/events", sources=sources)
    last_done = batches(tmp_path, "events", "commits") - 1
    assert DeltaTable(settings.table("flight_events")).transaction_version(checkpoint.app_id) == last_done, "written is committed"
    assert batches(tmp_path, "events", "offsets") - 1 in {last_done, last_done + 1}
