"""The command ``millrace rewind``: says what it will do to each sink, and does it when told so."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from spark_ext.epochs import rewind as rewinding
from spark_ext.epochs.cli_options import ClientOptions, client_options
from spark_ext.epochs.ledger import Ledger
from spark_ext.epochs.plain import markup, plain
from spark_ext.kafka.options import position_text
from spark_ext.queries.checkpoint import Checkpoint

__all__ = ["rewind"]

NOT_DONE: Final = 3


def rewind(
    pipeline: Annotated[str, typer.Argument(help="Name of the pipeline, such as flights/events.")],
    ledger: Annotated[str, typer.Option(help="Path of its ledger.")],
    checkpoint: Annotated[str, typer.Option(help="Path of its checkpoint.")],
    to: Annotated[str, typer.Option(help='earliest, latest, a time with its zone, {"topic": {"0": 17}}, epoch:<number>, or checkpoint.')],
    restore_tables: Annotated[bool, typer.Option(help="Set the tables back to their versions as of the epoch.")] = False,
    bootstrap_servers: Annotated[str | None, typer.Option(help="Broker to ask which offsets the position stands for.")] = None,
    option: ClientOptions = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without this it only says what it would do.")] = False,
) -> None:
    """Let a pipeline start again from another position, in a new checkpoint. Says first what that does to each sink."""
    options = client_options(option)
    found = Checkpoint.find(checkpoint, pipeline=pipeline)
    planned = rewinding.plan(
        found, Ledger(ledger), to=to, restore_tables=restore_tables, bootstrap_servers=bootstrap_servers, options=options
    )
    console = Console(stderr=True)
    _print(planned, Console())
    if not yes:
        console.print("nothing was done; to do it, repeat this with --yes")
        raise typer.Exit(NOT_DONE)
    row = rewinding.apply(planned)
    console.print(f"epoch {row.epoch} of the ledger says so; start the pipeline, reading from spark_ext.epochs.starting(checkpoint)")


def _print(planned: rewinding.Plan, console: Console) -> None:
    ends = "no epoch" if planned.last is None else f"epoch {planned.last.epoch}"
    facts = Table(show_header=False, title=markup(f"rewind of {planned.checkpoint.pipeline}"))
    facts.add_row("the ledger ends with", ends)
    facts.add_row("starts again from", markup(position_text(planned.position)))
    facts.add_row("offsets read again", _number(planned.again))
    facts.add_row("offsets never read", _number(planned.passed_over))
    facts.add_row("state of operators", "is not carried over: windows and keys begin empty")
    facts.add_row("what was there stays in", markup(f"{planned.checkpoint.path}/spark-{planned.checkpoint.checkpoint_id}"))
    console.print(facts)
    if planned.effects:
        table = Table("sink", "kind", "rows again, at most", "what becomes of them", title="sinks")
        for one in planned.effects:
            table.add_row(markup(one.sink), plain(one.kind), _number(one.rows_again), markup(one.text))
        console.print(table)


def _number(count: int | None) -> str:
    return "unknown; ask with --bootstrap-servers" if count is None else f"{count:,}"
