"""The commands ``millrace sketches compact|show``; neither starts Spark."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from spark_ext.epochs.plain import markup, plain
from spark_ext.errors import SettingsError
from spark_ext.sketching.compaction import Compacted, compact
from spark_ext.sketching.grains import Grain, grains
from spark_ext.sketching.table_schema import sketch_schema
from spark_ext.windows import tumbling
from spark_ext.windows.calendar_kernel import UNITS
from spark_ext.windows.shapes import TimeShape

__all__ = ["app"]

app = typer.Typer(help="Tables of sketches: what they hold, and rows of minutes made rows of hours.", no_args_is_help=True)

SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
DURATION: Final = re.compile(rf"(\d+) *([{''.join(SECONDS)}])")
KIB: Final = 1024


@app.command("compact")
def compact_table(
    path: Annotated[str, typer.Argument(help="The sketch table; its pipeline may be running.")],
    to: Annotated[str, typer.Option(help=f"{', '.join(UNITS)}, or a length such as 15m.")],
    older_than: Annotated[str, typer.Option(help="2d, 36h, 90m, 1w back from now; or a time with its zone, 2026-03-01T00:00Z.")],
    zone: Annotated[str, typer.Option(help="Whose hours and days, such as Europe/Berlin.")] = "UTC",
    on_damage: Annotated[str, typer.Option(help="fail, or keep: rows of a key with a damaged sketch stay as they are.")] = "fail",
    dry_run: Annotated[bool, typer.Option(help="Say what it would do.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Merge old rows for short times into rows for longer ones, all rows of a period in one commit."""
    cutoff = _cutoff(older_than, datetime.now(UTC))
    with _bar("rows merged") as progress:
        done = compact(
            path,
            to=_periods(to),
            zone=zone,
            older_than=cutoff,
            on_damage=on_damage,  # type: ignore[arg-type]  # refused there
            dry_run=dry_run,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps({"older_than": cutoff.isoformat(), "dry_run": dry_run, **asdict(done)}))
        return
    _print(done, f"{path}: {to} of {zone}, older than {cutoff:%Y-%m-%d %H:%M}Z", dry_run=dry_run)


@app.command()
def show(
    path: Annotated[str, typer.Argument(help="The sketch table.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show keys and measures of a table, and how many rows and bytes it has for which length of time."""
    schema = sketch_schema(path)
    with _bar("rows read") as progress:
        found = grains(path, progress=progress)
    measures = {name: str(measure) for name, measure in schema.measures}
    if as_json:
        told = {"keys": {name: str(schema.columns.field(name).type) for name in schema.keys}, "measures": measures}
        told["grains"] = [{**asdict(one), "length": plain(_length(one))} for one in found]  # type: ignore[assignment]
        typer.echo(json.dumps({**told, "partitioned_by": schema.partitioned_by}, default=lambda one: one.isoformat()))
        return
    console = Console()
    columns = Table("column", "what it is", title=markup(path))
    for name in schema.keys:
        place = ", folders" if name in schema.partitioned_by else ""
        columns.add_row(markup(name), markup(f"key {schema.columns.field(name).type}{place}"))
    for name, measure in measures.items():
        columns.add_row(markup(name), markup(measure))
    console.print(columns)
    shown = Table("rows for", "rows", "sketches", "from", "until", title=f"{sum(one.rows for one in found):,} rows")
    for one in found:
        bounds = (f"{moment:%Y-%m-%d %H:%M}Z" if moment else "" for moment in (one.first, one.last))
        shown.add_row(_length(one), f"{one.rows:,}", _size(one.sketch_bytes), *bounds)
    console.print(shown)


def _print(done: Compacted, title: str, *, dry_run: bool) -> None:
    table = Table("", "before", "would be" if dry_run else "now", title=markup(title), min_width=60)
    table.add_row("rows", f"{done.rows_before:,}", f"{done.rows_after:,}")
    if done.bytes_before is not None and done.bytes_after is not None:
        table.add_row("sketches", _size(done.bytes_before), _size(done.bytes_after))
    console = Console()
    if done.periods:
        console.print(table)
    told = [
        f"periods: {done.periods:,}, commits: {done.commits:,}" if done.periods else "nothing to do: no period has rows for shorter times"
    ]
    if done.rows_astride:
        told.append(f"{done.rows_astride:,} rows lie in two periods, and stay")
    if done.rows_damaged:
        told.append(f"{done.rows_damaged:,} rows stay as they are, as a sketch of their key is damaged")
    Console(stderr=True).print("; ".join(told), highlight=False)


@contextmanager
def _bar(text: str) -> Iterator[Callable[[int, int], None]]:
    parts = (TextColumn(text), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*parts, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def _periods(text: str) -> TimeShape | str:
    found = _duration(text)
    return text if found is None else tumbling(found)


def _cutoff(text: str, now: datetime) -> datetime:
    found = _duration(text)
    if found is not None:
        return now - found
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        expected, todo = "a length such as 2d, or a time with its zone", "write it like 36h or 2026-03-01T00:00Z"
        raise SettingsError("compact", "sketches", "--older-than", expected=expected, got=repr(text), todo=todo)
    return moment


def _duration(text: str) -> timedelta | None:
    found = DURATION.fullmatch(text.strip())
    return None if found is None else timedelta(seconds=int(found[1]) * SECONDS[found[2]])


def _length(one: Grain) -> str:
    if one.length is None:
        return "no time"
    seconds = one.length.total_seconds()
    unit = next((name for name in ("d", "h", "m") if seconds >= SECONDS[name] and seconds % SECONDS[name] == 0), "s")
    return f"{seconds / SECONDS[unit]:g} {unit}"


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < KIB:
            return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
        size /= KIB
    return f"{size:,.1f} GiB"
