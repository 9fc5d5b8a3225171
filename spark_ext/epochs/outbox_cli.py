"""The commands ``millrace outbox relay|move``."""

from __future__ import annotations

import signal
import threading
from datetime import timedelta
from typing import Annotated, Final

import typer
from rich.console import Console

from spark_ext.epochs.cli_options import ClientOptions, client_options
from spark_ext.epochs.ledger import Ledger
from spark_ext.epochs.outbox import Relay
from spark_ext.epochs.sinks import Delivery

__all__ = ["app"]

app = typer.Typer(help="Publish the outbox of a pipeline to Kafka.", no_args_is_help=True)

PipelineName = Annotated[str, typer.Argument(help="Name of the pipeline.")]
LedgerPath = Annotated[str, typer.Option("--ledger", help="Path or URI of the ledger.")]
TablePath = Annotated[str, typer.Option("--outbox", help="Path or URI of the outbox table.")]
Servers = Annotated[str, typer.Option("--bootstrap-servers", help="Addresses as host:port, separated by commas.")]
Name = Annotated[str | None, typer.Option(help="Consumer group and transactional id; default millrace-outbox-<pipeline>.")]
Topic = Annotated[str | None, typer.Option(help="Topic at whose partition 0 the progress stands; default that of the first row.")]
DEFAULT_EVERY_S: Final = 0.5


@app.command()
def relay(
    pipeline: PipelineName,
    ledger: LedgerPath,
    outbox: TablePath,
    bootstrap_servers: Servers,
    every: Annotated[float, typer.Option(min=0.01, help="Seconds between two looks into the ledger.")] = DEFAULT_EVERY_S,
    once: Annotated[bool, typer.Option("--once", help="Publish what is committed now, and end.")] = False,
    delivery: Annotated[str, typer.Option(help="exactly_once, at_least_once or at_most_once.")] = "exactly_once",
    keep: Annotated[int | None, typer.Option(min=0, help="With --once: delete published rows but those of so many epochs.")] = None,
    name: Name = None,
    progress_topic: Topic = None,
    option: ClientOptions = None,
) -> None:
    """Publish committed epochs until stopped by a signal; a second relay of the pipeline takes over from the first."""
    chosen: Delivery = delivery  # type: ignore[assignment]  # the relay checks the word
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    console = Console(stderr=True)
    with _opened(pipeline, ledger, outbox, bootstrap_servers, name, progress_topic, option, delivery=chosen) as running:
        done = running.publish_pending(stop=stop) if once else running.follow(stop, timedelta(seconds=every))
        console.print(f"published {done.rows:,} rows of {done.epochs:,} epochs")
        if keep is not None:
            console.print(f"deleted {running.drop_published(keep=keep):,} published rows")


@app.command()
def move(
    pipeline: PipelineName,
    ledger: LedgerPath,
    outbox: TablePath,
    bootstrap_servers: Servers,
    to_epoch: Annotated[int, typer.Option(min=0, help="The next epoch to publish; what was published from it on comes again.")],
    name: Name = None,
    progress_topic: Topic = None,
    option: ClientOptions = None,
) -> None:
    """Set the progress by hand, after it was lost or to publish again; a relay that runs is stopped by it."""
    moved = _opened(pipeline, ledger, outbox, bootstrap_servers, name, progress_topic, option)
    moved.move_to(to_epoch)
    Console(stderr=True).print(f"relay {moved.name} publishes epoch {to_epoch} next")


def _opened(
    pipeline: str,
    ledger: str,
    outbox: str,
    bootstrap_servers: str,
    name: str | None,
    progress_topic: str | None,
    option: list[str] | None,
    *,
    delivery: Delivery = "exactly_once",
) -> Relay:
    return Relay(
        ledger=Ledger(ledger),
        pipeline=pipeline,
        path=outbox,
        bootstrap_servers=bootstrap_servers,
        delivery=delivery,
        name=name,
        progress_topic=progress_topic,
        options=client_options(option),
    )
