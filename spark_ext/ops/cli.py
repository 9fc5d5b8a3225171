"""The command ``millrace``: only wiring, each sub-command lives with its subject."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from spark_ext import jars as jar_files
from spark_ext.errors import EngineError

__all__ = ["app", "main"]

app = typer.Typer(name="millrace", help="A micro-batch stream engine on Apache Spark.", no_args_is_help=True)
jar_commands = typer.Typer(help="The pinned jars of Spark's connectors and of the broker.", no_args_is_help=True)
app.add_typer(jar_commands, name="jars")


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


def main() -> None:
    """Run the command line; an error of the engine is one line, not a stack."""
    try:
        app()
    except EngineError as error:
        Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {error}", highlight=False)
        sys.exit(1)
