"""What all examples do: words of lines, arguments, and a run until Ctrl-C."""

from __future__ import annotations

import operator
from typing import Annotated

import typer

from spark_ext.dstream import DStream, StreamingContext

__all__ = ["Checkpoint", "Host", "Interval", "Port", "count_words", "run"]

Host = Annotated[str, typer.Argument(help="Where a server of text listens.")]
Port = Annotated[int, typer.Argument(help="Its port.")]
Checkpoint = Annotated[str, typer.Argument(help="Folder from which the program goes on when it is started again.")]
Interval = Annotated[float, typer.Option(help="Seconds from batch to batch.")]


def count_words(lines: DStream[str]) -> DStream[tuple[str, int]]:
    """Return ``(word, how often it is in the batch)``."""
    return lines.flatMap(str.split).map(lambda word: (word, 1)).reduceByKey(operator.add)


def run(ssc: StreamingContext) -> None:
    """Run a program until it fails or is stopped; Ctrl-C first lets it finish all that it has received."""
    ssc.start()
    try:
        ssc.awaitTermination()
    except KeyboardInterrupt:
        ssc.stop(stopGraceFully=True)
