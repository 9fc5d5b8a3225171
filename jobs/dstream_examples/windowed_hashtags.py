"""Which hashtags lead now? Shows a sliding window with an inverse, so that work goes with the change, and an order by transform."""

from __future__ import annotations

import operator
from typing import Annotated

import typer

from jobs.dstream_examples.program import Checkpoint, Host, Interval, Port, run
from spark_ext.dstream import DStream, StreamingContext
from spark_ext.ops.cli import command
from spark_ext.session import spark_session


def leading(lines: DStream[str], window: float, slide: float) -> DStream[tuple[str, int]]:
    """Return ``(hashtag, how often it is in the window)``, the most frequent first, equal ones by name."""
    tags = lines.flatMap(str.split).filter(lambda word: word.startswith("#") and len(word) > 1).map(str.lower)
    counts = tags.map(lambda tag: (tag, 1)).reduceByKeyAndWindow(
        operator.add,
        operator.sub,
        window,
        slide,
        filterFunc=lambda pair: pair[1] > 0,  # without it a tag that has left the window stays with 0
    )
    return counts.transform(lambda rdd: rdd.sortBy(lambda pair: (-pair[1], pair[0])))


def main(
    hostname: Host,
    port: Port,
    checkpoint: Checkpoint,
    window: Annotated[float, typer.Option(help="Length of the window, seconds.")] = 60.0,
    slide: Annotated[float, typer.Option(help="Seconds from one to the next.")] = 10.0,
    top: Annotated[int, typer.Option(help="How many are shown.")] = 10,
    interval: Interval = 1.0,
) -> None:
    """Print the leading hashtags of the last minute, each ten seconds."""
    sc = spark_session("windowed hashtags").sparkContext

    def program() -> StreamingContext:
        ssc = StreamingContext(sc, interval)
        leading(ssc.socketTextStream(hostname, port), window, slide).pprint(top)
        return ssc

    run(StreamingContext.getOrCreate(checkpoint, program))


if __name__ == "__main__":
    command(main)
