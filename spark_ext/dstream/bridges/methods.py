"""What a DStream has beyond Spark's: DataFrames, Delta tables, epochs, sketches.

Each worker imports this module with the package: what is heavy is imported by who asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from spark_ext.dstream.bridges.frames import FrameStream, Schema, frames_of, typed_schema
from spark_ext.dstream.columns.steps import MapStep
from spark_ext.dstream.graph import Node
from spark_ext.dstream.nodes import StepNode

if TYPE_CHECKING:
    from pyspark.sql import DataFrame
    from pyspark.sql.types import StructType

    from sketches import Sketch
    from spark_ext.dstream.context import StreamingContext
    from spark_ext.dstream.dstream import DStream
    from spark_ext.epochs import Sink

__all__ = ["Bridges"]

SK = TypeVar("SK", bound="Sketch")


class Bridges:
    """Methods of DStream."""

    @property
    def _stream(self) -> DStream[Any]:
        return cast("DStream[Any]", self)

    def toDF(self, schema: Schema = None) -> FrameStream:
        """Return the elements of each batch as a DataFrame.

        Elements become Arrow batches in the tasks that have them, and the JVM reads those; columns of blocks stay columns.
        Guarantee: values as `createDataFrame` makes them, but none is changed to fit: one that does not fit its column fails the
        batch, with batch, column and value in the message. An int may become an equal float.

        Parameters
        ----------
        schema : StructType, str or sequence of str, optional
            Columns: a schema, DDL such as ``"word string, n bigint"``, or names. With names only, or None, types are those of the
            first elements that come, and later ones must fit; until then columns are void. A tuple, list, Row or dict is a row,
            any other element the value of the only column.

        Raises
        ------
        StreamArgumentError
            The schema is none, or has types that Arrow lacks.
        """
        return frames_of(self._stream, schema)

    def foreachBatch(self, func: Callable[..., None], schema: Schema = None) -> None:
        """Call ``func(frame)`` or ``func(frame, time)`` with the DataFrame of each batch; `foreachRDD` for DataFrames."""
        frames_of(self._stream, schema).foreachBatch(func)

    def saveToDelta(self, to: str | Sink, schema: Schema = None, *, ledger: str | None = None, pipeline: str = "") -> None:
        """Write each batch into a Delta table, once.

        Guarantee: all rows of a batch in one commit with the batch's transaction, so a batch that is tried again after a failure, a
        kill or a change of code adds nothing twice; a batch without rows commits nothing. It needs a checkpoint to outlive the
        program: a new run has batches of its own. With a ledger each batch is an epoch: `spark_ext.epochs` commits table and ledger
        by its protocol, and the ledger's row says number, rows and table version of each batch, also of empty ones.

        Parameters
        ----------
        to : str or Sink
            Path of a table to append to, or a sink such as ``Upsert(path, keys=["word"])``. One output for each table.
        schema : StructType, str or sequence of str, optional
            As for `toDF`. With types, or the table is made by the first rows.
        ledger : str, optional
            Path of the ledger.
        pipeline : str
            Name of the epochs' pipeline in it; default ``dstream/<last part of the path>``.

        Raises
        ------
        StreamArgumentError
            Another output has the table, or the sink needs a ledger, or with a ledger the stream slides by more than a batch.
        """
        frames_of(self._stream, schema).saveToDelta(to, ledger=ledger, pipeline=pipeline)

    def toStreamingDF(self, path: str, schema: StructType | str) -> DataFrame:
        """Write each batch into a Delta table, and return the table as a streaming DataFrame, for queries of another kind.

        So windows over event time, dedup and joins of ours run on a stream of this program. Guarantee: each batch's rows are once in
        the table, as by `saveToDelta`, and the query that is started on the frame, which has a checkpoint of its own, reads each once;
        together exactly once as far as that query's sink is. Rows come a batch later than they would inside the program.

        Parameters
        ----------
        path : str
            Of the table, made at once if it is not there; to be kept as long as both checkpoints.
        schema : StructType or str
            Columns with types.
        """
        from spark_ext.dstream.bridges.tables import streaming_frame  # noqa: PLC0415

        wanted = typed_schema(schema, self._stream)
        return streaming_frame(self._stream, frames_of(self._stream, wanted)._frame, path, wanted)

    def sketch(self, template: SK) -> DStream[SK]:
        """Return one sketch of all elements of each batch, an empty one for none; see `sketchByKey`."""
        keyed = self._stream.map(lambda value: (None, value)).sketchByKey(template, 1)
        # Read to the end, or PySpark gives the worker up.
        return keyed.mapPartitions(lambda pairs: [template.copy(), *(made for _, made in pairs)][-1:])

    def sketchByKey(self, template: SK, numPartitions: int | None = None) -> DStream[tuple[Any, SK]]:
        """Return ``(key, sketch of its values)``.

        Guarantee: what the sketch's class promises of a sketch of these values; it does not matter how they lie in partitions. Values
        are taken by columns. None is no value, but makes the key. Sketches that weigh by time take the batch's time for that of
        its values.

        Parameters
        ----------
        template : Sketch
            An empty sketch with the parameters that all shall have, such as ``HyperLogLog(12)``.
        numPartitions : int, optional
            Default Spark's parallelism.

        Raises
        ------
        SettingsError
            The template is no empty sketch, or has keys or a clock of its own.
        """
        made = _sketched(self._stream, template)
        return _merged(made, template, numPartitions)

    def sketchByKeyAndWindow(
        self,
        template: SK,
        windowDuration: float,
        slideDuration: float | None = None,
        numPartitions: int | None = None,
    ) -> DStream[tuple[Any, SK]]:
        """Return ``(key, sketch of its values in the window)``.

        Each batch is sketched once, and the window merges the sketches of its batches: work in proportion to batches times keys, not
        to rows. State: a stored sketch per key, batch and partition, for the length of the window, in the checkpoint.
        """
        made = _sketched(self._stream, template)
        return _merged(made.window(windowDuration, slideDuration), template, numPartitions)


def _sketched(stream: DStream[Any], template: Sketch) -> DStream[Any]:
    from spark_ext.dstream.bridges.sketches import SketchedNode  # noqa: PLC0415

    return _of(SketchedNode(stream._node, template), stream.context())


def _merged(stored: DStream[Any], template: SK, partitions: int | None) -> DStream[Any]:
    from spark_ext.dstream.bridges.sketches import MergedNode  # noqa: PLC0415

    ssc = stored.context()
    count = ssc.sparkContext.defaultParallelism if partitions is None else partitions
    merged = _of(MergedNode(stored._node, template, count), ssc)
    opened = type(template).from_bytes
    step = MapStep(lambda pair: (pair[0], opened(pair[1])))
    return _of(StepNode(merged._node, step, kind="sketchByKey", keeps_places=True), ssc)


def _of(node: Node, ssc: StreamingContext) -> DStream[Any]:
    from spark_ext.dstream.dstream import DStream  # noqa: PLC0415 (it is made of this class)

    return DStream(ssc._graph.add(node), ssc)
