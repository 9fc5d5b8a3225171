"""Where and when do flights from New York run late? Tables and a plot, read from the job's Delta tables."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd
from deltalake import DeltaTable
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

__all__ = ["PLOT", "delay_by_hour", "report"]

NEW_YORK: Final = "America/New_York"
PLOT: Final = "delays_by_hour.png"
BUSIEST: Final = 10
WIDEST: Final = 110
COUNTS: Final = ("read", "accepted", "late", "dead")
HOUR: Final = 60
HOUR_MS: Final = 3_600_000
FEWEST_FLIGHTS: Final = 50  # a mean over fewer says nothing
INK, GRID = "#333333", "#dddddd"
COLOURS: Final = {"EWR": "#0072b2", "JFK": "#d55e00", "LGA": "#009e73"}  # distinct also to the colour-blind


def report(out: Path, *, console: Console | None = None) -> None:
    """Print the busiest routes, an overview of the airports, what came after its day and the ledger; save ``delays_by_hour.png``.

    Parameters
    ----------
    out : Path
        The job's folder. Only its tables are read; the plot is written beside them.
    console : rich.console.Console, optional
        Where to print; standard output if None.
    """
    screen = console or Console()
    screen.print(_routes_table(_read(out, "routes", None), width=screen.width))
    screen.print(_airports_table(_read(out, "hourly_departures", None)))
    screen.print(_late_table(_read(out, "late_for_days", None)))
    screen.print(_ledger_table(_read(out, "ledger", ["pipeline", *COUNTS, "is_balanced"])))
    events = _read(out, "flight_events", ["event", "scheduled_time", "origin", "delay_minutes"])
    file = out / PLOT
    _plot(delay_by_hour(events), file)
    screen.print(f"delays by hour of day: {file}", soft_wrap=True)


def delay_by_hour(events: pd.DataFrame) -> pd.DataFrame:
    """Return the mean departure delay by scheduled hour of day in New York.

    Parameters
    ----------
    events : DataFrame
        ``event``, ``scheduled_time`` (UTC), ``origin``, ``delay_minutes``.

    Returns
    -------
    DataFrame
        Index: hour 0 to 23; one column per origin; NaN where fewer than 50 flights left.
    """
    left = events[events["event"] == "departure"]
    # By scheduled hour: those who leave at 2 a.m. are all late, but that is not the hour's fault.
    hour = left["scheduled_time"].dt.tz_convert(NEW_YORK).dt.hour.rename("hour")
    delays = left["delay_minutes"].astype("float64").groupby([hour, left["origin"]])
    means = delays.mean().where(delays.count() >= FEWEST_FLIGHTS).unstack("origin")
    return means.dropna(how="all")


def _read(out: Path, name: str, columns: list[str] | None) -> pd.DataFrame:
    frame: pd.DataFrame = DeltaTable(str(out / "tables" / name)).to_pyarrow_table(columns=columns).to_pandas()
    return frame


def _routes_table(routes: pd.DataFrame, *, width: int) -> Table:
    table = Table(title="The ten busiest routes", box=SIMPLE_HEAD, width=min(width, WIDEST))
    table.add_column("route", no_wrap=True)
    table.add_column("destination", no_wrap=True, ratio=1)  # the two names share what room there is
    table.add_column("airline", no_wrap=True, ratio=1)
    for name in ("departures", "cancelled", "mean"):
        table.add_column(name, justify="right", no_wrap=True)
    busiest = routes.sort_values(["departures", "origin", "dest"], ascending=[False, True, True]).head(BUSIEST)
    for row in busiest.to_dict("records"):
        table.add_row(
            f"{row['origin']}-{row['dest']}",
            row["destination"],
            row["airline"],
            f"{row['departures']:,}",
            _share(row["cancelled"], row["departures"]),
            _minutes(row["mean_arrival_delay_minutes"]),
        )
    table.caption = "delay on arrival; cancelled: share of all scheduled"
    return table


def _airports_table(hours: pd.DataFrame) -> Table:
    table = Table(title="The three airports", box=SIMPLE_HEAD)
    table.add_column("airport")
    for name in ("departures", "cancelled", "mean", "worst", "worst hour"):
        table.add_column(name, justify="right", no_wrap=True)
    for origin, ours in hours.groupby("origin"):
        departures = int(ours["departures"].sum())
        mean = (ours["mean_delay_minutes"] * ours["departures"]).sum() / max(1, departures)
        worst = ours.nlargest(1, "cancelled").to_dict("records")[0]
        table.add_row(
            str(origin),
            f"{departures:,}",
            _share(int(ours["cancelled"].sum()), departures),
            _minutes(mean),
            _minutes(ours["worst_delay_minutes"].max()),
            f"{worst['window_start'].tz_convert(NEW_YORK):%d %b %H:00} ({worst['cancelled']})",
        )
    table.caption = "delay on departure; worst hour: most flights cancelled (New York time)"
    return table


def _late_table(late: pd.DataFrame) -> Table:
    table = Table(title="Too late for their day", box=SIMPLE_HEAD)
    table.add_column("airport")
    for name in ("late rows", "departures", "cancelled", "worst lateness", "its day"):
        table.add_column(name, justify="right", no_wrap=True)
    for origin, ours in late.groupby("origin"):
        worst = ours.nlargest(1, "lateness_ms").to_dict("records")[0]
        left = int((ours["event"] == "departure").sum())
        behind = f"{worst['lateness_ms'] / HOUR_MS:.1f} h"
        table.add_row(str(origin), f"{len(ours):,}", f"{left:,}", f"{len(ours) - left:,}", behind, f"{worst['day']:%d %b}")
    table.caption = "kept in late_for_days; lateness: from the event to the watermark" if len(late) else "none"
    return table


def _ledger_table(ledger: pd.DataFrame) -> Table:
    table = Table(title="The ledger", box=SIMPLE_HEAD)
    table.add_column("pipeline")
    for name in ("epochs", *COUNTS, "balanced"):
        table.add_column(name, justify="right", no_wrap=True)
    for pipeline, ours in ledger.groupby("pipeline"):
        counts = [f"{int(ours[name].sum()):,}" for name in COUNTS]
        table.add_row(str(pipeline), f"{len(ours):,}", *counts, f"{int(ours['is_balanced'].sum()):,}")
    table.caption = "rows read, and what became of them; hours and routes read a table"
    return table


def _share(cancelled: int, departures: int) -> str:
    return f"{cancelled / max(1, cancelled + departures):.1%}"


def _minutes(number: float) -> str:
    if pd.isna(number):
        return "-"
    return f"{number:,.0f} min" if number >= HOUR else f"{number:.1f} min"


def _plot(means: pd.DataFrame, file: Path) -> None:
    # Not pyplot: it keeps global state and looks for a screen.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 (slow, and only the demo has it)
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(9, 4.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for origin in means.columns:
        line = means[origin].dropna()
        axes.plot(line.index, line.to_numpy(), color=COLOURS.get(origin, INK), linewidth=2.2, marker="o", markersize=4, label=origin)
    axes.set_title("How late flights leave New York, by hour of day, 2013", loc="left", color=INK, fontsize=13)
    axes.set_xlabel("scheduled departure, local hour", color=INK)
    axes.set_ylabel("mean departure delay, minutes", color=INK)
    axes.set_xticks(list(means.index), [f"{hour:02d}" for hour in means.index])
    axes.set_ylim(bottom=min(0, float(means.min().min()) - 1))
    axes.grid(axis="y", color=GRID)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0, colors=INK)
    axes.legend(frameon=False, loc="upper left", labelcolor="linecolor")
    figure.savefig(file)
