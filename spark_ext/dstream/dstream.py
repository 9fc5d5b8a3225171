"""DStream: a stream of batches, with the operations that Spark's has."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Hashable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union

from py4j.protocol import Py4JJavaError
from pyspark import RDD, StorageLevel
from pyspark.core.rdd import portable_hash
from pyspark.resultiterable import ResultIterable

from spark_ext.dstream.batch import Batch
from spark_ext.dstream.bridges import Bridges
from spark_ext.dstream.closures import argument_count
from spark_ext.dstream.columns.cogroup import cogrouped, joined
from spark_ext.dstream.columns.combine import combined, counted, counted_by_value, grouped, reduced, reduced_to_one
from spark_ext.dstream.columns.exchange import placed
from spark_ext.dstream.columns.steps import FilterStep, FlatMapStep, FlatMapValuesStep, MapStep, MapValuesStep, PartitionStep, Step
from spark_ext.dstream.errors import StreamArgumentError, StreamStateError
from spark_ext.dstream.graph import Node
from spark_ext.dstream.nodes import RowsNode, StepNode, TransformNode, UnionNode
from spark_ext.dstream.rows import Rows, of_blocks, of_rdd
from spark_ext.dstream.state.keyed import checked_partitions
from spark_ext.dstream.state.mapped import MappedNode, SnapshotNode
from spark_ext.dstream.state.reduced_window import ReducedWindowNode
from spark_ext.dstream.state.spec import StateSpec
from spark_ext.dstream.state.update import UpdateNode
from spark_ext.dstream.state.windows import WindowNode, checked_window

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from spark_ext.dstream.context import StreamingContext
    from spark_ext.dstream.inputs.frames import OutputMode

__all__ = ["DStream", "MapWithStateDStream", "TransformedDStream"]

S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
U = TypeVar("U")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class DStream(Bridges, Generic[T_co]):
    """A discretized stream: at each batch time that is a multiple of its slide, an RDD.

    Made by a StreamingContext or by the operations of another stream, never by hand.
    """

    def __init__(self, node: Node, ssc: StreamingContext) -> None:
        self._node = node
        self._ssc = ssc
        self._sc = ssc._sc
        self.is_cached = False
        self.is_checkpointed = False

    @staticmethod
    def from_dataframe(
        stream_df: DataFrame, ssc: StreamingContext | None = None, *, outputMode: OutputMode = "append"
    ) -> DStream[tuple[Any, ...]]:
        """Return the rows of a streaming DataFrame, as tuples, also those of one column.

        A query of its own, which begins and ends with the context, writes the rows into the checkpoint; a batch has those that
        the query has finished. Columns of simple types stay columns. See `FrameInput` for what is guaranteed.

        Parameters
        ----------
        stream_df : DataFrame
            A streaming one, such as of Kafka, a Delta table or files, with any plan that a query can run.
        ssc : StreamingContext, optional
            Default: the one that was made last.
        outputMode : {"append", "update", "complete"}
            Of the query; an aggregation without a watermark has no rows to append.

        Raises
        ------
        StreamArgumentError
            It is no streaming DataFrame, or there is no context. What the query cannot run is raised by `start`.
        """
        from spark_ext.dstream.context import StreamingContext  # noqa: PLC0415 (it imports this module)
        from spark_ext.dstream.inputs.frames import FrameInput  # noqa: PLC0415 (workers need none of it)

        if ssc is None and StreamingContext._madeLast is not None:
            ssc = StreamingContext._madeLast()
        if ssc is None or not stream_df.isStreaming:
            raise StreamArgumentError(
                "make",
                "stream of",
                "a DataFrame",
                expected="a streaming DataFrame and a StreamingContext",
                got="no context" if ssc is None else "a DataFrame that does not stream",
                todo="make the context first" if ssc is None else "use spark.readStream, or queueStream([frame.rdd])",
            )
        graph = ssc._graph
        node = FrameInput(stream_df, graph.interval_ms, output_mode=outputMode, remembered_ms=lambda: graph.remember_ms)
        return DStream(graph.add(node), ssc)

    def context(self) -> StreamingContext:
        """Return the context of this stream."""
        return self._ssc

    def setName(self, name: str) -> DStream[T_co]:
        """Give the stream the name by which the checkpoint knows it; default is its kind and ordinal."""
        self._ssc._graph.check_open()
        self._node.name = name
        return self

    # Element by element.

    def map(self: DStream[T], f: Callable[[T], U], preservesPartitioning: bool = False) -> DStream[U]:
        """Return ``f(element)`` for each element."""
        return self._then(MapStep(f), "map", preservesPartitioning)

    def flatMap(self: DStream[T], f: Callable[[T], Iterable[U]], preservesPartitioning: bool = False) -> DStream[U]:
        """Return the elements of ``f(element)`` for each element."""
        return self._then(FlatMapStep(f), "flatMap", preservesPartitioning)

    def filter(self: DStream[T], f: Callable[[T], bool]) -> DStream[T]:
        """Return the elements for which ``f(element)`` is true."""
        return self._then(FilterStep(f), "filter", True)

    def mapPartitions(self: DStream[T], f: Callable[[Iterable[T]], Iterable[U]], preservesPartitioning: bool = False) -> DStream[U]:
        """Return the elements of ``f(elements of a partition)``."""
        return self._then(PartitionStep(lambda _, elements: f(elements)), "mapPartitions", preservesPartitioning)

    def mapPartitionsWithIndex(
        self: DStream[T], f: Callable[[int, Iterable[T]], Iterable[U]], preservesPartitioning: bool = False
    ) -> DStream[U]:
        """Return the elements of ``f(number of the partition, its elements)``."""
        return self._then(PartitionStep(f), "mapPartitionsWithIndex", preservesPartitioning)

    def mapValues(self: DStream[tuple[K, V]], f: Callable[[V], U]) -> DStream[tuple[K, U]]:
        """Return ``(key, f(value))`` for each pair."""
        return self._then(MapValuesStep(f), "mapValues", True)

    def flatMapValues(self: DStream[tuple[K, V]], f: Callable[[V], Iterable[U]]) -> DStream[tuple[K, U]]:
        """Return ``(key, each element of f(value))`` for each pair."""
        return self._then(FlatMapValuesStep(f), "flatMapValues", True)

    def glom(self: DStream[T]) -> DStream[list[T]]:
        """Return each partition as one list."""
        return self._then(PartitionStep(lambda _, elements: [list(elements)]), "glom", False)

    # A batch as a whole.

    def count(self) -> DStream[int]:
        """Return the number of elements."""
        return self._by_rows(lambda rows, _: counted(rows), "count", 1)

    def reduce(self: DStream[T], func: Callable[[T, T], T]) -> DStream[T]:
        """Return one element, all of them put together by `func`; none for none."""
        return self._by_rows(lambda rows, _: reduced_to_one(rows, func), "reduce", 1)

    def countByValue(self: DStream[K]) -> DStream[tuple[K, int]]:
        """Return ``(element, how often it is there)``."""
        return self._by_rows(counted_by_value, "countByValue", None)

    def reduceByKey(self: DStream[tuple[K, V]], func: Callable[[V, V], V], numPartitions: int | None = None) -> DStream[tuple[K, V]]:
        """Return one pair per key, its values put together by `func`."""
        return self._by_rows(lambda rows, n: reduced(rows, func, n), "reduceByKey", numPartitions)

    def combineByKey(
        self: DStream[tuple[K, V]],
        createCombiner: Callable[[V], U],
        mergeValue: Callable[[U, V], U],
        mergeCombiners: Callable[[U, U], U],
        numPartitions: int | None = None,
    ) -> DStream[tuple[K, U]]:
        """Return one pair per key, its values combined as `RDD.combineByKey` does."""
        return self._by_rows(lambda rows, n: combined(rows, createCombiner, mergeValue, mergeCombiners, n), "combineByKey", numPartitions)

    def groupByKey(self: DStream[tuple[K, V]], numPartitions: int | None = None) -> DStream[tuple[K, Iterable[V]]]:
        """Return one pair per key, with an iterable of its values."""
        return self._by_rows(grouped, "groupByKey", numPartitions)

    def partitionBy(
        self: DStream[tuple[K, V]], numPartitions: int, partitionFunc: Callable[[K], int] = portable_hash
    ) -> DStream[tuple[K, V]]:
        """Return the pairs with each key in partition ``partitionFunc(key) % numPartitions``."""
        if partitionFunc is portable_hash:
            return self._by_rows(lambda rows, n: of_blocks(placed(rows, n)), "partitionBy", numPartitions)
        return self._by_rows(lambda rows, n: of_rdd(rows.rdd().partitionBy(n, partitionFunc)), "partitionBy", numPartitions)

    def repartition(self: DStream[T], numPartitions: int) -> DStream[T]:
        """Return the elements in so many partitions."""
        return self._by_rows(lambda rows, n: of_rdd(rows.rdd().repartition(n)), "repartition", numPartitions)

    def transform(self: DStream[T], func: Union[Callable[[RDD[T]], RDD[U]], Callable[[datetime, RDD[T]], RDD[U]]]) -> TransformedDStream[U]:
        """Return what `func` makes of each RDD, or of time and RDD."""
        arguments = argument_count(func)
        assert arguments in {1, 2}, "func should take one or two arguments"  # noqa: S101 (as in Spark)
        with_time: Any = func if arguments == 2 else lambda _, rdd: func(rdd)  # type: ignore[call-arg]  # noqa: PLR2004
        return TransformedDStream(self._ssc._graph.add(TransformNode([self._node], with_time)), self._ssc)

    def transformWith(
        self: DStream[T],
        func: Union[Callable[[RDD[T], RDD[U]], RDD[V]], Callable[[datetime, RDD[T], RDD[U]], RDD[V]]],
        other: DStream[U],
        keepSerializer: bool = False,
    ) -> DStream[V]:
        """Return what `func` makes of the RDDs of two streams, or of time and both."""
        arguments = argument_count(func)
        assert arguments in {2, 3}, "func should take two or three arguments"  # noqa: S101 (as in Spark)
        with_time: Any = func if arguments == 3 else lambda _, a, b: func(a, b)  # type: ignore[call-arg]  # noqa: PLR2004
        return DStream(self._ssc._graph.add(TransformNode([self._node, other._node], with_time, kind="transformWith")), self._ssc)

    # Two streams.

    def union(self: DStream[T], other: DStream[U]) -> DStream[Union[T, U]]:
        """Return the elements of both."""
        if self._slideDuration != other._slideDuration:
            msg = "the two DStream should have same slide duration"
            raise ValueError(msg)
        return DStream(self._ssc._graph.add(UnionNode([self._node, other._node])), self._ssc)

    def cogroup(
        self: DStream[tuple[K, V]], other: DStream[tuple[K, U]], numPartitions: int | None = None
    ) -> DStream[tuple[K, tuple[ResultIterable[V], ResultIterable[U]]]]:
        """Return per key the values of both."""
        return self._with_rows(other, cogrouped, "cogroup", numPartitions)

    def join(self: DStream[tuple[K, V]], other: DStream[tuple[K, U]], numPartitions: int | None = None) -> DStream[tuple[K, tuple[V, U]]]:
        """Return each pair of values of a key that is in both."""
        return self._with_rows(other, lambda a, b, n: joined(a, b, n, "inner"), "join", numPartitions)

    def leftOuterJoin(
        self: DStream[tuple[K, V]], other: DStream[tuple[K, U]], numPartitions: int | None = None
    ) -> DStream[tuple[K, tuple[V, U | None]]]:
        """Join; what has no partner in `other` has None."""
        return self._with_rows(other, lambda a, b, n: joined(a, b, n, "left"), "leftOuterJoin", numPartitions)

    def rightOuterJoin(
        self: DStream[tuple[K, V]], other: DStream[tuple[K, U]], numPartitions: int | None = None
    ) -> DStream[tuple[K, tuple[V | None, U]]]:
        """Join; what has no partner in this stream has None."""
        return self._with_rows(other, lambda a, b, n: joined(a, b, n, "right"), "rightOuterJoin", numPartitions)

    def fullOuterJoin(
        self: DStream[tuple[K, V]], other: DStream[tuple[K, U]], numPartitions: int | None = None
    ) -> DStream[tuple[K, tuple[V | None, U | None]]]:
        """Join; what has no partner on either side has None."""
        return self._with_rows(other, lambda a, b, n: joined(a, b, n, "full"), "fullOuterJoin", numPartitions)

    # What is kept.

    def cache(self: DStream[T]) -> DStream[T]:
        """Keep the rows of each batch in memory once they are computed."""
        return self.persist(StorageLevel.MEMORY_ONLY)

    def persist(self: DStream[T], storageLevel: StorageLevel) -> DStream[T]:
        """Keep the rows of each batch once they are computed, as long as they are remembered."""
        self._check_settable("storage level")
        self.is_cached = True
        self._node.storage_level = storageLevel
        return self

    def checkpoint(self: DStream[T], interval: float) -> DStream[T]:
        """Accept Spark's request; nothing here depends on earlier batches but through the checkpoint, which is written each batch."""
        self._check_settable("checkpoint interval")
        self.is_checkpointed = True
        return self

    def slice(self, begin: datetime | float, end: datetime | float) -> list[RDD[T_co]]:
        """Return the RDDs from `begin` to `end`, both included, that are still remembered."""
        engine = self._ssc._engine
        if engine is None or self._node not in self._ssc._graph.order():
            raise StreamStateError(
                "slice",
                "stream",
                self._node.site,
                expected="a stream that an output operation needs, of a program that runs",
                got="one that is not needed" if engine is not None else "one that has not been started",
                why=f"{self._node.name} has not been initialized",
                todo="call it after start(), on what an output operation goes back to",
            )
        return [rows.rdd() for rows in engine.remembered(self._node, _ms(begin), _ms(end))]

    # Windows.

    def window(self, windowDuration: float, slideDuration: float | None = None) -> DStream[T_co]:
        """Return the elements of the last `windowDuration` seconds, each `slideDuration` seconds (default: this stream's slide).

        Both are multiples of this stream's slide.
        """
        window_ms, slide_ms = self._validate_window_param(windowDuration, slideDuration, "window")
        return DStream(self._ssc._graph.add(WindowNode(self._node, window_ms, slide_ms)), self._ssc)

    def reduceByWindow(
        self: DStream[T],
        reduceFunc: Callable[[T, T], T],
        invReduceFunc: Callable[[T, T], T] | None,
        windowDuration: float,
        slideDuration: float,
    ) -> DStream[T]:
        """Return one element, those of the window put together."""
        keyed = self.map(lambda element: (1, element))
        return keyed.reduceByKeyAndWindow(reduceFunc, invReduceFunc, windowDuration, slideDuration, 1).map(lambda pair: pair[1])

    def countByWindow(self: DStream[T], windowDuration: float, slideDuration: float) -> DStream[int]:
        """Return the number of elements in the window."""
        return self.map(lambda _: 1).reduceByWindow(operator.add, operator.sub, windowDuration, slideDuration)

    def countByValueAndWindow(
        self: DStream[K], windowDuration: float, slideDuration: float, numPartitions: int | None = None
    ) -> DStream[tuple[K, int]]:
        """Return ``(element, how often it is in the window)``."""
        keyed = self.map(lambda element: (element, 1))
        counted = keyed.reduceByKeyAndWindow(operator.add, operator.sub, windowDuration, slideDuration, numPartitions)
        return counted.filter(lambda pair: pair[1] > 0)

    def groupByKeyAndWindow(
        self: DStream[tuple[K, V]], windowDuration: float, slideDuration: float, numPartitions: int | None = None
    ) -> DStream[tuple[K, Iterable[V]]]:
        """Return one pair per key, with its values in the window."""
        grouped = self.mapValues(
            lambda value: [value]
        ).reduceByKeyAndWindow(
            lambda a, b: a.extend(b) or a,  # type: ignore[func-returns-value]  # `a` is this call's own, nobody else has it
            lambda a, b: a[len(b) :],
            windowDuration,
            slideDuration,
            numPartitions,
        )
        return grouped.mapValues(ResultIterable)

    def reduceByKeyAndWindow(
        self: DStream[tuple[K, V]],
        func: Callable[[V, V], V],
        invFunc: Callable[[V, V], V] | None,
        windowDuration: float,
        slideDuration: float | None = None,
        numPartitions: int | None = None,
        filterFunc: Callable[[tuple[K, V]], bool] | None = None,
    ) -> DStream[tuple[K, V]]:
        """Return one pair per key, its values in the window put together by `func`.

        With an inverse, and a window of five slides or more, a result is made from the one before: ``invFunc(value, what left)``,
        then ``func(value, what entered)``, called for these keys only. A key that is not in the window any more then stays with
        what is left of its value, unless `filterFunc` is false for the pair. Otherwise each result is made of all batches in
        the window, each reduced once.

        Parameters
        ----------
        func : callable
            Associative; called in the order of time.
        invFunc : callable or None
            Takes its second argument out of the first. Needs a checkpoint directory.
        windowDuration, slideDuration : float
            Seconds, multiples of this stream's slide; `slideDuration` is that slide by default.
        numPartitions : int, optional
            Default: what the checkpoint has, else `defaultParallelism`.
        filterFunc : callable, optional
            Of a pair; used with `invFunc` only, for pairs that are new or changed.
        """
        window_ms, slide_ms = self._validate_window_param(windowDuration, slideDuration, "reduceByKeyAndWindow")
        node = ReducedWindowNode(
            self._node,
            func,
            invFunc or None,
            filterFunc or None,
            window_ms=window_ms,
            slide_ms=slide_ms,
            partitions=checked_partitions(numPartitions, "reduceByKeyAndWindow"),
            default_partitions=self._sc.defaultParallelism,
        )
        return DStream(self._ssc._graph.add(node), self._ssc)

    # State.

    def updateStateByKey(
        self: DStream[tuple[K, V]],
        updateFunc: Callable[[Iterable[V], S | None], S | None],
        numPartitions: int | None = None,
        initialRDD: RDD[tuple[K, S]] | Iterable[tuple[K, S]] | None = None,
    ) -> DStream[tuple[K, S]]:
        """Return ``(key, state)`` of all keys, each state made by ``updateFunc(new values, old state or None)``; None removes a key.

        It is called in each batch for each key that has state or new values. The state is in the checkpoint after each batch.

        Parameters
        ----------
        numPartitions : int, optional
            Of the state; default is what the checkpoint has, else Spark's parallelism. A checkpoint with another number is refused.
        initialRDD : RDD or iterable of pairs, optional
            State before the first batch that this stream runs in.
        """
        partitions = checked_partitions(numPartitions, "updateStateByKey")
        initial = initialRDD if isinstance(initialRDD, RDD) else self._sc.parallelize(list(initialRDD)) if initialRDD else None
        node = UpdateNode(self._node, updateFunc, partitions, self._sc.defaultParallelism, initial)
        return DStream(self._ssc._graph.add(node), self._ssc)

    def mapWithState(self: DStream[tuple[K, V]], spec: StateSpec) -> MapWithStateDStream[Any]:
        """Return what the function of `spec` makes of each value and the state of its key; None is left out.

        Spark has it for Scala and Java. A key that times out does so in the first batch that is late enough; Spark waits for its
        next checkpoint.
        """
        if not isinstance(spec, StateSpec):
            raise StreamArgumentError(
                "define", "stream", "mapWithState", expected="a StateSpec", got=repr(spec), todo="make one by StateSpec.function(f)"
            )
        initial = self._sc.parallelize(spec._initial) if isinstance(spec._initial, list) else spec._initial
        node = MappedNode(self._node, spec, self._sc.defaultParallelism, initial)
        self._ssc._graph.add(node)
        return MapWithStateDStream(node, self._ssc)

    # Out.

    def foreachRDD(self: DStream[T], func: Union[Callable[[RDD[T]], None], Callable[[datetime, RDD[T]], None]]) -> None:
        """Call `func` with each RDD, or with time and RDD."""
        with_time: Any = func if argument_count(func) != 1 else lambda _, rdd: func(rdd)  # type: ignore[call-arg]
        self._out(lambda batch, rows: with_time(batch.time, rows.rdd()), "foreachRDD")

    def pprint(self, num: int = 10) -> None:
        """Print the first `num` elements of each RDD."""

        def show(batch: Batch, rows: Rows) -> None:
            taken = [] if rows.is_nothing else rows.rdd().take(num + 1)
            line = "-" * 43
            shown = [line, f"Time: {batch.time}", line, *map(str, taken[:num]), *(["..."] if len(taken) > num else []), ""]
            print("\n".join(shown))  # noqa: T201 (what it is for)

        self._out(show, "pprint")

    def saveAsTextFiles(self, prefix: str, suffix: str | None = None) -> None:
        """Save each RDD as text below ``<prefix>-<time in ms>[.<suffix>]``; what is there already stays."""

        def save(batch: Batch, rows: Rows) -> None:
            path = f"{prefix}-{batch.time_ms}" + (f".{suffix}" if suffix is not None else "")
            try:
                rows.rdd().saveAsTextFile(path)
            except Py4JJavaError as error:
                if "FileAlreadyExistsException" not in str(error):  # a batch that is tried again
                    raise

        self._out(save, "saveAsTextFiles")

    # Inside.

    def _check_settable(self, what: str) -> None:
        if self._ssc._graph.state != "initialized":
            raise StreamStateError(
                "change",
                "stream",
                self._node.site,
                expected="a context that has not been started",
                got=f"one that is {self._ssc._graph.state}",
                why=f"Cannot change {what} of a DStream after streaming context has started",
                todo="call it before start()",
            )

    @property
    def _slideDuration(self) -> float:
        return self._node.slide_ms / 1000.0

    def _validate_window_param(self, window: float, slide: float | None, kind: str = "window") -> tuple[int, int]:
        return checked_window(window, slide, self._node, kind)

    def _then(self, step: Step, kind: str, keeps_places: bool) -> TransformedDStream[Any]:
        node = StepNode(self._node, step, kind=kind, keeps_places=keeps_places)
        return TransformedDStream(self._ssc._graph.add(node), self._ssc)

    def _by_rows(self, function: Callable[[Rows, int], Rows], kind: str, partitions: int | None) -> TransformedDStream[Any]:
        count = checked_partitions(partitions, kind) or self._sc.defaultParallelism
        node = RowsNode([self._node], lambda rows: function(rows, count), kind=kind)
        return TransformedDStream(self._ssc._graph.add(node), self._ssc)

    def _with_rows(
        self, other: DStream[Any], function: Callable[[Rows, Rows, int], Rows], kind: str, partitions: int | None
    ) -> DStream[Any]:
        count = checked_partitions(partitions, kind) or self._sc.defaultParallelism
        node = RowsNode([self._node, other._node], lambda a, b: function(a, b, count), kind=kind)
        return DStream(self._ssc._graph.add(node), self._ssc)

    def _out(self, run: Callable[[Batch, Rows], None], kind: str) -> None:
        self._ssc._graph.add_output(self._node, run, kind)


class MapWithStateDStream(DStream[T_co]):
    """What `mapWithState` gave."""

    _node: MappedNode

    def stateSnapshots(self) -> DStream[tuple[Any, Any]]:
        """Return ``(key, state)`` of all keys after each batch."""
        return DStream(self._ssc._graph.add(SnapshotNode(self._node)), self._ssc)


class TransformedDStream(DStream[T_co]):
    """A stream made of one other stream without looking at other batches."""


def _ms(given: datetime | float) -> int:
    seconds = time.mktime(given.timetuple()) + given.microsecond / 1e6 if isinstance(given, datetime) else given
    return round(seconds * 1000)
