"""The proof on one screen."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table

from jobs.flights.check.proof import Result

__all__ = ["summarise"]

SHOWN: Final = 20


def summarise(result: Result, *, console: Console | None = None) -> None:
    """Print what was compared, the sum of rows, and the first differences."""
    screen = console or Console()
    table = Table(title="flights, recomputed with pandas")
    table.add_column("compared")
    table.add_column("rows", justify="right")
    table.add_column("differences", justify="right")
    for step in result.steps:
        colour = "red" if step.mismatches else "green"
        table.add_row(step.name, f"{step.compared:,}", f"[{colour}]{len(step.mismatches):,}[/]")
    screen.print(table)
    parts = f"{result.facts:,} facts + {result.dead_letters:,} dead letters + {result.late_rows:,} late rows"
    sign = "=" if result.broker_rows == result.facts + result.dead_letters + result.late_rows else "≠"
    screen.print(f"{result.broker_rows:,} broker rows {sign} {parts}")
    met = result.source
    screen.print(
        f"source: {met['offsets']:,} offsets = {met['read']:,} read + {met['lost']:,} lost + {met['absent']:,} absent; "
        f"{met['read']:,} read = {met['decoded']:,} decoded + {met['dead']:,} dead",
        soft_wrap=True,
    )
    counted = f"{result.in_days:,} in {result.days:,} days of an airport + {result.late_for_days:,} late rows"
    sign = "=" if result.outward == result.in_days + result.late_for_days else "≠"
    unusual = ", ".join(f"{day} has {hours:g} h" for day, hours in result.unusual_days.items()) or "none but of 24 h"
    screen.print(f"{result.outward:,} departures and cancellations {sign} {counted}", soft_wrap=True)
    screen.print(f"days in New York: {unusual}", soft_wrap=True)
    kept = ", ".join(f"{name} {count}" for name, count in sorted(result.epochs.items()))
    balance = "all balance" if not result.unbalanced else f"[red]{result.unbalanced:,} do not balance[/]"
    screen.print(f"ledger: epochs of {kept}; {balance}", soft_wrap=True)
    if result.ok and not result.unbalanced:
        screen.print(f"[bold green]all {result.windows:,} windows and {result.routes:,} routes equal[/]")
        return
    for text in result.mismatches[:SHOWN]:
        screen.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    more = len(result.mismatches) - SHOWN
    if more > 0:
        screen.print(f"and {more:,} more differences", style="red")
