"""The query in Spark, behind whichever source: join, windows, and a sink that costs next to nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.ingest.job import Counts, Job
from spark_ext.session import spark_session

__all__ = ["answer", "windows"]


Windows = Callable[[DataFrame, DataFrame], DataFrame]


def windows(views: DataFrame, ads: DataFrame) -> DataFrame:
    """Count views, ``ad_id`` string and ``event_time`` a string of ms since 1970, per campaign and window."""
    time = F.timestamp_millis(F.col("event_time").try_cast("bigint"))
    counted = views.join(F.broadcast(ads), "ad_id").groupBy("campaign", F.window(time, "10 seconds")).count()
    return counted.select("campaign", F.unix_millis("window.start"), "count")


def answer(source: Callable[[SparkSession, Job], DataFrame], count: Windows = windows) -> None:
    """Run the job that the command line names.

    Parameters
    ----------
    source : callable
        Returns the views of a job.
    count : callable
        Joins what the source returns with the ads, and returns campaign, start of the window in ms, and count.
    """
    job = Job.from_argument()
    # The same for every source. Broker and others have cores too, so two are named and not all.
    spark = spark_session("ingest", master="local[2]", conf={"spark.ui.enabled": "false", "spark.driver.memory": "4g"})
    counts: Counts = {}

    def merge(batch: DataFrame, _: int) -> None:
        counts.update({(campaign, start_ms): count for campaign, start_ms, count in batch.collect()})

    writer = count(source(spark, job), _ads(spark, job)).writeStream.foreachBatch(merge).outputMode("update").trigger(availableNow=True)
    writer.option("checkpointLocation", str(Path(job.folder, "checkpoint"))).start().awaitTermination()
    spark.stop()
    job.save_answer(counts)


def _ads(spark: SparkSession, job: Job) -> DataFrame:
    ads = job.load_ads()
    # From Arrow it stays a local relation; from a list it would be read through Python in every batch.
    return spark.createDataFrame(pa.table({"ad_id": list(ads), "campaign": list(ads.values())}))
