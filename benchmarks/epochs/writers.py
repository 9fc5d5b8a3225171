"""What a commit costs, by both writers: append, upsert and history of batches into a table, and bulk append beside plain Spark.

Writers take turns batch by batch, each with a table of its own and the same rows, seeded. Frames are persisted beforehand, as an
epoch's are, so that a figure is the commit. An upsert's batch has a tenth new keys, the rest are in the table; so has a history's.

    python -m benchmarks.epochs.writers
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import typer
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from benchmarks.measure import Cost, checksum, cost_of, machine, median_ratio
from spark_ext.delta import Txn, append, history, upsert
from spark_ext.session import spark_session

BULK_LIMIT = 1.10
SECOND_US = 1_000_000
START_US = 1_750_000_000 * SECOND_US
WRITERS: dict[str, Callable[..., Any]] = {
    "append": append,
    "upsert": partial(upsert, keys=["key"], sequence="at"),
    "history": partial(history, keys=["key"], sequence="at"),
}
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def batch(seed: int, number: int, rows: int) -> pa.Table:
    """Rows of distinct keys: nine in ten out of those of the batches before, one in ten new; the first batch has none but new ones."""
    dice = np.random.default_rng([seed, number, rows])
    new = rows if number == 0 else rows // 10
    known = rows + (number - 1) * (rows // 10)
    old = np.empty(0, np.int64) if number == 0 else dice.choice(known, rows - new, replace=False)
    keys = np.concatenate([old, np.arange(new) + (0 if number == 0 else known)])
    dice.shuffle(keys)
    at = START_US + number * SECOND_US + dice.integers(0, SECOND_US, rows)
    words = pa.array(np.array(["alpha", "beta", "gamma", "delta"])[dice.integers(0, 4, rows)])
    times = pa.array(at, pa.timestamp("us", "UTC"))
    return pa.table({"key": keys, "at": times, "word": words, "value": dice.random(rows), "count": dice.integers(0, 1000, rows)})


@app.command()
def main(
    rows: Annotated[list[int] | None, typer.Option(help="rows of a batch; may be given again")] = None,
    only: Annotated[list[str] | None, typer.Option(help=f"one of {', '.join(WRITERS)}, bulk; may be given again")] = None,
    batches: Annotated[int, typer.Option(help="batches that count, after one that makes the table and one to warm up")] = 5,
    bulk: Annotated[int, typer.Option(help="rows of a bulk append")] = 2_000_000,
    seed: Annotated[int, typer.Option(help="of all rows")] = 1,
) -> None:
    """Print a line per operation and size, and the ratio of bulk append to plain Spark."""
    print(machine())
    spark = spark_session("writers", master="local[2]", conf={"spark.ui.enabled": "false", "spark.driver.memory": "3g"})
    spark.sparkContext.setLogLevel("OFF")
    names = only or [*WRITERS, "bulk"]
    print(f"seed {seed}; {batches} batches, medians")
    print(f"{'':10}{'rows':>10}{'driver ms':>12}{'CPU ms':>10}{'spark ms':>12}{'CPU ms':>10}{'ratio':>8}{'CPU':>8}   checksum")
    for name in names:
        for size in [] if name == "bulk" else rows or [1_000, 10_000, 100_000]:
            compare(spark, name, size, batches, seed)
    if "bulk" in names:
        compare_bulk(spark, bulk, batches, seed)
    spark.stop()


def compare(spark: SparkSession, name: str, size: int, batches: int, seed: int) -> None:
    spent: dict[str, list[Cost]] = {"driver": [], "spark": []}
    write, sums = WRITERS[name], []
    with tempfile.TemporaryDirectory(prefix="millrace-writers-") as folder:
        paths = {who: str(Path(folder, who)) for who in spent}
        for number in range(batches + 2):
            table = batch(seed, number, size)
            sums.append(table.to_pandas())
            frame = persisted(spark, table)
            txn = Txn("benchmark", number, {"epoch": str(number)})
            given = {"driver": table, "spark": frame}
            for who in sorted(given, reverse=bool(number % 2)):
                cost = cost_of(partial(write, given[who], paths[who], txn=txn))
                if number > 1:
                    spent[who].append(cost)
            frame.unpersist(blocking=True)
        assert len({same(path) for path in paths.values()}) == 1, "the writers left different tables"
    ours, theirs = spent["driver"], spent["spark"]
    times = "".join(f"{wall(one):12.0f}{cpu(one):10.0f}" for one in (ours, theirs))
    ratios = f"{median_ratio([c.wall_s for c in theirs], [c.wall_s for c in ours]):8.1f}"
    ratios += f"{median_ratio([c.cpu_s for c in theirs], [max(c.cpu_s, 0.001) for c in ours]):8.1f}"
    print(f"{name:10}{size:10,}{times}{ratios}   {checksum(pd.concat(sums))}", flush=True)


def compare_bulk(spark: SparkSession, size: int, batches: int, seed: int) -> None:
    """Our append of a frame beside Spark's own with the same transaction."""
    table = batch(seed, 0, size)
    frame = persisted(spark, table)
    spent: dict[str, list[Cost]] = {"ours": [], "plain": []}
    with tempfile.TemporaryDirectory(prefix="millrace-writers-") as folder:
        paths = {who: str(Path(folder, who)) for who in spent}

        def plain(number: int) -> None:
            writer = frame.write.format("delta").mode("append").option("txnAppId", "benchmark").option("txnVersion", number)
            writer.save(paths["plain"])

        for number in range(batches + 2):
            work: dict[str, Callable[[], object]] = {
                "ours": partial(append, frame, paths["ours"], txn=Txn("benchmark", number)),
                "plain": partial(plain, number),
            }
            for who in sorted(work, reverse=bool(number % 2)):
                cost = cost_of(work[who])
                if number > 1:
                    spent[who].append(cost)
        assert DeltaTable(paths["ours"]).count() == DeltaTable(paths["plain"]).count() == size * (batches + 2)
    frame.unpersist(blocking=True)
    ratio = median_ratio([c.wall_s for c in spent["ours"]], [c.wall_s for c in spent["plain"]])
    ratio_cpu = median_ratio([c.cpu_s for c in spent["ours"]], [c.cpu_s for c in spent["plain"]])
    print(
        f"bulk append of {size:,} rows: ours {wall(spent['ours']):.0f} ms, plain Spark {wall(spent['plain']):.0f} ms; "
        f"ratio {ratio:.3f} by time, {ratio_cpu:.3f} by CPU (limit {BULK_LIMIT:.2f}); checksum {checksum(table.to_pandas())}"
    )


def persisted(spark: SparkSession, table: pa.Table) -> DataFrame:
    frame = spark.createDataFrame(table).persist()
    frame.count()
    return frame


def same(path: str) -> str:
    """Return the checksum of a table's rows in one order."""
    table = DeltaTable(path).to_pyarrow_table()
    return checksum(table.sort_by([("key", "ascending"), ("at", "ascending")]).select(sorted(table.column_names)).to_pandas())


def wall(costs: list[Cost]) -> float:
    return 1000 * statistics.median(one.wall_s for one in costs)


def cpu(costs: list[Cost]) -> float:
    return 1000 * statistics.median(one.cpu_s for one in costs)


if __name__ == "__main__":
    app()
