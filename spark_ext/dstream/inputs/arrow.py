"""What the JVM reads, as blocks: Arrow messages go to the worker, never an object per row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import pyarrow as pa
from py4j.java_gateway import JavaObject
from pyspark import RDD, SparkContext
from pyspark.serializers import NoOpSerializer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.conversion import ArrowTableToRowsConversion
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import (
    BinaryType,
    BooleanType,
    ByteType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
)

from spark_ext.dstream.columns.blocks import Block
from spark_ext.dstream.rows import Rows, of_blocks

__all__ = ["message_rows", "reading_session", "tuple_rows", "value_rows"]

ROWS: Final = 32_768  # per message: a column of strings ends at 2 GiB, which is 64 KiB per line
SETTINGS: Final = {"spark.sql.execution.arrow.maxRecordsPerBatch": str(ROWS), "spark.sql.execution.arrow.useLargeVarTypes": "false"}

SIMPLE: Final[Mapping[type[DataType], pa.DataType]] = {
    BooleanType: pa.bool_(),
    ByteType: pa.int64(),
    ShortType: pa.int64(),
    IntegerType: pa.int64(),
    LongType: pa.int64(),
    FloatType: pa.float64(),
    DoubleType: pa.float64(),
    StringType: pa.string(),
    BinaryType: pa.binary(),
}
"""Types of columns that are columns in blocks too."""


def reading_session(context: SparkContext) -> SparkSession:
    """Return a new session of a context, in which messages have a good size."""
    session = SparkSession(context).newSession()
    for key, value in SETTINGS.items():
        session.conf.set(key, value)
    return session


def message_rows(context: SparkContext, frame: JavaObject, block: Callable[[bytes], Block]) -> Rows:
    """Return the rows of a JVM Dataset, its partitions kept.

    Parameters
    ----------
    frame : JavaObject
        A Dataset.
    block : callable
        Makes a block of an Arrow message, in the worker.
    """
    return of_blocks(RDD(frame.toArrowBatchRdd().toJavaRDD(), context, NoOpSerializer()), lambda _, messages: map(block, messages))


def tuple_rows(frame: DataFrame) -> Rows:
    """Return the rows of a DataFrame as tuples, its partitions kept.

    Columns of simple types travel as columns; dates, decimals and nested values become what `DataFrame.collect` gives.
    """
    session = frame.sparkSession
    large = session.conf.get("spark.sql.execution.arrow.useLargeVarTypes") == "true"
    schema = frame.schema
    arrow = to_arrow_schema(schema, timezone=session.conf.get("spark.sql.session.timeZone"), prefers_large_types=large)
    kinds = [SIMPLE.get(type(field.dataType)) for field in schema]
    names = [str(place) for place in range(len(kinds))]

    def block(message: bytes) -> Block:
        batch = pa.ipc.read_record_batch(pa.py_buffer(message), arrow)
        if not kinds or None in kinds:
            found: list[Any] = ArrowTableToRowsConversion.convert(pa.Table.from_batches([batch]), schema, return_as_tuples=True)
            return found
        columns = [column.cast(kind) for column, kind in zip(batch.columns, kinds, strict=True)]
        return pa.StructArray.from_arrays(columns, names=names)

    return message_rows(session.sparkContext, frame._jdf, block)  # noqa: SLF001 (no public way)


def value_rows(session: SparkSession, values: JavaObject, kind: pa.DataType) -> Rows:
    """Return the rows of a JavaRDD of strings or of byte arrays, its partitions kept."""
    context = session.sparkContext
    jvm = context._jvm  # noqa: SLF001 (no public way)
    assert jvm is not None, "a session has a JVM"  # noqa: S101 (a fact)
    encoders = jvm.org.apache.spark.sql.Encoders
    encoder = encoders.STRING() if kind == pa.string() else encoders.BINARY()
    frame = session._jsparkSession.createDataset(values.rdd(), encoder)  # noqa: SLF001 (no public way)
    schema = pa.schema([("value", kind)])
    return message_rows(context, frame, lambda message: pa.ipc.read_record_batch(pa.py_buffer(message), schema).column(0))
