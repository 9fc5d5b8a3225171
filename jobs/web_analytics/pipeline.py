"""Visits of a site.

The question: who visits which page, what is hot now, and what do sessions look like?
Shown here: resends told from visits, sketches per minute that late rows are merged into, session windows, dimensions with a history.
Every function is DataFrame in, DataFrame out; the same on a batch of a stream and on a table.

    topic --- told_apart --- visits ---+--- minute_pages     per minute, page and section: views, distinct visitors
                 |                     +--- minutes          per minute: views, hot pages, decayed popularity, quantiles of time spent
                 |                     +--- country_hours    per hour and country: views, and of each page about how many
                 |                     +--- by_session --- sessions --- session_hours   per hour: sessions, a sample of them, their lengths
                 +-- repeated, late, dead letters
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import IntegerType, LongType, StringType, StructField, StructType, TimestampType

from sketches import CountMinSketch, DecayingTop, HyperLogLog, Quantiles, ReservoirSample, Sketch, SpaceSaving
from spark_ext import dedup, sketching, windows
from spark_ext.ingest import JsonFormat
from spark_ext.sketching import sketch
from spark_ext.state.control import Control
from spark_ext.time import with_watermark
from spark_ext.windows import aggregates

__all__ = [
    "CHANGE_FORMAT",
    "GAP",
    "HALF_LIFE",
    "HORIZON",
    "VISIT_FORMAT",
    "by_session",
    "country_hours",
    "minute_pages",
    "minutes",
    "session_hours",
    "sessions",
    "told_apart",
    "with_page",
]

VISIT: Final = StructType(
    [
        StructField("visit_id", LongType(), nullable=False),
        StructField("visitor", StringType(), nullable=False),
        StructField("session", StringType(), nullable=False),  # as the browser counts them
        StructField("page", StringType(), nullable=False),
        StructField("section", StringType(), nullable=False),  # of the page, at that time
        StructField("referrer", StringType()),
        StructField("country", StringType(), nullable=False),
        StructField("agent", StringType(), nullable=False),
        StructField("at", TimestampType(), nullable=False),
        StructField("duration_ms", IntegerType(), nullable=False),
    ]
)
VISIT_FORMAT: Final = JsonFormat(
    VISIT, event_time="at", earliest=datetime(2000, 1, 1, tzinfo=UTC), refuse={"negative_duration": [("duration_ms", "<", 0)]}
)
CHANGE_FORMAT: Final = JsonFormat(
    StructType(
        [
            StructField("page", StringType(), nullable=False),
            StructField("section", StringType(), nullable=False),
            StructField("title", StringType(), nullable=False),
            StructField("changed_at", TimestampType(), nullable=False),
        ]
    ),
    event_time="changed_at",
    earliest=datetime(2000, 1, 1, tzinfo=UTC),
)
HORIZON: Final = timedelta(hours=1)  # how far behind the watermark a resend is still known for what it is
GAP: Final = timedelta(minutes=30)
HALF_LIFE: Final = timedelta(minutes=10)
BUCKETS: Final = 4  # said here so that it does not follow the size of a cluster
NUMBER: Final = "number"  # of a visit in its partition

VISITORS: Final = HyperLogLog(12)  # 1.6 %
HOT: Final = SpaceSaving(64)  # off by 1/64 of the views at most
POPULAR: Final = DecayingTop(64, HALF_LIFE)
TIME_SPENT: Final = Quantiles(400)  # a rank is off by 0.7 % or so
PAGES: Final = CountMinSketch.from_error(epsilon=0.01, delta=0.02)  # off by 1 % of a country's views, in 98 of 100 cases
SAMPLE: Final = ReservoirSample(256)  # a share of sessions is off by 9 points at most, in 95 of 100 hours
LENGTHS: Final = Quantiles(200)
# What the sketch columns of each table are; see `spark_ext.sketching.tables`.
SKETCHES: Final[dict[str, dict[str, Sketch]]] = {
    "minute_pages": {"visitors": VISITORS},
    "minutes": {"hot": HOT, "popular": POPULAR, "time_spent": TIME_SPENT},
    "country_hours": {"pages": PAGES},
    "session_hours": {"sample": SAMPLE, "lengths": LENGTHS},
}


def told_apart(records: DataFrame, *, lateness: timedelta) -> DataFrame:
    """Tell visits from their resends and from what comes too late to be told; dead letters and accounts go along.

    Nothing is dropped, and of a resend it does not matter which copy is kept: a visit counts when it comes for the first time, a copy
    that comes while that is remembered is a duplicate, and what is behind the watermark and repeats nothing that is remembered is late.

    Parameters
    ----------
    records : DataFrame
        What the source gives in `VISIT_FORMAT`, whole: a stream, or a bounded frame, of which nothing is late.
    lateness : timedelta
        How far the watermark stays behind the latest visit.

    Returns
    -------
    DataFrame
        Tagged rows, for `spark_ext.dedup.unique`, `duplicates`, `late` and `invalid`; in the last are dead letters and accounts.

    State, on a stream: 16 bytes for each visit of the last `lateness` and `HORIZON`.
    """
    timed = with_watermark(records, event_time="at", lateness=lateness)
    # Copies have one visitor, so one partition: of those in one batch the first by offset is kept, at a replay as well.
    numbered = timed.withColumn(NUMBER, F.col("source.offset"))
    return dedup.drop_duplicates(
        numbered, keys=["visit_id"], event_time="at", horizon=HORIZON, keep="arrived", order=[NUMBER], buckets=BUCKETS
    )


def minute_pages(visits: DataFrame) -> DataFrame:
    """Return per minute, page and section the views, and a sketch of the distinct visitors.

    A page that moves in the middle of a minute has two rows. Rows of several batches add up, whatever is late.
    """
    return sketching.aggregate(
        visits.select(*_span("minute"), "page", "section", "visitor"),
        keys=["window_start", "window_end", "page", "section"],
        aggregates={"views": aggregates.count(), "visitors": sketch(VISITORS, "visitor")},
    )


def minutes(visits: DataFrame) -> DataFrame:
    """Return per minute the views, and sketches of what is hot, how popular pages are as time goes by, and how long visits last."""
    return sketching.aggregate(
        visits.select(*_span("minute"), "page", "at", F.col("duration_ms").cast("double").alias("spent_ms")),
        keys=["window_start", "window_end"],
        aggregates={
            "views": aggregates.count(),
            "hot": sketch(HOT, "page"),
            "popular": sketch(POPULAR, "page", times="at"),
            "time_spent": sketch(TIME_SPENT, "spent_ms"),
        },
    )


def country_hours(visits: DataFrame) -> DataFrame:
    """Return per hour and country the views, and a sketch that says of each page about how many.

    Per hour, not per minute: such a sketch takes its room, however few rows are in it.
    """
    return sketching.aggregate(
        visits.select(*_span("hour"), "country", "page"),
        keys=["window_start", "window_end", "country"],
        aggregates={"views": aggregates.count(), "pages": sketch(PAGES, "page")},
    )


def by_session(visits: DataFrame, *, control: Control | None = None) -> DataFrame:
    """Put the visits of each visitor together that follow each other within less than `GAP`.

    Parameters
    ----------
    visits : DataFrame
        Accepted visits: a stream with a watermark, or a table.
    control : Control, optional
        Where the end of input is told, so that the last sessions close.

    Returns
    -------
    DataFrame
        Tagged rows, for `sessions` and `spark_ext.windows.late`.

    State, on a stream: one row per open session, with its pages; gone once the watermark has passed its last visit by `GAP`.
    """
    return windows.aggregate(
        visits.select("visitor", "agent", "page", "at", "duration_ms"),
        keys=["visitor", "agent"],  # a visitor has one agent: it comes along as a key
        event_time="at",
        window=windows.session(GAP).without_grace(),  # the watermark waits for late rows already
        aggregates={"views": aggregates.count(), "pages": aggregates.distinct("page"), "spent_ms": aggregates.sum("duration_ms")},
        buckets=BUCKETS,
        control=control,
    )


def sessions(tagged: DataFrame) -> DataFrame:
    """Return one row per closed session."""
    return windows.results(tagged).select("visitor", "agent", *_window(), "views", "pages", "spent_ms")


def session_hours(closed: DataFrame) -> DataFrame:
    """Return per hour in which sessions began how many there are, a sample of them, and a sketch of their lengths.

    What is sampled is text: visitor, start, views and milliseconds spent, with a bar between them.
    """
    start = F.col("window_start")
    told = F.concat_ws("|", "visitor", F.date_format(start, "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'"), "views", "spent_ms")
    hour = F.date_trunc("hour", start)
    return sketching.aggregate(
        closed.select(
            hour.alias("window_start"),
            (hour + F.expr("interval 1 hour")).alias("window_end"),
            told.alias("told"),
            F.col("views").cast("double").alias("length"),
            "views",
        ),
        keys=["window_start", "window_end"],
        aggregates={
            "sessions": aggregates.count(),
            "views": aggregates.sum("views"),
            "sample": sketch(SAMPLE, "told"),
            "lengths": sketch(LENGTHS, "length"),
        },
    )


def with_page(visits: DataFrame, pages: DataFrame) -> DataFrame:
    """Add ``title``, the one that the page had at the time of the visit.

    Parameters
    ----------
    visits : DataFrame
        ``page`` and ``at``.
    pages : DataFrame
        The history of pages: ``page``, ``title``, ``valid_from``, ``valid_to``.
    """
    versions = F.broadcast(pages.select(F.col("page").alias("of"), "title", "valid_from", "valid_to"))
    held = (F.col("valid_from") <= F.col("at")) & (F.col("valid_to").isNull() | (F.col("at") < F.col("valid_to")))
    return visits.join(versions, (F.col("page") == F.col("of")) & held, "left").drop("of", "valid_from", "valid_to")


def _span(unit: str) -> tuple[Column, Column]:
    start = F.date_trunc(unit, F.col("at"))
    return start.alias("window_start"), (start + F.expr(f"interval 1 {unit}")).alias("window_end")


def _window() -> tuple[Column, Column]:
    return F.col("window.start").alias("window_start"), F.col("window.end").alias("window_end")
