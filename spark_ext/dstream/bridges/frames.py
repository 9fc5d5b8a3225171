"""FrameStream: at each batch time of a stream a DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from pyspark.errors import PySparkException
from pyspark.serializers import NoOpSerializer
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import NullType, StructType

from spark_ext.dstream.batch import Batch
from spark_ext.dstream.bridges.frame_kernel import arrow_schema, infer, record_batch, typed
from spark_ext.dstream.closures import required_count
from spark_ext.dstream.columns.blocks import Block
from spark_ext.dstream.errors import StreamArgumentError
from spark_ext.dstream.graph import Node
from spark_ext.dstream.inputs.arrow import tuple_rows
from spark_ext.dstream.rows import Rows

if TYPE_CHECKING:
    from spark_ext.dstream.dstream import DStream
    from spark_ext.epochs import Sink

__all__ = ["FrameStream", "Schema", "frames_of", "typed_schema"]

Schema: TypeAlias = StructType | str | Sequence[str] | None


class FrameStream:
    """A stream of DataFrames: one at each batch time of the stream that it is of, also when there are no rows.

    Guarantee: all outputs of a batch get the same frame. It is lazy: each action computes it, unless the function persists it.

    Made by `DStream.toDF` or `transform`, never by hand.
    """

    def __init__(self, stream: DStream[Any], make: Callable[[Batch, Rows], DataFrame]) -> None:
        self._stream = stream
        self._make = make
        self._made: tuple[Rows, DataFrame] | None = None

    def transform(self, func: Callable[..., DataFrame]) -> FrameStream:
        """Return the stream of ``func(frame)``, or ``func(frame, time)``.

        Parameters
        ----------
        func : callable
            Called once per batch, in the driver; `time` is a local datetime without a zone, as `pyspark.streaming` gives it.
        """
        with_time = _with_time(func)
        return FrameStream(self._stream, lambda batch, rows: with_time(self._frame(batch, rows), batch.time))

    def foreachBatch(self, func: Callable[..., None]) -> None:
        """Call ``func(frame)`` or ``func(frame, time)`` at each batch: an output operation.

        Guarantee: at least once for each batch, with the same rows and time when it is tried again. For once, write by `saveToDelta`.
        """
        with_time = _with_time(func)
        self._out(lambda batch, frame: with_time(frame, batch.time), "foreachBatch")

    def createOrReplaceTempView(self, name: str) -> None:
        """Let SQL of later outputs of a batch find its frame under a name: an output operation."""
        self._out(lambda _, frame: frame.createOrReplaceTempView(name), "createOrReplaceTempView")

    def saveToDelta(self, to: str | Sink, *, ledger: str | None = None, pipeline: str = "") -> None:
        """Write each batch into a Delta table, once: an output operation; see `DStream.saveToDelta`."""
        from spark_ext.dstream.bridges.tables import save_to  # noqa: PLC0415 (heavy, and workers import this module)

        save_to(self._stream, self._frame, to, ledger=ledger, pipeline=pipeline)

    def toDStream(self) -> DStream[tuple[Any, ...]]:
        """Return the rows as tuples.

        Columns of numbers, strings, booleans and binary travel as Arrow (binary as bytes); frames with others as Spark's rows.
        """
        from spark_ext.dstream.dstream import DStream  # noqa: PLC0415 (it imports this module)

        graph = self._stream.context()._graph
        return DStream(graph.add(FrameRowsNode(self._stream._node, self._frame)), self._stream.context())

    def _frame(self, batch: Batch, rows: Rows) -> DataFrame:
        if self._made is None or self._made[0] is not rows:
            self._made = (rows, self._make(batch, rows))
        return self._made[1]

    def _out(self, run: Callable[[Batch, DataFrame], None], kind: str) -> None:
        self._stream._out(lambda batch, rows: run(batch, self._frame(batch, rows)), kind)


class FrameRowsNode(Node):
    """The rows of a stream's frames, as tuples."""

    kind = "toDStream"

    def __init__(self, parent: Node, frame: Callable[[Batch, Rows], DataFrame]) -> None:
        super().__init__((parent,), parent.slide_ms)
        self._frame = frame

    def compute(self, batch: Batch) -> Rows | None:
        rows = batch.rows(self.parents[0])
        return None if rows is None else tuple_rows(self._frame(batch, rows))

    def functions(self) -> Iterable[Any]:
        return ()  # they run in the driver


def frames_of(stream: DStream[Any], schema: Schema) -> FrameStream:
    """Return a stream's elements as DataFrames; see `DStream.toDF`."""
    wanted, names = _checked(schema, stream)
    site = stream._node.site
    session = SparkSession(stream.context().sparkContext)
    known: list[StructType] = [] if wanted is None else [wanted]

    def make(batch: Batch, rows: Rows) -> DataFrame:
        if not known:
            known.extend(rows.over_blocks(lambda _, blocks: [infer(block, names) for block in islice(blocks, 1)]).take(1))
        return _frame(session, rows, known[0] if known else typed(names), f"batch {batch.plan.number} of {site}")

    return FrameStream(stream, make)


def typed_schema(schema: Schema, stream: DStream[Any]) -> StructType:
    """Return a schema that has types; raises StreamArgumentError for one that has not."""
    found, _ = _checked(schema, stream)
    if found is None:
        raise _refused(stream, "a StructType or a DDL string", repr(schema), "a table is made before any element has come")
    return found


def _frame(session: SparkSession, rows: Rows, schema: StructType, where: str) -> DataFrame:
    """Return rows as a frame: each partition's blocks become Arrow batches where they are, and the JVM reads those."""

    def batches(_: int, blocks: Iterator[Block]) -> Iterable[bytes]:
        return (record_batch(block, schema, where=where).serialize().to_pybytes() for block in blocks)

    made = rows.over_blocks(batches)
    made._jrdd_deserializer = NoOpSerializer()  # each batch is one array of bytes for the JVM
    jvm: Any = session._jvm
    kind = jvm.org.apache.spark.sql.types.DataType.fromJson(schema.json())
    return DataFrame(jvm.org.apache.spark.sql.api.r.SQLUtils.toDataFrame(made._jrdd, kind, session._jsparkSession), session)


def _checked(schema: Schema, stream: DStream[Any]) -> tuple[StructType | None, list[str] | None]:
    """Return the schema, or the names of columns whose types are to be seen."""
    expected = "a StructType, a DDL string such as 'word string, n bigint', or names of columns"
    names: list[str] | None = None
    found: StructType | None = None
    if isinstance(schema, StructType):
        found = schema
    elif isinstance(schema, str):
        try:
            found = cast("StructType", StructType.fromDDL(schema))
        except PySparkException as error:
            raise _refused(stream, expected, repr(schema), str(error)) from error
    elif schema is not None:
        names = list(schema)
        if not all(isinstance(name, str) for name in names):
            raise _refused(stream, expected, repr(schema), "a name is not a string")
    columns = names if found is None else found.names
    if columns is not None and (not columns or len(set(columns)) < len(columns)):
        raise _refused(stream, "at least one column, each with a name of its own", repr(schema), "columns go by name")
    if found is not None:
        try:
            arrow_schema(found)
        except PySparkException as error:
            raise _refused(stream, "types that Arrow has", repr(schema), str(error)) from error
        if any(isinstance(field.dataType, NullType) for field in found):
            raise _refused(stream, "types that have values", repr(schema), "void has none")
    return found, names


def _refused(stream: DStream[Any], expected: str, got: str, why: str) -> StreamArgumentError:
    return StreamArgumentError(
        "make", "data frames of", stream._node.site, expected=expected, got=got, why=why.strip().splitlines()[0], todo="correct the schema"
    )


def _with_time(func: Callable[..., Any]) -> Callable[[DataFrame, datetime], Any]:
    """Return a function of frame and time; one of one argument does not get the time."""
    try:
        takes_time = required_count(func) != 1
    except (TypeError, ValueError):  # a function that does not tell
        takes_time = True
    return func if takes_time else lambda frame, _: func(frame)
