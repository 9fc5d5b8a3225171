"""The running program: a query that ticks, and for each tick a batch.

1. wait until the batch is due   2. write its plan, unless a try before has   3. streams keep what later batches need
4. outputs, in the order of the program   5. Spark notes the batch as done; inputs hear of it at the next tick
"""

from __future__ import annotations

import re
import tempfile
import threading
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from pyspark import SparkContext
from pyspark.sql import SparkSession

from spark_ext import queries
from spark_ext.dstream.batch import Batch
from spark_ext.dstream.errors import BatchError
from spark_ext.dstream.graph import Graph, Node, Output
from spark_ext.dstream.listener import ListenerBus, OutputOperationInfo, StreamInputInfo, Time, batch_info
from spark_ext.dstream.plans import Plan, PlanLog
from spark_ext.dstream.rows import Rows
from spark_ext.dstream.shape import Shape, agree, shape_of
from spark_ext.dstream.store import Store
from spark_ext.dstream.ticks import Clock, Gate
from spark_ext.errors import QueryError
from spark_ext.queries import Checkpoint, Query

__all__ = ["Engine"]

PIPELINE: Final = "dstream"


class Engine:
    """One start of one program.

    Parameters
    ----------
    graph : Graph
        The program; checked.
    folder : str or None
        The checkpoint; None: a temporary one, which ends with the program.
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
        self._pace = pace
        self._bus = bus
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="millrace-dstream-")
        self._folder = folder or str(self._temporary.name if self._temporary else "")
        self._forget = forget
        self._plans = PlanLog(f"{self._folder}/plans")
        self._store = Store(f"{self._folder}/store")
        self._last: Plan | None = None
        self._failure: BatchError | None = None
        self._query: Query | None = None
        self._done = threading.Condition()
        self._done_count = 0
        self._batch_thread: int | None = None
        self._remembered: dict[Node, dict[int, Rows]] = defaultdict(dict)
        self.zero_ms = 0

    def start(self) -> None:
        """Take up the checkpoint, or begin anew; then tick."""
        now_ms, interval_ms = self._clock.now_ms(), self._graph.interval_ms
        found = Shape.read(self._folder)
        self.zero_ms = found.zero_ms if found else now_ms // interval_ms * interval_ms
        if found:
            for node in (*self._graph.inputs(), *self._graph.keepers()):
                if node.name in found.streams:
                    node.restore(dict(found.streams[node.name]))
        wanted = shape_of(self._graph, self.zero_ms)
        if found:
            agree(found, wanted, folder=self._folder, forget=self._forget)
        wanted.write(self._folder)
        checkpoint = Checkpoint.claim(self._folder, pipeline=PIPELINE, sources=[])
        planned = checkpoint.last_planned()
        while planned is not None and planned >= 0 and self._last is None:
            self._last = self._plans.read(planned)
            planned -= 1
        committed = checkpoint.last_committed()
        if self._last is not None and (committed is None or self._last.number > committed):
            self._last = self._plans.read(self._last.number - 1)  # it is tried again
        for node in self._graph.inputs():
            node.start(f"{self._folder}/received/{node.name}", self._last and self._last.inputs.get(node.name))
        self._bus.post("onStreamingStarted", time=now_ms)
        session = SparkSession(self._context)
        ticks = session.readStream.format("rate-micro-batch").options(rowsPerBatch="1", numPartitions="1").load()
        gate = Gate(self._clock, self._due_ms, self._has_news if self._pace == "asap" else None)
        self._query = queries.start(ticks, self._run, checkpoint=checkpoint, every="0 seconds", gate=gate)

    def await_end(self, timeout_s: float | None) -> bool:
        """Wait for the end; raises what ended it."""
        assert self._query is not None, "called after start()"  # noqa: S101 (a fact)
        try:
            return self._query.await_end(timeout_s)
        except QueryError as error:
            raise (self._failure or error) from (self._failure and self._failure.__cause__)

    def stop(self, *, graceful: bool) -> None:
        """End between two batches; graceful: after one more batch with all that was received."""
        assert self._query is not None, "called after start()"  # noqa: S101 (a fact)
        for node in self._graph.inputs():
            node.stop(graceful=graceful)
        if graceful and self._query.is_active():
            with self._done:
                wanted = self._done_count + 1
                self._done.wait_for(lambda: self._done_count > wanted or not self._is_running(), timeout=None)
        self._query.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    def is_in_batch(self) -> bool:
        """Tell whether the caller is a function of the batch that is being worked on."""
        return self._batch_thread == threading.get_ident()

    def await_batches(self, count: int, timeout_s: float | None) -> bool:
        """Wait until so many batches have been done since the start; False when the time is up or the query has ended."""
        with self._done:
            self._done.wait_for(lambda: self._done_count >= count or not self._is_running(), timeout_s)
            return self._done_count >= count

    def remembered(self, node: Node, begin_ms: int, end_ms: int) -> list[Rows]:
        """Return the rows of a stream at the times from `begin_ms` to `end_ms` that are still remembered."""
        return [rows for time_ms, rows in sorted(self._remembered[node].items()) if begin_ms <= time_ms <= end_ms]

    def _is_running(self) -> bool:
        return self._failure is None and self._query is not None and self._query.is_active()

    def _due_ms(self) -> int:
        return (self._last.time_ms if self._last else self.zero_ms) + self._graph.interval_ms

    def _has_news(self) -> bool:
        last = self._last
        return any(node.has_news(last and last.inputs.get(node.name)) for node in self._graph.inputs())

    def _run(self, tick: queries.Batch) -> None:
        self._batch_thread = threading.get_ident()
        self._hear_done()
        plan = self._plans.read(tick.batch_id) or self._plan(tick.batch_id)
        batch = Batch(plan, self.zero_ms, self._graph.interval_ms, self._context, self._store)
        inputs = self._inputs(plan)
        submitted_ms = self._clock.now_ms()
        self._bus.post("onBatchSubmitted", batchInfo=batch_info(plan.time_ms, inputs, submitted_ms))
        self._bus.post("onBatchStarted", batchInfo=batch_info(plan.time_ms, inputs, submitted_ms, started_ms=submitted_ms))
        outputs: dict[int, OutputOperationInfo] = {}
        try:
            for node in self._graph.keepers():
                for name, before_ms in node.stores(plan.time_ms).items():
                    self._store.drop(name, before_ms=before_ms - self._graph.remember_ms)
                self._trying(batch, node.site, lambda node=node: node.keep(batch))  # type: ignore[misc]
            for number, output in enumerate(self._graph.outputs):
                self._output(batch, number, output, outputs)
        finally:
            ended_ms = self._clock.now_ms()
            told = batch_info(plan.time_ms, inputs, submitted_ms, started_ms=submitted_ms, ended_ms=ended_ms, outputs=outputs)
            self._bus.post("onBatchCompleted", batchInfo=told)
            self._remember(batch)
        self._last = plan

    def _plan(self, number: int) -> Plan:
        last = self._last
        time_ms = self._due_ms()
        inputs = {node.name: node.plan(last and last.inputs.get(node.name), time_ms) for node in self._graph.inputs()}
        plan = Plan(number, time_ms, inputs)
        self._plans.write(plan)
        return plan

    def _output(self, batch: Batch, number: int, output: Output, told: dict[int, OutputOperationInfo]) -> None:
        if not batch.is_due(output.node):
            return
        started_ms = self._clock.now_ms()
        fields = {"batchTime": Time(batch.time_ms), "id": number, "name": output.site, "description": output.site, "startTime": started_ms}
        self._bus.post(
            "onOutputOperationStarted",
            outputOperationInfo=OutputOperationInfo(**fields, endTime=-1, duration=-1, failureReason=None),
        )
        reason: str | None = None

        def run() -> None:
            rows = batch.rows(output.node)
            if rows is not None:
                output.run(batch, rows)

        try:
            self._trying(batch, output.site, run)
        except BatchError as error:
            reason = str(error)
            raise
        finally:
            ended_ms = self._clock.now_ms()
            told[number] = OutputOperationInfo(**fields, endTime=ended_ms, duration=ended_ms - started_ms, failureReason=reason)
            self._bus.post("onOutputOperationCompleted", outputOperationInfo=told[number])

    def _trying(self, batch: Batch, where: str, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            told = _traceback(error)
            got = told.rstrip().splitlines()[-1]
            failed = BatchError(batch=batch.plan.number, time_ms=batch.time_ms, where=where, traceback=told, got=got)
            with self._done:
                self._failure = failed
                self._done.notify_all()
            raise failed from error

    def _inputs(self, plan: Plan) -> dict[int, StreamInputInfo]:
        told = {}
        for number, node in enumerate(self._graph.inputs()):
            planned = plan.inputs.get(node.name)
            metadata = node.describe(planned)
            told[number] = StreamInputInfo(
                inputStreamId=number,
                numRecords=node.row_count(planned),
                metadata=metadata,
                metadataDescription=metadata.get("Description"),
            )
        return told

    def _hear_done(self) -> None:
        # Spark asks for a batch after it has noted the one before as done.
        last = self._last
        if last is not None:
            for node in self._graph.inputs():
                if node.name in last.inputs:
                    node.finished(last.inputs[node.name])

    def _remember(self, batch: Batch) -> None:
        for node, rows in batch.made().items():
            remembered = self._remembered[node]
            if rows is not None:
                remembered[batch.time_ms] = rows
            kept_ms = max(node.remember_ms, self._graph.remember_ms)
            for time_ms in [old for old in remembered if old <= batch.time_ms - kept_ms]:
                gone = remembered.pop(time_ms)
                if node.storage_level is not None:
                    gone.base.unpersist()
        with self._done:
            self._done_count += 1
            self._done.notify_all()


def _traceback(error: BaseException) -> str:
    """Return the traceback of the user's function: that of the worker if it ran there, without this package's own frames."""
    remote = re.search(r"Traceback \(most recent call last\):\n(?:  .*\n|\n)*\S[^\n]*", str(error))
    if remote:
        return remote.group(0)
    here = str(Path(__file__).parent)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(here)]
    lines = traceback.format_list(frames) + traceback.format_exception_only(error)
    return "Traceback (most recent call last):\n" + "".join(lines)
