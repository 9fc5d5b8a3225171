"""Small batches: does a trigger of 100 ms hold at 10,000 events a second, and how old is an event when its batch is done?

Run by ``python -m benchmarks.ingest.latency [seconds]``. A producer in a process of its own sends at a steady rate; the
query decodes three columns and hands them to the driver. One line at the end; the first half of the batches is left out: the JVM
still compiles.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from itertools import cycle, islice
from threading import Event
from typing import Final

import pyarrow.compute as pc
from confluent_kafka import Producer
from pyspark.sql import DataFrame

from benchmarks.ingest.events import FIELDS, PARTITIONS, SEED, blocks
from benchmarks.ingest.parts import NEEDED, declared
from benchmarks.measure import machine
from spark_ext import kafka
from spark_ext.broker import Broker
from spark_ext.ingest import JsonFormat
from spark_ext.session import spark_session

RATE: Final = 10_000  # events per second
TRIGGER: Final = "100 milliseconds"
SLICE_S: Final = 0.01
TOPIC: Final = "latency"


def produce(servers: str, seconds: float) -> None:
    """Send at the rate, in slices of 10 ms."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 2})
    values = cycle(next(iter(blocks(20_000, SEED, 0.0))).values)
    clock = Event()
    begun = time.monotonic()
    for number in range(int(seconds / SLICE_S)):
        for value in islice(values, int(RATE * SLICE_S)):
            producer.produce(TOPIC, value)
        producer.poll(0)
        clock.wait(max(0.0, begun + (number + 1) * SLICE_S - time.monotonic()))
    assert producer.flush(30) == 0


def main(seconds: float) -> None:
    print(machine())
    spark = spark_session("latency", master="local[2]", conf={"spark.ui.enabled": "false"})
    ages_ms: list[float] = []
    with Broker() as broker, tempfile.TemporaryDirectory() as folder:
        broker.create_topic(TOPIC, partitions=PARTITIONS)
        rows = kafka.read(
            spark, bootstrap_servers=broker.bootstrap_servers, topics=TOPIC, format=JsonFormat(declared(*FIELDS)), columns=NEEDED
        )

        def done(batch: DataFrame, _: int) -> None:
            oldest = pc.min(batch.select("source.timestamp").toArrow().column(0)).as_py()
            if oldest is not None:
                ages_ms.append((datetime.now(UTC) - oldest).total_seconds() * 1000)

        writer = rows.writeStream.foreachBatch(done).option("checkpointLocation", f"{folder}/checkpoint")
        query = writer.trigger(processingTime=TRIGGER).start()
        subprocess.run(
            [sys.executable, "-m", "benchmarks.ingest.latency", "produce", broker.bootstrap_servers, str(seconds)], check=True, timeout=600
        )
        query.processAllAvailable()
        progress = [one for one in query.recentProgress if one["numInputRows"] > 0]
        query.stop()
    spark.stop()
    steady = progress[len(progress) // 2 :]
    took_ms = sorted(one["durationMs"]["triggerExecution"] for one in steady)
    sizes = [one["numInputRows"] for one in steady]
    ages = sorted(ages_ms[len(ages_ms) // 2 :])
    print(
        f"{RATE:,} events/s, trigger {TRIGGER}: {len(steady)} batches of {statistics.median(sizes):,.0f} rows (median), "
        f"batch {statistics.median(took_ms):.0f} ms median, {took_ms[int(len(took_ms) * 0.95)]} ms p95; "
        f"age of the oldest event at the end of its batch {statistics.median(ages):.0f} ms median, {ages[int(len(ages) * 0.95)]:.0f} ms p95"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["produce"]:
        produce(sys.argv[2], float(sys.argv[3]))
    else:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0)
