"""Which tables the web analytics job keeps, and which rows of a batch go where: three pipelines, one ledger.

Tables of sketches per minute are not windows that close: each batch adds up what it brings and merges it into the rows that are there, so
a late visit changes its minute, and a minute can be read while it lasts. Only sessions wait for the watermark: where one ends is not known
before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.web_analytics import pipeline
from jobs.web_analytics.settings import Settings
from jobs.web_analytics.site import countries
from spark_ext import dedup, windows
from spark_ext.delta import create_table
from spark_ext.epochs import Append, Epoch, History, Pipeline, Sink, Sketches
from spark_ext.ingest import accepted, accounts
from spark_ext.ingest.tags import DEAD_LETTER_SCHEMA, RANGE_COUNTS
from spark_ext.queries import Checkpoint
from spark_ext.sketching.tables import MeasureLike, create_sketch_table

__all__ = ["create_tables", "end_of_sessions", "follow_visits", "pipeline_of", "route_pages", "route_sessions", "route_visits"]

VISIT: Final = (
    "visit_id bigint, visitor string, session string, page string, section string, referrer string, country string, agent string, "
    "at timestamp, duration_ms int, source struct<topic: string, partition: int, offset: bigint, timestamp: timestamp>"
)
PLAIN: Final = {
    "visits": VISIT,
    "repeated_visits": VISIT,
    "late_visits": f"{VISIT}, lateness_ms bigint, batch_id bigint, watermark timestamp",
    "dead_letters": DEAD_LETTER_SCHEMA,
    "source_ranges": f"topic string, partition int, {', '.join(f'{name} bigint' for name in RANGE_COUNTS)}, batch_id bigint",
    "page_dead_letters": DEAD_LETTER_SCHEMA,
    "sessions": "visitor string, agent string, window_start timestamp, window_end timestamp, views bigint, pages bigint, spent_ms bigint",
    "late_for_sessions": "visitor string, agent string, page string, at timestamp, duration_ms int, lateness_ms bigint, batch_id bigint",
}
WINDOW: Final = {"window_start": "timestamp", "window_end": "timestamp"}
DRIVER_ROWS: Final = 250_000  # a batch and what is made of it: sketches are computed once, where Spark would for counting and for writing
KEYS: Final[dict[str, dict[str, str]]] = {
    "minute_pages": {**WINDOW, "page": "string", "section": "string"},
    "minutes": WINDOW,
    "country_hours": {**WINDOW, "country": "string"},
    "session_hours": WINDOW,
}
SUMS: Final[dict[str, list[str]]] = {
    "minute_pages": ["views"],
    "minutes": ["views"],
    "country_hours": ["views"],
    "session_hours": ["sessions", "views"],
}


def _sketches(settings: Settings, name: str) -> Sketches:
    return Sketches(settings.table(name), keys=list(KEYS[name]))


# What each pipeline writes; sinks by the names of their tables.
PIPELINES: Final[Mapping[str, Callable[[Settings], Mapping[str, Sink]]]] = {
    "pages": lambda settings: {
        "pages": History(settings.table("pages"), counts_as="accepted", keys=["page"], sequence="changed_at"),
        "page_dead_letters": Append(settings.table("page_dead_letters"), counts_as="dead"),
    },
    "visits": lambda settings: {
        "visits": Append(settings.table("visits"), counts_as="accepted"),
        "repeated_visits": Append(settings.table("repeated_visits"), counts_as="duplicate"),
        "late_visits": Append(settings.table("late_visits"), counts_as="late"),
        "dead_letters": Append(settings.table("dead_letters"), counts_as="dead"),
        "source_ranges": Append(settings.table("source_ranges")),
        **{name: _sketches(settings, name) for name in ("minute_pages", "minutes", "country_hours")},
    },
    "sessions": lambda settings: {
        "sessions": Append(settings.table("sessions")),
        "late_for_sessions": Append(settings.table("late_for_sessions"), counts_as="late"),
        "session_hours": _sketches(settings, "session_hours"),
    },
}


def pipeline_of(settings: Settings, checkpoint: Checkpoint) -> Pipeline:
    """Return the pipeline of a claimed checkpoint, ``web_analytics/<name>``."""
    name = checkpoint.pipeline.rpartition("/")[2]
    event_time = {"pages": "changed_at", "visits": "at"}.get(name)
    return Pipeline(
        checkpoint,
        ledger=settings.table("ledger"),
        sinks=PIPELINES[name](settings),
        event_time=event_time,
        driver_rows=DRIVER_ROWS,
        on_imbalance="warn" if event_time is None else "stop",  # sessions are results, not rows
    )


def create_tables(spark: SparkSession, settings: Settings) -> None:
    """Make the tables that are not there yet, the countries filled."""
    for name, schema in PLAIN.items():
        create_table(spark, settings.table(name), schema)
    for name, keys in KEYS.items():
        measures: dict[str, MeasureLike] = {**dict.fromkeys(SUMS[name], "sum"), **pipeline.SKETCHES[name]}
        create_sketch_table(settings.table(name), keys=keys, measures=measures)
    if not Path(settings.table("countries"), "_delta_log").exists():
        spark.createDataFrame(countries()).write.format("delta").mode("ignore").save(settings.table("countries"))


def follow_visits(spark: SparkSession, settings: Settings) -> DataFrame:
    """Return the visits as a stream, commit by commit from the first: in that order no row is late."""
    options = {"startingVersion": 0, "maxFilesPerTrigger": settings.max_commits_per_trigger}
    return spark.readStream.format("delta").options(**options).load(settings.table("visits"))


def end_of_sessions(spark: SparkSession, settings: Settings) -> datetime | None:
    """Return when the last session ends at the latest, None without a visit."""
    found = spark.read.format("delta").load(settings.table("visits")).agg(F.unix_seconds(F.max("at"))).first()
    return None if found is None or found[0] is None else datetime.fromtimestamp(found[0] + 1, UTC) + pipeline.GAP


def route_pages(epoch: Epoch) -> Mapping[str, DataFrame]:
    """Put each version of a page into the history, and what is none aside."""
    return {
        "pages": accepted(epoch.rows).drop("source"),
        "page_dead_letters": pipeline.CHANGE_FORMAT.dead_letters(epoch.rows),
    }


def route_visits(epoch: Epoch) -> Mapping[str, DataFrame]:
    """Put each record into exactly one of four tables, and add the visits up by minute and by hour."""
    batch_id = F.lit(epoch.batch_id).cast("bigint")
    aside = dedup.invalid(epoch.rows)  # dead letters and accounts: they have no time
    visits = _visit(dedup.unique(epoch.rows))
    late = dedup.late(epoch.rows)
    return {
        "visits": visits,
        "repeated_visits": _visit(dedup.duplicates(epoch.rows)),
        "late_visits": late.select(*_visit(late).columns, "lateness_ms").withColumns(
            {"batch_id": batch_id, "watermark": F.lit(epoch.watermark)}
        ),
        "dead_letters": pipeline.VISIT_FORMAT.dead_letters(aside),
        "source_ranges": accounts(aside).withColumn("batch_id", batch_id),
        "minute_pages": pipeline.minute_pages(visits),
        "minutes": pipeline.minutes(visits),
        "country_hours": pipeline.country_hours(visits),
    }


def route_sessions(epoch: Epoch) -> Mapping[str, DataFrame]:
    """Give out the sessions that a batch closed, and add them up by the hour in which they began."""
    closed = pipeline.sessions(epoch.rows)
    event = [F.col(f"event.{name}").alias(name) for name in ("visitor", "agent", "page", "at", "duration_ms")]
    return {
        "sessions": closed,
        "late_for_sessions": windows.late(epoch.rows).select(*event, "lateness_ms", F.lit(epoch.batch_id).cast("bigint").alias("batch_id")),
        "session_hours": pipeline.session_hours(closed),
    }


def _visit(rows: DataFrame) -> DataFrame:
    return rows.select(*pipeline.VISIT.names, "source")
