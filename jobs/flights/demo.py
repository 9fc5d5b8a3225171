"""The whole story on one machine: broker, publisher, job, proof, report. What ``make demo`` runs.

Each part is the real one: a Kafka broker of its own, the job under spark-submit in its own process, a proof that
shares no code with it.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from jobs.flights.check import check, summarise
from jobs.flights.events import events
from jobs.flights.main import PROGRAM
from jobs.flights.publish import progress_bar, publish
from jobs.flights.report import PLOT, report
from jobs.flights.settings import Settings
from spark_ext.broker import Broker
from spark_ext.errors import SettingsError
from spark_ext.ops.cli import command

PARTITIONS: Final = 2
CTRL_C: Final = 130  # how spark-submit ends then, and how a live stream is meant to end
MARKER: Final = ".millrace-demo"  # only a folder with this file in it is ours to empty


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
    _make_room(out)
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
                _expect(run_job(broker.bootstrap_servers, out, "--follow"), {0, CTRL_C})
            finally:
                stop.set()
                feed.join()
            return
        with progress_bar() as progress:
            publish(broker.bootstrap_servers, settings.topic, year, progress=progress)
        _expect(run_job(broker.bootstrap_servers, out), {0})
        proof = check(out, broker.bootstrap_servers, settings.topic)
    report(out)
    summarise(proof)
    console.print(f"took {time.monotonic() - started:.0f} s; the tables are in {out / 'tables'}", highlight=False)
    if not proof.ok:
        raise typer.Exit(1)


def run_job(bootstrap_servers: str, out: Path, *options: str) -> int:
    """Run the job under spark-submit, as a user would, wait for it and return its exit code."""
    millrace = [str(Path(sys.executable).with_name("millrace"))]
    arguments = ["submit", str(PROGRAM), "--bootstrap-servers", bootstrap_servers, "--out", str(out), *options]
    # Ctrl-C reaches the job by itself, which then ends at a batch boundary: wait for that instead of killing it.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        return subprocess.run([*millrace, *arguments], check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)


def _expect(code: int, fine: set[int]) -> None:
    if code not in fine:
        raise typer.Exit(code)


def _make_room(out: Path) -> None:
    """Make the folder, or empty it of what an earlier demo left.

    Raises
    ------
    SettingsError
        It is no folder, or holds anything that is not a demo's.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise _not_ours(out, "a symbolic link" if out.is_symlink() else "a file")
    out.mkdir(parents=True, exist_ok=True)
    found = {entry.name for entry in out.iterdir()}
    strange = sorted(found - {"tables", "checkpoints", "control", PLOT, MARKER})
    if strange or (found and MARKER not in found):
        raise _not_ours(out, repr(strange[:5]) if strange else f"{sorted(found)!r} without {MARKER!r}")
    for name in sorted(found - {MARKER}):
        entry = out / name
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    (out / MARKER).touch()


def _not_ours(out: Path, got: str) -> SettingsError:
    return SettingsError(
        "replace",
        "folder",
        str(out),
        expected="no folder, an empty one, or what an earlier demo left",
        got=got,
        why="only what a demo made is deleted",
        todo="give another folder with --out",
    )


if __name__ == "__main__":
    command(demo)
