"""A batch of rows meets a table of a million: `lookup` beside Spark's broadcast join, the table kept in memory or read each time.

The ways take turns; ratios are medians over turns. The first batch, in which the copy is made, is told apart. `lookup_keys` reads the same
table by the keys of the batch, and is shown beside them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Final

import typer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.measure import machine, median_ratio
from spark_ext.joins.lookup import lookup
from spark_ext.joins.lookup_history import lookup_history
from spark_ext.joins.lookup_keys import lookup_keys
from spark_ext.session import spark_session

GOAL: Final = 0.8
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def tables(spark: SparkSession, folder: Path, keys: int, rows: int) -> tuple[DataFrame, DataFrame]:
    """Make the table, clustered by key, and a persisted batch in which one row of a thousand meets nothing."""
    named = spark.range(keys).select(
        F.col("id").alias("key"),
        F.concat(F.lit("name "), F.col("id")).alias("name"),
        (F.col("id") % 97).cast("int").alias("part"),
        F.rand(1).alias("weight"),
        F.timestamp_seconds(F.lit(0)).alias("since"),
    )
    named.repartitionByRange(8, "key").write.format("delta").save(str(folder / "named"))
    batch = spark.range(rows, numPartitions=2).select(
        F.pmod(F.xxhash64("id"), F.lit(keys + keys // 1000)).alias("key"), "id", F.rand(2).alias("a"), F.rand(3).alias("b"),
        F.concat(F.lit("t"), F.col("id")).alias("text"), F.timestamp_seconds("id").alias("at"),
    ).persist()  # fmt: skip
    batch.count()
    return read(spark, folder), batch


def read(spark: SparkSession, folder: Path) -> DataFrame:
    """Return the table at its version, as an epoch does."""
    return spark.read.format("delta").option("versionAsOf", 0).load(str(folder / "named"))


def took_ms(frame: Callable[[], DataFrame]) -> float:
    """Plan and run a join, its rows going nowhere."""
    begin = time.perf_counter()
    frame().write.format("noop").mode("overwrite").save()
    return 1000 * (time.perf_counter() - begin)


@app.command()
def main(
    keys: Annotated[int, typer.Option(help="Rows of the table.")] = 1_000_000,
    rows: Annotated[int, typer.Option(help="Rows of a batch.")] = 100_000,
    turns: Annotated[int, typer.Option(help="Turns of each way.")] = 7,
) -> None:
    """Compare."""
    spark = spark_session("lookup", master="local[2]", conf={"spark.ui.enabled": "false"})
    with TemporaryDirectory() as name:
        table, batch = tables(spark, Path(name), keys, rows)
        kept = read(spark, Path(name)).persist()
        kept.count()
        few = batch.limit(200).persist()
        few.count()
        ways: dict[str, Callable[[], DataFrame]] = {
            "lookup": lambda: lookup(batch, table, on="key"),
            "lookup_history": lambda: lookup_history(batch, table, on="key", event_time="at", valid_from="since", valid_to=None),
            "broadcast, kept": lambda: batch.join(F.broadcast(kept), "key", "left"),
            "broadcast, read": lambda: batch.join(F.broadcast(read(spark, Path(name))), "key", "left"),
            "lookup_keys": lambda: lookup_keys(batch, table, on="key"),
            "lookup_keys, 200": lambda: lookup_keys(few, table, on="key"),
        }
        first = {way: took_ms(made) for way, made in ways.items()}
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(turns):
            for way, made in ways.items():
                times[way].append(took_ms(made))
    typer.echo(machine())
    for way, found in times.items():
        ratio = median_ratio(times["broadcast, kept"], found)
        typer.echo(f"{way:>18}: first {first[way]:7,.0f} ms, then {statistics.median(found):7,.0f} ms, {ratio:5.2f} of a broadcast join")
    spark.stop()
    ours = median_ratio(times["broadcast, kept"], times["lookup"])
    typer.echo(f"lookup is {ours:.2f} as fast as the broadcast join; wanted {GOAL}")
    raise typer.Exit(0 if ours >= GOAL else 1)


if __name__ == "__main__":
    app()
