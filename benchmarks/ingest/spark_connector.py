"""Way in: Spark's own Kafka connector and ``from_json``, written well: each record is parsed once."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.ingest.job import Job
from benchmarks.ingest.spark_query import answer

__all__ = ["command"]

NEEDED = "ad_id string, event_type string, event_time string"


def command(job: Job) -> Sequence[str]:
    """Return the command line of one run."""
    return [sys.executable, "-m", "benchmarks.ingest.spark_connector", str(job.save())]


def _views(spark: SparkSession, job: Job) -> DataFrame:
    options = {
        "kafka.bootstrap.servers": job.servers,
        "subscribe": job.topic,
        "startingOffsets": "earliest",
        "maxOffsetsPerTrigger": str(job.batch),
    }
    records = spark.readStream.format("kafka").options(**options).load()
    # inline() is a barrier: without it the filter moves below the projection, with a second parser of its own.
    parsed = records.select(F.inline(F.array(F.from_json(F.col("value").cast("string"), NEEDED))))
    return parsed.where("event_type = 'view'").select("ad_id", "event_time")


if __name__ == "__main__":
    answer(_views)
