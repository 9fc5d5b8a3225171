"""Run one variant as a stream of equal batches, and say what a batch costs."""

from __future__ import annotations

import shutil
import statistics
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.errors import StateError
from spark_ext.session import spark_session
from spark_ext.state import inspect

LATE = 0.01  # share of rows that are a minute behind
START_MS = 1_600_000_000_000


def session() -> SparkSession:
    """A session for streams of equal batches: each is in the progress, and none comes without rows."""
    settings = {
        "spark.driver.memory": "6g",
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
        "spark.sql.streaming.numRecentProgressUpdates": "100000",
    }
    spark = spark_session("benchmark", master="local[2]", conf=settings)
    spark.sparkContext.setLogLevel("OFF")
    return spark


@dataclass(frozen=True, slots=True)
class Load:
    """A stream: how many rows a batch has, of how many keys, over how much event time. Seeded by the row's number."""

    rows: int
    keys: int
    span_s: float
    lateness_s: float
    prefilled: bool

    def stream(self, spark: SparkSession, rows: int) -> DataFrame:
        ms = max(1, round(self.span_s * 1000 * rows / self.rows))
        source = (
            spark.readStream.format("rate-micro-batch")
            .option("rowsPerBatch", rows)
            .option("numPartitions", 2)
            .option("startTimestamp", START_MS)
            .option("advanceMillisPerBatch", ms)
            .load()
        )
        return self._rows_of(source, ms).withWatermark("ts", f"{self.lateness_s} seconds")

    def checksum(self, spark: SparkSession) -> str:
        """Return a fold of the hashes of the first batch's rows."""
        numbers = spark.range(self.rows).select(F.col("id").alias("value"), F.timestamp_millis(F.lit(START_MS)).alias("timestamp"))
        folded = self._rows_of(numbers, max(1, round(self.span_s * 1000))).agg(F.bit_xor(F.xxhash64("k", "ts", "v")))
        return f"{folded.head()[0] & (2**64 - 1):016x}"  # type: ignore[index] (an aggregate has a row)

    def _rows_of(self, source: DataFrame, ms: int) -> DataFrame:
        drawn = F.pmod(F.xxhash64("value"), F.lit(self.keys))
        # Filling touches every key once.
        key = F.when(F.col("value") < self.keys, F.col("value")).otherwise(drawn) if self.prefilled else drawn
        jitter = F.pmod(F.xxhash64("value", F.lit(7)), F.lit(ms * 1000))
        behind = F.when(F.pmod(F.xxhash64("value", F.lit(8)), F.lit(10_000)) < int(LATE * 10_000), 60_000_000).otherwise(0)
        at = F.timestamp_micros(F.unix_micros("timestamp") + jitter - behind)
        return source.select(key.alias("k"), at.alias("ts"), F.pmod("value", F.lit(100)).alias("v"))


@dataclass(frozen=True, slots=True)
class Cost:
    """Median of a batch, and the state after the last one.

    `group_bytes` and `key_bytes` are what a group and a key take in our blobs; null for other operators.
    """

    wall_ms: float
    cpu_s: float
    state_rows: int
    state_bytes: int
    group_bytes: float | None
    key_bytes: float | None


def measure(
    spark: SparkSession, build: Callable[[DataFrame], DataFrame], load: Load, *, batches: int, warm: int, mode: str = "append"
) -> Cost:
    """Run `warm` batches, then `batches` that count."""
    folder = tempfile.mkdtemp(prefix="millrace-state-")
    try:
        if load.prefilled:
            _batches(spark, build(load.stream(spark, 1_000_000)), folder, -(-load.keys // 1_000_000), mode)
        progress, cpu_s = _batches(spark, build(load.stream(spark, load.rows)), folder, batches, mode, skip=warm)
        group_bytes, key_bytes = _blob_bytes(spark, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    state = progress[-1]["stateOperators"][0]
    return Cost(
        statistics.median(one["durationMs"]["triggerExecution"] for one in progress),
        cpu_s / len(progress),
        state["numRowsTotal"],
        state["memoryUsedBytes"],
        group_bytes,
        key_bytes,
    )


def _blob_bytes(spark: SparkSession, folder: str) -> tuple[float | None, float | None]:
    try:
        found = inspect.buckets(spark, folder).agg(F.sum("bytes"), F.sum(F.col("rows")["groups"]), F.sum("keys")).head()
    except StateError:  # another operator's
        return None, None
    size, groups, keys = found or (0, 0, 0)
    return (size / groups if groups else None), (size / keys if keys else None)


def _batches(spark: SparkSession, rows: DataFrame, folder: str, count: int, mode: str, *, skip: int = 0) -> tuple[list[Any], float]:
    query = rows.writeStream.format("noop").outputMode(mode).option("checkpointLocation", folder).start()
    pause, began = threading.Event(), 0.0  # never set: waits on it are pauses
    try:
        while True:
            done = [one for one in query.recentProgress if one["numInputRows"]]
            if not began and len(done) >= skip:
                began, skip = cpu_seconds(), len(done)
                count += skip
            elif began and len(done) >= count:
                return done[skip:], cpu_seconds() - began
            failure = query.exception()
            if failure is not None:
                raise failure
            pause.wait(0.02)
    finally:
        query.stop()


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and everything below it that runs."""
    total = 0.0
    me = psutil.Process()
    for one in [me, *me.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total
