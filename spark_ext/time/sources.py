"""Several sources in one stream, a watermark for each: the slowest live one holds time, whatever the others do.

    one source --+ watermark_time --> withWatermark --> barrier --+
                 |  (its clock, or guarded event time)            +--> union, source_name
    another -----+ ...                                         ---+

Spark takes the least of all watermarks in a plan. What holds the whole back for ever is a source that is silent: Kafka's own
clock (`spark_ext.kafka.EventClock` with a heartbeat) goes on without records, for others `spark_ext.time.idle` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.ingest.tags import EVENT_CLOCK
from spark_ext.names import quoted
from spark_ext.time.idle import BEAT, IdleWatch

__all__ = ["AHEAD", "EARLIEST", "SOURCE_NAME", "WATERMARK_TIME", "guarded", "union", "with_watermark"]

SOURCE_NAME: Final = "source_name"
WATERMARK_TIME: Final = "watermark_time"
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)  # Spark's watermark starts there
AHEAD: Final = timedelta(minutes=10)
POLICY: Final = "spark.sql.streaming.multipleWatermarkPolicy"
MICROSECOND: Final = timedelta(microseconds=1)


def guarded(time: str | Column, *, earliest: datetime = EARLIEST, ahead: timedelta = AHEAD) -> Column:
    """Return an event time, or null where it is absurd; the row itself is left alone.

    Parameters
    ----------
    time : str or Column
        A timestamp.
    earliest : datetime
        What is before is absurd; with a time zone, in 1970 or later.
    ahead : timedelta >= 0
        What is further ahead of the wall clock is absurd. The clock is that of the batch's plan, the same at a replay. In a bounded
        frame it is that of the run.
    """
    if earliest.tzinfo is None or earliest < EARLIEST or ahead < timedelta(0):
        raise SettingsError(
            "guard", "event time", str(time), expected="earliest with a zone, in 1970 or later, and ahead >= 0",
            got=f"{earliest!r} and {ahead!r}", todo="correct it",
        )  # fmt: skip
    column = F.col(quoted(time)) if isinstance(time, str) else time
    latest = F.unix_micros(F.current_timestamp()) + ahead // MICROSECOND
    return F.when((column >= F.lit(earliest)) & (F.unix_micros(column) <= latest), column)


def with_watermark(
    rows: DataFrame, *, event_time: str, lateness: timedelta, earliest: datetime = EARLIEST, ahead: timedelta = AHEAD
) -> DataFrame:
    """Give one source its watermark, on a column of its own; every row goes on.

    A source with the column ``event_clock`` is watermarked on that: it knows its partitions. Any other is watermarked on its newest
    event time that is not absurd, so that one event from the future does not make all others late for ever.

    Parameters
    ----------
    rows : DataFrame
        A stream. What Millrace's Kafka source gives is taken whole, before `accepted`: the clock comes in a row that is not.
        Of a bounded frame nothing is late, and it only gets the column.
    event_time : str
        Column of event time, a timestamp.
    lateness : timedelta >= 0
        How far the watermark stays behind; whole milliseconds.
    earliest, ahead
        See `guarded`.

    Returns
    -------
    DataFrame
        The same columns, ``event_clock`` left out, and ``watermark_time``, timestamp: null where it says nothing, not to be read as the
        event's time. Filters behind this are not moved in front of it, so they cannot take the clock's row away.

    Raises
    ------
    SchemaError
        `event_time` is not there or no timestamp, or there is a column ``watermark_time`` already.
    SettingsError
        A bound or `lateness` cannot be used.

    State: none but the watermark in the checkpoint.
    """
    return _watermarked(rows, event_time, lateness, guarded(event_time, earliest=earliest, ahead=ahead), None)


def union(
    sources: Mapping[str, DataFrame],
    *,
    event_time: str,
    lateness: timedelta | Mapping[str, timedelta],
    earliest: datetime = EARLIEST,
    ahead: timedelta = AHEAD,
    idle: IdleWatch | None = None,
) -> DataFrame:
    """Join sources into one stream with a watermark for each; the stream's watermark is the least of them.

    Guarantee: every row of every source comes out once, with the name of its source. The watermark is never ahead of the slowest source
    that counts. A Kafka source with a heartbeat, or one that `idle` has found silent, is let go, and what it sends later than
    the watermark is late. A source that has never sent anything holds the watermark at 1970, and after a restart one that has not sent
    anything since then holds it where it was: what is let go, is let go by a row.

    Parameters
    ----------
    sources : mapping of str to DataFrame
        Streams by name; all or none of them bounded. Columns are matched by name; those that a source does not have are null.
    event_time : str
        Column of event time, the same in all.
    lateness : timedelta >= 0, or mapping of source to timedelta
        How far the watermark of a source stays behind its time.
    earliest, ahead
        See `guarded`; of sources without ``event_clock``.
    idle : IdleWatch, optional
        Lets silent sources go; start it with the query. Needless for Kafka sources with a heartbeat.

    Returns
    -------
    DataFrame
        The columns of all sources but ``event_clock``, then ``source_name`` (string, not null) and ``watermark_time``; see
        `with_watermark`.

    Raises
    ------
    SchemaError
        As `with_watermark`, or a column named ``source_name`` is there already.
    SettingsError
        No source, a source without lateness, or Spark is set to take the greatest of several watermarks.
    """
    frames = list(sources.values())
    if not frames or len({frame.isStreaming for frame in frames}) > 1:
        raise SettingsError(
            "join", "sources", ", ".join(sources), expected="one or more, all streams or all bounded", got=f"{len(frames)} of both kinds"
            if frames else "none", todo="read all of them as streams, or none",
        )  # fmt: skip
    policy = frames[0].sparkSession.conf.get(POLICY, "min")
    if policy != "min":
        raise SettingsError(
            "use", "setting", POLICY, expected="'min'", got=repr(policy), why="the fastest source would make the others late",
            todo="leave it out; a checkpoint keeps what it was made with, so start a new one",
        )  # fmt: skip
    parts = []
    for name, frame in sources.items():
        if SOURCE_NAME in frame.columns:
            raise _unusable(SOURCE_NAME, "another name", "one that is added", "rename the column")
        late = lateness.get(name) if isinstance(lateness, Mapping) else lateness
        if late is None:
            raise SettingsError("join", "source", name, expected="its lateness", got=repr(lateness), todo="name every source")
        time = guarded(event_time, earliest=earliest, ahead=ahead)
        beats = None if idle is None or not frame.isStreaming else idle.beats(frame.sparkSession, name)
        part = _watermarked(frame.withColumn(SOURCE_NAME, F.lit(name)), event_time, late, time, beats)
        parts.append(part if idle is None or not frame.isStreaming else idle.observed(part, name, F.col(WATERMARK_TIME)))
    joined = reduce(lambda left, right: left.unionByName(right, allowMissingColumns=True), parts)
    last = (SOURCE_NAME, WATERMARK_TIME)
    return joined.select(*(quoted(name) for name in joined.columns if name not in last), *last)


def _watermarked(rows: DataFrame, event_time: str, lateness: timedelta, time: Column, beats: DataFrame | None) -> DataFrame:
    _check(rows, event_time, lateness)
    clocked = EVENT_CLOCK in rows.columns
    timed = rows.withColumn(WATERMARK_TIME, F.col(EVENT_CLOCK) if clocked else time).drop(EVENT_CLOCK)
    if beats is not None:
        beat = beats.select(F.col(BEAT).alias(WATERMARK_TIME), F.lit(True).alias(BEAT))
        timed = timed.withColumn(BEAT, F.lit(False)).unionByName(beat, allowMissingColumns=True)
    if not rows.isStreaming:
        return timed
    marked = timed.withWatermark(WATERMARK_TIME, f"{lateness // timedelta(milliseconds=1)} milliseconds")
    # Spark moves filters in front of a watermark, where they would take away rows that carry the clock; but none past this one.
    kept = marked.where(F.spark_partition_id() >= 0)
    return kept if beats is None else kept.where(~F.col(BEAT)).drop(BEAT)


def _check(rows: DataFrame, event_time: str, lateness: timedelta) -> None:
    if lateness < timedelta(0):
        raise SettingsError("set", "lateness", str(lateness), expected="0 or more", got=repr(lateness), todo="give how late rows may be")
    if event_time not in rows.columns or not isinstance(rows.schema[event_time].dataType, TimestampType):
        got = rows.schema[event_time].dataType.simpleString() if event_time in rows.columns else f"only {rows.columns}"
        raise _unusable(event_time, "a column of type timestamp", got, "name the column of event time, or cast it")
    for name in {WATERMARK_TIME, BEAT} & set(rows.columns):
        raise _unusable(name, "another name", "one that is added", "give the source its watermark once, or rename the column")


def _unusable(name: str, expected: str, got: str, todo: str) -> SchemaError:
    return SchemaError("set the watermark by", "column", name, expected=expected, got=got, todo=todo)
