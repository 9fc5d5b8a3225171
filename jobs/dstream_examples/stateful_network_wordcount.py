"""How often has each word come since the program began? Shows updateStateByKey; a restart goes on with the counts that it had."""

from __future__ import annotations

from collections.abc import Iterable

from jobs.dstream_examples.program import Checkpoint, Host, Interval, Port, count_words, run
from spark_ext.dstream import DStream, StreamingContext
from spark_ext.ops.cli import command
from spark_ext.session import spark_session


def totals(lines: DStream[str]) -> DStream[tuple[str, int]]:
    """Return ``(word, how often it has come so far)`` of all words."""

    def add(counts: Iterable[int], total: int | None) -> int:
        return sum(counts, total or 0)

    return count_words(lines).updateStateByKey(add)


def main(hostname: Host, port: Port, checkpoint: Checkpoint, interval: Interval = 1.0) -> None:
    """Print the totals of ten words in each batch."""
    sc = spark_session("stateful network word count").sparkContext

    def program() -> StreamingContext:
        ssc = StreamingContext(sc, interval)
        totals(ssc.socketTextStream(hostname, port)).pprint()
        return ssc

    run(StreamingContext.getOrCreate(checkpoint, program))


if __name__ == "__main__":
    command(main)
