"""Who visits which page, what is hot, what do sessions look like: what the sketches say, what is true, and the bounds, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd
from deltalake import DeltaTable
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from jobs.web_analytics.check import Result

__all__ = ["report"]

NUMBERS: Final = ("sketch", "exact", "at least", "at most")
COLUMNS: Final = ("estimate", "exact", "lower", "upper")  # of a claim, in the same order
WIDEST: Final = 22  # of a key, so that a table is 80 wide
BUSIEST: Final = 8
FEW: Final = 5
COUNTS: Final = ("read", "accepted", "late", "duplicate", "dead")


def report(out: Path, result: Result, *, console: Console | None = None) -> None:
    """Print the job's answers beside the exact ones of the proof.

    Parameters
    ----------
    out : Path
        The job's folder. Only its tables are read.
    result : Result
        The proof of it.
    console : rich.console.Console, optional
        Where to print; standard output if None.
    """
    screen = console or Console()
    claims = {(claim.name, claim.confidence): claim.frame for claim in result.claims}
    found = {name: frame for (name, _), frame in claims.items()}
    likely = {name: frame for (name, confidence), frame in claims.items() if confidence < 1}
    titles = _titles(out)
    _visitors(screen, found)
    _hot(screen, found, titles)
    _popular(screen, found["weight of a listed page by instant, page"], titles)
    _rest(screen, found, likely)
    _sessions(screen, out, found)
    screen.print(_ledger(_read(out, "ledger", ["pipeline", *COUNTS, "is_balanced"])))


def _visitors(screen: Console, found: dict[str, pd.DataFrame]) -> None:
    hours = found["visitors by hour"]
    screen.print(_table("Distinct visitors by hour", ["hour"], hours.iloc[::3].assign(hour=hours["hour"].dt.strftime("%H:%M"))))
    days = found["visitors by day"].head(1)
    screen.print(_table("Distinct visitors of the day", ["day"], days.assign(day=days["day"].dt.strftime("%d %b %Y"))))
    screen.print(_table("Distinct visitors by section", ["section"], found["visitors by section"].nlargest(BUSIEST, "exact")))
    common = found["visitors in common by section"].nlargest(FEW, "exact")
    screen.print(_table("Visitors that two sections have in common", ["one", "other"], common))


def _hot(screen: Console, found: dict[str, pd.DataFrame], titles: pd.Series) -> None:
    listed = found["views of a listed page by day, page"]
    day = listed[listed["day"] == listed["day"].min()].nlargest(BUSIEST, "estimate")
    screen.print(_table("Hot pages of the day", ["title"], day.assign(title=day["page"].map(titles))))
    listed = found["views of a listed page by minute, page"]
    busiest = listed.groupby("minute")["exact"].sum().idxmax()
    now = listed[listed["minute"] == busiest].nlargest(FEW, "estimate")
    screen.print(_table(f"Hot pages at {busiest:%H:%M}", ["title"], now.assign(title=now["page"].map(titles))))


def _popular(screen: Console, weights: pd.DataFrame, titles: pd.Series) -> None:
    top = weights.sort_values(["instant", "estimate"], ascending=[True, False]).groupby("instant").head(3)
    shown = top.assign(at=top["instant"].dt.strftime("%H:%M"), title=top["page"].map(titles))
    screen.print(_table("Most popular, by views that weigh half after each 10 minutes", ["at", "title"], shown))


def _rest(screen: Console, found: dict[str, pd.DataFrame], likely: dict[str, pd.DataFrame]) -> None:
    spent = found["time spent by day, q"]
    spent = spent[spent["day"] == spent["day"].min()]
    seconds = spent.assign(**{name: spent[name] / 1000 for name in COLUMNS})
    screen.print(_table("Seconds spent on a page, quantiles of the day", ["q"], seconds, digits=1))
    pages = likely["views of any page by hour, country, page"].nlargest(FEW, "exact")
    shown = pages.assign(hour=pages["hour"].dt.strftime("%H:%M"))
    screen.print(_table("Views of a page from a country in an hour", ["hour", "country", "page"], shown))


def _sessions(screen: Console, out: Path, found: dict[str, pd.DataFrame]) -> None:
    shares = found["sessions of one view by hour"].iloc[::4]
    percent = shares.assign(**{name: 100 * shares[name] for name in COLUMNS})
    shown = percent.assign(hour=percent["hour"].dt.strftime("%H:%M"))
    screen.print(_table("Sessions of one view, percent, by a sample of each hour", ["hour"], shown, digits=1))
    sampled = found["views of a sampled session by visitor, window_start"][["visitor", "window_start"]]
    sessions = _read(out, "sessions", ["visitor", "agent", "window_start", "window_end", "views", "pages"])
    some = sessions.merge(sampled.assign(window_start=sampled["window_start"].astype(sessions["window_start"].dtype)))
    table = Table(title="Some of the sampled sessions", box=SIMPLE_HEAD)
    for name in ("visitor", "agent", "began", "views", "pages"):
        table.add_column(name, justify="right" if name in {"views", "pages"} else "left", no_wrap=True)
    for row in some.sort_values("window_start").iloc[:: max(1, len(some) // FEW)].head(FEW).to_dict("records"):
        table.add_row(row["visitor"], row["agent"], f"{row['window_start']:%H:%M:%S}", f"{row['views']:,}", f"{row['pages']:,}")
    screen.print(table)


def _table(title: str, keys: Sequence[str], rows: pd.DataFrame, *, digits: int = 0) -> Table:
    """Return a table of keys and of the sketch's number, the exact one, and the bounds."""
    table = Table(title=title, box=SIMPLE_HEAD)
    for name in keys:
        table.add_column(name, no_wrap=True, max_width=WIDEST)
    lines = [[f"{row[name]:,.{digits}f}" for name in COLUMNS] for row in rows.to_dict("records")]
    for at, name in enumerate(NUMBERS):
        table.add_column(name, justify="right", no_wrap=True, min_width=max([len(name), *(len(line[at]) for line in lines)]))
    table.add_column("holds", min_width=5)
    for row, line in zip(rows.to_dict("records"), lines, strict=True):
        table.add_row(*(str(row[name]) for name in keys), *line, "[green]yes[/]" if row["inside"] else "[yellow]no[/]")
    return table


def _ledger(ledger: pd.DataFrame) -> Table:
    table = Table(title="The ledger", box=SIMPLE_HEAD)
    table.add_column("pipeline", min_width=8)
    for name in ("epochs", *COUNTS, "balanced"):
        table.add_column(name, justify="right", no_wrap=True)
    for pipeline, ours in ledger.groupby("pipeline"):
        counts = [f"{int(ours[name].sum()):,}" for name in COUNTS]
        table.add_row(str(pipeline).removeprefix("web_analytics/"), f"{len(ours):,}", *counts, f"{int(ours['is_balanced'].sum()):,}")
    table.caption = "rows read, and what became of them; sessions read a table"
    return table


def _titles(out: Path) -> Any:
    """Return the title that each page has now."""
    pages = _read(out, "pages", ["page", "title", "is_current"])
    return pages[pages["is_current"].astype(bool)].set_index("page")["title"]


def _read(out: Path, name: str, columns: list[str]) -> pd.DataFrame:
    frame: pd.DataFrame = DeltaTable(str(out / "tables" / name)).to_pyarrow_table(columns=columns).to_pandas()
    return frame
