"""How the rows of the source look, and who makes them."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from typing import Final, cast

import pyarrow as pa
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from spark_ext.ingest import PartialAggregate, format_from_json
from spark_ext.ingest.aggregator import Aggregator
from spark_ext.ingest.decoded import Decoder
from spark_ext.ingest.filters import conditions_from_json
from spark_ext.ingest.tags import DEAD, DEAD_TYPE, EVENT_CLOCK, RANGE, RANGE_TYPE, SOURCE, SOURCE_TYPE
from spark_ext.kafka.aggregated import AggregatedRows
from spark_ext.kafka.fetch import FetcherName, FetchSettings, Isolation
from spark_ext.kafka.options import SourceOptions
from spark_ext.kafka.ranges import Account, DecodedRows, RawRows, Rows
from spark_ext.kafka.references import resolve

__all__ = ["block_rows", "clock_row", "decoder_of", "fetch_settings", "rows_for", "schema_of"]

WORKER_AHEAD_BYTES: Final = 64 * 1024 * 1024  # what all partitions of a worker hold ahead of their readers
MOST_AHEAD_BYTES: Final = 4 * 1024 * 1024  # of one partition
LEAST_AHEAD_BYTES: Final = 64 * 1024
LEAST_ROWS: Final = 256
BLOCK_CELLS: Final = 2_000_000  # a decoder notes 21 bytes for each
RECORD: Final = StructType([StructField("key", BinaryType()), StructField("value", BinaryType()), *SOURCE_TYPE])
HEADER: Final = StructType([StructField("key", StringType()), StructField("value", BinaryType())])


def schema_of(options: SourceOptions) -> StructType:
    """Return the columns that the options ask for; all are nullable, as a dead row has none of the declared ones."""
    if options.format is None:
        return StructType([*RECORD, StructField("headers", ArrayType(HEADER))]) if options.headers else RECORD
    declared = StructType.fromJson(json.loads(options.format)["schema"])
    if options.partial is not None:
        columns = PartialAggregate.from_json(options.partial).columns(declared, json.loads(options.format)["event_time"]).fields
    else:
        names = declared.fieldNames() if options.columns is None else options.columns
        columns = [StructField(name, declared[name].dataType) for name in names]
    clock = [StructField(EVENT_CLOCK, TimestampType())] if options.clock is not None else []
    tags = [StructField(SOURCE, SOURCE_TYPE), StructField(DEAD, DEAD_TYPE), StructField(RANGE, RANGE_TYPE)]
    return StructType([*columns, *tags, *clock])


def rows_for(options: SourceOptions, schema: pa.Schema) -> Rows:
    """Return what turns records into rows of `schema`."""
    if options.format is None:
        return RawRows(schema)
    if options.partial is not None:
        partial, found = PartialAggregate.from_json(options.partial), json.loads(options.format)
        event_time = found["event_time"]
        decoder = decoder_of(options.format, tuple(partial.needed(event_time)), options.where)
        return AggregatedRows(schema, decoder, Aggregator(partial, StructType.fromJson(found["schema"]), event_time))
    return DecodedRows(schema, decoder_of(options.format, options.columns, options.where), place=options.source)


def clock_row(schema: pa.Schema, shown_us: int) -> pa.RecordBatch:
    """Return the row that shows the event clock: an account of nothing, without a source."""
    known = {
        EVENT_CLOCK: pa.array([shown_us], pa.int64()).cast(pa.timestamp("us", tz="UTC")),
        RANGE: pa.array([asdict(Account(0, 0))], schema.field(RANGE).type),
    }
    return pa.RecordBatch.from_arrays([known.get(field.name, pa.nulls(1, field.type)) for field in schema], schema=schema)


def fetch_settings(options: SourceOptions, partitions: int) -> FetchSettings:
    """Return what a fetcher needs to know, secrets resolved; `partitions` share the memory of a worker."""
    return FetchSettings(
        prefetch_bytes=max(LEAST_AHEAD_BYTES, min(MOST_AHEAD_BYTES, WORKER_AHEAD_BYTES // max(1, partitions))),
        bootstrap_servers=options.bootstrap_servers,
        client=resolve(options.client),
        fetcher=cast(FetcherName, options.fetcher),
        isolation=cast(Isolation, options.isolation),
        want_keys=True,
        want_headers=options.headers,
    )


def block_rows(options: SourceOptions) -> int:
    """Return how many rows a block may have: fewer of very wide ones."""
    fields = 1 if options.format is None else len(json.loads(options.format)["schema"]["fields"])
    return min(options.max_rows_per_block, max(LEAST_ROWS, BLOCK_CELLS // fields))


@lru_cache(maxsize=8)
def decoder_of(text: str, columns: tuple[str, ...] | None, where: str) -> Decoder:
    """Return the decoder of a format, the same one for all tasks of a worker."""
    return format_from_json(text).decoder(columns, conditions_from_json(json.loads(where)))
