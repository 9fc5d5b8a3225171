"""The commands ``millrace dead-letters list|replay``."""

from __future__ import annotations

import importlib
import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from spark_ext.epochs import dead_letters
from spark_ext.epochs.plain import markup, plain
from spark_ext.errors import SettingsError
from spark_ext.session import spark_session

__all__ = ["app"]

app = typer.Typer(help="Records that could not be read, kept with the reason.", no_args_is_help=True)


@app.command("list")
def list_letters(
    table: Annotated[str, typer.Argument(help="Path of the table of dead letters; its pipeline may be running.")],
    samples: Annotated[int, typer.Option(min=0, help="How many to show of each reason.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show what records died of, how often, and how some of them look."""
    found = dead_letters.reasons(table, samples=samples)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], default=plain))
        return
    shown = Table("reason", "detail", "letters", "replayed", "where", "value", title=f"{sum(one.count for one in found):,} dead letters")
    for one in found:
        places = "\n".join(markup(f"{topic}[{partition}]@{offset}") for topic, partition, offset, _ in one.samples)
        values = "\n".join(markup(value, most=80) for *_, value in one.samples)
        shown.add_row(markup(one.reason), markup(one.detail), f"{one.count:,}", f"{one.replayed:,}", places, values)
    Console().print(shown)


@app.command()
def replay(
    job: Annotated[str, typer.Argument(help="module:function that returns a Replayable, such as jobs.flights.main:replayable.")],
    where: Annotated[str | None, typer.Option(help="SQL over the table's columns, such as \"reason = 'bad_value'\".")] = None,
) -> None:
    """Bring in the letters that the job's format takes by now; the stream may be running."""
    asked = _job(job)
    rows = dead_letters.replay(spark_session("millrace dead-letters replay", conf={"spark.ui.enabled": "false"}), asked, where=where)
    console = Console(stderr=True)
    for row in rows:
        sinks = ", ".join(f"{one.name} {one.rows:,}" for one in row.sinks if one.rows)
        console.print(markup(f"epoch {row.epoch} of {row.pipeline}: {row.read:,} letters came in: {sinks}"))
    if not rows:
        console.print("no letter is good by now: correct the format or the condition")


def _job(text: str) -> dead_letters.Replayable:
    module, _, name = text.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise _refused(text, f"{type(error).__name__}: {error}") from error
    if not isinstance(found, dead_letters.Replayable):
        raise _refused(text, f"a {type(found).__name__}")
    return found


def _refused(text: str, got: str) -> SettingsError:
    expected = "module:function that returns a spark_ext.epochs.dead_letters.Replayable"
    return SettingsError("replay", "job", text, expected=expected, got=got, todo="correct it")
