"""Decode records that lie in a table, by the decoder that the source uses: same verdicts, same columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructField, StructType

from spark_ext.ingest import Format, format_from_json
from spark_ext.ingest.records import Bytes, Records
from spark_ext.ingest.tags import DEAD, DEAD_TYPE, RANGE, RANGE_TYPE, SOURCE, SOURCE_TYPE
from spark_ext.workers import settle

__all__ = ["decode"]

COLUMNS = ("key", "value", "topic", "partition", "offset", "timestamp")


def decode(records: DataFrame, format: Format) -> DataFrame:  # noqa: A002 (Spark's word for it)
    """Return the good rows of a batch of records.

    Parameters
    ----------
    records : DataFrame
        ``key`` and ``value`` binary, ``topic``, ``partition``, ``offset``, ``timestamp``: as from the source, or dead letters. The
        source checks event times against the time of the record, and so does this.
    format : Format
        What a good record looks like.

    Returns
    -------
    DataFrame
        The format's columns, ``source``, and ``dead`` and ``range``, which are null.
    """
    declared = [StructField(one.name, one.dataType) for one in format.schema.fields]
    tags = [StructField(SOURCE, SOURCE_TYPE), StructField(DEAD, DEAD_TYPE), StructField(RANGE, RANGE_TYPE)]
    schema = StructType([*declared, *tags])
    return records.select(*COLUMNS).mapInArrow(_decoding(format.to_json(), to_arrow_schema(schema, timezone="UTC")), schema)


def _decoding(text: str, schema: pa.Schema) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def decoded(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        decoder = format_from_json(text).decoder()
        for batch in batches:
            found = decoder.decode(_records(batch))
            rows = pa.array(found.good)
            parts = [batch.column(name).take(rows) for name in ("topic", "partition", "offset", "timestamp")]
            fields = list(schema.field(SOURCE).type)
            source = pa.StructArray.from_arrays([part.cast(field.type) for part, field in zip(parts, fields, strict=True)], fields=fields)
            known = {name: found.columns.column(name) for name in found.columns.schema.names} | {SOURCE: source}
            arrays = [_as(known[field.name], field.type) if field.name in known else pa.nulls(len(rows), field.type) for field in schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
        settle()

    return decoded


def _records(batch: pa.RecordBatch) -> Records:
    micros = batch.column("timestamp").cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    stamps = pc.fill_null(pc.floor(pc.divide(micros, 1000)), -1).cast(pa.int64())
    return Records(
        offsets=np.asarray(batch.column("offset").to_numpy(zero_copy_only=False), np.int64),
        timestamps=np.asarray(stamps.to_numpy(zero_copy_only=False), np.int64),
        keys=Bytes.of(batch.column("key").to_pylist()),
        values=Bytes.of(batch.column("value").to_pylist()),
    )


def _as(column: pa.Array, kind: pa.DataType) -> pa.Array:
    return column if column.type == kind else column.cast(kind)
