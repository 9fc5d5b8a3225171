"""How often is each word in what a server sends, per batch? Shows flatMap, map, reduceByKey and pprint."""

from __future__ import annotations

from jobs.dstream_examples.program import Host, Interval, Port, count_words, run
from spark_ext.dstream import StreamingContext
from spark_ext.ops.cli import command
from spark_ext.session import spark_session


def main(hostname: Host, port: Port, interval: Interval = 1.0) -> None:
    """Print the words of each batch with their counts."""
    ssc = StreamingContext(spark_session("network word count").sparkContext, interval)
    count_words(ssc.socketTextStream(hostname, port)).pprint()
    run(ssc)


if __name__ == "__main__":
    command(main)
