"""The event clock of a real stream: one row per batch, the slowest partition, the same at a replay, beats in silence."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType, TimestampType
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from spark_ext import kafka
from spark_ext.broker import Broker
from spark_ext.errors import SettingsError
from spark_ext.ingest import JsonFormat, accepted, accounts
from tests.kafka_topics import Batches, produce, run_to_end, running

pytestmark = [pytest.mark.kafka, pytest.mark.spark]

START = datetime(2013, 1, 1, tzinfo=UTC)
SCHEMA = StructType([StructField("at", TimestampType(), nullable=False), StructField("n", LongType())])
FORMAT = JsonFormat(SCHEMA, event_time="at", earliest=START)
PATIENT = kafka.EventClock(timedelta(hours=1), sample=1000)


def read(spark: SparkSession, broker: Broker, topic: str, clock: kafka.EventClock, limit: int = 60) -> DataFrame:
    return kafka.read(
        spark, bootstrap_servers=broker.bootstrap_servers, topics=topic, format=FORMAT, clock=clock, max_offsets_per_trigger=limit
    )


def event(seconds: int) -> bytes:
    return json.dumps({"at": (START + timedelta(seconds=seconds)).isoformat(), "n": seconds}).encode()


def shown(rows: list[Row]) -> datetime | None:
    found = [row.event_clock for row in rows if row.event_clock is not None]
    assert len(found) <= 1, "one clock row per batch"
    return found[0].astimezone(UTC) if found else None


def slowest(rows: list[Row]) -> datetime:
    """The least of the partitions' newest event times, from the rows themselves."""
    newest: dict[int, datetime] = {}
    for row in rows:
        if row["at"] is not None:
            newest[row.source.partition] = max(newest.get(row.source.partition, START), row["at"].astimezone(UTC))
    return min(newest.values())


def test_the_slowest_partition_holds_the_clock_and_a_replay_shows_the_same(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("clock", partitions=2)
    # Disordered, partition 0 a hundred seconds ahead, and some garbage, the last of all in partition 0.
    fast = [event(100 + n + (n * 7) % 13) if n % 10 != 9 else b"{" for n in range(100)]
    slow = [event(n + (n * 5) % 11) for n in range(100)]
    produce(broker, "clock", [one for pair in zip(fast, slow, strict=True) for one in pair], partitions=2)
    whole = run_to_end(read(spark, broker, "clock", PATIENT), tmp_path / "c")
    assert len(whole.rows) == 4
    so_far: list[Row] = []
    for number in sorted(whole.rows):
        so_far += whole.rows[number]
        assert shown(whole.rows[number]) == slowest(so_far)
    (tmp_path / "c" / "commits" / "3").unlink()
    (tmp_path / "c" / "commits" / ".3.crc").unlink()
    again = run_to_end(read(spark, broker, "clock", PATIENT), tmp_path / "c")
    assert sorted(map(str, again.rows[3])) == sorted(map(str, whole.rows[3]))
    frame = spark.createDataFrame(so_far, read(spark, broker, "clock", PATIENT).schema)
    assert accepted(frame).count() == 190
    assert accounts(frame).agg(F.sum("read")).first()[0] == 200, "the clock row is neither"


def test_spark_takes_it_for_a_watermark(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("clock-watermark", partitions=2)
    produce(broker, "clock-watermark", [event(500 if n % 2 == 0 else 20) for n in range(40)], partitions=2)
    frame = read(spark, broker, "clock-watermark", PATIENT, 20).withWatermark("event_clock", "5 seconds")
    seen = Batches()
    query = frame.writeStream.foreachBatch(seen.take).option("checkpointLocation", str(tmp_path / "c")).trigger(availableNow=True).start()
    assert query.awaitTermination(60)
    marks = [progress["eventTime"].get("watermark") for progress in query.recentProgress]
    assert "2013-01-01T00:00:15.000Z" in marks, marks


def test_a_silent_source_lets_time_go_on_in_batches_of_one_row(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("beats", partitions=2)
    produce(broker, "beats", [event(n) for n in range(10)])  # partition 1 has nothing
    beating = kafka.EventClock(timedelta(milliseconds=300), heartbeat=timedelta(milliseconds=200))
    seen = Batches()

    @retry(retry=retry_if_result(lambda enough: not enough), stop=stop_after_delay(60), wait=wait_fixed(0.05))
    def wait_for_beats() -> bool:
        return len(seen.rows) >= 4

    with running(read(spark, broker, "beats", beating), tmp_path / "c", seen):
        wait_for_beats()
    batches = [seen.rows[number] for number in sorted(seen.rows)]
    assert sum(row["at"] is not None for row in batches[0]) == 10
    beats = [shown(rows) for rows in batches[1:]]
    assert all(len(rows) == 1 for rows in batches[1:])
    assert beats[0] is not None
    assert beats[0] >= START + timedelta(seconds=9)
    assert beats == sorted(beats)
    assert len(set(beats)) == len(beats), "no batch without progress"


def test_without_a_heartbeat_silence_ends_with_what_was_read(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("silence", partitions=2)
    produce(broker, "silence", [event(n) for n in range(10)])
    seen = Batches()
    quick = kafka.EventClock(timedelta(milliseconds=200))

    @retry(retry=retry_if_result(lambda enough: not enough), stop=stop_after_delay(60), wait=wait_fixed(0.05))
    def wait_until_shown() -> bool:
        return any(shown(rows) is not None for rows in seen.rows.values())

    with running(read(spark, broker, "silence", quick), tmp_path / "c", seen) as query:
        wait_until_shown()
        produce(broker, "silence", [event(20)])
        query.processAllAvailable()
    assert max(time for rows in seen.rows.values() if (time := shown(rows)) is not None) in {
        START + timedelta(seconds=9),
        START + timedelta(seconds=20),
    }
    assert len(seen.rows) <= 4, "silence is no reason for batches"


@pytest.mark.parametrize(("given", "message"), [({"format": None}, "a format"), ({"streaming": False}, "leave it out")])
def test_a_clock_that_cannot_be_is_refused(spark: SparkSession, broker: Broker, given: dict[str, object], message: str) -> None:
    arguments = {"format": FORMAT, "clock": PATIENT, **given}
    with pytest.raises(SettingsError, match=message):
        kafka.read(spark, bootstrap_servers=broker.bootstrap_servers, topics="clock", **arguments)  # type: ignore[arg-type]
