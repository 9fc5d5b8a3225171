"""Does a word count survive a kill? Shows getOrCreate: the program is built anew at each start, with its broadcast and accumulator.

Each batch has a file of its own, named by its time. A batch that is tried again has the same time and the same words, so it writes the
same file: each word that was received is counted once.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from pyspark import RDD

from jobs.dstream_examples.program import Checkpoint, Host, Interval, Port, count_words, run
from spark_ext.dstream import StreamingContext
from spark_ext.ops.cli import command
from spark_ext.session import spark_session

EXCLUDED: Final = frozenset({"a", "and", "of", "the"})


def main(
    hostname: Host,
    port: Port,
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Argument(help="Folder for a file of counts per batch.")],
    interval: Interval = 1.0,
) -> None:
    """Write the words of each batch with their counts, but for a few that say nothing."""
    sc = spark_session("recoverable network word count").sparkContext
    out.mkdir(parents=True, exist_ok=True)

    def program() -> StreamingContext:
        ssc = StreamingContext(sc, interval)
        excluded, dropped = sc.broadcast(EXCLUDED), sc.accumulator(0)  # of this start: neither is in a checkpoint

        def keep(pair: tuple[str, int]) -> bool:
            if pair[0] in excluded.value:
                dropped.add(pair[1])
                return False
            return True

        def write(time: datetime, counts: RDD[tuple[str, int]]) -> None:
            words = dict(counts.filter(keep).collect())
            file = out / f"{int(time.timestamp() * 1000)}.json"
            aside = file.with_suffix(".new")
            aside.write_text(json.dumps({"words": words, "dropped_since_start": dropped.value}), encoding="utf-8")
            aside.replace(file)

        count_words(ssc.socketTextStream(hostname, port)).foreachRDD(write)
        return ssc

    run(StreamingContext.getOrCreate(checkpoint, program))


if __name__ == "__main__":
    command(main)
