"""Compare ways in: CPU per event of the Yahoo query in steady state, over one real broker.

Each way runs at two sizes, each time in processes of its own; start and warm-up cancel in the slope. Every run's answer is
compared with the exact one, window by window.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Final

import psutil
import typer

from benchmarks.ingest import flink_sql, kafka_streams, millrace, millrace_partial, spark_connector
from benchmarks.ingest.cpu import TreeCpu, busy_seconds, own_seconds
from benchmarks.ingest.events import PARTITIONS, SEED, Block, blocks, campaign_of, produce
from benchmarks.ingest.expected import Expected
from benchmarks.ingest.job import Counts, Job
from benchmarks.measure import machine
from spark_ext.broker import Broker

OURS: Final[dict[str, Callable[[Job], Sequence[str]]]] = {
    "spark": spark_connector.command,
    "millrace": millrace.command,
    "millrace-partial": millrace_partial.command,
}
PEERS: Final[dict[str, Callable[[Job], Sequence[str]]]] = {"kafka-streams": kafka_streams.command, "flink-sql": flink_sql.command}
TIMEOUT_S: Final = 1_800.0
SPOILED: Final = 0.01

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Run:
    """What one run cost: CPU seconds of its processes, of JVMs among them, and of the broker; and what share of all cores others took."""

    cpu_s: float
    jvm_s: float
    broker_s: float
    wall_s: float
    others: float


def run(command: Sequence[str], job: Job, broker: psutil.Process) -> Run:
    """Run one variant to its end."""
    began, busy, served = time.perf_counter(), busy_seconds(), own_seconds(broker)
    with Path(job.folder, "log").open("wb") as log:
        process = psutil.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        tree = TreeCpu(psutil.Process(process.pid))
        try:
            tree.run(TIMEOUT_S)
        finally:
            code = process.wait()
    said = Path(job.folder, "log").read_text(encoding="utf-8", errors="replace")
    assert code == 0, f"exit code {code}:\n{said[-4000:]}"
    wall, cpu, broker_s = time.perf_counter() - began, tree.seconds(), own_seconds(broker) - served
    cores = psutil.cpu_count() or 1
    return Run(cpu, tree.seconds("java"), broker_s, wall, (busy_seconds() - busy - cpu - broker_s) / wall / cores)


def difference(found: Counts, expected: Counts) -> str:
    """Say where an answer is wrong; empty if it is exact."""
    wrong = [key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)]
    if not wrong:
        return ""
    first = min(wrong)
    return f"{len(wrong)} of {len(expected)} windows wrong: {first} has {found.get(first)}, should have {expected.get(first)}"


@app.command(help=__doc__)
def main(
    events: Annotated[int, typer.Option(help="events of the short run; a multiple of 20,000")] = 4_000_000,
    events_long: Annotated[int, typer.Option(help="events of the long run")] = 12_000_000,
    batch: Annotated[int, typer.Option(help="events of one micro-batch")] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="pairs of runs per variant; the figure is from the medians")] = 1,
    malformed: Annotated[bool, typer.Option("--malformed", help="spoil 1 % of the records")] = False,
    compression: Annotated[str, typer.Option(help="of the topic's records: none or lz4")] = "none",
    peers: Annotated[bool, typer.Option("--peers", help="also Kafka Streams and Flink SQL; installs them into the cache")] = False,
    only: Annotated[list[str] | None, typer.Option(help=f"one of {', '.join([*OURS, *PEERS])}; may be given again")] = None,
    only_parts: Annotated[bool, typer.Option("--parts", help="measure fetch, decode and memory in one plain process")] = False,
    seed: int = SEED,
) -> None:
    variants = OURS | (PEERS if peers else {})
    if unknown := set(only or variants) - variants.keys():
        message = f"{', '.join(sorted(unknown))}: not one of {', '.join(variants)}; the others need --peers"
        raise typer.BadParameter(message)
    if not only_parts and events_long <= events:
        raise typer.BadParameter("the long run must be longer")
    variants = {name: variants[name] for name in only or variants}
    print(f"{machine()}; seed {seed}")
    with tempfile.TemporaryDirectory(prefix="millrace-ingest-") as scratch, Broker() as broker:
        server = broker.nodes[0].process
        assert server is not None
        if only_parts:
            measure_parts(broker, server.pid, Job(broker.bootstrap_servers, "clean", events, 0, batch, scratch), seed, compression, rounds)
            return
        for command in variants.values():
            command(Job(broker.bootstrap_servers, "", 0, 0, batch, scratch))  # what peers lack is fetched now, or fails now
        jobs, answers = [], []
        for size in (events, events_long):
            topic = f"ads-{size}"
            broker.create_topic(topic, partitions=PARTITIONS)
            expected = Expected(campaign_of(seed))
            fill(broker.bootstrap_servers, topic, blocks(size, seed, SPOILED if malformed else 0.0), compression, expected)
            jobs.append(Job(broker.bootstrap_servers, topic, size, expected.views(), batch, scratch))
            answers.append(expected.counts())
        runs: dict[str, list[list[Run]]] = {name: [[], []] for name in variants}
        wrong = False
        for _ in range(rounds):
            for size, (job, answer) in enumerate(zip(jobs, answers, strict=True)):
                for name, command in variants.items():
                    with tempfile.TemporaryDirectory(dir=scratch) as folder:
                        own = replace(job, folder=folder)
                        own.save_ads(campaign_of(seed))
                        one = run(command(own), own, server)
                        problem = difference(own.load_answer(), answer)
                    wrong |= bool(problem)
                    runs[name][size].append(one)
                    print(
                        f"{name:16} {job.events:>11,} {one.cpu_s:8.1f} s CPU {one.wall_s:7.1f} s wall {one.broker_s:6.1f} s broker "
                        f"{one.others:4.0%} others  {problem or 'exact'}",
                        flush=True,
                    )
        table(runs, events_long - events)
    raise typer.Exit(int(wrong))


def fill(servers: str, topic: str, source: Iterator[Block], compression: str, expected: Expected) -> None:
    """Send the events of one topic and say what they are."""
    checksum = produce(servers, topic, source, compression=compression, seen=expected.add)
    size, mean = expected.records, expected.bytes / expected.records
    print(
        f"{topic}: {size:,} events of {mean:.1f} bytes, {expected.views():,} views to count, {compression}, checksum {checksum}", flush=True
    )


def measure_parts(broker: Broker, server: int, job: Job, seed: int, compression: str, rounds: int) -> None:
    """Measure the parts of our source in a process of their own."""
    for topic, malformed in {"clean": 0.0, "spoiled": SPOILED}.items():
        broker.create_topic(topic, partitions=PARTITIONS)
        fill(job.servers, topic, blocks(job.events, seed, malformed), compression, Expected(campaign_of(seed)))
    line = [sys.executable, "-m", "benchmarks.ingest.parts", str(job.save()), "spoiled", str(server), str(rounds)]
    subprocess.run(line, check=True, timeout=TIMEOUT_S)


def table(runs: dict[str, list[list[Run]]], more: int) -> None:
    """Print the slopes."""
    print(f"\nsteady state over {more:,} events; us of CPU per event")
    print(f"{'':16} {'all':>7} {'JVM':>7} {'rest':>7} {'broker':>7} {'k events per CPU-s':>19} {'to spark':>14}")
    slopes = {
        name: {cost: _slope(sizes, attrgetter(cost), more) for cost in ("cpu_s", "jvm_s", "broker_s")} for name, sizes in runs.items()
    }
    for name, slope in slopes.items():
        whole, jvm, broker = slope.values()
        ratio = f"{slopes['spark']['cpu_s'] / whole:.2f} times" if "spark" in slopes else ""
        print(f"{name:16} {whole:7.2f} {jvm:7.2f} {whole - jvm:7.2f} {broker:7.2f} {1e3 / whole:19,.0f} {ratio:>14}")


def _slope(sizes: list[list[Run]], cost: Callable[[Run], float], more: int) -> float:
    short, long = (statistics.median(map(cost, size)) for size in sizes)
    return (long - short) / more * 1e6


if __name__ == "__main__":
    app()
