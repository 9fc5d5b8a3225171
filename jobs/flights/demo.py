"""The whole story on one machine: broker, publisher, job, proof, report. What ``make demo`` runs.

Each part is the real one: a Kafka broker of its own, the job under spark-submit in its own process, a proof that
shares no code with it.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from jobs.demos import make_room, run_job
from jobs.flights.check import check, summarise
from jobs.flights.events import events
from jobs.flights.main import PROGRAM
from jobs.flights.publish import progress_bar, publish
from jobs.flights.report import PLOT, report
from jobs.flights.settings import Settings
from spark_ext.broker import Broker
from spark_ext.ops.cli import command

PARTITIONS: Final = 2
CTRL_C: Final = 130  # how spark-submit ends then, and how a live stream is meant to end


def demo(
    out: Annotated[Path, typer.Option(help="Folder for tables, checkpoints and the plot; an earlier demo's is replaced.")] = Path(
        "out/demo"
    ),
    follow: Annotated[bool, typer.Option(help="Play the year as a live stream, until Ctrl-C.")] = False,
    speed_up: Annotated[float, typer.Option(help="With --follow: seconds of timetable per second.")] = 86_400.0,
) -> None:
    """Send a year of flights through Kafka and Spark into Delta tables, and prove every number."""
    console = Console(stderr=True)
    started = time.monotonic()
    settings = Settings.load("local", out=str(out))
    make_room(out, PLOT)
    year = events()
    with Broker() as broker:
        broker.create_topic(settings.topic, partitions=PARTITIONS)
        console.print(f"broker: {broker.bootstrap_servers}, topic {settings.topic!r}", highlight=False)
        if follow:
            stop = threading.Event()
            feed = threading.Thread(
                target=publish, args=(broker.bootstrap_servers, settings.topic, year), kwargs={"speed_up": speed_up, "stop": stop}
            )
            feed.start()
            try:
                _expect(run_job(PROGRAM, broker.bootstrap_servers, out, "--follow"), {0, CTRL_C})
            finally:
                stop.set()
                feed.join()
            return
        with progress_bar() as progress:
            publish(broker.bootstrap_servers, settings.topic, year, progress=progress)
        _expect(run_job(PROGRAM, broker.bootstrap_servers, out), {0})
        proof = check(out, broker.bootstrap_servers, settings.topic)
    report(out)
    summarise(proof)
    console.print(f"took {time.monotonic() - started:.0f} s; the tables are in {out / 'tables'}", highlight=False)
    if not proof.ok:
        raise typer.Exit(1)


def _expect(code: int, fine: set[int]) -> None:
    if code not in fine:
        raise typer.Exit(code)


if __name__ == "__main__":
    command(demo)
