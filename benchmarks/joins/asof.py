"""The last quote of its key for each trade, a million of both in a batch: `join_asof` beside transport alone and `pandas.merge_asof`.

``transport`` is the same plan with a kernel that keeps nothing and gives out the left rows. ``pandas`` is `merge_asof` over the rows of one
batch in memory, sorted before the clock starts. The three take turns; ratios are medians over turns. Before that one batch is joined as
bounded frames, and has to give what pandas gives.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import pandas as pd
import pyarrow as pa
import typer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.joins.streams import Load
from benchmarks.measure import cost_of, machine, median_ratio
from benchmarks.state.run import Cost, measure, session
from spark_ext.joins.asof_plan import join_asof
from spark_ext.joins.layout import JOINED, LEFT, RIGHT, Layout
from spark_ext.joins.plan import layout_of, run_kernel
from spark_ext.joins.tagged import joined
from spark_ext.state.kernel import EARLIEST, LATEST, Moment, State, Step

HEADING = (("", 12), ("keys", 10), ("trades", 11), ("quotes", 11), ("ms", 8), ("CPU s", 8), ("k rows/s", 10), ("state MB", 10))
MOST_MS = 3_000
MOST_RATIO = 2.0
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

Sides = tuple[DataFrame, DataFrame]


@dataclass(frozen=True)
class Through:
    """A kernel that does nothing but give out the left rows."""

    layout: Layout

    @property
    def operator(self) -> str:
        return "through"

    @property
    def settings(self) -> str:
        return "{}"

    @property
    def in_schemas(self) -> Mapping[str, pa.Schema]:
        return {LEFT: self.layout.left.schema, RIGHT: self.layout.right.schema}

    @property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        return {}

    @property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        return {JOINED: self.layout.out_schema[JOINED]}

    def step(self, state: State, rows: Mapping[str, pa.Table], moment: Moment) -> Step:
        return Step({}, {JOINED: self.layout.rows_of(LEFT, rows[LEFT], self.out_schema[JOINED])}, None)


def millrace(sides: Sides, keys: int) -> DataFrame:
    return join_asof(*sides, on="k", event_time="ts", expected_keys=keys)


def transport(sides: Sides, keys: int) -> DataFrame:
    layout = layout_of(
        *sides, on="k", event_time="ts", how="left", suffix="_right", most_matches=1, earliest=EARLIEST, latest=LATEST
    )  # fmt: skip
    return run_kernel(*sides, Through(layout), layout, expected_keys=keys, buckets=None, control=None)


STREAMS: dict[str, Callable[[Sides, int], DataFrame]] = {"transport": transport, "millrace": millrace}


@app.command()
def main(
    rows: Annotated[int, typer.Option(help="trades of a batch, and as many quotes")] = 1_000_000,
    keys: Annotated[list[int] | None, typer.Option(help="how many keys; may be given again")] = None,
    span: Annotated[float, typer.Option(help="seconds of event time in a batch")] = 10.0,
    lateness: Annotated[float, typer.Option(help="seconds that the watermark stays behind")] = 1.0,
    batches: Annotated[int, typer.Option(help="batches that count, per turn")] = 4,
    warm: Annotated[int, typer.Option(help="batches before them")] = 3,
    turns: Annotated[int, typer.Option(help="turns of each")] = 3,
) -> None:
    """Print a line per variant and number of keys, and whether the aims are met."""
    print(machine())
    spark = session()
    for many in keys or [1_000, 100_000]:
        load = Load(2 * rows, many, span, lateness)
        trades, quotes = (one.toPandas().sort_values("ts", kind="stable") for one in load.bounded(spark))
        print(f"rows of a batch, checksum {load.checksum(spark)}; joined, checksum {_checked(spark, load, trades, quotes)}")
        print("".join(f"{name:>{width}}" for name, width in HEADING))
        found: dict[str, list[Cost]] = {name: [] for name in STREAMS}
        alone = []
        for _ in range(turns):
            for name, build in STREAMS.items():
                found[name].append(measure(spark, partial(build, keys=many), load, batches=batches, warm=warm))  # type: ignore[arg-type]
            alone.append(cost_of(partial(pd.merge_asof, trades, quotes, on="ts", by="k")))
        _print("pandas", many, rows, [one.wall_s * 1000 for one in alone], [one.cpu_s for one in alone], None)
        for name, costs in found.items():
            _print(name, many, rows, [one.wall_ms for one in costs], [one.cpu_s for one in costs], costs[-1].state_bytes)
        ours, theirs = found["millrace"], found["transport"]
        wall = median_ratio([one.wall_ms for one in ours], [a.wall_ms + b.wall_s * 1000 for a, b in zip(theirs, alone, strict=True)])
        cpu = median_ratio([one.cpu_s for one in ours], [a.cpu_s + b.cpu_s for a, b in zip(theirs, alone, strict=True)])
        worst = max(one.wall_ms for one in ours)
        is_met = "yes" if wall <= MOST_RATIO else "NO"
        print(f"{wall:.2f} of transport and pandas together, {cpu:.2f} by CPU; at most {MOST_RATIO:g}: {is_met}")
        print(f"slowest turn {worst:.0f} ms a batch; under {MOST_MS} ms: {'yes' if worst < MOST_MS else 'NO'}", flush=True)


def _checked(spark: SparkSession, load: Load, trades: pd.DataFrame, quotes: pd.DataFrame) -> str:
    """Join one batch as bounded frames, and compare with pandas by count and sum of what trades found; quotes differ in key or time."""
    left, right = load.bounded(spark)
    right = right.groupBy("k", "ts").agg(F.max("v2").alias("v2"))
    distinct = quotes.groupby(["k", "ts"], as_index=False).v2.max().sort_values("ts")
    expected = pd.merge_asof(trades, distinct, on="ts", by="k")
    row = joined(millrace((left, right), load.keys)).agg(F.count("v2"), F.sum(F.col("v1") * F.col("v2")), F.count("*")).head()
    theirs = (int(expected.v2.count()), int((expected.v1 * expected.v2).sum()), len(expected))
    if row is None or tuple(row) != theirs:
        raise SystemExit(f"pandas finds {theirs}, we find {row}")
    return f"{theirs[0]}/{theirs[1]}"


def _print(name: str, keys: int, rows: int, wall_ms: list[float], cpu_s: list[float], state_bytes: int | None) -> None:
    wall, cpu = statistics.median(wall_ms), statistics.median(cpu_s)
    state = f"{'-' if state_bytes is None else f'{state_bytes / 2**20:.1f}':>10}"
    print(f"{name:12}{keys:10,}{rows:11,}{rows:11,}{wall:8.0f}{cpu:8.2f}{2 * rows / wall:10.0f}{state}", flush=True)


if __name__ == "__main__":
    app()
