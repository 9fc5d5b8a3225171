"""Two streams joined by us and by Spark's own stream-stream join: wall and CPU of a batch, state, ratios within one session.

Variants take turns; each turn is a query of its own with a fresh checkpoint. Spark's runs on the store that it ships as its default, in
the JVM's memory, and if asked for on RocksDB, as our sessions do; ratios are to the faster. Both sides have as many rows; event time
advances by a batch's span with each batch. ``interval`` looks ahead only, ``two-window`` to both sides.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Annotated

import typer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.measure import machine
from benchmarks.state.run import START_MS, Cost, measure, session
from spark_ext import joins

HEADING = (
    ("", 38), ("how", 7), ("keys", 10), ("rows", 9), ("ms", 8), ("CPU s", 8), ("k rows/s", 10), ("state rows", 12), ("MB", 8),
    ("to spark", 10), ("by CPU", 8),
)  # fmt: skip
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Load:
    """Two streams: rows of a batch over both, keys, and event time of a batch. Seeded by the row's number."""

    rows: int
    keys: int
    span_s: float
    lateness_s: float
    prefilled: bool = False

    def stream(self, spark: SparkSession, rows: int) -> tuple[DataFrame, DataFrame]:
        return self._side(spark, rows // 2, 1), self._side(spark, rows // 2, 2)

    def checksum(self, spark: SparkSession) -> str:
        """A fold of the hashes of the first batch's rows, both sides."""
        sides = zip(self.bounded(spark), ("v1", "v2"), strict=True)
        folded = [side.agg(F.bit_xor(F.xxhash64("k", "ts", value))).head()[0] for side, value in sides]  # type: ignore[index]
        return f"{(folded[0] ^ folded[1]) & (2**64 - 1):016x}"

    def bounded(self, spark: SparkSession) -> tuple[DataFrame, DataFrame]:
        """The first batch of both sides."""
        numbers = spark.range(self.rows // 2).select(F.col("id").alias("value"), F.timestamp_millis(F.lit(START_MS)).alias("timestamp"))
        return self._rows_of(numbers, 1), self._rows_of(numbers, 2)

    def _side(self, spark: SparkSession, rows: int, seed: int) -> DataFrame:
        source = (
            spark.readStream.format("rate-micro-batch")
            .option("rowsPerBatch", rows)
            .option("numPartitions", 2)
            .option("startTimestamp", START_MS)
            .option("advanceMillisPerBatch", round(self.span_s * 1000))
            .load()
        )
        return self._rows_of(source, seed).withWatermark("ts", f"{self.lateness_s} seconds")

    def _rows_of(self, source: DataFrame, seed: int) -> DataFrame:
        key = F.pmod(F.xxhash64("value", F.lit(seed)), F.lit(self.keys))
        jitter = F.pmod(F.xxhash64("value", F.lit(seed + 7)), F.lit(round(self.span_s * 1_000_000)))
        at = F.timestamp_micros(F.unix_micros("timestamp") + jitter)
        return source.select(key.alias("k"), at.alias("ts"), F.pmod("value", F.lit(100)).alias(f"v{seed}"))


@dataclass(frozen=True, slots=True)
class Task:
    """What to join: on ``k``, the right row from `lower_s` to `upper_s` after the left one."""

    how: str
    lower_s: float
    upper_s: float
    keys: int


def millrace(sides: tuple[DataFrame, DataFrame], task: Task) -> DataFrame:
    within = joins.interval(timedelta(seconds=task.lower_s), timedelta(seconds=task.upper_s))
    left, right = sides
    return joins.join(left, right, on="k", event_time="ts", within=within, how=task.how, expected_keys=task.keys)  # type: ignore[arg-type]


def spark_join(sides: tuple[DataFrame, DataFrame], task: Task) -> DataFrame:
    left, right = sides[0].alias("l"), sides[1].alias("r")
    bounds = f"r.ts between l.ts + interval '{task.lower_s}' second and l.ts + interval '{task.upper_s}' second"
    return left.join(right, F.expr(f"l.k = r.k and {bounds}"), task.how)


SPAN_S = 10.0  # of event time in a batch
STORE = "spark.sql.streaming.stateStore"
IN_MEMORY = {
    f"{STORE}.providerClass": "org.apache.spark.sql.execution.streaming.state.HDFSBackedStateStoreProvider",
    f"{STORE}.checkpointFormatVersion": "1",
}
ROCKSDB = "spark, RocksDB"
Build = Callable[[tuple[DataFrame, DataFrame], Task], DataFrame]
# A query takes the session's settings with it when it starts.
VARIANTS: dict[str, tuple[Build, dict[str, str]]] = {
    "spark, memory": (spark_join, IN_MEMORY),
    ROCKSDB: (spark_join, {}),
    "millrace": (millrace, {}),
}


@app.command()
def main(
    rows: Annotated[int, typer.Option(help="rows of a batch, both sides together")] = 200_000,
    batches: Annotated[int, typer.Option(help="batches that count, per turn")] = 3,
    turns: Annotated[int, typer.Option(help="turns of each variant")] = 2,
    how: Annotated[list[str] | None, typer.Option(help="inner, left, ...; may be given again")] = None,
    rocksdb: Annotated[bool, typer.Option(help="also Spark's join on RocksDB, which takes several times as long")] = False,
    only: Annotated[str | None, typer.Option(help="a part of the name of the cases to run")] = None,
) -> None:
    """Print a line per variant and case, and ratios to Spark's own operator."""
    print(machine())
    spark = session()
    ours = {name: spark.conf.get(name) for name in IN_MEMORY}
    variants = [each for each in VARIANTS if rocksdb or each != ROCKSDB]
    print("".join(f"{name:>{width}}" for name, width in HEADING))
    # name, keys, lower and upper bound in seconds, batches before those that count: in ten the state grows to 1 M rows.
    cases = [
        ("interval, 10 k keys", 10_000, 0.0, 1.0, 4),
        ("two-window, 10 k keys", 10_000, -0.5, 0.5, 4),
        ("interval, 1 M rows", 1_000_000, 0.0, 90.0, 10),
        ("two-window, 1 M rows", 1_000_000, -45.0, 45.0, 10),
    ]
    for name, keys, lower, upper, warm in cases:
        if only and only not in name:
            continue
        load = Load(rows, keys, SPAN_S, 5.0)
        print(f"rows of a batch, checksum {load.checksum(spark)}")
        for kind in how or ["inner"]:
            task = Task(kind, lower, upper, keys)
            found: dict[str, list[Cost]] = {each: [] for each in variants}
            for _ in range(turns):
                for each in variants:
                    build, settings = VARIANTS[each]
                    for key, value in {**ours, **settings}.items():
                        spark.conf.set(key, value)  # type: ignore[arg-type]
                    found[each].append(measure(spark, partial(build, task=task), load, batches=batches, warm=warm))  # type: ignore[arg-type]
            theirs = [costs for each, costs in found.items() if each != "millrace"]
            base = min(theirs, key=lambda costs: statistics.median(one.wall_ms for one in costs))
            for each, costs in found.items():
                _print(f"{each}, {name}", costs, base, task, rows)


def _print(name: str, costs: list[Cost], base: list[Cost], task: Task, rows: int) -> None:
    wall, cpu = (float(statistics.median(getattr(one, what) for one in costs)) for what in ("wall_ms", "cpu_s"))
    ratios = [
        statistics.median(getattr(b, what) / getattr(a, what) for a, b in zip(costs, base, strict=True)) for what in ("wall_ms", "cpu_s")
    ]
    last = costs[-1]
    state = f"{last.state_rows:12,}{last.state_bytes / 2**20:8.1f}"
    print(
        f"{name:38}{task.how:7}{task.keys:10,}{rows:9,}{wall:8.0f}{cpu:8.2f}{rows / wall:10.0f}{state}{ratios[0]:10.2f}{ratios[1]:8.2f}",
        flush=True,
    )


if __name__ == "__main__":
    app()
