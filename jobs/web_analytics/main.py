"""The web analytics job: versions of pages to their history, visits to facts and sketches, and from the facts to sessions.

Run it with ``millrace submit jobs/web_analytics/main.py``; see ``--help``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from pyspark.sql import DataFrame, SparkSession

from jobs.web_analytics import pipeline, tables
from jobs.web_analytics.settings import Settings
from spark_ext import epochs, kafka
from spark_ext.ingest import JsonFormat
from spark_ext.ops.cli import command
from spark_ext.queries import Checkpoint, Outcome, Query, QueryProgress, run
from spark_ext.session import spark_session
from spark_ext.state.control import Control
from spark_ext.time import with_watermark

PROGRAM: Final = Path(__file__)  # what spark-submit runs


def start_pages(spark: SparkSession, settings: Settings, every: str | None) -> Query:
    """Topic of pages -> pages, page_dead_letters."""
    checkpoint = _claim(settings, "pages", _topic(spark, settings, settings.pages_topic))
    versions = _records(spark, settings, settings.pages_topic, pipeline.CHANGE_FORMAT, checkpoint)
    return epochs.start(versions, tables.route_pages, pipeline=tables.pipeline_of(settings, checkpoint), every=every)


def start_visits(spark: SparkSession, settings: Settings, every: str | None) -> Query:
    """Topic of visits -> visits, repeated_visits, late_visits, dead_letters, source_ranges, minute_pages, minutes, country_hours."""
    checkpoint = _claim(settings, "visits", _topic(spark, settings, settings.topic))
    records = _records(spark, settings, settings.topic, pipeline.VISIT_FORMAT, checkpoint)
    told = pipeline.told_apart(records, lateness=settings.lateness)
    return epochs.start(told, tables.route_visits, pipeline=tables.pipeline_of(settings, checkpoint), every=every)


def start_sessions(spark: SparkSession, settings: Settings, every: str | None) -> Query:
    """Visits -> sessions, late_for_sessions, session_hours."""
    visits = with_watermark(tables.follow_visits(spark, settings), event_time="at", lateness=settings.lateness)
    sessions = pipeline.by_session(visits, control=Control(settings.control))
    checkpoint = _claim(settings, "sessions", ["delta table visits", "control"])
    return epochs.start(sessions, tables.route_sessions, pipeline=tables.pipeline_of(settings, checkpoint), every=every)


def close_sessions(spark: SparkSession, settings: Settings) -> None:
    """Say that the input has ended: the next batch of the sessions closes all that are open."""
    end = tables.end_of_sessions(spark, settings)
    if end is not None:
        Control(settings.control).close(end)


def _topic(spark: SparkSession, settings: Settings, topic: str) -> list[str]:
    return kafka.identify(spark, bootstrap_servers=settings.bootstrap_servers, topics=topic, options=settings.options)


def _records(spark: SparkSession, settings: Settings, topic: str, form: JsonFormat, checkpoint: Checkpoint) -> DataFrame:
    return kafka.read(
        spark,
        bootstrap_servers=settings.bootstrap_servers,
        topics=topic,
        format=form,
        starting=epochs.starting(checkpoint),
        max_offsets_per_trigger=settings.max_offsets_per_trigger,
        options=settings.options,
    )


def _claim(settings: Settings, name: str, sources: list[str]) -> Checkpoint:
    return Checkpoint.claim(settings.checkpoint(name), pipeline=f"web_analytics/{name}", sources=sources)


def main(
    environment: Annotated[str, typer.Option(help="Which conf/web_analytics/<environment>.toml to load.")] = "local",
    bootstrap_servers: Annotated[str | None, typer.Option(help="Addresses of the broker.")] = None,
    topic: Annotated[str | None, typer.Option(help="Topic of the visits.")] = None,
    pages_topic: Annotated[str | None, typer.Option(help="Topic of the pages.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder for tables and checkpoints.")] = None,
    max_offsets_per_trigger: Annotated[int | None, typer.Option(help="Most records of one batch.")] = None,
    follow: Annotated[bool, typer.Option(help="Go on as a live stream until Ctrl-C; without it take what is there and end.")] = False,
) -> None:
    """Run the web analytics job."""
    given = {"bootstrap_servers": bootstrap_servers, "topic": topic, "pages_topic": pages_topic, "out": out}
    settings = Settings.load(environment, **given, max_offsets_per_trigger=max_offsets_per_trigger)
    spark = spark_session("web analytics")
    tables.create_tables(spark, settings)
    every = settings.trigger if follow else None
    with QueryProgress() as progress:
        reading = [start_pages(spark, settings, every), start_visits(spark, settings, every)]
        if follow:
            live = [*reading, start_sessions(spark, settings, every)]
            run(live, on_tick=progress.watch(live))
        elif run(reading, on_tick=progress.watch(reading)) is Outcome.FINISHED:
            # What is there now is faster one after the other; and a session closes when all visits have been read.
            sessions = [start_sessions(spark, settings, every)]
            if run(sessions, on_tick=progress.watch(sessions)) is Outcome.FINISHED:
                close_sessions(spark, settings)
                run([start_sessions(spark, settings, every)])
    spark.stop()


if __name__ == "__main__":
    command(main)
