"""The flights job: from the topic to fact, late and dead-letter tables, and from the facts to hours and routes.

Run it with ``millrace submit jobs/flights/main.py``; see ``--help``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from pyspark.sql import SparkSession

from jobs.flights import pipeline, tables
from jobs.flights.settings import Settings
from spark_ext import kafka
from spark_ext.ops.cli import command
from spark_ext.queries import Checkpoint, Outcome, Query, QueryProgress, run, start
from spark_ext.session import spark_session

PROGRAM: Final = Path(__file__)  # what spark-submit runs


def start_events(spark: SparkSession, settings: Settings, every: str | None) -> Query:
    """Topic -> flight_events, late_events, dead_letters."""
    checkpoint = Checkpoint.claim(settings.checkpoint("events"), pipeline="flights/events", sources=[f"kafka topic {settings.topic}"])
    records = kafka.read(
        spark,
        bootstrap_servers=settings.bootstrap_servers,
        topics=settings.topic,
        max_offsets_per_trigger=settings.max_offsets_per_trigger,
    )
    events = pipeline.parse_events(records, lateness=settings.lateness)
    return start(events, tables.write_events(settings), checkpoint=checkpoint, every=every)


def start_summaries(spark: SparkSession, settings: Settings, every: str | None) -> list[Query]:
    """flight_events -> hourly_departures, routes."""
    facts = tables.follow_facts(spark, settings)
    sources = ["delta table flight_events"]
    hours = start(
        pipeline.departures_by_hour(facts, lateness=settings.lateness),
        tables.write_hours(settings),
        checkpoint=Checkpoint.claim(settings.checkpoint("hours"), pipeline="flights/hours", sources=sources),
        output_mode="update",
        every=every,
    )
    routes = start(
        pipeline.flights_by_route(facts),
        tables.write_routes(settings),
        checkpoint=Checkpoint.claim(settings.checkpoint("routes"), pipeline="flights/routes", sources=sources),
        output_mode="update",
        every=every,
    )
    return [hours, routes]


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
        events = start_events(spark, settings, every)
        if follow:
            queries = [events, *start_summaries(spark, settings, every)]
            run(queries, on_tick=progress.watch(queries))
        elif run([events], on_tick=progress.watch([events])) is Outcome.FINISHED:
            queries = start_summaries(spark, settings, every)
            run(queries, on_tick=progress.watch(queries))
    spark.stop()


if __name__ == "__main__":
    command(main)
