"""What all examples do: words of lines, arguments, and a run until Ctrl-C."""

from __future__ import annotations

import operator
import threading
from typing import Annotated, Final

import typer

from spark_ext.dstream import DStream, StreamingContext
from spark_ext.queries.signals import stop_asked_by_signals

__all__ = ["Checkpoint", "Host", "Interval", "Port", "count_words", "run"]

Host = Annotated[str, typer.Argument(help="Where a server of text listens.")]
Port = Annotated[int, typer.Argument(help="Its port.")]
Checkpoint = Annotated[str, typer.Argument(help="Folder from which the program goes on when it is started again.")]
Interval = Annotated[float, typer.Option(help="Seconds from batch to batch.")]
POLL_S: Final = 0.5


def count_words(lines: DStream[str]) -> DStream[tuple[str, int]]:
    """Return ``(word, how often it is in the batch)``."""
    return lines.flatMap(str.split).map(lambda word: (word, 1)).reduceByKey(operator.add)


def run(ssc: StreamingContext) -> None:
    """Run a program until it fails or is stopped; on Ctrl-C or SIGTERM it first finishes all that it has received.

    A second Ctrl-C does not wait. What is cut off by that or by a kill, a program with a checkpoint does when it is started again; under
    spark-submit Ctrl-C ends the JVM too, and so cuts off.
    """
    asked = threading.Event()
    ssc.start()
    with stop_asked_by_signals(asked):
        while not ssc.awaitTerminationOrTimeout(POLL_S):
            if asked.is_set():
                ssc.stop(stopGraceFully=True)
