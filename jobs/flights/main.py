"""The flights job: from the topic to fact, late and dead-letter tables and to days, and from the facts to hours and routes.

Run it with ``millrace submit jobs/flights/main.py``; see ``--help``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer
from pyspark.sql import SparkSession

from jobs.flights import days, pipeline, tables
from jobs.flights.settings import Settings
from spark_ext import epochs, kafka
from spark_ext.epochs.dead_letters import Replayable
from spark_ext.ingest import accepted
from spark_ext.ops.cli import command
from spark_ext.queries import Checkpoint, Outcome, Query, QueryProgress, run
from spark_ext.session import spark_session
from spark_ext.state.control import Control
from spark_ext.time import with_watermark

PROGRAM: Final = Path(__file__)  # what spark-submit runs
FACTS: Final = ["delta table flight_events"]


def start_events(spark: SparkSession, settings: Settings, every: str | None) -> Query:
    """Topic -> flight_events, late_events, dead_letters, source_ranges, departures_weather."""
    checkpoint = _claim(settings, "events", _topic(spark, settings))
    events = kafka.read(
        spark,
        bootstrap_servers=settings.bootstrap_servers,
        topics=settings.topic,
        format=pipeline.EVENT_FORMAT,
        starting=epochs.starting(checkpoint),
        max_offsets_per_trigger=settings.max_offsets_per_trigger,
        options=settings.options,
    )
    timed = pipeline.with_watermark(events, lateness=settings.lateness)
    return epochs.start(timed, tables.route_events, pipeline=tables.pipeline_of(settings, checkpoint), every=every)


def start_days(spark: SparkSession, settings: Settings, every: str | None) -> Query:
    """Topic -> daily_departures, late_for_days."""
    checkpoint = _claim(settings, "days", [*_topic(spark, settings), "control"])
    events = kafka.read(
        spark,
        bootstrap_servers=settings.bootstrap_servers,
        topics=settings.topic,
        format=pipeline.EVENT_FORMAT,
        columns=days.COLUMNS,
        where=days.OUTWARD,
        clock=kafka.EventClock(idle_after=settings.idle_after),
        starting=epochs.starting(checkpoint),
        max_offsets_per_trigger=min(settings.max_offsets_per_trigger, settings.days_max_offsets_per_trigger),
        options=settings.options,
    )
    timed = accepted(with_watermark(events, event_time="event_time", lateness=settings.lateness))
    by_day = days.departures_by_day(timed, control=Control(settings.control))
    return epochs.start(by_day, tables.route_days, pipeline=tables.pipeline_of(settings, checkpoint), every=every)


def close_days(spark: SparkSession, settings: Settings) -> None:
    """Say that the input has ended: the next batch of the days closes all that hold an event so far."""
    newest = tables.newest_event(spark, settings)
    if newest is not None:
        Control(settings.control).close(days.end_of_day(newest))


def start_hours(spark: SparkSession, settings: Settings, every: str | None) -> Query:
    """flight_events -> hourly_departures."""
    hours = pipeline.departures_by_hour(tables.follow_facts(spark, settings), lateness=settings.lateness)
    kept = tables.pipeline_of(settings, _claim(settings, "hours", FACTS))
    return epochs.start(hours, tables.route_hours, pipeline=kept, output_mode="update", every=every)


def start_routes(spark: SparkSession, settings: Settings, every: str | None) -> Query:
    """flight_events -> routes."""
    routes = pipeline.flights_by_route(tables.follow_facts(spark, settings))
    kept = tables.pipeline_of(settings, _claim(settings, "routes", FACTS))
    return epochs.start(routes, tables.route_routes, pipeline=kept, output_mode="update", every=every)


def replayable() -> Replayable:
    """Return what ``millrace dead-letters replay jobs.flights.main:replayable`` needs; ``FLIGHTS_OUT`` says where the tables are."""
    settings = Settings.load("local", out=os.environ.get("FLIGHTS_OUT"))
    checkpoint = Checkpoint.find(settings.checkpoint("events"), pipeline="flights/events")
    return Replayable(tables.pipeline_of(settings, checkpoint), tables.route_events, pipeline.EVENT_FORMAT)


def _topic(spark: SparkSession, settings: Settings) -> list[str]:
    return kafka.identify(spark, bootstrap_servers=settings.bootstrap_servers, topics=settings.topic, options=settings.options)


def _claim(settings: Settings, name: str, sources: list[str]) -> Checkpoint:
    return Checkpoint.claim(settings.checkpoint(name), pipeline=f"flights/{name}", sources=sources)


def main(
    environment: Annotated[str, typer.Option(help="Which conf/flights/<environment>.toml to load.")] = "local",
    bootstrap_servers: Annotated[str | None, typer.Option(help="Addresses of the broker.")] = None,
    topic: Annotated[str | None, typer.Option(help="Topic to read.")] = None,
    out: Annotated[str | None, typer.Option(help="Folder for tables and checkpoints.")] = None,
    max_offsets_per_trigger: Annotated[int | None, typer.Option(help="Most events of one batch.")] = None,
    follow: Annotated[bool, typer.Option(help="Go on as a live stream until Ctrl-C; without it take what is there and end.")] = False,
) -> None:
    """Run the flights job."""
    settings = Settings.load(
        environment, bootstrap_servers=bootstrap_servers, topic=topic, out=out, max_offsets_per_trigger=max_offsets_per_trigger
    )
    spark = spark_session("flights")
    tables.create_tables(spark, settings)
    every = settings.trigger if follow else None
    with QueryProgress() as progress:
        reading = [start_events(spark, settings, every), start_days(spark, settings, every)]
        # A stream that goes on needs all at once; what is there now is faster one after the other.
        if follow or run(reading, on_tick=progress.watch(reading)) is Outcome.FINISHED:
            summaries = [start_hours(spark, settings, every), start_routes(spark, settings, every)]
            if follow:
                run([*reading, *summaries], on_tick=progress.watch([*reading, *summaries]))
            else:
                close_days(spark, settings)
                run([*summaries, start_days(spark, settings, every)], on_tick=progress.watch(summaries))
    spark.stop()


if __name__ == "__main__":
    command(main)
