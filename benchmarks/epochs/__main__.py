"""What an epoch costs: three small tables, dead letters and the ledger, by the driver's writer and by Spark's, in turns in one session.

Run by ``python -m benchmarks.epochs``. Both do the same epochs of the same rows through the same protocol; only the writer differs.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
from collections.abc import Mapping
from typing import Annotated, Final

import typer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.measure import machine
from benchmarks.state.run import cpu_seconds
from spark_ext import epochs
from spark_ext.epochs.pipeline import DRIVER_ROWS
from spark_ext.queries import Checkpoint
from spark_ext.session import spark_session

WRITERS: Final = {"driver": DRIVER_ROWS, "spark": 0}
SINKS: Final[Mapping[str, epochs.CountsAs]] = {"accepted": "accepted", "late": "late", "duplicates": "duplicate", "dead_letters": "dead"}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    rows: Annotated[int, typer.Option(help="rows of an epoch")] = 4_000,
    each: Annotated[int, typer.Option(help="epochs that count, per turn")] = 15,
    warm: Annotated[int, typer.Option(help="epochs before them")] = 10,
    turns: Annotated[int, typer.Option(help="turns of each writer")] = 2,
) -> None:
    """Print milliseconds and CPU seconds per epoch, of the whole and of its parts."""
    print(machine())
    spark = spark_session("benchmark", master="local[2]", conf={"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "2"})
    spark.sparkContext.setLogLevel("OFF")
    folded = _rows_of(spark.range(rows).withColumnRenamed("id", "value")).agg(F.bit_xor(F.xxhash64("id", "kind", "text"))).head()
    print(f"{rows:,} rows an epoch, checksum {folded[0] & (2**64 - 1):016x}")  # type: ignore[index] (an aggregate has a row)
    found: dict[str, list[epochs.EpochRow]] = {name: [] for name in WRITERS}
    cpu: dict[str, list[float]] = {name: [] for name in WRITERS}
    for _ in range(turns):
        for name, most in WRITERS.items():
            took, cpu_s = _run(spark, rows, most, each=each, warm=warm)
            found[name] += took
            cpu[name].append(cpu_s)
    base = _median_ms(found["spark"])
    for name, took in found.items():
        parts = {part: statistics.median(row.durations_ms.get(part, 0) for row in took) for part in took[0].durations_ms}
        whole = _median_ms(took)
        print(
            f"{name:8}{whole:8.0f} ms an epoch ({whole / base:.2f} of Spark's), {statistics.median(cpu[name]):.2f} CPU s; of it "
            + ", ".join(f"{part} {ms:.0f}" for part, ms in parts.items())
        )


def _rows_of(numbers: DataFrame) -> DataFrame:
    drawn = F.pmod(F.xxhash64("value"), F.lit(100))
    kind = F.when(drawn < 90, "accepted").when(drawn < 94, "late").when(drawn < 97, "duplicates").otherwise("dead_letters")
    return numbers.select(F.col("value").alias("id"), kind.alias("kind"), F.sha2(F.col("value").cast("string"), 256).alias("text"))


def _route(epoch: epochs.Epoch) -> dict[str, DataFrame]:
    return {name: epoch.rows.where(F.col("kind") == name) for name in SINKS}


def _run(spark: SparkSession, rows: int, most: int, *, each: int, warm: int) -> tuple[list[epochs.EpochRow], float]:
    """Run a query of its own until it has done enough; return its epochs and the CPU seconds of one."""
    source = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", rows).option("numPartitions", 2).load()
    pause = threading.Event()  # never set: waits on it are pauses
    with tempfile.TemporaryDirectory() as folder:
        pipeline = epochs.Pipeline(
            Checkpoint.claim(f"{folder}/checkpoint", pipeline="benchmark", sources=["rate"]),
            ledger=f"{folder}/ledger",
            sinks={name: epochs.Append(f"{folder}/{name}", counts_as=kind) for name, kind in SINKS.items()},
            on_imbalance="stop",
            driver_rows=most,
        )
        query = epochs.start(_rows_of(source), _route, pipeline=pipeline, every="0 seconds")
        ledger, began = epochs.Ledger(pipeline.ledger), 0.0
        while len(done := ledger.rows("benchmark")) < warm + each and query.is_active():
            if not began and len(done) >= warm:
                began, first = cpu_seconds(), len(done)
            pause.wait(0.5)
        cpu_s = (cpu_seconds() - began) / (len(done) - first)
        query.stop()
        query.await_end()
    return done[warm : warm + each], cpu_s


def _median_ms(rows: list[epochs.EpochRow]) -> float:
    return statistics.median((row.committed_at - row.started_at).total_seconds() * 1000 for row in rows)


if __name__ == "__main__":
    app()
