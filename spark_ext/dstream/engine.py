"""The running program: a query that ticks, and for each tick a batch.

1. wait until the batch is due   2. write its plan, unless a try before has   3. streams keep what later batches need
4. outputs, in the order of the program   5. Spark notes the batch as done; inputs hear of it at the next tick

A crash before 2 makes another plan at the next start; one between 2 and 5 tries the batch again with the same plan.
"""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from pyspark import SparkContext
from pyspark.sql import SparkSession

from spark_ext import queries
from spark_ext.dstream.batch import Batch
from spark_ext.dstream.errors import BatchError
from spark_ext.dstream.events import BatchTold, OutputTold, StreamInputInfo
from spark_ext.dstream.graph import Graph, InputNode, Node, Output
from spark_ext.dstream.listener import ListenerBus
from spark_ext.dstream.plans import Plan, PlanLog
from spark_ext.dstream.points import reach
from spark_ext.dstream.remembered import Remembered
from spark_ext.dstream.rows import Rows
from spark_ext.dstream.store import Store
from spark_ext.dstream.ticks import Clock, Gate
from spark_ext.dstream.tracebacks import last_words, users_traceback
from spark_ext.dstream.upkeep import Begun, take_up
from spark_ext.errors import QueryError
from spark_ext.queries import Checkpoint, Query, owner

__all__ = ["Engine"]

PIPELINE: Final = "dstream"
POLL_S: Final = 0.1
END_S: Final = 60.0  # a query that has failed ends long before
LEAST_WAIT_S: Final = 0.001  # Spark takes no 0


class Engine:
    """One start of one program.

    Parameters
    ----------
    graph : Graph
        The program; checked.
    folder : str or None
        The checkpoint; None: a temporary one, for this user only, which ends with the program.
    pace : {"interval", "asap"}
        Whether batches wait for their time, or only until an input has something.
    forget : collection of str
        Streams of the checkpoint that may be lost.
    """

    def __init__(
        self,
        graph: Graph,
        context: SparkContext,
        *,
        folder: str | None,
        clock: Clock,
        pace: str,
        bus: ListenerBus,
        forget: Collection[str] = (),
    ) -> None:
        self._graph = graph
        self._context = context
        self._clock = clock
        self._bus = bus
        self._remove = None
        if folder is None:
            folder = tempfile.mkdtemp(prefix="millrace-dstream-")
            self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._folder = folder
        self._forget = forget
        self._plans = PlanLog(f"{folder}/plans")
        self._store = Store(f"{folder}/store")
        self._gate = Gate(clock, self._due_ms, self._has_news if pace == "asap" else None)
        self._remembered = Remembered(lambda: graph.remember_ms)
        self._begun = Begun(zero_ms=0)
        self._last: Plan | None = None
        self._started_ms = 0
        self._query: Query | None = None
        self._owned: Checkpoint | None = None
        self._inside: int | None = None  # the thread that calls the user's functions
        self._receives = False
        self._failure: tuple[BatchError, BaseException] | None = None
        self._changed = threading.Condition()
        self._done_count = 0
        self._drains = self._is_drained = False

    @property
    def zero_ms(self) -> int:
        """The time one interval before the first batch, ms since 1970."""
        return self._begun.zero_ms

    def start(self) -> None:
        """Take up the checkpoint, or begin anew; then tick.

        Raises
        ------
        CheckpointMismatchError
            The checkpoint is of another program, or damaged.
        EpochError
            Another process of this machine runs a program in it.
        """
        self._inside = threading.get_ident()
        self._started_ms = self._clock.now_ms()
        try:
            checkpoint = Checkpoint.claim(self._folder, pipeline=PIPELINE, sources=[])
            owner.take(checkpoint)
            self._owned = checkpoint
            self._begun = take_up(
                self._graph, checkpoint, self._plans, self._store, folder=self._folder, now_ms=self._started_ms, forget=self._forget
            )
            self._last = self._begun.last
            self._receives = True
            for node in self._graph.inputs():
                node.start(f"{self._folder}/received/{node.name}", self._last and self._last.inputs.get(node.name))
            self._bus.post("onStreamingStarted", time=self._started_ms)
            session = SparkSession(self._context)
            ticks = session.readStream.format("rate-micro-batch").options(rowsPerBatch="1", numPartitions="1").load()
            self._query = queries.start(ticks, self._run, checkpoint=checkpoint, every="0 seconds", on_end=self._release, gate=self._gate)
        except BaseException:
            self._release()
            raise
        finally:
            self._inside = None

    def await_end(self, timeout_s: float | None) -> bool:
        """Wait for the end; raises what ended it."""
        assert self._query is not None, "called after start()"  # noqa: S101 (a fact)
        if self._failure is not None:
            timeout_s = END_S  # it is on its way
        try:
            has_ended = self._query.await_end(timeout_s if timeout_s is None else max(timeout_s, LEAST_WAIT_S))
        except QueryError:
            if self._failure is None:
                raise
        if self._failure is not None:
            failed, cause = self._failure
            raise failed from cause
        return has_ended

    def stop(self, *, graceful: bool) -> None:
        """End between two batches; graceful: after one more batch with all that was received, which does not wait for its time."""
        if self._query is None:
            return
        self._stop_receiving(graceful=graceful)
        if graceful:
            with self._changed:
                self._drains = True
            self._gate.hurry(True)
            with self._changed:
                while not self._is_drained and self._is_running():
                    self._changed.wait(POLL_S)
        last = self._last
        if self._query.stop() and last is not None:
            for node in self._graph.inputs():
                if node.name in last.inputs:
                    _told(node, lambda node=node: node.ended(last.inputs[node.name]))  # type: ignore[misc]

    def is_inside(self) -> bool:
        """Tell whether the caller is a function of the program that is being called by a batch, or a listener."""
        return self._inside == threading.get_ident()

    def await_batches(self, count: int, timeout_s: float | None) -> bool:
        """Wait until so many batches have been done since the start; False when the time is up or the program has ended.

        Raises
        ------
        BatchError
            A batch failed before.
        """
        ends = time.monotonic() + (math.inf if timeout_s is None else timeout_s)
        with self._changed:
            while self._done_count < count and self._is_running() and (left := ends - time.monotonic()) > 0:
                self._changed.wait(min(left, POLL_S))
            is_there = self._done_count >= count
        if not is_there and not self._is_running():
            self.await_end(END_S)
        return is_there

    def remembered(self, node: Node, begin_ms: int, end_ms: int) -> list[Rows]:
        """Return the rows of a stream from `begin_ms`, taken down to its slide, to `end_ms` that are still remembered."""
        first_ms = begin_ms - (begin_ms - self.zero_ms) % node.slide_ms
        return self._remembered.between(node, first_ms, end_ms)

    def _is_running(self) -> bool:
        return self._failure is None and self._query is not None and self._query.is_active()

    def _due_ms(self) -> int:
        return (self._last.time_ms if self._last else self.zero_ms) + self._graph.interval_ms

    def _has_news(self) -> bool:
        last = self._last
        try:
            return any(node.has_news(last and last.inputs.get(node.name)) for node in self._graph.inputs())
        except Exception:
            logging.getLogger(__name__).warning("an input does not answer; the batch asks it again", exc_info=True)
            return True  # its plan fails where the batch can be named

    def _run(self, tick: queries.Batch) -> None:
        self._inside = threading.get_ident()
        with self._changed:
            drains = self._drains
        try:
            plan, is_new = self._planned(tick.batch_id)
            self._work(plan)
        except BatchError as failed:
            raise failed.with_traceback(None) from None  # Spark logs all of it; `await_end` raises it with its cause
        finally:
            self._inside = None
        self._last = plan
        drains = drains and is_new  # one that is tried again has its plan from before
        if drains:
            self._gate.hurry(False)
        with self._changed:
            self._is_drained = self._is_drained or drains
            self._done_count += 1
            self._changed.notify_all()

    def _planned(self, number: int) -> tuple[Plan, bool]:
        # Spark asks for a batch after it has noted the one before as done.
        last = self._last
        time_ms = self._due_ms()
        inputs = self._graph.inputs()
        for node in inputs:
            if last is not None and node.name in last.inputs:
                self._trying(number, time_ms, node.site, lambda node=node: node.finished(last.inputs[node.name]))  # type: ignore[misc]
        found = self._plans.read(number)
        plan = found or Plan(number, time_ms)
        lacking = [node for node in inputs if node.name not in plan.inputs]  # all, or those that the program has got since
        if found is not None and not lacking:
            return found, False
        reach("before_plan", number)
        gives = dict(plan.inputs)

        def ask(node: InputNode) -> None:
            gives[node.name] = node.plan(last and last.inputs.get(node.name), time_ms)

        for node in lacking:
            self._trying(number, time_ms, node.site, lambda node=node: ask(node))  # type: ignore[misc]
        plan = replace(plan, inputs=gives)
        self._plans.write(plan)
        reach("after_plan", number)
        return plan, found is None

    def _work(self, plan: Plan) -> None:
        batch = Batch(plan, self.zero_ms, self._graph.interval_ms, self._context, self._store)
        now_ms = self._clock.now_ms()
        due = {number: output for number, output in enumerate(self._graph.outputs) if batch.is_due(output.node)}
        told = BatchTold(
            plan.time_ms,
            self._inputs_told(plan),
            submitted_ms=min(now_ms, max(plan.time_ms, self._started_ms)),  # when it could have begun
            outputs={number: OutputTold(output.site) for number, output in due.items()},
        )
        self._bus.post("onBatchSubmitted", batchInfo=told.info())
        told.started_ms = now_ms
        self._bus.post("onBatchStarted", batchInfo=told.info())
        try:
            self._keep(batch)
            for number, output in due.items():
                self._output(batch, number, output, told)
                reach("after_output", plan.number)
        finally:
            told.ended_ms = self._clock.now_ms()
            self._bus.post("onBatchCompleted", batchInfo=told.info())
            self._remembered.add(batch.made(), plan.time_ms)
        reach("after_outputs", plan.number)

    def _keep(self, batch: Batch) -> None:
        for node in self._graph.keepers():
            for name, needed_ms in node.stores(batch.time_ms).items():
                self._store.drop(name, before_ms=needed_ms - self._graph.remember_ms)
            if any(batch.is_due(one) for one in (node, *node.parents)):
                self._trying(batch.plan.number, batch.time_ms, node.site, lambda node=node: node.keep(batch))  # type: ignore[misc]
                reach("in_keep", batch.plan.number)
        reach("after_keep", batch.plan.number)

    def _output(self, batch: Batch, number: int, output: Output, told: BatchTold) -> None:
        started = told.change(number, started_ms=self._clock.now_ms())
        self._bus.post("onOutputOperationStarted", outputOperationInfo=started)
        failure: str | None = None

        def run() -> None:
            rows = batch.rows(output.node)
            if rows is not None:
                output.run(batch, rows)

        try:
            self._trying(batch.plan.number, batch.time_ms, output.site, run)
        except BatchError as error:
            failure = error.traceback
            raise
        finally:
            ended = told.change(number, ended_ms=self._clock.now_ms(), failure=failure)
            self._bus.post("onOutputOperationCompleted", outputOperationInfo=ended)

    def _trying(self, number: int, time_ms: int, where: str, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # any other way out of here would leave Spark waiting
            traceback = users_traceback(error)
            failed = BatchError(batch=number, time_ms=time_ms, where=where, traceback=traceback, got=last_words(traceback))
            with self._changed:
                self._failure = (failed, error)
                self._changed.notify_all()
            self._stop_receiving(graceful=False)
            raise failed from error

    def _inputs_told(self, plan: Plan) -> dict[int, StreamInputInfo]:
        told = {}
        for number, node in enumerate(self._graph.inputs()):
            planned = plan.inputs[node.name]
            rows = node.row_count(planned)
            if rows is not None:
                metadata = node.describe(planned)
                told[number] = StreamInputInfo(
                    inputStreamId=number, numRecords=rows, metadata=metadata, metadataDescription=metadata.get("Description")
                )
        return told

    def _stop_receiving(self, *, graceful: bool) -> None:
        with self._changed:
            receives, self._receives = self._receives, False
        if receives:
            for node in self._graph.inputs():
                _told(node, lambda node=node: node.stop(graceful=graceful))  # type: ignore[misc]

    def _release(self) -> None:
        """Let go of what outlives a query, once it has ended; may be called again."""
        self._stop_receiving(graceful=False)
        if self._owned is not None:
            owner.release(self._owned)
        try:
            self._remembered.clear()
        except Exception:
            # Spark is gone, and with it what was persisted.
            logging.getLogger(__name__).debug("nothing to unpersist any more", exc_info=True)
        if self._remove is not None:
            self._remove()


def _told(node: InputNode, work: Callable[[], None]) -> None:
    """Tell an input of an end; what it raises does not keep the others from hearing of it."""
    try:
        work()
    except Exception:
        logging.getLogger(__name__).exception("%s did not end well", node.site)


class _IsReported(logging.Filter):
    """Keeps a failure that `await_end` raises out of py4j's log, which reports each exception as an error."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], BatchError))


logging.getLogger("py4j.clientserver").addFilter(_IsReported())
