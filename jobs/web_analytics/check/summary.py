"""The proof on one screen: the sum of all rows, what was compared, and each approximate answer with how often it was off."""

from __future__ import annotations

from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from jobs.web_analytics.check.claims import ALWAYS
from jobs.web_analytics.check.proof import Result

__all__ = ["summarise"]

SHOWN: Final = 20


def summarise(result: Result, *, console: Console | None = None) -> None:
    """Print what was compared, and the first differences."""
    screen = console or Console()
    steps = Table(title="Recomputed with pandas: must be equal", box=SIMPLE_HEAD)
    steps.add_column("compared")
    for name in ("rows", "differences"):
        steps.add_column(name, justify="right")
    for step in result.steps:
        steps.add_row(step.name, f"{step.compared:,}", _coloured(len(step.mismatches), 0))
    screen.print(steps)
    claims = Table(title="Approximate answers: exact ones must be within their bounds", box=SIMPLE_HEAD)
    claims.add_column("question")
    for name in ("holds", "answers", "outside", "may be", "error", "worst"):
        claims.add_column(name, justify="right", no_wrap=True)
    for claim in result.claims:
        promised = "always" if claim.confidence == ALWAYS else f"{claim.confidence:.0%}"
        outside = _coloured(claim.outside, claim.allowed)
        most = "any" if 0 < claim.rows == claim.allowed else f"{claim.allowed:,}"
        claims.add_row(claim.name, promised, f"{claim.rows:,}", outside, most, f"{claim.median_error:.1%}", f"{claim.worst_error:.0%}")
    claims.caption = (
        "error: median, relative to the exact number. may be: more than that would happen once in a million times; any: groups have "
        "visitors in common, and err together, so wider bounds of all of them must hold that fail once in a million times"
    )
    screen.print(claims)
    total = sum(result.fates.values())
    parts = " + ".join(f"{count:,} {fate}" for fate, count in result.fates.items())
    screen.print(f"{result.records:,} broker rows {'=' if total == result.records else '≠'} {parts}", soft_wrap=True)
    if result.ok:
        screen.print(f"[bold green]all {len(result.steps)} comparisons equal, all {len(result.claims)} claims hold[/]")
        return
    for text in result.mismatches[:SHOWN]:
        screen.print(text, style="red", markup=False, highlight=False, soft_wrap=True)
    more = len(result.mismatches) - SHOWN
    if more > 0:
        screen.print(f"and {more:,} more", style="red")


def _coloured(number: int, most: int) -> str:
    return f"[{'green' if number <= most else 'red'}]{number:,}[/]"
