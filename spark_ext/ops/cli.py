"""The command ``millrace``: only wiring, each sub-command lives with its subject."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer
from rich.console import Console
from rich.markup import escape

from spark_ext import jars as jar_files
from spark_ext.broker.cli import app as broker_commands
from spark_ext.epochs.dead_letters_cli import app as dead_letter_commands
from spark_ext.epochs.ledger_cli import app as ledger_commands
from spark_ext.epochs.outbox_cli import app as outbox_commands
from spark_ext.epochs.rewind_cli import rewind
from spark_ext.errors import EngineError
from spark_ext.ops.submit import properties_file, submit_command
from spark_ext.sketching.cli import app as sketch_commands
from spark_ext.state.cli import app as state_commands

__all__ = ["app", "command", "main"]

app = typer.Typer(
    name="millrace", help="A micro-batch stream engine on Apache Spark.", no_args_is_help=True, pretty_exceptions_enable=False
)
jar_commands = typer.Typer(help="The pinned jars of Spark's connectors and of the broker.", no_args_is_help=True)
app.add_typer(jar_commands, name="jars")
app.add_typer(broker_commands, name="broker")
app.add_typer(state_commands, name="state")
app.add_typer(ledger_commands, name="ledger")
app.add_typer(dead_letter_commands, name="dead-letters")
app.add_typer(outbox_commands, name="outbox")
app.add_typer(sketch_commands, name="sketches")
app.command()(rewind)


@jar_commands.command()
def fetch() -> None:
    """Fetch the pinned jars into the cache, or verify those that are there."""
    console = Console(stderr=True)
    with console.status("fetching or verifying the pinned jars"):
        found = [file for class_path in jar_files.CLASS_PATHS for file in jar_files.jars(class_path)]
    console.print(f"{len(found)} jars verified in {jar_files.cache_dir() / 'jars'}")


@jar_commands.command()
def lock() -> None:
    """Resolve conf/versions.toml anew and rewrite conf/jars.lock (for maintainers)."""
    Console(stderr=True).print(f"wrote {jar_files.lock()}")


# Nothing behind the program is ours: `millrace submit job.py --help` is the job's help.
@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False})
def submit(arguments: typer.Context) -> None:
    """Run a job with spark-submit: the same arguments, with Millrace's jars and settings added.

    With --ship before the program, the workers of a cluster need none of our Python packages: they are packed here,
    once, and sent along. The workers must have a Python of the same minor version.
    """
    with Console(stderr=True).status("collecting settings and jars"):
        line, environment = submit_command(arguments.args)
    os.execve(line[0], line, environment)  # noqa: S606 (spark-submit takes this process, so signals reach it)


@app.command()
def properties(master: str | None = None) -> None:
    """Print the path of a properties file for a plain spark-submit.

    Without --master it is the one of spark-defaults.conf, else local[*].
    """
    typer.echo(properties_file({"spark.master": master} if master else {}))


def command(function: Callable[..., None] | typer.Typer) -> None:
    """Run a function or app as a program; an error of the engine is one line, not a stack."""
    try:
        if not isinstance(function, typer.Typer):
            program = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            program.command()(function)
            function = program
        function()
    except EngineError as error:
        Console(stderr=True, soft_wrap=True).print("[bold red]error:[/]", escape(str(error)), highlight=False)
        sys.exit(1)


def main() -> None:
    """Run the command ``millrace``."""
    command(app)
