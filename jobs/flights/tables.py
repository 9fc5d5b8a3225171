"""Which tables the flights job keeps, and which rows of a batch go where: four pipelines, one ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.flights import days, pipeline
from jobs.flights.events import dimensions
from jobs.flights.settings import Settings
from spark_ext.delta import create_table
from spark_ext.epochs import Append, Epoch, Lookup, OnRequest, Pipeline, Sink, Upsert
from spark_ext.ingest import accepted, accounts
from spark_ext.ingest.tags import DEAD_LETTER_SCHEMA
from spark_ext.queries import Checkpoint

__all__ = [
    "PIPELINES",
    "create_tables",
    "follow_facts",
    "newest_event",
    "pipeline_of",
    "route_days",
    "route_events",
    "route_hours",
    "route_routes",
]

FACTS: Final = {
    "flight_events": pipeline.FLIGHT_EVENTS,
    "late_events": pipeline.LATE_EVENTS,
    "dead_letters": DEAD_LETTER_SCHEMA,
    "source_ranges": pipeline.SOURCE_RANGES,
    "departures_weather": pipeline.DEPARTURES_WEATHER,
    "hourly_departures": pipeline.HOURLY_DEPARTURES,
    "routes": pipeline.ROUTES,
    "daily_departures": days.DAILY_DEPARTURES,
    "late_for_days": days.LATE_FOR_DAYS,
}
# What each pipeline writes; sinks by the names of their tables.
PIPELINES: Final[Mapping[str, Callable[[Settings], Mapping[str, Sink]]]] = {
    "events": lambda settings: {
        "flight_events": Append(settings.table("flight_events"), counts_as="accepted"),
        "late_events": Append(settings.table("late_events"), counts_as="late"),
        "dead_letters": Append(settings.table("dead_letters"), counts_as="dead"),
        "source_ranges": Append(settings.table("source_ranges")),
        "departures_weather": Append(settings.table("departures_weather")),
    },
    "days": lambda settings: {
        "daily_departures": Append(settings.table("daily_departures")),
        "late_for_days": Append(settings.table("late_for_days"), counts_as="late"),
    },
    "hours": lambda settings: {"hourly_departures": Upsert(settings.table("hourly_departures"), keys=["origin", "window_start"])},
    "routes": lambda settings: {"routes": Upsert(settings.table("routes"), keys=["origin", "dest", "carrier"])},
}
# What the routes look up; an epoch's versions are in the ledger, newer ones come by ``millrace ledger refresh``.
LOOKUPS: Final[Mapping[str, tuple[str, ...]]] = {"events": ("weather",), "hours": ("weather",), "routes": ("airlines", "airports")}


def pipeline_of(settings: Settings, checkpoint: Checkpoint) -> Pipeline:
    """Return the pipeline of a claimed checkpoint, ``flights/<name>``."""
    name = checkpoint.pipeline.rpartition("/")[2]
    is_of_rows = name == "events"  # the others give out results
    return Pipeline(
        checkpoint,
        ledger=settings.table("ledger"),
        sinks=PIPELINES[name](settings),
        event_time="event_time" if is_of_rows else None,
        on_imbalance="stop" if is_of_rows else "warn",
        tables={one: Lookup(settings.table(one), refresh=OnRequest()) for one in LOOKUPS.get(name, ())},
    )


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


def route_events(epoch: Epoch) -> Mapping[str, DataFrame]:
    """Put each event into exactly one of three tables, what was read into a fourth, and departures with their weather into a fifth."""
    good = pipeline.with_date(accepted(epoch.rows)).withColumn("late", pipeline.is_late(epoch.watermark))
    batch_id = F.lit(epoch.batch_id).cast("bigint")
    facts = good.where("NOT late").drop("late")
    return {
        "flight_events": facts,
        "late_events": good.where("late").drop("late").withColumns({"batch_id": batch_id, "watermark": F.lit(epoch.watermark)}),
        "dead_letters": pipeline.EVENT_FORMAT.dead_letters(epoch.rows),
        "source_ranges": accounts(epoch.rows).withColumn("batch_id", batch_id),
        "departures_weather": pipeline.departures_with_weather(facts, epoch.table("weather")),
    }


def route_days(epoch: Epoch) -> Mapping[str, DataFrame]:
    """Give out the days that a batch closed, and the rows that came after theirs.

    Dead letters are those of `route_events`, and the format refuses absurd times, so there is nothing else.
    """
    batch_id = F.lit(epoch.batch_id).cast("bigint")
    return {
        "daily_departures": days.daily_departures(epoch.rows),
        "late_for_days": days.late_for_days(epoch.rows).withColumn("batch_id", batch_id),
    }


def route_hours(epoch: Epoch) -> Mapping[str, DataFrame]:
    """Name the weather of the hours of a batch."""
    return {"hourly_departures": pipeline.with_weather(epoch.rows, epoch.table("weather"))}


def route_routes(epoch: Epoch) -> Mapping[str, DataFrame]:
    """Name airlines and airports of the routes of a batch."""
    return {"routes": pipeline.with_names(epoch.rows, epoch.table("airlines"), epoch.table("airports"))}
