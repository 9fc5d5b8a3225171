"""Sketches per key of a bounded frame: ours beside the floor, Spark's own and a grouped-aggregate UDF, in turns, in one session.

The floor is what it costs that rows cross to Python: with our session's settings, and as Spark ships.
"""

from __future__ import annotations

import statistics
from typing import Annotated

import typer

from benchmarks.measure import Cost, cost_of, machine, median_ratio
from benchmarks.sketching.rows import checksum, rows_of
from benchmarks.sketching.variants import SPARK, TEMPLATES, Variant, floor, grouped_udf, ours
from spark_ext.session import spark_session

LIMIT = "spark.sql.execution.arrow.maxBytesPerBatch"  # our session switches it off: rows cross in half the time
OURS, SHIPPED = str(2**31 - 1), str(64 << 20)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
HEADING = f"{'':24}{'groups':>10}{'s':>8}{'CPU s':>8}{'M rows/s':>10}{'floor':>10}{'by CPU':>8}{'shipped':>9}{'spark':>10}{'UDF':>8}"


@app.command()
def main(
    rows: Annotated[int, typer.Option(help="rows")] = 20_000_000,
    groups: Annotated[list[int] | None, typer.Option(help="how many keys; may be given again")] = None,
    only: Annotated[list[str] | None, typer.Option(help=f"one of {', '.join(TEMPLATES)}; may be given again")] = None,
    rounds: Annotated[int, typer.Option(help="turns that count")] = 3,
    udf: Annotated[bool, typer.Option(help="also the grouped-aggregate UDF, which takes long")] = True,
) -> None:
    """Print a line per sketch and number of groups; ratios are medians pair by pair."""
    print(machine())
    spark = spark_session("benchmark", master="local[2]", conf={"spark.driver.memory": "8g"})
    spark.sparkContext.setLogLevel("OFF")
    print(HEADING)
    for many in groups or [1_000, 100_000]:
        frame = rows_of(spark, rows, many)
        print(f"{rows:,} rows, {many:,} groups, checksum {checksum(frame)}")
        for name in only or list(TEMPLATES):
            variants: dict[str, Variant] = {"floor": floor, "floor as shipped": floor, "millrace": ours(TEMPLATES[name])}
            variants |= {"spark": SPARK[name]} if name in SPARK else {}
            variants |= {"udf": grouped_udf(TEMPLATES[name])} if udf else {}
            found: dict[str, list[Cost]] = {variant: [] for variant in variants}
            for turn in range(rounds + 1):
                for variant, build in variants.items():
                    spark.conf.set(LIMIT, SHIPPED if variant == "floor as shipped" else OURS)
                    plan = build(frame)
                    cost = cost_of(plan.write.format("noop").mode("overwrite").save)
                    if turn:  # the first one warms up
                        found[variant].append(cost)
            for variant, costs in found.items():
                _print(f"{name} {variant}", many, rows, costs, found)
        frame.unpersist()


def _print(name: str, groups: int, rows: int, costs: list[Cost], found: dict[str, list[Cost]]) -> None:
    wall, cpu = (statistics.median(getattr(cost, part) for cost in costs) for part in ("wall_s", "cpu_s"))
    bases = (("floor", "wall_s"), ("floor", "cpu_s"), ("floor as shipped", "wall_s"), ("spark", "wall_s"), ("udf", "wall_s"))
    ratios = [_ratio(found.get(base), costs, part) for base, part in bases]
    shown = "".join(f"{'-' if one is None else f'{one:.2f}':>{width}}" for one, width in zip(ratios, (10, 8, 9, 10, 8), strict=True))
    print(f"{name:24}{groups:10,}{wall:8.2f}{cpu:8.2f}{rows / wall / 1e6:10.2f}{shown}", flush=True)


def _ratio(base: list[Cost] | None, costs: list[Cost], part: str) -> float | None:
    """How many times as fast as the other one."""
    return median_ratio([getattr(cost, part) for cost in base], [getattr(cost, part) for cost in costs]) if base else None


if __name__ == "__main__":
    app()
