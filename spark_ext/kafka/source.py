"""The Kafka source `millrace_kafka` as Spark sees it; only glue.

Spark calls these classes in three places: a short process reads the options and tells the schema, a planner process
lives as long as a stream and says what each batch reads, and Python workers read. Each gets the options as text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from weakref import WeakSet

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql.datasource import DataSource, DataSourceReader, DataSourceStreamReader, InputPartition
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxRows, SupportsTriggerAvailableNow
from pyspark.sql.types import StructType

from spark_ext.kafka.fetch import fetcher_for
from spark_ext.kafka.offsets import Document, Range, cut, ranges
from spark_ext.kafka.options import SourceOptions
from spark_ext.kafka.planner import Planner
from spark_ext.kafka.ranges import read_range
from spark_ext.kafka.rows import block_rows, clock_row, fetch_settings, rows_for, schema_of
from spark_ext.workers import settle

__all__ = ["NAME", "MillraceKafka", "register"]

NAME: Final = "millrace_kafka"
OPENED: Final = 32  # fetchers that a task has under way: fewer than a worker keeps

_knowing: WeakSet[SparkSession] = WeakSet()


def register(spark: SparkSession) -> None:
    """Let a session know the source, for ``spark.readStream.format("millrace_kafka")``."""
    if spark not in _knowing:
        spark.dataSource.register(MillraceKafka)
        _knowing.add(spark)  # Spark warns of a second time


@dataclass
class Task(InputPartition):
    """What one Spark task reads."""

    ranges: tuple[Range, ...]
    partitions: int  # of the stream: any of them may come to a worker
    clock_us: int | None = None


class MillraceKafka(DataSource):
    """Topics as rows; the options are those of `SourceOptions`."""

    @classmethod
    def name(cls) -> str:
        """Return the name of the format."""
        return NAME

    def schema(self) -> StructType:
        """Return the columns that the options ask for."""
        return schema_of(_options(self))

    def reader(self, schema: StructType) -> DataSourceReader:
        """Return a reader of a fixed part of the topics."""
        return BatchReader(_options(self), schema)

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: N802 (Spark's name)
        """Return a reader of a stream."""
        return StreamReader(_options(self), schema)


class BatchReader(DataSourceReader):
    """Reads from the starting to the ending position, both taken when Spark plans the read."""

    def __init__(self, options: SourceOptions, schema: StructType) -> None:
        self._options, self._schema = options, schema

    def partitions(self) -> Sequence[InputPartition]:
        """Ask the broker once and cut what there is."""
        planner = Planner(self._options)
        try:
            return _tasks(*planner.whole(), self._options)
        finally:
            planner.close()

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Read one task's ranges, in a worker."""
        return _read(partition, self._options, self._schema)


class StreamReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Reads a stream; everything but `read` is called in the planner process."""

    def __init__(self, options: SourceOptions, schema: StructType) -> None:
        self._options, self._schema = options, schema
        self._opened: Planner | None = None

    @property
    def _planner(self) -> Planner:
        if self._opened is None:
            self._opened = Planner(self._options)
        return self._opened

    def initialOffset(self) -> dict[str, Any]:  # noqa: N802 (Spark's name)
        """Return where a new checkpoint starts."""
        return self._planner.initial().to_json()

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802 (Spark's name)
        """Return a limit, so that Spark asks for limited batches; how much that is now, the planner knows."""
        return ReadMaxRows(self._options.max_offsets_per_trigger)

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802 (Spark's name)
        """Fix the ends of this run."""
        self._planner.stop_at_ends()

    def latestOffset(self, start: dict[str, Any], limit: ReadLimit) -> dict[str, Any]:  # noqa: N802 (Spark's name)
        """Return the end of the next batch."""
        begun = Document.from_json(start)
        end = self._planner.next(begun, unlimited=isinstance(limit, ReadAllAvailable))
        return start if end is begun else end.to_json()

    def reportLatestOffset(self) -> dict[str, Any] | None:  # noqa: N802 (Spark's name)
        """Return the ends of the partitions, for the lag in the progress."""
        latest = self._planner.latest()
        return latest.to_json() if latest else None

    def partitions(self, start: dict[str, Any], end: dict[str, Any]) -> Sequence[InputPartition]:
        """Return the tasks of a batch: a function of its two documents and the options."""
        since, until = Document.from_json(start), Document.from_json(end)
        self._planner.check(until)
        return _tasks(since, until, self._options)

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Read one task's ranges, in a worker."""
        return _read(partition, self._options, self._schema)

    def commit(self, end: dict[str, Any]) -> None:
        """Show the group how far the query is."""
        self._planner.show(Document.from_json(end))

    def stop(self) -> None:
        """Let the planner's client go."""
        if self._opened is not None:
            self._opened.close()


def _options(source: DataSource) -> SourceOptions:
    given: Mapping[str, str] = source.options
    return _read_options(tuple(sorted(given.items())))


@lru_cache(maxsize=8)
def _read_options(given: tuple[tuple[str, str], ...]) -> SourceOptions:
    return SourceOptions.from_options(dict(given))


def _tasks(start: Document, end: Document, options: SourceOptions) -> list[InputPartition]:
    work = cut(ranges(start, end), tasks=options.tasks, min_offsets=options.min_offsets_per_task)
    tasks = [Task(tuple(one), len(end.offsets)) for one in work]
    if options.clock is not None and end.clock is not None and end.clock.shown_us is not None:
        first = tasks[0].ranges if tasks else ()
        tasks[:1] = [Task(first, len(end.offsets), end.clock.shown_us)]
    return list(tasks)


def _read(partition: InputPartition, options: SourceOptions, schema: StructType) -> Iterator[pa.RecordBatch]:
    if not isinstance(partition, Task):
        return  # Spark's stand-in for a batch read of nothing
    rows_schema = to_arrow_schema(schema, timezone="UTC")
    rows = rows_for(options, rows_schema)
    if partition.clock_us is not None:
        yield clock_row(rows_schema, partition.clock_us)
    settings, max_rows = fetch_settings(options, partition.partitions), block_rows(options)
    for at in range(0, len(partition.ranges), OPENED):
        some = partition.ranges[at : at + OPENED]
        # All are asked before the first is read: their answers come at the same time.
        fetchers = [fetcher_for(settings, one.topic, one.partition, one.first) for one in some]
        for one, fetcher in zip(some, fetchers, strict=True):
            yield from read_range(fetcher, one, rows, may_lose=options.on_lost == "record", max_rows=max_rows)
    settle()
