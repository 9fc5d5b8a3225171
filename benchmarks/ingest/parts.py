"""What the parts of our source cost in one plain process without Spark: fetch, decode, the broker's share, memory.

Run by ``python -m benchmarks.ingest --parts``. All ways are taken in turn, several times over; figures are medians, in us
of CPU per event, threads of the client library included.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

import psutil
from confluent_kafka import Consumer, TopicPartition
from pyspark.sql.types import StringType, StructField, StructType

from benchmarks.ingest.cpu import own_seconds
from benchmarks.ingest.events import FIELDS, PARTITIONS
from benchmarks.ingest.job import Job
from benchmarks.ingest.memory import Memory
from spark_ext.ingest import JsonFormat
from spark_ext.ingest.records import Records
from spark_ext.kafka.fetch import Fetcher, FetchSettings, open_fetcher

__all__ = ["NEEDED", "declared", "read", "topic_fetchers"]

NEEDED: Final = ("ad_id", "event_type", "event_time")
BLOCK_ROWS: Final = 20_000  # as the source
VIEWS: Final = [("event_type", "=", "view")]


def declared(*names: str) -> StructType:
    """Return a schema of required text fields."""
    return StructType([StructField(name, StringType(), nullable=False) for name in names])


def topic_fetchers(job: Job) -> list[Fetcher]:
    """Return a fetcher per partition, with default settings."""
    settings = FetchSettings(bootstrap_servers=job.servers)
    return [open_fetcher(settings, job.topic, partition) for partition in range(PARTITIONS)]


def read(fetchers: list[Fetcher], job: Job, use: Callable[[Records], object]) -> None:
    """Read the topic whole, a partition after the other."""
    end, records = job.events // PARTITIONS, 0
    for fetcher in fetchers:
        fetcher.seek(0)
        while fetcher.position < end:
            block = fetcher.fetch(end, BLOCK_ROWS)
            records += len(block)
            use(block)
    assert records == job.events, f"{records} of {job.events} records"


def read_plainly(consumer: Consumer, job: Job) -> None:
    """Read the topic with confluent-kafka as its users do, as objects."""
    end = job.events // PARTITIONS
    records = size = 0
    for partition in range(PARTITIONS):
        consumer.assign([TopicPartition(job.topic, partition, 0)])
        left = end
        while left:
            messages = consumer.consume(min(10_000, left), 1.0)
            left -= len(messages)
            records += len(messages)
            size += sum(len(message.value() or b"") for message in messages)
    assert records == job.events, f"{records} of {job.events} records"


def main(job: Job, spoiled: Job, broker: psutil.Process, rounds: int) -> None:
    """Measure and print."""
    fetchers, spoiled_fetchers = topic_fetchers(job), topic_fetchers(spoiled)
    plain = Consumer(
        {
            "bootstrap.servers": job.servers,
            "group.id": "parts",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,
            "queued.max.messages.kbytes": 16_384,
        }
    )
    narrow, wide = JsonFormat(declared(*NEEDED)), JsonFormat(declared(*FIELDS))
    three = narrow.decoder().decode
    ways: dict[str, Callable[[], None]] = {
        "confluent-kafka, objects": partial(read_plainly, plain, job),
        "fetch": partial(read, fetchers, job, len),
        "fetch, decode 3 columns": partial(read, fetchers, job, three),
        "  the same, 7 declared": partial(read, fetchers, job, wide.decoder(NEEDED).decode),
        "  2 columns of the views": partial(read, fetchers, job, narrow.decoder(["ad_id", "event_time"], VIEWS).decode),
        "fetch, decode 7 columns": partial(read, fetchers, job, wide.decoder().decode),
        "fetch, 1 % malformed": partial(read, spoiled_fetchers, spoiled, len),
        "  decode 3 columns": partial(read, spoiled_fetchers, spoiled, three),
    }
    own: dict[str, list[float]] = {name: [] for name in ways}
    served: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):  # the first compiles and connects, and is not counted
        for name, way in ways.items():
            cpu, broker_cpu = time.process_time(), own_seconds(broker)
            way()
            if turn:
                own[name].append((time.process_time() - cpu) / job.events * 1e6)
                served[name].append((own_seconds(broker) - broker_cpu) / job.events * 1e6)
    print(f"{'us of CPU per event':28} {'median':>8} {'least':>8} {'most':>8} {'broker':>8}")
    for name, costs in own.items():
        print(f"{name:28} {statistics.median(costs):8.3f} {min(costs):8.3f} {max(costs):8.3f} {statistics.median(served[name]):8.3f}")
    share = statistics.median(served["fetch"]) / statistics.median(served["confluent-kafka, objects"])
    print(f"broker CPU of our fetcher: {share:.2f} of what a plain consumer costs it")


def memory(job: Job) -> None:
    """Print what a worker takes beyond one that has only the imports that every worker of Spark has."""
    file = str(job.save())
    _memory(file)  # compiles, if need be
    bare, worker = _memory(), _memory(file)
    print(f"{'memory in MiB':28} {'RSS':>8} {'PSS':>8} {'private':>8}")
    for name, one in {"worker with imports only": bare, "worker that reads, at most": worker, "more": worker.beyond(bare)}.items():
        print(f"{name:28} {one.rss:8.0f} {one.pss:8.0f} {one.private_dirty:8.0f}")


def _memory(*arguments: str) -> Memory:
    line = [sys.executable, "-m", "benchmarks.ingest.memory", *arguments]
    return Memory.from_text(subprocess.run(line, check=True, capture_output=True, text=True, timeout=600).stdout)


if __name__ == "__main__":
    clean = Job.from_argument()
    main(clean, replace(clean, topic=sys.argv[2]), psutil.Process(int(sys.argv[3])), int(sys.argv[4]))
    memory(clean)
