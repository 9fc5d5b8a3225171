"""Windowed counts and sums over keyed state, beside Spark's own: wall and CPU of a batch, state, ratios within one session.

Variants take turns; each turn is a query of its own with a fresh checkpoint on RocksDB. Event time advances by a batch's span with each
batch, and one row in a hundred comes a minute late: ours keeps those, Spark's own operator drops them.
"""

from __future__ import annotations

import statistics
from datetime import timedelta
from functools import partial
from typing import Annotated

import typer

from benchmarks.measure import machine
from benchmarks.state.run import Cost, Load, measure, session
from benchmarks.state.variants import VARIANTS, Task

HEADING = (
    ("", 14), ("keys", 12), ("rows", 11), ("ms", 9), ("CPU s", 8), ("k rows/s", 10), ("state rows", 12), ("MB", 8), ("B/group", 9),
    ("B/key", 8), ("to spark", 10), ("by CPU", 8),
)  # fmt: skip
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    keys: Annotated[list[int] | None, typer.Option(help="how many keys; may be given again")] = None,
    rows: Annotated[list[int] | None, typer.Option(help="rows of a batch; may be given again")] = None,
    only: Annotated[list[str] | None, typer.Option(help=f"one of {', '.join(VARIANTS)}; may be given again")] = None,
    length: Annotated[float, typer.Option(help="seconds of a window")] = 10.0,
    every: Annotated[float | None, typer.Option(help="seconds between windows; default the length")] = None,
    span: Annotated[float, typer.Option(help="seconds of event time in a batch")] = 5.0,
    lateness: Annotated[float, typer.Option(help="seconds that the watermark stays behind")] = 10.0,
    batches: Annotated[int, typer.Option(help="batches that count, per turn")] = 8,
    warm: Annotated[int, typer.Option(help="batches before them")] = 4,
    turns: Annotated[int, typer.Option(help="turns of each variant")] = 2,
    buckets: Annotated[int | None, typer.Option(help="of ours; default by the rule")] = None,
    prefilled: Annotated[bool, typer.Option("--prefilled", help="touch every key once before measuring")] = False,
) -> None:
    """Print a line per variant and size, and ratios to Spark's own operator."""
    print(machine())
    spark = session()
    names = only or ["spark", "millrace"]
    print(f"windows of {length:g} s every {every or length:g} s, {span:g} s of event time a batch, watermark {lateness:g} s behind")
    print("".join(f"{name:>{width}}" for name, width in HEADING))
    for size in rows or [500_000]:
        for many in keys or [1_000, 100_000, 1_000_000]:
            task = Task(timedelta(seconds=length), timedelta(seconds=every or length), many, buckets)
            load = Load(size, many, span, lateness, prefilled)
            found: dict[str, list[Cost]] = {name: [] for name in names}
            print(f"rows of a batch, checksum {load.checksum(spark)}")
            for _ in range(turns):
                for name in names:
                    found[name].append(measure(spark, partial(VARIANTS[name], task=task), load, batches=batches, warm=warm))
            for name in names:
                _print(name, found[name], found.get("spark"), many, size)


def _print(name: str, costs: list[Cost], base: list[Cost] | None, keys: int, rows: int) -> None:
    wall, cpu = _median(costs, "wall_ms"), _median(costs, "cpu_s")
    ratio = f"{_median(base, 'wall_ms') / wall:10.2f}{_median(base, 'cpu_s') / cpu:8.2f}" if base else ""
    last = costs[-1]
    size = "".join(f"{'-' if one is None else f'{one:.1f}':>{width}}" for one, width in ((last.group_bytes, 9), (last.key_bytes, 8)))
    state = f"{last.state_rows:12,}{last.state_bytes / 2**20:8.1f}{size}"
    print(f"{name:14}{keys:12,}{rows:11,}{wall:9.0f}{cpu:8.2f}{rows / wall:10.0f}{state}{ratio}", flush=True)


def _median(costs: list[Cost], name: str) -> float:
    return float(statistics.median(getattr(one, name) for one in costs))


if __name__ == "__main__":
    app()
