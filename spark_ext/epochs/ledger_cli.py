"""The commands ``millrace ledger show|check|lag``: what became of every row, whether that is so, and what is still to be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import datetime
from itertools import groupby
from typing import Annotated, Any, Final

import pyarrow.compute as pc
import typer
from rich.console import Console
from rich.table import Table

from spark_ext.delta.arrow import read_arrow
from spark_ext.epochs.cli_options import ClientOptions, client_options
from spark_ext.epochs.ledger import COUNTS, EpochRow, Ledger
from spark_ext.epochs.pins import ask_refresh
from spark_ext.epochs.plain import markup
from spark_ext.errors import EpochError
from spark_ext.kafka.options import Place, SourceOptions
from spark_ext.kafka.planner import Planner

__all__ = ["Lag", "app", "lags"]

LOOK_BACK: Final = 100  # epochs, for partitions that the last one does not name
FOUND: Final = 1

app = typer.Typer(help="The ledger: what became of every row that was read.", no_args_is_help=True)

LedgerPath = Annotated[str, typer.Argument(metavar="LEDGER", help="Path of the ledger; the pipelines may be running.")]
PipelineName = Annotated[str | None, typer.Option("--pipeline", help="Only this pipeline.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
TableName = Annotated[str, typer.Argument(help="Name of the table, as in Pipeline(tables=...).")]
Servers = Annotated[str | None, typer.Option(help="Broker to ask as well.")]


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a pipeline is in one partition; `latest` and `lag` are None if nobody knows the end of the partition."""

    pipeline: str
    topic: str
    partition: int
    epoch: int
    end: int
    latest: int | None
    lag: int | None


@app.command()
def show(
    ledger: LedgerPath,
    pipeline: PipelineName = None,
    last: Annotated[int, typer.Option(min=1, help="How many epochs of each pipeline.")] = 20,
    by_sink: Annotated[bool, typer.Option("--by-sink", help="Show how many rows each sink got.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the last epochs with their counts, and whether they balance."""
    rows = [row for name in _names(ledger, pipeline) for row in Ledger(ledger).rows(name, last=last)]
    if as_json:
        typer.echo(json.dumps([_as_dict(row) for row in rows], default=_json))
    else:
        _print_epochs(rows, by_sink=by_sink)


@app.command()
def check(
    ledger: LedgerPath,
    pipeline: PipelineName = None,
    bootstrap_servers: Servers = None,
    option: ClientOptions = None,
    as_json: AsJson = False,
) -> None:
    """Count again, in the tables and at the broker, with readers that share no code with the engine; exit code 1 if something differs."""
    from spark_ext.epochs.recount import check as recount  # noqa: PLC0415 (opens a broker's client, which the others do not need)

    found: list[Any] = []
    names = _names(ledger, pipeline)
    with Console(stderr=True).status("counting again"):
        for name in names:
            found += recount(Ledger(ledger), name, bootstrap_servers=bootstrap_servers, options=client_options(option))
    if as_json:
        typer.echo(json.dumps([_as_dict(one) for one in found], default=_json))
    elif not found:
        Console().print(f"{', '.join(map(markup, names)) or 'no pipeline'}: the ledger is right")
    else:
        fields = list(_as_dict(found[0]))
        table = Table(*fields, title=f"{len(found)} findings")
        for one in found:
            table.add_row(*(markup(_as_dict(one)[field]) for field in fields))
        Console().print(table)
    if any(one.is_fault for one in found):
        raise typer.Exit(FOUND)


@app.command()
def refresh(ledger: LedgerPath, pipeline: Annotated[str, typer.Argument(help="Its name.")], table: TableName) -> None:
    """Let the pipeline's next epoch read the newest version of a table that is refreshed on request."""
    (name,) = _names(ledger, pipeline)
    last = Ledger(ledger).last(name)
    known = {one.name: one for one in last.tables} if last else {}
    if table not in known:
        names = ", ".join(map(repr, known)) or "no tables"
        raise EpochError("refresh", "table", table, expected=f"one that {name!r} reads", got=names, todo="correct its name")
    number = ask_refresh(Ledger(ledger), name, table)
    Console(stderr=True).print(f"request {number}: {markup(table)} is at version {known[table].version} now")


@app.command()
def lag(
    ledger: LedgerPath,
    pipeline: PipelineName = None,
    bootstrap_servers: Servers = None,
    option: ClientOptions = None,
    as_json: AsJson = False,
) -> None:
    """Show how many offsets of each partition are still to be read: as the last epoch knew, or as of now with --bootstrap-servers."""
    found: list[Lag] = []
    for name in _names(ledger, pipeline):
        rows = Ledger(ledger).rows(name, last=LOOK_BACK)
        topics = sorted({one.topic for row in rows for one in row.ranges})
        ends = _ends(bootstrap_servers, topics, client_options(option)) if bootstrap_servers and topics else {}
        found += lags(rows, ends)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found]))
        return
    table = Table("pipeline", "topic", "partition", "epoch", "read up to", "end", "lag")
    for one in found:
        numbers = (one.partition, one.epoch, one.end, one.latest, one.lag)
        table.add_row(markup(one.pipeline), markup(one.topic), *("-" if number is None else f"{number:,}" for number in numbers))
    Console().print(table)


def lags(rows: Sequence[EpochRow], ends: dict[Place, int] | None = None) -> list[Lag]:
    """Return how far a pipeline is behind in each partition.

    Parameters
    ----------
    rows : sequence of EpochRow
        Its last epochs, oldest first; of each partition the newest that names it counts.
    ends : mapping of place to offset, optional
        Ends of the partitions as they are now, instead of those in the ledger.
    """
    newest = {(one.topic, one.partition): (row, one) for row in rows for one in row.ranges}
    found = []
    for at, (row, one) in sorted(newest.items()):
        latest = (ends or {}).get(at, one.latest)
        behind = None if latest is None else max(0, latest - one.end)
        found.append(Lag(row.pipeline, one.topic, one.partition, row.epoch, one.end, latest, behind))
    return found


def _names(path: str, pipeline: str | None) -> list[str]:
    """Return the pipelines that are meant, checked."""
    known = pc.unique(read_arrow(Ledger(path).table(), columns=["pipeline"]).column("pipeline")).to_pylist()
    if pipeline is None:
        return sorted(known)
    if pipeline not in known:
        names = ", ".join(map(repr, sorted(known))) or "no epoch of any pipeline"
        raise EpochError("find", "pipeline", pipeline, expected=f"one that is in {path}", got=names, todo="correct its name")
    return [pipeline]


def _ends(servers: str, topics: Sequence[str], options: dict[str, str]) -> dict[Place, int]:
    texts = {**options, "bootstrap_servers": servers, "topics": json.dumps(list(topics)), "starting": "latest"}
    planner = Planner(SourceOptions.from_options(texts))
    try:
        return dict(planner.initial().offsets)
    finally:
        planner.close()


def _print_epochs(rows: Sequence[EpochRow], *, by_sink: bool) -> None:
    """Print a table for each pipeline, narrow enough for a terminal of 80 columns."""
    for name, some in groupby(rows, key=lambda row: row.pipeline):
        ours = list(some)
        used = [kind for kind in COUNTS if kind in ("read", "accepted", "dead", "late") or any(getattr(row, kind) for row in ours)]
        table = Table(title=markup(name), title_justify="left")
        table.add_column("epoch", justify="right", no_wrap=True)
        table.add_column("committed (UTC)", no_wrap=True)
        for kind in (*used, "ms"):
            table.add_column(kind, justify="right", no_wrap=True)
        table.add_column("balance", no_wrap=True)
        if by_sink:
            table.add_column("rows by sink")
        for row in ours:
            counts = [f"{getattr(row, kind):,}" for kind in used]
            sinks = [markup(row.replay_of or ", ".join(f"{one.name} {one.rows:,}" for one in row.sinks if one.rows))] if by_sink else []
            balance = ("derived" if row.is_derived else "yes") if row.is_balanced else "[bold red]no[/]"
            table.add_row(str(row.epoch), f"{row.committed_at:%m-%d %H:%M:%S}", *counts, f"{_duration(row):,}", balance, *sinks)
        Console().print(table)


def _duration(row: EpochRow) -> int:
    return round((row.committed_at - row.started_at).total_seconds() * 1000)


def _as_dict(one: Any) -> dict[str, Any]:
    found = asdict(one) if is_dataclass(one) and not isinstance(one, type) else {"finding": str(one)}
    return found | ({"is_balanced": one.is_balanced} if isinstance(one, EpochRow) else {})


def _json(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
