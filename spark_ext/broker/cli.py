"""The commands ``up``, ``down`` and ``status`` of a broker that runs in the background."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from spark_ext.broker import admin, state
from spark_ext.broker.cluster import Broker, servers_of
from spark_ext.broker.node import stop_nodes
from spark_ext.jars import cache_dir

__all__ = ["app"]

NOT_UP: Final = 3

app = typer.Typer(help="A real Kafka on this machine, without Docker.", no_args_is_help=True)


@app.command()
def up(
    nodes: Annotated[int, typer.Option(help="1, or 3 for a cluster that survives the loss of a node.")] = 1,
    directory: Annotated[Path | None, typer.Option(help="Where data and logs stay; in the cache folder by default.")] = None,
) -> None:
    """Start a broker in the background and print its addresses; the data of an earlier one is still there."""
    console = Console(stderr=True)
    known = state.load()
    if any(node.state() != "down" for node in known):
        console.print("the broker is already up; see: millrace broker status")
        typer.echo(servers_of(known))
        return
    broker = Broker(nodes=nodes, directory=directory or cache_dir() / "broker" / f"{nodes}-node-data", detached=True)
    with console.status("starting the broker"):
        broker.start()
    state.save(broker.nodes)
    console.print(f"the broker is up; data and logs in {broker.directory}", soft_wrap=True)
    typer.echo(broker.bootstrap_servers)


@app.command()
def down() -> None:
    """Stop the broker that `up` started; its data stays."""
    known = state.load()
    stop_nodes(known)
    state.forget()
    Console(stderr=True).print("the broker is down" if known else "no broker is up")


@app.command()
def status() -> None:
    """Show the nodes; exit code 0 if all are up, else 3."""
    known = state.load()
    serving = [node for node in known if node.state() == "up"]
    topics = admin.topic_count(servers_of(serving)) if serving else None
    table = Table("node", "pid", "port", "state", "topics")
    for node in known:
        pid = str(node.process.pid) if node.process else "-"
        table.add_row(str(node.number), pid, str(node.port), node.state(), "-" if topics is None else str(topics))
    Console().print(table if known else "no broker is up; start one: millrace broker up")
    if not known or len(serving) < len(known):
        raise typer.Exit(NOT_UP)
