"""Distinct values per key and window of a stream: ours beside Spark's windowed `hll_sketch_agg`, in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

import typer
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from benchmarks.measure import machine
from benchmarks.state.run import Cost, Load, measure
from sketches import HyperLogLog
from spark_ext import windows
from spark_ext.session import spark_session
from spark_ext.sketching import sketch

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
VALUES = 1_000_000


def _spread(rows: DataFrame) -> DataFrame:
    return rows.withColumn("v", F.pmod(F.xxhash64("ts", "k", "v"), F.lit(VALUES)))


def millrace(rows: DataFrame, length: timedelta, keys: int) -> DataFrame:
    return windows.aggregate(
        _spread(rows),
        keys=["k"],
        event_time="ts",
        window=windows.tumbling(length).without_grace(),
        aggregates={"s": sketch(HyperLogLog(12), "v")},
        columns=[],
        expected_keys=keys,
    )


def spark(rows: DataFrame, length: timedelta, keys: int) -> DataFrame:
    del keys
    span = F.window("ts", f"{length.total_seconds()} seconds")
    return _spread(rows).groupBy("k", span).agg(F.hll_sketch_agg("v", 12).alias("s"))


VARIANTS: dict[str, Callable[[DataFrame, timedelta, int], DataFrame]] = {"spark": spark, "millrace": millrace}


@app.command()
def main(
    keys: Annotated[list[int] | None, typer.Option(help="how many keys; may be given again")] = None,
    rows: Annotated[int, typer.Option(help="rows of a batch")] = 500_000,
    length: Annotated[float, typer.Option(help="seconds of a window")] = 60.0,
    span: Annotated[float, typer.Option(help="seconds of event time in a batch")] = 10.0,
    batches: Annotated[int, typer.Option(help="batches that count, per turn")] = 6,
    warm: Annotated[int, typer.Option(help="batches before them")] = 3,
    turns: Annotated[int, typer.Option(help="turns of each")] = 2,
) -> None:
    """Print a line for each engine and number of keys."""
    print(machine())
    conf = {"spark.sql.streaming.noDataMicroBatches.enabled": "false", "spark.sql.streaming.numRecentProgressUpdates": "100000"}
    session = spark_session("benchmark", master="local[2]", conf={"spark.driver.memory": "6g", **conf})
    session.sparkContext.setLogLevel("OFF")
    print(f"{'':10}{'keys':>10}{'ms':>9}{'CPU s':>8}{'k rows/s':>10}{'state MB':>10}{'to spark':>10}{'by CPU':>8}")
    for many in keys or [10_000]:
        load = Load(rows, many, span, 10.0, prefilled=False)
        print(f"{rows:,} rows a batch, windows of {length:g} s, {span:g} s a batch, checksum {load.checksum(session)}")
        found: dict[str, list[Cost]] = {name: [] for name in VARIANTS}
        for _ in range(turns):
            for name, build in VARIANTS.items():
                plan = lambda stream, build=build, many=many: build(stream, timedelta(seconds=length), many)  # noqa: E731
                found[name].append(measure(session, plan, load, batches=batches, warm=warm))
        base = found["spark"]
        for name, costs in found.items():
            wall, cpu = _median(costs, "wall_ms"), _median(costs, "cpu_s")
            ratios = f"{_median(base, 'wall_ms') / wall:10.2f}{_median(base, 'cpu_s') / cpu:8.2f}"
            print(f"{name:10}{many:10,}{wall:9.0f}{cpu:8.2f}{rows / wall:10.0f}{costs[-1].state_bytes / 2**20:10.1f}{ratios}", flush=True)


def _median(costs: list[Cost], name: str) -> float:
    return float(statistics.median(getattr(cost, name) for cost in costs))


if __name__ == "__main__":
    app()
