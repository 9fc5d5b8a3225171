"""Publish a day of visits, and the changes of the pages, to Kafka: in the order in which the network delivers them.

What flows in: the frames of `jobs.web_analytics.visits`, `network` and `site`. What flows out: one JSON record per row; the key is the
visitor, or the page, so that what one of them does stays in order.
"""

from __future__ import annotations

import threading
import time
from typing import Annotated, Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import typer
from rich.console import Console
from rich.progress import Progress

from jobs.flights.publish import due_slices, progress_bar
from jobs.web_analytics.network import Network
from jobs.web_analytics.site import page_changes
from jobs.web_analytics.visits import Traffic, checksum, visits
from spark_ext.kafka.messages import Message
from spark_ext.kafka.publisher import Publisher
from spark_ext.ops.cli import command

__all__ = ["change_records", "publish", "publish_visits", "visit_records"]

TORN_BYTES: Final = 60  # what arrives of a torn record

Records = tuple[list[bytes], list[bytes]]


def visit_records(arrivals: pd.DataFrame) -> Records:
    """Return keys and values of visits: one JSON object on one line, damaged where `Network` has said so.

    Parameters
    ----------
    arrivals : DataFrame
        As `jobs.web_analytics.network.Network.carry` returns it.
    """
    return _visits(_columns(arrivals))


def change_records(changes: pd.DataFrame) -> Records:
    """Return keys and values of the frame of `jobs.web_analytics.site.page_changes`."""
    columns = _columns(changes)
    fields = {name: _quoted(columns[name]) for name in ("page", "section", "title")}
    return _texts(columns["page"]).cast(pa.binary()).to_pylist(), _objects({**fields, "changed_at": _times(changes["changed_at"])})


def publish_visits(
    bootstrap_servers: str,
    topic: str,
    arrivals: pd.DataFrame,
    *,
    speed_up: float | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
) -> int:
    """Send visits in the order of their arrival, and wait until the broker has them.

    Guarantee: returns only what the broker acknowledged; less than all rows only if `stop` was set. Not atomic: after an error the rows
    before it stay in the topic.

    Parameters
    ----------
    bootstrap_servers : str
        Addresses as ``host:port``, separated by commas.
    topic : str
        A topic that exists.
    arrivals : DataFrame
        As `jobs.web_analytics.network.Network.carry` returns it.
    speed_up : float, > 0, optional
        Seconds of the day per second of wall clock. None: as fast as it goes.
    progress : rich.progress.Progress, optional
        Where to show a bar. None: silent.
    stop : threading.Event, optional
        Set it to end early.

    Returns
    -------
    int
        Acknowledged rows.

    Raises
    ------
    BrokerUnavailableError, BrokerError, UndeliverableError
        No broker, no such topic, or a record refused.
    ValueError
        `speed_up` is not positive.
    """
    slices = due_slices(arrivals["arrives"], speed_up=speed_up, clock=time.monotonic, wait=(stop or threading.Event()).wait)
    bar = None if progress is None else progress.add_task("visits", total=len(arrivals))
    columns, sent = _columns(arrivals), 0
    publisher = _opened(bootstrap_servers)
    try:
        for rows in slices:
            if progress is not None and bar is not None:
                progress.update(bar, description=f"visits of {arrivals['arrives'].iloc[rows.start]:%H:%M}")
            publisher.publish(_messages(topic, _visits(columns.slice(rows.start, rows.stop - rows.start))))
            sent = rows.stop
            if progress is not None and bar is not None:
                progress.update(bar, completed=sent)
    finally:
        publisher.close()
    return sent


def publish(bootstrap_servers: str, topic: str, records: Records) -> int:
    """Send records in their order, wait until the broker has them, and return how many they were."""
    publisher = _opened(bootstrap_servers)
    try:
        publisher.publish(_messages(topic, records))
    finally:
        publisher.close()
    return len(records[1])


def _columns(arrivals: pd.DataFrame) -> pa.Table:
    """Return the frame in columns; categories are turned into text once, not for each slice."""
    return pa.table({name: pa.array(column) for name, column in arrivals.items()})


def _visits(arrivals: pa.Table) -> Records:
    fields = {
        "visit_id": _texts(arrivals["visit_id"]),
        **{name: _quoted(arrivals[name]) for name in ("visitor", "session", "page", "section", "referrer", "country", "agent")},
        "at": _times(arrivals["at"].to_pandas()),
        "duration_ms": _texts(arrivals["duration_ms"]),
    }
    values = _objects(fields)
    damage = arrivals["damage"].to_numpy()
    for row in np.flatnonzero(damage):
        values[row] = _damaged(values[row], int(damage[row]))
    return _texts(arrivals["visitor"]).cast(pa.binary()).to_pylist(), values


def _opened(bootstrap_servers: str) -> Publisher:
    publisher = Publisher(bootstrap_servers, {"linger.ms": "5", "compression.type": "lz4"}, group="web-analytics-publisher")
    publisher.open()
    return publisher


def _messages(topic: str, records: Records) -> list[Message]:
    return [Message(topic, key, value, None, None, topic) for key, value in zip(*records, strict=True)]


def _objects(fields: dict[str, Any]) -> list[bytes]:
    """Put columns of JSON values together to one object per row."""
    parts: list[Any] = []
    for number, (name, column) in enumerate(fields.items()):
        parts += [pa.scalar(f'{"," if number else "{"}"{name}":'), column]
    found: list[bytes] = pc.binary_join_element_wise(*parts, pa.scalar("}"), pa.scalar("")).cast(pa.binary()).to_pylist()
    return found


def _texts(column: pa.ChunkedArray) -> Any:
    return column.cast(pa.string()).combine_chunks()  # of a dictionary: its values


def _quoted(column: pa.ChunkedArray) -> Any:
    """Return text as JSON strings, nulls as ``null``; none of our text has anything to escape."""
    quoted = pc.binary_join_element_wise(pa.scalar('"'), _texts(column), pa.scalar('"'), pa.scalar(""))
    return pc.fill_null(quoted, "null")


def _times(column: pd.Series) -> Any:
    naive = column.dt.tz_convert(None).to_numpy("datetime64[ms]")
    return pc.binary_join_element_wise(pa.scalar('"'), pa.array(np.datetime_as_string(naive)), pa.scalar('Z"'), pa.scalar(""))


def _damaged(value: bytes, damage: int) -> bytes:
    """Return what is left of a record; see `jobs.web_analytics.network.DAMAGES`."""
    match damage:
        case 1:
            return value[:TORN_BYTES]
        case 2:
            return value.replace(b'"visitor":', b'"user":')
        case 3:
            return value.replace(b'"duration_ms":', b'"duration_ms":"').replace(b"}", b'"}')
    return value.replace(b'"at":"2', b'"at":"at 2')


def main(
    bootstrap_servers: Annotated[str, typer.Option(help="Addresses as host:port, separated by commas.")],
    topic: Annotated[str, typer.Option(help="A topic for the visits that exists.")] = "visits",
    pages_topic: Annotated[str, typer.Option(help="A topic for the pages that exists.")] = "pages",
    number: Annotated[int, typer.Option("--visits", help="How many visits.", min=1)] = Traffic().visits,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = Traffic().seed,
    speed_up: Annotated[float | None, typer.Option(help="Seconds of the day per second; None: as fast as it goes.")] = None,
) -> None:
    """Publish a day of visits and the changes of the pages."""
    console = Console(stderr=True)
    traffic = Traffic(visits=number, seed=seed)
    arrivals = Network(seed=seed).carry(visits(traffic))
    changes = page_changes(traffic.day, seed=seed)
    console.print(f"visits of {traffic.day}, seed {seed}: {len(arrivals):,} records, checksum {checksum(arrivals)}", highlight=False)
    publish(bootstrap_servers, pages_topic, change_records(changes))
    with progress_bar(console) as progress:
        count = publish_visits(bootstrap_servers, topic, arrivals, speed_up=speed_up, progress=progress)
    console.print(f"{count:,} visits and {len(changes):,} versions of pages acknowledged")


if __name__ == "__main__":
    command(main)
