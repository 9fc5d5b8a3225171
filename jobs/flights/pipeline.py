"""Flights out of New York.

The question: which hours and routes run late, and how many flights never leave?
Shown here: typed events or dead letters from a topic, a watermark with late events kept apart, hourly event-time
windows, a star schema, weather as of departure. Every function is DataFrame in, DataFrame out; the same on a stream and on a table.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import IntegerType, StringType, StructField, StructType, TimestampType

from spark_ext.ingest import JsonFormat
from spark_ext.ingest.tags import RANGE_COUNTS
from spark_ext.joins.lookup import lookup
from spark_ext.joins.lookup_history import lookup_history

__all__ = [
    "DEPARTURES_WEATHER",
    "EVENT_FORMAT",
    "FLIGHT_EVENTS",
    "HOURLY_DEPARTURES",
    "LATE_EVENTS",
    "ROUTES",
    "SOURCE_RANGES",
    "departures_by_hour",
    "departures_with_weather",
    "flights_by_route",
    "is_late",
    "with_date",
    "with_names",
    "with_watermark",
    "with_weather",
]

EVENT_SCHEMA: Final = StructType(
    [
        StructField("event", StringType(), nullable=False),  # departure, arrival or cancellation
        StructField("event_time", TimestampType(), nullable=False),
        StructField("scheduled_time", TimestampType(), nullable=False),
        StructField("carrier", StringType(), nullable=False),
        StructField("flight", IntegerType(), nullable=False),
        StructField("tailnum", StringType()),
        StructField("origin", StringType(), nullable=False),
        StructField("dest", StringType(), nullable=False),
        StructField("delay_minutes", IntegerType()),
    ]
)
EVENT_FORMAT: Final = JsonFormat(
    EVENT_SCHEMA,
    event_time="event_time",
    earliest=datetime(2000, 1, 1, tzinfo=UTC),  # anything earlier is a broken clock
    refuse={"unknown_event": [("event", "not in", ["departure", "arrival", "cancellation"])]},
)
FLIGHT_EVENTS: Final = (
    "event string, event_time timestamp, scheduled_time timestamp, carrier string, flight int, tailnum string, origin string, "
    "dest string, delay_minutes int, source struct<topic: string, partition: int, offset: bigint, timestamp: timestamp>, event_date date"
)
LATE_EVENTS: Final = f"{FLIGHT_EVENTS}, batch_id bigint, watermark timestamp"
HOURLY_DEPARTURES: Final = (
    "origin string, window_start timestamp, window_end timestamp, departures bigint, cancelled bigint, mean_delay_minutes double, "
    "worst_delay_minutes int, distinct_aircraft bigint, temp double, wind_speed double, precip double, visib double"
)
ROUTES: Final = (
    "origin string, dest string, carrier string, airline string, destination string, departures bigint, cancelled bigint, "
    "arrivals bigint, mean_arrival_delay_minutes double"
)
SOURCE_RANGES: Final = f"topic string, partition int, {', '.join(f'{name} bigint' for name in RANGE_COUNTS)}, batch_id bigint"
WEATHER: Final = ("temp", "wind_speed", "precip", "visib")
DEPARTURES_WEATHER: Final = (
    "origin string, dest string, carrier string, flight int, event_time timestamp, delay_minutes int, "
    "source struct<topic: string, partition: int, offset: bigint, timestamp: timestamp>, measured_at timestamp, temp double, "
    "wind_speed double, precip double, visib double"
)
WINDOW: Final = "1 hour"
MEASURED_WITHIN: Final = timedelta(hours=2)  # an older measurement says nothing of a departure


def with_watermark(events: DataFrame, *, lateness: timedelta) -> DataFrame:
    """Put events under a watermark; dead letters and accounts have no event time and do not move it."""
    return events.withWatermark("event_time", f"{int(lateness.total_seconds())} seconds")


def is_late(watermark: datetime) -> Column:
    """Tell whether the hour of ``event_time`` had ended at the watermark; false for dead letters."""
    hour_end = F.date_trunc("hour", F.col("event_time")) + F.expr(f"interval {WINDOW}")
    return F.coalesce(hour_end <= F.lit(watermark), F.lit(False))


def with_date(events: DataFrame) -> DataFrame:
    """Add ``event_date``, the day of the event in UTC: the date key of the fact table."""
    return events.withColumn("event_date", F.to_date("event_time"))


def departures_by_hour(events: DataFrame, *, lateness: timedelta) -> DataFrame:
    """Return one row per origin and hour: departures, cancellations, delays and aircraft.

    State, on a stream: one row per open hour and origin with the tail numbers seen; gone once the watermark has
    passed the hour.
    """
    left = F.col("event") == "departure"
    return (
        events.where(F.col("event") != "arrival")
        .withWatermark("event_time", f"{int(lateness.total_seconds())} seconds")
        .groupBy("origin", F.window("event_time", WINDOW))
        .agg(
            F.count_if(left).alias("departures"),
            F.count_if(~left).alias("cancelled"),
            F.avg(F.when(left, F.col("delay_minutes"))).alias("mean_delay_minutes"),
            F.max(F.when(left, F.col("delay_minutes"))).alias("worst_delay_minutes"),
            # A stream cannot count distinct values itself; a set can, and an hour has few aircraft.
            F.size(F.collect_set(F.when(left, F.col("tailnum")))).cast("bigint").alias("distinct_aircraft"),
        )
        .select("origin", F.col("window.start").alias("window_start"), F.col("window.end").alias("window_end"), "departures", "cancelled",
                "mean_delay_minutes", "worst_delay_minutes", "distinct_aircraft")
    )  # fmt: skip


def with_weather(hours: DataFrame, weather: DataFrame) -> DataFrame:
    """Add the weather at the origin when the hour began; null where nobody measured."""
    return lookup(hours, weather, on={"origin": "origin", "window_start": "time_hour"}, columns=WEATHER)


def departures_with_weather(events: DataFrame, weather: DataFrame) -> DataFrame:
    """Return the departures with the last weather measured at their origin when they left; null where that is more than two hours ago."""
    left = events.where(F.col("event") == "departure")
    named = left.select("origin", "dest", "carrier", "flight", "event_time", "delay_minutes", "source")
    columns = {"time_hour": "measured_at"} | {name: name for name in WEATHER}
    return lookup_history(
        named,
        weather,
        on="origin",
        event_time="event_time",
        valid_from="time_hour",
        valid_to=None,
        tolerance=MEASURED_WITHIN,
        columns=columns,
    )


def flights_by_route(events: DataFrame) -> DataFrame:
    """Return one row per origin, destination and carrier: flights and arrival delays.

    State, on a stream: one row per route and carrier, kept for ever.
    """
    landed = F.col("event") == "arrival"
    return events.groupBy("origin", "dest", "carrier").agg(
        F.count_if(F.col("event") == "departure").alias("departures"),
        F.count_if(F.col("event") == "cancellation").alias("cancelled"),
        F.count_if(landed).alias("arrivals"),
        F.avg(F.when(landed, F.col("delay_minutes"))).alias("mean_arrival_delay_minutes"),
    )


def with_names(routes: DataFrame, airlines: DataFrame, airports: DataFrame) -> DataFrame:
    """Add the names of airline and destination."""
    with_airline = lookup(routes, airlines, on="carrier", columns={"name": "airline"})
    return lookup(with_airline, airports, on={"dest": "faa"}, columns={"name": "destination"})
