"""Publish the events of a year to Kafka, at full speed or along an accelerated clock.

What flows in: the frame of `jobs.flights.events.events`. What flows out: one record per row, JSON as the value,
the aircraft's tail number as the key, so that one aircraft's events stay in order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import typer
from confluent_kafka import KafkaError, KafkaException, Producer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from jobs.flights.events import events as all_events
from spark_ext.errors import BrokerUnavailableError, EngineError

__all__ = ["due_slices", "progress_bar", "publish", "records"]

SLICE_ROWS: Final = 5_000  # measured: waiting for the broker after each slice costs nothing from here on
SHORTEST_WAIT_S: Final = 0.05
CONNECT_TIMEOUT_S: Final = 15
DELIVERY_TIMEOUT_S: Final = 25  # the client gives up on a record
WATCHDOG_S: Final = 30  # we give up on the client


def publish(
    bootstrap_servers: str,
    topic: str,
    events: pd.DataFrame,
    *,
    speed_up: float | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Send all events in their order and wait until the broker has them.

    Guarantee: returns only what the broker acknowledged (all replicas, retries without duplicates); returns less than
    all rows only if `stop` was set. Not atomic: after an error the rows before it stay in the topic.

    Parameters
    ----------
    bootstrap_servers : str
        Addresses as ``host:port``, separated by commas.
    topic : str
        A topic that exists.
    events : DataFrame
        As `jobs.flights.events.events` returns it, ordered by ``scheduled_time``.
    speed_up : float, > 0, optional
        Seconds of timetable per second of wall clock; 86400 plays a day per second. None: as fast as it goes.
    progress : rich.progress.Progress, optional
        Where to show a bar, e.g. `progress_bar()`. None: silent.
    stop : threading.Event, optional
        Set it to end early, within one slice of 5,000 rows.

    Returns
    -------
    int
        Acknowledged rows.

    Raises
    ------
    BrokerUnavailableError
        No answer within 15 s at the start, a record refused, or no acknowledgement within 30 s.
    ValueError
        `speed_up` is not positive.
    """
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "acks": "all",
            "enable.idempotence": True,
            "partitioner": "murmur2_random",  # that of Kafka's own clients
            "compression.type": "lz4",
            "linger.ms": 20,
            "delivery.timeout.ms": DELIVERY_TIMEOUT_S * 1000,
            "log_level": 0,  # it would write to stderr; what matters comes as an exception
        }
    )
    try:
        found = producer.list_topics(topic, timeout=CONNECT_TIMEOUT_S).topics[topic]
        if found.error is not None:
            raise _unavailable(bootstrap_servers, f"a topic {topic!r}", found.error.str())
    except KafkaException as error:
        raise _unavailable(bootstrap_servers, f"an answer within {CONNECT_TIMEOUT_S} s", _text(error)) from error
    halt = stop or threading.Event()
    try:
        slices = due_slices(events["scheduled_time"], speed_up=speed_up, clock=time.monotonic, wait=halt.wait)
        return _send_all(producer, topic, events, slices, progress)
    except KafkaException as error:
        raise _unavailable(bootstrap_servers, f"an acknowledgement for each record of topic {topic!r}", _text(error)) from error
    finally:
        producer.purge()  # nothing is queued but after an error, and then the client would go on trying


def due_slices(
    scheduled: pd.Series, *, speed_up: float | None, clock: Callable[[], float], wait: Callable[[float], bool]
) -> Iterator[slice]:
    """Yield the next rows to send, each slice when its time has come.

    Parameters
    ----------
    scheduled : Series of datetime64[ns, UTC]
        Ascending. The first row is due at once.
    speed_up : float or None
        As for `publish`.
    clock : callable
        Seconds on a clock that never goes back.
    wait : callable
        Waits for that many seconds; returns True if it is time to stop.

    Yields
    ------
    slice
        Consecutive, never empty, at most 5,000 rows.
    """
    if speed_up is not None and speed_up <= 0:
        msg = f"cannot pace events 'scheduled_time': expected speed_up > 0, got {speed_up!r}; give seconds of timetable per second, or None"
        raise ValueError(msg)
    seconds: npt.NDArray[np.float64] = (scheduled - scheduled.min()).dt.total_seconds().to_numpy()
    started, sent, total = clock(), 0, len(seconds)
    while sent < total:
        due = total
        pause = 0.0
        if speed_up is not None:
            now = (clock() - started) * speed_up
            due = int(np.searchsorted(seconds, now, side="right"))
            if due == sent:
                pause = max((seconds[sent] - now) / speed_up, SHORTEST_WAIT_S)
        if wait(pause):
            return
        if due > sent:
            end = min(due, sent + SLICE_ROWS)
            yield slice(sent, end)
            sent = end


def records(events: pd.DataFrame) -> Iterator[tuple[bytes | None, bytes]]:
    """Yield key and value of each event: the tail number, and one JSON object on one line."""
    # pandas formats times in JSON slowly, one by one; as text they cost a third.
    texts = {name: _iso(events[name]) for name in ("event_time", "scheduled_time")}
    lines = events.assign(**texts).to_json(orient="records", lines=True).encode().splitlines()
    keys = (None if tail is None else tail.encode() for tail in events["tailnum"])
    return zip(keys, lines, strict=True)


def progress_bar(console: Console | None = None) -> Progress:
    """Return a bar that shows the flight date, the acknowledged rows and their rate."""
    return Progress(
        TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn(),
        console=console or Console(stderr=True),
    )  # fmt: skip


class RateColumn(ProgressColumn):
    """Rows per second."""

    def render(self, task: Task) -> Text:
        """Draw the column."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f} rows/s")


def _send_all(producer: Producer, topic: str, events: pd.DataFrame, slices: Iterator[slice], progress: Progress | None) -> int:
    acknowledged = 0
    bar = None if progress is None else progress.add_task("flights", total=len(events))
    for rows in slices:
        part = events.iloc[rows]
        if progress is not None and bar is not None:
            progress.update(bar, description=f"flights of {part['scheduled_time'].iloc[0]:%d %b %Y}")
        refused: list[KafkaError] = []

        def note(error: KafkaError | None, _: Any, refused: list[KafkaError] = refused) -> None:
            if error is not None:
                refused.append(error)

        for key, value in records(part):
            producer.produce(topic, value=value, key=key, on_delivery=note)
        # One slice at a time: it fits the client's queue, and only now does each record have a fate.
        if producer.flush(timeout=WATCHDOG_S) > 0:
            raise KafkaException(KafkaError(KafkaError._MSG_TIMED_OUT, "no acknowledgement"))  # noqa: SLF001 (confluent's public name)
        if refused:
            raise KafkaException(refused[0])
        acknowledged += len(part)
        if progress is not None and bar is not None:
            progress.update(bar, completed=acknowledged)
    return acknowledged


def _iso(times: pd.Series) -> npt.NDArray[np.object_]:
    seconds = times.dt.tz_convert(None).to_numpy(dtype="datetime64[s]")
    return np.char.add(np.datetime_as_string(seconds), "Z").astype(object)


def _text(error: KafkaException) -> str:
    return str(error.args[0].str() if error.args and isinstance(error.args[0], KafkaError) else error)


def _unavailable(bootstrap_servers: str, expected: str, got: str) -> BrokerUnavailableError:
    return BrokerUnavailableError(
        "reach",
        "broker",
        bootstrap_servers,
        expected=expected,
        got=got,
        todo="start the broker (`millrace broker up` starts one here), create the topic, or correct bootstrap_servers",
    )


def main(
    bootstrap_servers: Annotated[str, typer.Option(help="addresses as host:port, separated by commas")],
    topic: Annotated[str, typer.Option(help="a topic that exists")] = "flights",
    speed_up: Annotated[float | None, typer.Option(help="seconds of timetable per second; 86400 is a day per second")] = None,
) -> None:
    """Publish all flights of 2013."""
    console = Console(stderr=True)
    try:
        with console.status("building the events"):
            events = all_events()
        with progress_bar(console) as progress:
            count = publish(bootstrap_servers, topic, events, speed_up=speed_up, progress=progress)
    except EngineError as error:
        console.print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    console.print(f"{count:,} events acknowledged")


if __name__ == "__main__":
    typer.run(main)
