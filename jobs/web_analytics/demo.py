"""The whole story on one machine: broker, a day of visits, the job, the proof, the report: ``python -m jobs.web_analytics.demo``.

Each part is the real one: a Kafka broker of its own, the job under spark-submit in its own process, a proof that shares no code with it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from jobs.demos import make_room, run_job
from jobs.flights.publish import progress_bar
from jobs.web_analytics.answers import answers
from jobs.web_analytics.check import check, summarise
from jobs.web_analytics.main import PROGRAM
from jobs.web_analytics.network import Network
from jobs.web_analytics.publish import change_records, publish, publish_visits
from jobs.web_analytics.report import report
from jobs.web_analytics.settings import Settings
from jobs.web_analytics.site import page_changes
from jobs.web_analytics.visits import Traffic, checksum, visits
from spark_ext.broker import Broker
from spark_ext.ops.cli import command

PARTITIONS: Final = 2


def demo(
    out: Annotated[Path, typer.Option(help="Folder for tables and checkpoints; an earlier demo's is replaced.")] = Path("out/web_demo"),
    number: Annotated[int, typer.Option("--visits", help="How many visits.", min=1)] = Traffic().visits,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = Traffic().seed,
) -> None:
    """Send a day of visits through Kafka and Spark into tables of sketches, and hold every answer against the exact one."""
    console = Console(stderr=True)
    started = time.monotonic()
    settings = Settings.load("local", out=str(out))
    make_room(out)
    traffic = Traffic(visits=number, seed=seed)
    arrivals = Network(seed=seed).carry(visits(traffic))
    changes = page_changes(traffic.day, seed=seed)
    console.print(f"visits of {traffic.day}, seed {seed}: {len(arrivals):,} records, checksum {checksum(arrivals)}", highlight=False)
    with Broker() as broker:
        broker.create_topic(settings.topic, partitions=PARTITIONS)
        broker.create_topic(settings.pages_topic)
        console.print(f"broker: {broker.bootstrap_servers}, topics {settings.topic!r} and {settings.pages_topic!r}", highlight=False)
        publish(broker.bootstrap_servers, settings.pages_topic, change_records(changes))
        with progress_bar() as progress:
            publish_visits(broker.bootstrap_servers, settings.topic, arrivals, progress=progress)
        code = run_job(PROGRAM, broker.bootstrap_servers, out)
        if code:
            raise typer.Exit(code)
        proof = check(out, broker.bootstrap_servers, settings.topic, settings.pages_topic, answers(out))
    report(out, proof)
    summarise(proof)
    console.print(f"took {time.monotonic() - started:.0f} s; the tables are in {out / 'tables'}", highlight=False)
    if not proof.ok:
        raise typer.Exit(1)


if __name__ == "__main__":
    command(demo)
