"""Exact and approximate deduplication beside Spark's own: rows/s, CPU and state of a stream, and how many new keys are mistaken.

    python -m benchmarks.sketching.dedup

The three take turns, each turn a query of its own with a fresh checkpoint on RocksDB. Keys are texts of 36 bytes; one row in five repeats a
key. The horizon is six batches, and batches count once it is full. Then one pass over a bounded frame in which as many keys as expected lie
within a horizon: keys that got no ``unique`` row are those that were dropped by mistake.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import typer
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.measure import machine
from benchmarks.state.run import START_MS, _batches
from spark_ext.dedup import approx_drop_duplicates, drop_duplicates
from spark_ext.session import spark_session
from spark_ext.state import inspect

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
SPAN_MS = 10_000
HORIZON_BATCHES = 6
HORIZON = timedelta(milliseconds=SPAN_MS * HORIZON_BATCHES)
DELAY = "10 seconds"
REPEATS = 0.2
DISTINCT = 1 - REPEATS + REPEATS**2  # some repeat a number whose row was a repetition itself


@dataclass(frozen=True)
class Turn:
    wall_ms: float
    cpu_s: float
    state_rows: int
    state_bytes: int


@app.command()
def main(
    rows: Annotated[int, typer.Option(help="rows of a batch")] = 200_000,
    rate: Annotated[float, typer.Option(help="false drops")] = 1e-3,
    batches: Annotated[int, typer.Option(help="batches that count, per turn")] = 4,
    turns: Annotated[int, typer.Option(help="turns of each variant")] = 2,
    seeds: Annotated[int, typer.Option(help="bounded frames for the rate")] = 3,
) -> None:
    keys = int(rows * HORIZON_BATCHES * DISTINCT)
    print(f"{machine()}; {rows:,} rows a batch, {keys:,} keys within a horizon, false drops {rate:g}")
    spark = spark_session(
        "benchmark",
        master="local[2]",
        conf={
            "spark.driver.memory": "4g",
            "spark.ui.enabled": "false",
            "spark.sql.streaming.noDataMicroBatches.enabled": "false",
            "spark.sql.streaming.numRecentProgressUpdates": "100000",
        },
    )
    spark.sparkContext.setLogLevel("OFF")
    given = {"keys": ["key"], "event_time": "at", "horizon": HORIZON, "expected_keys": keys}
    variants: dict[str, Callable[[DataFrame], DataFrame]] = {
        "spark": lambda stream: stream.withWatermark("at", f"{HORIZON.seconds} seconds").dropDuplicatesWithinWatermark(["key"]),
        "exact": lambda stream: drop_duplicates(stream.withWatermark("at", DELAY), keep="arrived", **given),  # type: ignore[arg-type]
        "approximate": lambda stream: approx_drop_duplicates(stream.withWatermark("at", DELAY), false_drop_rate=rate, **given),  # type: ignore[arg-type]
    }
    found: dict[str, list[Turn]] = {name: [] for name in variants}
    for _ in range(turns):
        for name, build in variants.items():
            found[name].append(turn(spark, build, rows, batches))
    for name, costs in found.items():
        wall, cpu = (statistics.median(getattr(one, part) for one in costs) for part in ("wall_ms", "cpu_s"))
        state = costs[-1].state_bytes
        print(
            f"{name:12}{rows / wall:8.0f} k rows/s{1e6 * cpu / rows:8.2f} us of CPU a row{state:14,} bytes, {state / keys:.1f} a key",
            flush=True,
        )
    print()
    for seed in range(seeds):
        mistaken(spark, keys, rate, seed, given)


def turn(spark: SparkSession, build: Callable[[DataFrame], DataFrame], rows: int, batches: int) -> Turn:
    folder = tempfile.mkdtemp(prefix="millrace-dedup-")
    try:
        source = (
            spark.readStream.format("rate-micro-batch")
            .options(rowsPerBatch=rows, numPartitions=2, startTimestamp=START_MS, advanceMillisPerBatch=SPAN_MS)
            .load()
        )
        stream = rows_of(source, F.col("value"), F.unix_micros("timestamp"), rows, 0)
        progress, cpu_s = _batches(spark, build(stream), folder, batches, "append", skip=HORIZON_BATCHES + 2)
        state = progress[-1]["stateOperators"][0]
        size = state["memoryUsedBytes"]
        if state["operatorName"] == inspect.OPERATOR:
            counted = inspect.buckets(spark, folder).agg(F.sum("bytes")).head()
            assert counted is not None
            size = counted[0]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    wall_ms = statistics.median(one["durationMs"]["triggerExecution"] for one in progress)
    return Turn(wall_ms, cpu_s / len(progress), state["numRowsTotal"], size)


def rows_of(source: DataFrame, number: Column, at_us: Column, rows: int, seed: int) -> DataFrame:
    """A row is of a key of its own, or repeats one of the half batch before it; event times are up to a batch ahead."""
    repeats = F.pmod(F.xxhash64(number, F.lit(1)), F.lit(1000)) < int(REPEATS * 1000)
    of = F.greatest(F.when(repeats, number - 1 - F.pmod(F.xxhash64(number, F.lit(2)), F.lit(rows // 2))).otherwise(number), F.lit(0))
    hashed = F.sha1(F.concat_ws("-", F.lit(seed), of))
    at = F.timestamp_micros(at_us + F.pmod(F.xxhash64(number, F.lit(3)), F.lit(SPAN_MS * 1000)))
    return source.select(F.substring(hashed, 1, 36).alias("key"), at.alias("at"), number.alias("n"))


def mistaken(spark: SparkSession, keys: int, rate: float, seed: int, given: dict[str, object]) -> None:
    """Two horizons of keys in one pass."""
    rows = int(2 * keys / DISTINCT)
    per_batch = rows // (2 * HORIZON_BATCHES)
    number = F.col("id")
    at_us = F.lit(START_MS * 1000) + (number / per_batch).cast("bigint") * SPAN_MS * 1000
    frame = rows_of(spark.range(rows), number, at_us, per_batch, seed)
    tagged = approx_drop_duplicates(frame, false_drop_rate=rate, **given)  # type: ignore[arg-type]
    by_key = tagged.groupBy("key").agg(
        F.count_if(F.col("tag") == "unique").alias("unique"), F.bit_xor(F.xxhash64("key", "n", "at")).alias("sum")
    )
    row = by_key.agg(F.count(F.lit(1)), F.count_if(F.col("unique") == 0), F.count_if(F.col("unique") > 1), F.bit_xor("sum")).head()
    assert row is not None
    of, lost, again, folded = row
    print(f"seed {seed}, checksum {folded & (2**64 - 1):016x}: of {of:,} keys {lost:,} mistaken, {lost / of:.2e}, stated {rate:g}")
    assert not again, "a key comes twice within the horizon: no duplicate passes"


if __name__ == "__main__":
    app()
