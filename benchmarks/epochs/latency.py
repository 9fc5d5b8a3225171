"""How long from an event to a row that a reader sees: JSON through a broker into a table and the ledger, on one machine.

Run by ``python -m benchmarks.epochs.latency measure``. A producer in a process of its own sends at a steady rate. A row is visible when
its epoch is in the ledger. Each row of the table is matched with its epoch by offset, by delta-rs and NumPy; the first part is left out,
as the JVM still compiles. Memory is that of the driver, the JVM and the workers together, at the begin and at the end of the steady part.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from itertools import cycle, islice
from typing import Annotated, Final

import numpy as np
import psutil
import typer
from confluent_kafka import Producer
from deltalake import DeltaTable
from numpy.typing import NDArray

from benchmarks.ingest.events import FIELDS, PARTITIONS, SEED, blocks
from benchmarks.ingest.parts import declared
from benchmarks.measure import machine
from spark_ext import epochs, kafka
from spark_ext.broker import Broker
from spark_ext.ingest import JsonFormat, accepted
from spark_ext.queries import Checkpoint
from spark_ext.session import spark_session

SLICE_S: Final = 0.01
TOPIC: Final = "visible"
NAME: Final = "benchmark/latency"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def produce(servers: str, seconds: float, rate: int) -> None:
    """Send at the rate, in slices of 10 ms."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    values = cycle(next(iter(blocks(20_000, SEED, 0.0))).values)
    clock = threading.Event()
    begun = time.monotonic()
    for number in range(int(seconds / SLICE_S)):
        for value in islice(values, int(rate * SLICE_S)):
            producer.produce(TOPIC, value)
        producer.poll(0)
        clock.wait(max(0.0, begun + (number + 1) * SLICE_S - time.monotonic()))
    assert producer.flush(60) == 0


@app.command()
def measure(
    rate: Annotated[int, typer.Option(help="events per second")] = 50_000,
    seconds: Annotated[float, typer.Option(help="how long")] = 120.0,
    skip: Annotated[float, typer.Option(help="seconds left out at the begin")] = 40.0,
    trigger: Annotated[str, typer.Option(help="time between batches")] = "500 milliseconds",
) -> None:
    """Print age at visibility: median, 99th percentile; memory; and whether every event is there once."""
    print(machine())
    spark = spark_session("latency", master="local[2]", conf={"spark.ui.enabled": "false", "spark.driver.memory": "4g"})
    spark.sparkContext.setLogLevel("OFF")
    form = JsonFormat(declared(*FIELDS))
    memory: list[tuple[float, int]] = []
    with Broker() as broker, tempfile.TemporaryDirectory() as folder:
        broker.create_topic(TOPIC, partitions=PARTITIONS)
        rows = kafka.read(spark, bootstrap_servers=broker.bootstrap_servers, topics=TOPIC, format=form)
        pipeline = epochs.Pipeline(
            Checkpoint.claim(f"{folder}/checkpoint", pipeline=NAME, sources=["topic"]),
            ledger=f"{folder}/ledger",
            sinks={
                "events": epochs.Append(f"{folder}/events", counts_as="accepted"),
                "dead_letters": epochs.Append(f"{folder}/dead_letters", counts_as="dead"),
            },
            on_imbalance="stop",
        )
        query = epochs.start(
            rows,
            lambda epoch: {"events": accepted(epoch.rows), "dead_letters": form.dead_letters(epoch.rows)},
            pipeline=pipeline,
            every=trigger,
        )
        sender = [sys.executable, "-m", "benchmarks.epochs.latency", "produce", broker.bootstrap_servers, str(seconds), str(rate)]
        begun = time.monotonic()
        with subprocess.Popen(sender) as sending:
            while sending.poll() is None:
                threading.Event().wait(5.0)
                memory.append((time.monotonic() - begun, _resident(without=sending.pid)))
        query.spark_query.processAllAvailable()
        query.stop()
        ledger = epochs.Ledger(pipeline.ledger).rows(NAME)
        ages_ms, total = _ages(ledger, DeltaTable(f"{folder}/events"), skip)
    spark.stop()
    sent = int(seconds / SLICE_S) * int(rate * SLICE_S)
    steady = [size for at, size in memory if at >= skip]
    sizes = [row.read for row in ledger if row.read]
    print(
        f"{rate:,} events/s for {seconds:g} s, trigger {trigger}: {total:,} of {sent:,} rows, "
        f"{len(ledger)} epochs of {np.median(sizes):,.0f}; visible after {np.median(ages_ms):.0f} ms median, "
        f"{np.percentile(ages_ms, 99):.0f} ms p99, {ages_ms.max():.0f} ms at most"
    )
    print(
        f"memory {steady[0] / 2**20:,.0f} MiB at {skip:g} s, {steady[-1] / 2**20:,.0f} MiB at the end, {max(steady) / 2**20:,.0f} at most"
    )
    steady_rows = [row for row in ledger if (row.started_at - ledger[0].started_at).total_seconds() >= skip]
    between_ms = np.diff([row.committed_at.timestamp() for row in steady_rows]) * 1000
    print(
        f"between two epochs {np.median(between_ms):.0f} ms median, {np.percentile(between_ms, 99):.0f} ms p99; of an epoch: ",
        end="",
    )
    parts = {name: [row.durations_ms.get(name, 0) for row in steady_rows] for name in ledger[-1].durations_ms}
    print(", ".join(f"{name} {np.median(took):.0f} / {np.percentile(took, 99):.0f}" for name, took in parts.items()))
    slowest = sorted(range(len(between_ms)), key=lambda at: -between_ms[at])[:3]
    print("slowest: " + ", ".join(f"epoch {steady_rows[at + 1].epoch} {between_ms[at]:.0f} ms" for at in slowest))


def _ages(ledger: list[epochs.EpochRow], table: DeltaTable, skip: float) -> tuple[NDArray[np.float64], int]:
    """Return for each event how long it took to be visible, in milliseconds."""
    found = table.to_pyarrow_table(columns=["source"]).column("source").combine_chunks()
    partition, offset = found.field("partition").to_numpy(), found.field("offset").to_numpy()
    made_us = found.field("timestamp").cast("int64").to_numpy()
    visible_us = np.zeros(len(offset), np.int64)
    for number in np.unique(partition):
        ranges = [(one.end, row.committed_at) for row in ledger for one in row.ranges if one.partition == number]
        ends = np.array([end for end, _ in ranges])
        at_us = np.array([int(when.timestamp() * 1e6) for _, when in ranges])
        mine = partition == number
        visible_us[mine] = at_us[np.searchsorted(ends, offset[mine], side="right")]
    steady = made_us >= made_us.min() + int(skip * 1e6)
    return (visible_us - made_us)[steady] / 1000, len(offset)


def _resident(*, without: int) -> int:
    """Return the memory of this process and all below it but the sender, in bytes; shared pages count once per process."""
    me = psutil.Process()
    total = me.memory_info().rss
    for one in me.children(recursive=True):
        try:
            total += 0 if one.pid == without or "kafka.Kafka" in " ".join(one.cmdline()) else one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


if __name__ == "__main__":
    app()
