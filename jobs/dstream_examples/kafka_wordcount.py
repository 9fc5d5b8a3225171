"""How often is each word in the records of topics, per batch? Shows the direct stream; a restart goes on at the offsets that it had."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from jobs.dstream_examples.program import Checkpoint, Interval, count_words, run
from spark_ext.dstream import StreamingContext
from spark_ext.dstream.kafka import KafkaUtils
from spark_ext.ops.cli import command
from spark_ext.session import spark_session


def main(
    bootstrap_servers: Annotated[str, typer.Argument(help="Addresses of the broker.")],
    topics: Annotated[str, typer.Argument(help="Topics to read, with commas between them.")],
    checkpoint: Checkpoint,
    start: Annotated[Literal["earliest", "latest"], typer.Option(help="Where a new checkpoint begins.")] = "latest",
    interval: Interval = 1.0,
) -> None:
    """Print the words of each batch with their counts."""
    sc = spark_session("Kafka word count").sparkContext
    params = {"bootstrap.servers": bootstrap_servers, "auto.offset.reset": start}

    def program() -> StreamingContext:
        ssc = StreamingContext(sc, interval)
        records = KafkaUtils.createDirectStream(ssc, topics.split(","), params)
        count_words(records.map(lambda record: record[1] or "")).pprint()  # a tombstone has no value
        return ssc

    run(StreamingContext.getOrCreate(checkpoint, program))


if __name__ == "__main__":
    command(main)
