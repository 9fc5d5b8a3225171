"""The flights job on a slice of the year: garbage between good rows, kills in the middle, the same checked answer."""

from __future__ import annotations

import json
import signal
import sys
from datetime import date
from pathlib import Path

import pandas as pd
import psutil
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
from spark_ext.queries import Checkpoint, run
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


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGINT])
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
