"""How the batches of the flights job become Delta tables."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.flights import days, pipeline
from jobs.flights.events import dimensions
from jobs.flights.settings import Settings
from spark_ext import windows
from spark_ext.delta import append, append_small, create_table, upsert
from spark_ext.ingest import accepted, accounts
from spark_ext.ingest.tags import DEAD, DEAD_LETTER_SCHEMA, is_accepted
from spark_ext.queries import Batch

__all__ = ["create_tables", "follow_facts", "newest_event", "write_days", "write_events", "write_hours", "write_routes"]

FACTS: Final = {
    "flight_events": pipeline.FLIGHT_EVENTS,
    "late_events": pipeline.LATE_EVENTS,
    "dead_letters": DEAD_LETTER_SCHEMA,
    "source_ranges": pipeline.SOURCE_RANGES,
    "hourly_departures": pipeline.HOURLY_DEPARTURES,
    "routes": pipeline.ROUTES,
    "daily_departures": days.DAILY_DEPARTURES,
    "late_for_days": days.LATE_FOR_DAYS,
}
FEW: Final = 10_000  # rows that the driver may write by itself


def create_tables(spark: SparkSession, settings: Settings) -> None:
    """Make the tables that are not there yet, the dimensions filled."""
    for name, schema in FACTS.items():
        create_table(spark, settings.table(name), schema)
    for name, frame in dimensions().items():
        if not Path(settings.table(name), "_delta_log").exists():
            spark.createDataFrame(frame).write.format("delta").mode("ignore").save(settings.table(name))


def follow_facts(spark: SparkSession, settings: Settings) -> DataFrame:
    """Return the fact table as a stream, commit by commit from the first: in that order no row is late."""
    return spark.readStream.format("delta").option("startingVersion", 0).load(settings.table("flight_events"))


def newest_event(spark: SparkSession, settings: Settings) -> datetime | None:
    """Return the latest event time of the facts, None without any; it was never late, so it is the latest of all."""
    found = spark.read.format("delta").load(settings.table("flight_events")).agg(F.unix_seconds(F.max("event_time"))).first()
    return None if found is None or found[0] is None else datetime.fromtimestamp(found[0], UTC)


def write_events(settings: Settings) -> Callable[[Batch], None]:
    """Return the function that puts each event of a batch into exactly one of three tables, and what was read into a fourth."""

    def write(batch: Batch) -> None:
        tagged = batch.rows.withColumn("late", pipeline.is_late(batch.watermark)).persist()
        try:
            good = pipeline.with_date(accepted(tagged))
            batch_id = F.lit(batch.batch_id).cast("bigint")
            late = good.where("late").drop("late").withColumns({"batch_id": batch_id, "watermark": F.lit(batch.watermark)})
            parts = {
                "flight_events": good.where("NOT late").drop("late"),
                "late_events": late,
                "dead_letters": pipeline.EVENT_FORMAT.dead_letters(tagged),
            }
            # One pass over the cached batch is cheaper than a commit without rows.
            counts = tagged.agg(
                F.count_if(is_accepted() & ~F.col("late")).alias("flight_events"),
                F.count_if("late").alias("late_events"),
                F.count_if(F.col(DEAD).isNotNull()).alias("dead_letters"),
            ).first()
            frames = {settings.table(name): part for name, part in parts.items() if counts and counts[name]}
            append(frames, app_id=batch.app_id, batch_id=batch.batch_id)
            read = accounts(tagged).withColumn("batch_id", batch_id)
            append_small(read, settings.table("source_ranges"), app_id=batch.app_id, batch_id=batch.batch_id)
        finally:
            tagged.unpersist()

    return write


def write_days(settings: Settings) -> Callable[[Batch], None]:
    """Return the function that adds the days that a batch closed, and the rows that came after theirs.

    Dead letters are those of `write_events`, and the format refuses absurd times, so there is nothing else.
    """

    def write(batch: Batch) -> None:
        tagged = batch.rows.persist()  # or the state would be gone through twice
        try:
            batch_id = F.lit(batch.batch_id).cast("bigint")
            parts = {
                "daily_departures": days.daily_departures(tagged),
                "late_for_days": days.late_for_days(tagged).withColumn("batch_id", batch_id),
            }
            counts = tagged.agg(
                F.count_if(~windows.is_rejected()).alias("daily_departures"), F.count_if(windows.is_rejected()).alias("late_for_days")
            ).first()
            for name, part in parts.items():
                if counts and counts[name]:
                    write_rows = append_small if counts[name] <= FEW else _append
                    write_rows(part, settings.table(name), app_id=batch.app_id, batch_id=batch.batch_id)
        finally:
            tagged.unpersist()

    return write


def write_hours(settings: Settings) -> Callable[[Batch], None]:
    """Return the function that brings the hours of a batch up to date."""

    def write(batch: Batch) -> None:
        weather = batch.rows.sparkSession.read.format("delta").load(settings.table("weather"))
        upsert(pipeline.with_weather(batch.rows, weather), settings.table("hourly_departures"), keys=["origin", "window_start"])

    return write


def write_routes(settings: Settings) -> Callable[[Batch], None]:
    """Return the function that brings the routes of a batch up to date."""

    def write(batch: Batch) -> None:
        read = batch.rows.sparkSession.read.format("delta")
        named = pipeline.with_names(batch.rows, read.load(settings.table("airlines")), read.load(settings.table("airports")))
        upsert(named, settings.table("routes"), keys=["origin", "dest", "carrier"])

    return write


def _append(frame: DataFrame, path: str, *, app_id: str, batch_id: int) -> None:
    append({path: frame}, app_id=app_id, batch_id=batch_id)
