"""Way in: Millrace's own source. Workers fetch, decode, filter and prune; what is left crosses as Arrow columns.

This is the one place here that knows how the source is asked.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType, StructField, StructType

from benchmarks.ingest.job import Job
from benchmarks.ingest.spark_query import answer
from spark_ext import kafka
from spark_ext.ingest import JsonFormat, accepted

__all__ = ["command"]

# What the others look at too, and no more.
SCHEMA = StructType([StructField(name, StringType(), nullable=False) for name in ("ad_id", "event_type", "event_time")])


def command(job: Job) -> Sequence[str]:
    """Return the command line of one run."""
    return [sys.executable, "-m", "benchmarks.ingest.millrace", str(job.save())]


def _views(spark: SparkSession, job: Job) -> DataFrame:
    rows = kafka.read(
        spark,
        bootstrap_servers=job.servers,
        topics=job.topic,
        format=JsonFormat(SCHEMA),
        columns=["ad_id", "event_time"],
        where=[("event_type", "=", "view")],
        source=False,
        max_offsets_per_trigger=job.batch,
    )
    return accepted(rows).select("ad_id", "event_time")


if __name__ == "__main__":
    answer(_views)
