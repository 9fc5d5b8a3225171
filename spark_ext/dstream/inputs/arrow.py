"""What the JVM reads, as blocks: Arrow messages go to the worker, never an object per row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import pyarrow as pa
from py4j.java_gateway import JavaObject
from pyspark import RDD, SparkContext
from pyspark.serializers import NoOpSerializer
from pyspark.sql import SparkSession

from spark_ext.dstream.columns.blocks import Block
from spark_ext.dstream.rows import Rows, of_blocks

__all__ = ["frame_rows", "no_rows", "reading_session", "value_rows"]

ROWS: Final = 32_768  # per message: a column of strings ends at 2 GiB, which is 64 KiB per line
SETTINGS: Final = {"spark.sql.execution.arrow.maxRecordsPerBatch": str(ROWS), "spark.sql.execution.arrow.useLargeVarTypes": "false"}


def reading_session(context: SparkContext) -> SparkSession:
    """Return a new session of a context, in which `frame_rows` gives blocks of a good size."""
    session = SparkSession(context).newSession()
    for key, value in SETTINGS.items():
        session.conf.set(key, value)
    return session


def frame_rows(context: SparkContext, frame: JavaObject, schema: pa.Schema, block: Callable[[pa.RecordBatch], Block]) -> Rows:
    """Return the rows of a JVM Dataset, its partitions kept.

    Parameters
    ----------
    frame : JavaObject
        A Dataset of `reading_session`.
    schema : pyarrow.Schema
        Of its rows; the messages come without one.
    block : callable
        Makes a block of a record batch, in the worker.
    """

    def read(_: int, messages: Iterable[bytes]) -> Iterator[Block]:
        for message in messages:
            yield block(pa.ipc.read_record_batch(pa.py_buffer(message), schema))

    return of_blocks(RDD(frame.toArrowBatchRdd().toJavaRDD(), context, NoOpSerializer()), read)


def value_rows(session: SparkSession, values: JavaObject, kind: pa.DataType) -> Rows:
    """Return the rows of a JavaRDD of strings or of byte arrays, its partitions kept."""
    context = session.sparkContext
    jvm = context._jvm  # noqa: SLF001 (no public way)
    assert jvm is not None, "a session has a JVM"  # noqa: S101 (a fact)
    encoders = jvm.org.apache.spark.sql.Encoders
    encoder = encoders.STRING() if kind == pa.string() else encoders.BINARY()
    frame = session._jsparkSession.createDataset(values.rdd(), encoder)  # noqa: SLF001 (no public way)
    return frame_rows(context, frame, pa.schema([("value", kind)]), lambda batch: batch.column(0))


def no_rows(context: SparkContext) -> Rows:
    """Return no rows in no partitions: what Spark's streams have where there is nothing to read."""
    empty: RDD[Any] = context.emptyRDD()
    return of_blocks(empty.mapPartitions(lambda blocks: blocks))
