"""How often is each word in a batch, asked in SQL? Shows toDF, a view per batch, and foreachBatch."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import typer
from pyspark.sql import DataFrame

from jobs.dstream_examples.program import Host, Interval, Port, run
from spark_ext.dstream import StreamingContext
from spark_ext.ops.cli import command
from spark_ext.session import spark_session

COUNT: Final = "SELECT word, count(*) AS total FROM words GROUP BY word ORDER BY total DESC, word"


def main(hostname: Host, port: Port, interval: Interval = 1.0) -> None:
    """Print the words of each batch with their counts, as SQL gives them."""
    spark = spark_session("SQL network word count")
    ssc = StreamingContext(spark.sparkContext, interval)
    words = ssc.socketTextStream(hostname, port).flatMap(str.split).toDF("word string")

    def show(frame: DataFrame, time: datetime) -> None:
        typer.echo(f"========= {time} =========")
        frame.sparkSession.sql(COUNT).show()

    words.createOrReplaceTempView("words")
    words.foreachBatch(show)
    run(ssc)


if __name__ == "__main__":
    command(main)
