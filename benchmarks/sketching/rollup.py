"""Millions of stored sketches rolled up from minutes to days: time and CPU, and what a merge costs beside reading alone."""

from __future__ import annotations

import shutil
import tempfile
from typing import Annotated

import typer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.measure import cost_of, machine
from benchmarks.sketching.variants import floor
from sketches import HyperLogLog
from spark_ext.session import spark_session
from spark_ext.sketching import aggregate, rollup, sketch
from spark_ext.windows import aggregates

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
MINUTES = 1_440
START_S = 1_767_225_600
PART = 1_000_000


@app.command()
def main(
    rows: Annotated[int, typer.Option(help="stored sketches")] = 10_000_000,
    values: Annotated[int, typer.Option(help="values in each")] = 8,
    days: Annotated[int, typer.Option(help="days that they lie in")] = 10,
    rounds: Annotated[int, typer.Option(help="turns that count")] = 2,
) -> None:
    """Make a table of sketches, then print a line for each roll-up."""
    print(machine())
    spark = spark_session("benchmark", master="local[2]", conf={"spark.driver.memory": "8g"})
    spark.sparkContext.setLogLevel("OFF")
    folder = tempfile.mkdtemp(prefix="millrace-rollup-")
    try:
        pages = max(1, rows // (MINUTES * days))
        for start in range(0, rows, PART):
            _table(spark, start, min(start + PART, rows), values, pages).write.format("delta").mode("append").save(folder)
        table = spark.read.format("delta").load(folder)
        size = sum(
            file.size
            for file in spark.read.format("binaryFile").load(f"{folder}/*.parquet").select(F.col("length").alias("size")).collect()
        )
        checked = table.agg(F.bit_xor(F.xxhash64("minute", "page", "visitors"))).head()[0] & (1 << 64) - 1  # type: ignore[index]
        print(f"{table.count():,} sketches of {values} values, {size / rows:.0f} bytes each on disk, checksum {checked:016x}")
        print(f"{'':22}{'groups':>10}{'s':>8}{'CPU s':>8}{'us each':>9}{'over reading':>14}")
        by_day = table.withColumn("day", F.date_trunc("day", "minute"))
        plans = {
            "reading": lambda: floor(table.select("minute", "page", "visitors")),
            "day and page": lambda: rollup(by_day, keys=["day", "page"]),
            "day": lambda: rollup(by_day, keys=["day"]),
        }
        base = 0.0
        for name, plan in plans.items():
            costs = [cost_of(lambda plan=plan: _run(plan())) for _ in range(rounds + 1)][1:]  # type: ignore[misc]
            best = min(costs, key=lambda cost: cost.cpu_s)
            base = base or best.cpu_s
            groups = "-" if name == "reading" else f"{plan().count():,}"
            each, over = best.cpu_s / rows * 1e6, (best.cpu_s - base) / rows * 1e6
            print(f"{name:22}{groups:>10}{best.wall_s:8.2f}{best.cpu_s:8.2f}{each:9.2f}{over:14.2f}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _table(spark: SparkSession, start: int, stop: int, values: int, pages: int) -> DataFrame:
    ids = spark.range(start * values, stop * values, 1, 2)
    number = F.floor(F.col("id") / values)
    minute = F.timestamp_seconds(F.lit(START_S) + F.floor(number / pages) * 60)
    events = ids.select(minute.alias("minute"), (number % pages).alias("page"), F.pmod(F.xxhash64("id"), F.lit(1_000_000)).alias("v"))
    return aggregate(events, keys=["minute", "page"], aggregates={"views": aggregates.count(), "visitors": sketch(HyperLogLog(12), "v")})


def _run(frame: DataFrame) -> None:
    frame.write.format("noop").mode("overwrite").save()


if __name__ == "__main__":
    app()
