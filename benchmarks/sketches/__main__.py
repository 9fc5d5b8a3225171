"""Nanoseconds an item (or a merge) on one core, beside Apache DataSketches' binding; ours and the binding take turns.

    python -m benchmarks.sketches

Each figure is the least of several rounds, after one to warm up: what the code costs, not what else the machine did. The ratio is the
median of those of the rounds. The first call is timed in a process of its own, kernels compiled before and kept.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Annotated

import typer
from rich.progress import track

from benchmarks.measure import machine, median_ratio
from benchmarks.sketches.cases import Case, Data, cases

FIRST_CALL = """
import time
begun = time.perf_counter()
import numpy as np
from sketches import HyperLogLog
sketch = HyperLogLog(12)
sketch.update_many(np.arange(1000))
sketch.estimate()
print(time.perf_counter() - begun)
"""
FIRST_CALL_LIMIT_S = 1.0
NS = 1e9

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    items: Annotated[int, typer.Option(help="int64 values; strings are a fifth of them")] = 10_000_000,
    rounds: Annotated[int, typer.Option(help="turns that count")] = 5,
    only: Annotated[str, typer.Option(help="part of a case's name")] = "",
    seed: Annotated[int, typer.Option(help="of all values")] = 1,
) -> None:
    """Print a table in Markdown."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    data = Data.of(items, seed)
    digest = hashlib.sha256(data.uniform.tobytes() + data.zipf.tobytes()).hexdigest()[:16]
    print(f"{machine()}, one core; seed {seed}, {items:,} items, checksum {digest}, best of {rounds}")
    print("\n| what | ns each | binding, ns | times as fast | must reach |\n| --- | --- | --- | --- | --- |")
    for case in track([one for one in cases(data) if only in one.name], console=None, disable=not sys.stderr.isatty()):
        print(line(case, rounds), flush=True)
    if not only:
        took = statistics.median(first_call() for _ in range(rounds))
        held = "" if took < FIRST_CALL_LIMIT_S else ": NOT HELD"
        print(f"\nfirst call in a new process, imports included: {took:.2f} s (limit {FIRST_CALL_LIMIT_S:g} s{held})")


def line(case: Case, rounds: int) -> str:
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds + 1):
        ours.append(seconds(case.ours) / case.items)
        if case.binding is not None:
            theirs.append(seconds(case.binding) / case.binding_items)
    best = NS * min(ours[1:])
    ratio = median_ratio(theirs[1:], ours[1:]) if theirs else None
    goals = []
    if case.limit_ns is not None:
        goals.append(f"{case.limit_ns:g} ns{'' if best <= case.limit_ns else ': NOT HELD'}")
    if case.least_ratio is not None and ratio is not None:
        goals.append(f"{case.least_ratio:g} times{'' if ratio >= case.least_ratio else ': NOT HELD'}")
    cells = [case.name, f"{best:.2f}", f"{NS * min(theirs[1:]):.1f}" if theirs else "", f"{ratio:.1f}" if ratio else "", ", ".join(goals)]
    return f"| {' | '.join(cells)} |"


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def first_call() -> float:
    """Start a Python and return the seconds from before the import of NumPy to the first estimate."""
    return float(subprocess.run([sys.executable, "-c", FIRST_CALL], check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    app()
