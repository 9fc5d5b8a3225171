"""StreamingContext: where a program begins, and what starts and stops it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import threading
import uuid
import weakref
from collections.abc import Callable, Collection
from numbers import Real
from typing import Any, Literal, TypeVar

from pyspark import RDD, SparkContext, StorageLevel

from spark_ext.dstream.checks import check_program
from spark_ext.dstream.dstream import DStream
from spark_ext.dstream.engine import Engine
from spark_ext.dstream.errors import StreamArgumentError, StreamStateError
from spark_ext.dstream.graph import Graph, call_site
from spark_ext.dstream.inputs.files import RecordsInput, TextInput
from spark_ext.dstream.inputs.queue import QueueInput
from spark_ext.dstream.inputs.socket import SocketInput
from spark_ext.dstream.listener import ListenerBus, StreamingListener
from spark_ext.dstream.nodes import TransformNode, UnionNode
from spark_ext.dstream.runs import begun, newest
from spark_ext.dstream.ticks import Clock, WallClock
from spark_ext.paths import absolute

__all__ = ["StreamingContext"]

T = TypeVar("T")

_log = logging.getLogger(__name__)


class StreamingContext:
    """A program of discretized streams: define streams, then `start` it.

    Guarantee: batches have the times zero + n * batchDuration, one after the other, also without input and after a
    restart; each row of an input is in exactly one batch; a batch that failed or was cut off is tried again with the same
    input; state is that of the last finished batch.

    Parameters
    ----------
    sparkContext : SparkContext
        Of this process.
    batchDuration : float
        Batch interval, seconds.
    jssc : None
        Only for Spark's signature.
    pace : {"interval", "asap"}
        When a batch begins: at its time, or as soon as the one before is done and an input has something; its time is the
        same number of intervals after the start in both cases.
    clock : Clock, optional
        What tells the time; default is the machine's.

    Examples
    --------
    See docs/dstreams.md.
    """

    _activeContext: StreamingContext | None = None
    _madeLast: weakref.ref[StreamingContext] | None = None

    def __init__(
        self,
        sparkContext: SparkContext,
        batchDuration: float | None = None,
        jssc: None = None,
        *,
        pace: Literal["interval", "asap"] = "interval",
        clock: Clock | None = None,
    ) -> None:
        interval_ms = _checked_ms(batchDuration)
        if jssc is not None:
            raise StreamArgumentError(
                "make", "streaming context", "", expected="no jssc", got=repr(jssc), todo="give batchDuration; nothing here runs in the JVM"
            )
        if pace not in {"interval", "asap"}:
            raise StreamArgumentError(
                "make", "streaming context", "", expected="pace 'interval' or 'asap'", got=repr(pace), todo="choose one"
            )
        self._sc = sparkContext
        if "PYSPARK_PYTHON" not in os.environ and str(sparkContext.master).startswith("local"):
            sparkContext.pythonExec = sys.executable  # workers import this package; the first python3 in PATH may not have it
        self._graph = Graph(interval_ms)
        self._pace = pace
        self._clock = clock or WallClock()
        self._bus = ListenerBus()
        self._checkpoint: str | None = None
        self._continues = False
        self._forget: Collection[str] = ()
        self._engine: Engine | None = None
        StreamingContext._madeLast = weakref.ref(self)
        self._changing = threading.Lock()  # start or stop
        self._started_at = ""

    @classmethod
    def getOrCreate(
        cls, checkpointPath: str, setupFunc: Callable[[], StreamingContext], *, forget: Collection[str] = ()
    ) -> StreamingContext:
        """Return the program of `setupFunc`, which continues from the checkpoint if there is one.

        Unlike in Spark the program is never read from the checkpoint: `setupFunc` is called at each start, so its code may
        have changed. `start` refuses what the checkpoint cannot be used for, by name. After a pause each interval that was
        missed is run, one after the other: windows and time-outs go by batch times.

        Parameters
        ----------
        checkpointPath : str
            Folder or URI.
        setupFunc : callable
            Makes the context and its streams; does not start it.
        forget : collection of str
            Names of streams in the checkpoint that may be lost: what the program does not have any more, or has in another
            shape, is removed, and begins empty if it is there.
        """
        context = setupFunc()
        context.checkpoint(checkpointPath)
        context._continues = True
        context._forget = tuple(forget)
        return context

    @classmethod
    def getActive(cls) -> StreamingContext | None:
        """Return the context that has been started and not stopped, None if there is none."""
        active = cls._activeContext
        if active is not None and active._sc._jsc is None:  # Spark has been stopped below it
            with contextlib.suppress(Exception):
                active._stop(False, False)
        return cls._activeContext

    @classmethod
    def getActiveOrCreate(cls, checkpointPath: str | None, setupFunc: Callable[[], StreamingContext]) -> StreamingContext:
        """Return the active context, else that of `getOrCreate`, or of `setupFunc` without a path."""
        if not callable(setupFunc):
            msg = "setupFunc should be callable."
            raise TypeError(msg)
        active = cls.getActive()
        if active is not None:
            return active
        return setupFunc() if checkpointPath is None else cls.getOrCreate(checkpointPath, setupFunc)

    @property
    def sparkContext(self) -> SparkContext:
        """Spark's context."""
        return self._sc

    def start(self) -> None:
        """Start the program; a second call does nothing but log a warning.

        Raises
        ------
        StreamArgumentError
            There is no output operation, or a stream cannot run as it is.
        StreamStateError
            The context has been stopped, or another one is active in this process.
        CheckpointMismatchError
            The checkpoint holds streams that this program does not have, or has in another shape.
        """
        with self._changing:
            self._start()

    def awaitTermination(self, timeout: float | None = None) -> None:
        """Wait until the program ends, at most `timeout` seconds.

        Raises
        ------
        BatchError
            A batch failed; the text begins with the user's traceback.
        """
        self.awaitTerminationOrTimeout(timeout)  # type: ignore[arg-type]  # None is for ever

    def awaitTerminationOrTimeout(self, timeout: float) -> bool:
        """Wait as `awaitTermination`; tell whether the program has ended."""
        if self._engine is not None and self._engine.is_inside():
            raise self._wrong("await the end of", "a call from one of its own batches", "it would wait for itself", "call it from outside")
        if self._engine is None:
            if self._graph.state == "stopped":
                return True
            raise self._wrong("await the end of", "one that has not been started", "it would wait for ever", "call start() first")
        return self._engine.await_end(timeout)

    def awaitBatches(self, count: int, timeout: float | None = None) -> bool:
        """Wait until `count` batches have been finished since `start`, at most `timeout` seconds; tell whether they have been.

        Raises
        ------
        BatchError
            A batch failed before.
        """
        if self._engine is None:
            raise self._wrong("await batches of", "one that has not been started", "it would wait for ever", "call start() first")
        return self._engine.await_batches(count, timeout)

    def stop(self, stopSparkContext: bool = True, stopGraceFully: bool = False) -> None:
        """Stop between two batches.

        Parameters
        ----------
        stopSparkContext : bool
            Stop Spark's context as well.
        stopGraceFully : bool
            First run one more batch with all that has been received, without waiting for its time.

        Notes
        -----
        Called by a function of the program itself, the stop comes after its batch. It raises no failure of a batch: that is
        what `awaitTermination` does, also afterwards.
        """
        if self._engine is None or not self._engine.is_inside():
            self._stop(stopSparkContext, stopGraceFully)
        else:
            threading.Thread(target=self._stop, args=(stopSparkContext, stopGraceFully), name="stop of a StreamingContext").start()

    def remember(self, duration: float) -> None:
        """Let `slice` find the rows of the last `duration` seconds."""
        self._graph.remember_ms = int(duration * 1000)

    def checkpoint(self, directory: str) -> None:
        """Keep plans and state in a folder or URI; only `getOrCreate` continues from what is there, else a new run begins."""
        self._checkpoint = absolute(os.fspath(directory))

    def queueStream(self, rdds: list[RDD[T]], oneAtATime: bool = True, default: RDD[T] | None = None) -> DStream[T]:
        """Return a stream of a list of RDDs or lists, one or all per batch; after its end `default`.

        Changes of the list after the call are not seen. After a restart it goes on at the position that was reached, so the
        program must give the same list again.
        """
        if default is not None and not isinstance(default, RDD):
            default = self._sc.parallelize(default)
        given = [rdd if isinstance(rdd, RDD) else self._sc.parallelize(rdd) for rdd in rdds]
        node = QueueInput(given, self._graph.interval_ms, one_at_a_time=oneAtATime, default=default)
        return DStream(self._graph.add(node), self)

    def socketTextStream(self, hostname: str, port: int, storageLevel: StorageLevel = StorageLevel.MEMORY_AND_DISK_2) -> DStream[str]:
        """Return a stream of the lines that a TCP server sends.

        The driver connects at the start, and again as often as the connection is lost; lines are written into the checkpoint
        before a batch has them, so `storageLevel` changes nothing. See `SocketInput` for what is guaranteed.
        """
        node = SocketInput(
            self._sc,
            hostname,
            port,
            self._graph.interval_ms,
            number=len(self._graph.inputs()),
            bus=self._bus,
            remembered_ms=lambda: self._graph.remember_ms,
            now_ms=self._clock.now_ms,
        )
        return DStream(self._graph.add(node), self)

    def textFileStream(self, directory: str) -> DStream[str]:
        """Return a stream of the lines of new files in a folder.

        A batch has the files that have changed after this call, not after the batch's time, and have not been read before;
        names that begin with ``.`` or ``_`` are left out. Files must be moved into the folder; see `next_plan` for what is
        guaranteed.

        Parameters
        ----------
        directory : str
            Folder, URI, or a glob pattern of folders, as Hadoop reads it.
        """
        node = TextInput(self._sc, directory, self._graph.interval_ms, since_ms=self._clock.now_ms())
        return DStream(self._graph.add(node), self)

    def binaryRecordsStream(self, directory: str, recordLength: int) -> DStream[bytes]:
        """Return a stream of the records of fixed length of new files in a folder.

        Files as in `textFileStream`. A file whose size is not a multiple of `recordLength` is refused before it is planned.
        """
        node = RecordsInput(self._sc, directory, self._graph.interval_ms, since_ms=self._clock.now_ms(), length=recordLength)
        return DStream(self._graph.add(node), self)

    def transform(self, dstreams: list[DStream[Any]], transformFunc: Callable[..., RDD[T]]) -> DStream[T]:
        """Return the stream that a function makes of the list of RDDs of several streams."""
        node = TransformNode([stream._node for stream in dstreams], lambda _, *rdds: transformFunc(rdds))
        return DStream(self._graph.add(node), self)

    def union(self, *dstreams: DStream[T]) -> DStream[T]:
        """Return the elements of several streams as one."""
        if not dstreams:
            msg = "should have at least one DStream to union"
            raise ValueError(msg)
        if len(dstreams) == 1:
            return dstreams[0]
        if len({stream._slideDuration for stream in dstreams}) > 1:
            msg = "All DStreams should have same slide duration"
            raise ValueError(msg)
        return DStream(self._graph.add(UnionNode([stream._node for stream in dstreams])), self)

    def addStreamingListener(self, streamingListener: StreamingListener) -> None:
        """Let a listener hear of batches, outputs and receivers."""
        self._bus.listeners.append(streamingListener)

    def _start(self) -> None:
        if self._graph.state == "active":
            _log.warning("StreamingContext has already been started")
            return
        if self._graph.state == "stopped":
            raise self._wrong("start", "one that is stopped", "StreamingContext has already been stopped", "make a new StreamingContext")
        other = StreamingContext.getActive()
        if other is not None:
            raise self._wrong(
                "start",
                "another one that is active",
                "Only one StreamingContext may be started in this JVM. "
                f"Currently running StreamingContext was started at {other._started_at.removeprefix('start at ')}",
                "stop that one first; StreamingContext.getActive() returns it",
            )
        check_program(self._graph, has_checkpoint=self._checkpoint is not None, is_local=str(self._sc.master).startswith("local"))
        folder = None
        if self._checkpoint is not None:
            folder = (newest(self._checkpoint) if self._continues else None) or begun(self._checkpoint, uuid.uuid4().hex)
        self._started_at = call_site("start")
        self._engine = Engine(self._graph, self._sc, folder=folder, clock=self._clock, pace=self._pace, bus=self._bus, forget=self._forget)
        try:
            self._graph.state = "active"
            self._engine.start()
        except BaseException:
            self._engine, self._graph.state = None, "initialized"
            raise
        StreamingContext._activeContext = self

    def _stop(self, spark_too: bool, graceful: bool) -> None:
        with self._changing:
            try:
                if self._engine is not None and self._graph.state == "active":
                    self._engine.stop(graceful=graceful)
            finally:
                self._graph.state = "stopped"
                if StreamingContext._activeContext is self:
                    StreamingContext._activeContext = None
                if spark_too:
                    self._sc.stop()

    def _wrong(self, action: str, got: str, why: str, todo: str) -> StreamStateError:
        return StreamStateError(action, "streaming context", "", expected="a context that can", got=got, why=why, todo=todo)


def _checked_ms(seconds: Any) -> int:
    is_number = isinstance(seconds, Real) and not isinstance(seconds, bool) and math.isfinite(seconds)
    if not is_number or int(seconds * 1000) <= 0:
        raise StreamArgumentError(
            "make",
            "streaming context",
            "",
            expected="batchDuration in seconds, at least 0.001",
            got=repr(seconds),
            todo="StreamingContext(sc, 1) has one batch per second",
        )
    return int(seconds * 1000)
