"""Nexmark's joins over generated events: each query as its chain of epochs, and the operators of some beside Spark's own join.

The events are in Delta tables, a file for each batch, made before anything is measured. *Operator*: both write to nothing, in turns, each
turn with a fresh checkpoint on RocksDB; a batch is the median of those after the first ones. *Chain*: all stages of a query one after the
other, from the start of the first one to the end of the last, sinks and ledger included. Rows/s are of all events, also of those that a
query does not read.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import typer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.measure import machine, median_ratio
from benchmarks.state.run import session
from jobs.nexmark import queries
from jobs.nexmark.batches import append, batches, follow
from jobs.nexmark.events import checksum
from jobs.nexmark.numbering import EventSettings
from jobs.nexmark.queries import Spans
from jobs.nexmark.tables import QUERIES, Place, close_auctions, start
from spark_ext.queries import run

LATENESS = timedelta(seconds=1)
Build = Callable[[SparkSession, str, Spans], DataFrame]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Cost:
    """Median of a batch in ms, rows of state and their bytes after the last one."""

    wall_ms: float
    state_rows: int
    state_bytes: int


def timed(spark: SparkSession, folder: str, *names: str) -> list[DataFrame]:
    found = follow(spark, folder)
    return [found[name].withWatermark("date_time", f"{LATENESS.seconds} seconds") for name in names]


def q3(spark: SparkSession, folder: str, spans: Spans) -> DataFrame:
    found = follow(spark, folder)
    return queries.q3_answer(queries.q3(found["persons"], found["auctions"]))


def spark_q3(spark: SparkSession, folder: str, spans: Spans) -> DataFrame:
    found = follow(spark, folder)
    local = found["persons"].where(F.col("state").isin(*queries.STATES)).select(F.col("id").alias("person"), "name", "city", "state")
    offered = found["auctions"].where(F.col("category") == queries.CATEGORY).select("id", "seller")
    return offered.join(local, F.expr("seller = person")).select("name", "city", "state", "id")


def q8(spark: SparkSession, folder: str, spans: Spans) -> DataFrame:
    persons, auctions = timed(spark, folder, "persons", "auctions")
    return queries.q8_answer(queries.q8(persons, auctions))


def spark_q8(spark: SparkSession, folder: str, spans: Spans) -> DataFrame:
    persons, auctions = timed(spark, folder, "persons", "auctions")
    start_of = F.window("date_time", "10 seconds")["start"]
    left = persons.select("id", "name", "date_time", start_of.alias("window_start"))
    right = auctions.select("seller", F.col("date_time").alias("opened"), start_of.alias("other_start"))
    near = "opened between date_time - interval 10 seconds and date_time + interval 10 seconds"
    return left.join(right, F.expr(f"id = seller and window_start = other_start and {near}"), "left_semi").drop("date_time")


def q20(spark: SparkSession, folder: str, spans: Spans) -> DataFrame:
    bids, auctions = timed(spark, folder, "bids", "auctions")
    return queries.q20_answer(queries.q20(bids, auctions, spans=spans))


def spark_q20(spark: SparkSession, folder: str, spans: Spans) -> DataFrame:
    bids, auctions = timed(spark, folder, "bids", "auctions")
    left = bids.withColumnsRenamed(queries.BID)
    right = auctions.where(F.col("category") == queries.CATEGORY).withColumnsRenamed(queries.AUCTION)
    apart = f"interval {spans.bids // timedelta(milliseconds=1)} milliseconds"
    near = f"auction_date_time between bid_date_time - {apart} and bid_date_time + {apart}"
    return left.join(right, F.expr(f"auction = id and {near}")).drop("id")


OPERATORS: dict[str, dict[str, Build]] = {
    "q3": {"spark": spark_q3, "millrace": q3},
    "q8": {"spark": spark_q8, "millrace": q8},
    "q20": {"spark": spark_q20, "millrace": q20},
}


def measure(frame: DataFrame, warm: int) -> Cost:
    """Take all there is, one file of each table a batch, and write it to nothing."""
    checkpoint = tempfile.mkdtemp(prefix="millrace-nexmark-")
    try:
        writer = frame.writeStream.format("noop").option("checkpointLocation", checkpoint)
        query = writer.trigger(availableNow=True).start()
        query.awaitTermination()
        done = [one for one in query.recentProgress if one["numInputRows"]]
    finally:
        shutil.rmtree(checkpoint, ignore_errors=True)
    state = done[-1]["stateOperators"][0]
    wall = statistics.median(one["durationMs"]["triggerExecution"] for one in done[warm:])
    return Cost(wall, state["numRowsTotal"], state["memoryUsedBytes"])


def chain(spark: SparkSession, query: str, folder: str, spans: Spans) -> tuple[float, int]:
    """Run all stages of a query; return seconds, and rows of the answer."""
    place = Place(folder, spans, LATENESS)
    for name in ("tables", "checkpoints", "control"):
        shutil.rmtree(f"{folder}/{name}", ignore_errors=True)
    began = time.perf_counter()
    for stage in QUERIES[query]:
        run([start(spark, stage, place)])
    if query == "q9":
        close_auctions(spark, place)
        run([start(spark, "q9", place)])
    return time.perf_counter() - began, spark.read.format("delta").load(place.table(query)).count()


@app.command()
def main(
    events: Annotated[int, typer.Option(help="events")] = 1_000_000,
    count: Annotated[int, typer.Option("--batches", help="batches that they come in")] = 10,
    warm: Annotated[int, typer.Option(help="batches that do not count, of the operators")] = 3,
    turns: Annotated[int, typer.Option(help="turns of each operator")] = 3,
    only: Annotated[list[str] | None, typer.Option(help=f"one of {', '.join(QUERIES)}; may be given again")] = None,
    chains: Annotated[bool, typer.Option(help="also the chains of epochs")] = True,
) -> None:
    """Print a line per operator and per chain."""
    print(machine())
    settings = EventSettings(out_of_order=100)
    spans = Spans.of(settings)
    spark = session()
    folder = tempfile.mkdtemp(prefix="millrace-nexmark-")
    size = events // count
    try:
        for number, part in enumerate(batches([size] * count, settings=settings)):
            if not number:
                print(f"{count} batches of {size:,} events, seed {settings.seed}, checksum of the first {checksum(part)}")
            append(part, f"{folder}/events")
        print(f"{'operator':24}{'ms':>8}{'k rows/s':>10}{'state rows':>12}{'MB':>8}{'to spark':>10}")
        for query, variants in OPERATORS.items():
            if only and query not in only:
                continue
            found: dict[str, list[Cost]] = {name: [] for name in variants}
            for _ in range(turns):
                for name, build in variants.items():
                    found[name].append(measure(build(spark, f"{folder}/events", spans), warm))
            for name, costs in found.items():
                _print(f"{query} {name}", size, costs, found["spark"])
        spark.conf.set("spark.sql.streaming.noDataMicroBatches.enabled", "true")  # they close windows
        if chains:
            print(f"{'chain':24}{'s':>8}{'k rows/s':>10}{'stages':>12}{'answer':>18}")
            for query in only or QUERIES:
                seconds, rows = chain(spark, query, folder, spans)
                print(f"{query:24}{seconds:8.1f}{size * count / seconds / 1000:10.0f}{len(QUERIES[query]):12}{rows:18,}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _print(name: str, size: int, costs: list[Cost], base: list[Cost]) -> None:
    wall = statistics.median(one.wall_ms for one in costs)
    ratio = median_ratio([one.wall_ms for one in base], [one.wall_ms for one in costs])
    last = costs[-1]
    print(f"{name:24}{wall:8.0f}{size / wall:10.0f}{last.state_rows:12,}{last.state_bytes / 2**20:8.1f}{ratio:10.2f}", flush=True)


if __name__ == "__main__":
    app()
