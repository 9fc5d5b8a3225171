"""Look at a batch once: how many rows each sink gets, what the source says it read, and between which event times.

What a small batch became comes to the driver in one Spark job, for all sinks together, and is counted there. That a batch is small its
offsets say, else it is counted first. What a large one became is counted by Spark in one job, and only the rows of its small sinks come to
the driver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, MapType, StructField, StructType

from spark_ext.ingest import accounts
from spark_ext.ingest.tags import RANGE, RANGE_COUNTS, SOURCE
from spark_ext.names import column

__all__ = ["Account", "Counted", "look"]

ACCOUNTS: Final = "\0accounts"  # beside the names of sinks, which people give
SINK: Final = "sink"
TOO_LARGE: Final = "spark.driver.maxResultSize"  # what Spark names when a route has made many rows of few


@dataclass(frozen=True, slots=True)
class Account:
    """What the source says about one range of offsets; see `spark_ext.ingest.accounts`."""

    topic: str
    partition: int
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Counted:
    """What a batch holds.

    Attributes
    ----------
    rows : int or None
        Rows of the batch but the source's accounts; None if its offsets are known.
    by_sink : mapping of str to int
        Rows for each sink that was given a frame.
    accounts : sequence of Account
        Empty if the source cannot count.
    first_event, last_event : datetime or None
        Least and greatest event time of the rows in sinks that count.
    few : mapping of str to pa.Table
        The rows themselves, of sinks that get few.
    """

    rows: int | None
    by_sink: Mapping[str, int]
    accounts: Sequence[Account]
    first_event: datetime | None
    last_event: datetime | None
    few: Mapping[str, pa.Table] = field(default_factory=dict)


def look(
    batch: DataFrame,
    frames: Mapping[str, DataFrame],
    *,
    counting: Sequence[str],
    event_time: str | None,
    offsets: int | None,
    most: int,
) -> Counted:
    """Count a persisted batch and what was made of it, and bring what is small.

    Parameters
    ----------
    batch : DataFrame
        The rows of the epoch.
    frames : mapping of str to DataFrame
        Rows by sink.
    counting : sequence of str
        Sinks whose rows are input rows.
    event_time : str, optional
        Column of those rows whose bounds are wanted.
    offsets : int, optional
        How many offsets the batch has.
    most : int
        A sink with at most so many rows is brought.
    """
    size = batch.count() if offsets is None else offsets
    rows = size if offsets is None else None
    extra = {ACCOUNTS: accounts(batch)} if RANGE in batch.columns and SOURCE in batch.columns else {}
    if size <= most:
        brought = _bring({**frames, **extra}, most=most, is_computed=offsets is None)
        if brought is not None:
            return _counted(rows, brought, frames, counting, event_time)
    return _counted_by_spark(rows, frames, extra, counting, event_time, most)


def _counted(
    rows: int | None, brought: Mapping[str, pa.Table], frames: Mapping[str, DataFrame], counting: Sequence[str], event_time: str | None
) -> Counted:
    bounds = [_bounds(brought[name].column(event_time)) for name in counting if name in frames and event_time in brought[name].column_names]
    first, last = _widest(bounds)
    told = _accounts(brought)
    return Counted(
        None if rows is None else rows - len(told),
        {name: brought[name].num_rows for name in frames},
        told,
        first,
        last,
        {name: brought[name] for name in frames},
    )


def _counted_by_spark(
    rows: int | None,
    frames: Mapping[str, DataFrame],
    extra: Mapping[str, DataFrame],
    counting: Sequence[str],
    event_time: str | None,
    most: int,
) -> Counted:
    none = F.lit(None).cast("bigint")
    each = [
        frame.select(
            F.lit(at).alias(SINK),
            (F.unix_micros(column(event_time)) if event_time and name in counting and event_time in frame.columns else none).alias("us"),
        )
        for at, (name, frame) in enumerate(frames.items())
    ]
    found: dict[int, Any] = {}
    if each:
        united = reduce(DataFrame.unionAll, each).groupBy(SINK)
        found = {row[0]: row for row in united.agg(F.count(F.lit(1)), F.min("us"), F.max("us")).collect()}
    by_sink = {name: found[at][1] if at in found else 0 for at, name in enumerate(frames)}
    bounds = pa.array([us for row in found.values() for us in row[2:]], pa.int64()).cast(pa.timestamp("us", "UTC"))
    first, last = _bounds(bounds)
    brought = _bring({**{name: frame for name, frame in frames.items() if 0 < by_sink[name] <= most}, **extra}, most=None) or {}
    told = _accounts(brought)
    few = {name: table for name, table in brought.items() if name in frames}
    return Counted(None if rows is None else rows - len(told), by_sink, told, first, last, few)


def _bring(frames: Mapping[str, DataFrame], *, most: int | None, is_computed: bool = False) -> dict[str, pa.Table] | None:
    """Bring several frames to the driver in one job, each with its own columns; None if they have more than `most` rows together.

    `is_computed`: the rows of the batch lie ready, as it was counted.
    """
    if not frames:
        return {}
    # By place: two frames may have one name for columns of two types.
    parts = [frame.select(F.lit(at).alias(SINK), _as_struct(frame).alias(f"s{at}")) for at, frame in enumerate(frames.values())]
    united = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), parts)
    if is_computed and most is not None:
        # A job costs by its stages and tasks: one task fetches rows that lie ready, others are computed by as many as there are.
        united = united.coalesce(1).limit(most + 1)  # over several tasks a limit would shuffle
    try:
        table = united.toArrow().combine_chunks()
    except PySparkException as error:
        if TOO_LARGE in str(error):
            return None
        raise
    if most is not None and table.num_rows > most:
        return None
    sinks, found = table.column(SINK).to_numpy(), {}
    for at, name in enumerate(frames):
        rows = table.column(f"s{at}").filter(pa.array(sinks == at)).combine_chunks()
        rows = rows if isinstance(rows, pa.StructArray) else pa.array([], rows.type) if rows.num_chunks == 0 else rows.chunk(0)
        found[name] = pa.Table.from_arrays(rows.flatten(), schema=pa.schema(list(rows.type)))
    return found


def _as_struct(frame: DataFrame) -> Column:
    # In the rows of other frames the struct is null, and so are its fields, whatever they promise.
    return F.struct(*(column(each) for each in frame.columns)).cast(_nullable(frame.schema))


def _nullable(kind: DataType) -> DataType:
    match kind:
        case StructType(fields=fields):
            return StructType([StructField(one.name, _nullable(one.dataType)) for one in fields])
        case ArrayType(elementType=element):
            return ArrayType(_nullable(element))
        case MapType(keyType=key, valueType=value):
            return MapType(key, _nullable(value))
    return kind


def _accounts(brought: Mapping[str, pa.Table]) -> list[Account]:
    rows = brought[ACCOUNTS].to_pylist() if ACCOUNTS in brought else []
    return [Account(row["topic"], row["partition"], {name: row[name] or 0 for name in RANGE_COUNTS}) for row in rows]


def _bounds(times: pa.ChunkedArray | pa.Array) -> tuple[datetime | None, datetime | None]:
    found = pc.min_max(times).as_py()
    return found["min"], found["max"]


def _widest(bounds: Sequence[tuple[datetime | None, datetime | None]]) -> tuple[datetime | None, datetime | None]:
    known = [(first, last) for first, last in bounds if first is not None and last is not None]
    return (min(first for first, _ in known), max(last for _, last in known)) if known else (None, None)
