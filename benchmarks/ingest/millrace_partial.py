"""Way in: Millrace's own source, which counts per ad and pane in its workers; Spark joins and adds up what is left."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType, TimestampType

from benchmarks.ingest.job import Job
from benchmarks.ingest.spark_query import answer
from spark_ext import kafka
from spark_ext.ingest import JsonFormat, PartialAggregate, accepted

__all__ = ["command"]

# As for the way without: what the query looks at, and no more.
TEXTS: Final = [StructField(name, StringType(), nullable=False) for name in ("ad_id", "event_type")]
FORMAT: Final = JsonFormat(
    StructType([*TEXTS, StructField("event_time", TimestampType(), nullable=False, metadata={"epoch": "ms"})]),
    event_time="event_time",
    earliest=datetime(1970, 1, 1, tzinfo=UTC),
    ahead=timedelta(days=36_500),  # the others do not hold event time against anything
)
VIEWS: Final = PartialAggregate(["ad_id"], timedelta(seconds=10), {"views": ("count", None)})


def command(job: Job) -> Sequence[str]:
    """Return the command line of one run."""
    return [sys.executable, "-m", "benchmarks.ingest.millrace_partial", str(job.save())]


def _views(spark: SparkSession, job: Job) -> DataFrame:
    rows = kafka.read(
        spark,
        bootstrap_servers=job.servers,
        topics=job.topic,
        format=FORMAT,
        where=[("event_type", "=", "view")],
        partial=VIEWS,
        max_offsets_per_trigger=job.batch,
    )
    return accepted(rows)


def _windows(views: DataFrame, ads: DataFrame) -> DataFrame:
    counted = views.join(F.broadcast(ads), "ad_id").groupBy("campaign", "pane_start").agg(F.sum("views"))
    return counted.select("campaign", F.unix_millis("pane_start"), "sum(views)")


if __name__ == "__main__":
    answer(_views, _windows)
