"""``python -m jobs.flights.check --out out/flights --bootstrap-servers ...``: exit code 1 if any number differs."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from deltalake.exceptions import DeltaError
from rich.console import Console
from rich.table import Table

from jobs.flights.check.broker import ProofError
from jobs.flights.check.proof import Result, check

SHOWN: Final = 20


def show(result: Result, console: Console) -> None:
    """Print what was compared, the sum of rows, and the first differences."""
    table = Table(title="flights, recomputed with pandas")
    table.add_column("compared")
    table.add_column("rows", justify="right")
    table.add_column("differences", justify="right")
    for step in result.steps:
        colour = "red" if step.mismatches else "green"
        table.add_row(step.name, f"{step.compared:,}", f"[{colour}]{len(step.mismatches):,}[/]")
    console.print(table)
    parts = f"{result.facts:,} facts + {result.dead_letters:,} dead letters + {result.late_rows:,} late rows"
    sign = "=" if result.broker_rows == result.facts + result.dead_letters + result.late_rows else "≠"
    console.print(f"{result.broker_rows:,} broker rows {sign} {parts}")
    if result.ok:
        console.print(f"[bold green]all {result.windows:,} windows and {result.routes:,} routes equal[/]")
        return
    for text in result.mismatches[:SHOWN]:
        console.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    more = len(result.mismatches) - SHOWN
    if more > 0:
        console.print(f"and {more:,} more differences", style="red")


def main() -> int:
    """Run the proof; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.flights.check", description="Prove the flights job's tables with pandas.")
    parser.add_argument("--out", type=Path, required=True, help="the job's folder")
    parser.add_argument("--bootstrap-servers", required=True, help="addresses as host:port, separated by commas")
    parser.add_argument("--topic", default="flights")
    parser.add_argument("--lateness-hours", type=float, default=6.0)
    asked = parser.parse_args()
    console, started = Console(), time.monotonic()
    try:
        with console.status("reading the topic and recomputing every number"):
            result = check(asked.out, asked.bootstrap_servers, asked.topic, lateness=timedelta(hours=asked.lateness_hours))
    except (DeltaError, OSError, ProofError) as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    show(result, console)
    console.print(f"checked in {time.monotonic() - started:.1f} s", style="dim")
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
