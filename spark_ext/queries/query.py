"""Start a streaming query whose batches go to one function, and stop it between two batches."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, Protocol

from py4j.protocol import Py4JJavaError
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from spark_ext.errors import QueryError
from spark_ext.queries.checkpoint import Checkpoint

__all__ = ["Batch", "Gate", "Query", "start"]

PARKED_MS: Final = 3_600_000  # far longer than a stop takes; it ends by being interrupted
POLL_S: Final = 0.05
INTERRUPTED: Final = "py4j.protocol.Py4JJavaError: An error occurred while calling sleep: java.lang.InterruptedException"


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch, as the writing function gets it.

    Attributes
    ----------
    batch_id : int
        Number of the batch; the same when it is replayed.
    rows : DataFrame
        The batch. Lazy: each action on it reads the source again unless it is persisted.
    watermark : datetime
        Watermark at the start of the batch, the same when it is replayed.
    app_id : str
        Name for idempotent writes: pipeline and checkpoint.
    planned_at : datetime or None
        When Spark planned the batch, the same when it is replayed; None for a batch that Spark did not plan.
    """

    batch_id: int
    rows: DataFrame
    watermark: datetime
    app_id: str
    planned_at: datetime | None = None


class Gate(Protocol):
    """Where a batch that Spark has planned waits before it begins."""

    def wait(self) -> None:
        """Return when the batch may begin, or `close` was called; the query's thread calls it before each batch."""

    def close(self) -> None:
        """Let `wait` return at once, now and later; the query is being stopped."""


class Query:
    """A running query that can be stopped at a batch boundary."""

    def __init__(self, name: str, spark_query: StreamingQuery, batches: _Batches, on_end: Callable[[], None]) -> None:
        self._name = name
        self._spark_query = spark_query
        self._batches = batches
        self._on_end = on_end

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return self._name

    @property
    def spark_query(self) -> StreamingQuery:
        """Spark's own handle."""
        return self._spark_query

    def is_active(self) -> bool:
        """Tell whether the query still runs."""
        return bool(self.spark_query.isActive)

    def stop(self, *, timeout_s: float = 600.0) -> bool:
        """Stop after the batch that is being worked on, and before the next one.

        Guarantee: no batch is cut off in the middle unless it takes longer than `timeout_s`; a batch that Spark
        had already planned writes nothing and is done at the next start. Safe to call twice and from any thread.

        Parameters
        ----------
        timeout_s : float
            Longest wait for the current batch, in seconds; then its Spark job is interrupted, and the batch replayed
            at the next start.

        Returns
        -------
        bool
            Whether the stop came at a batch boundary, and no batch failed; `await_end` raises the failure.

        Raises
        ------
        QueryError
            Called from inside the query's own `write`, which it would wait for.
        """
        batches = self._batches
        with batches.changed:
            if batches.writer == threading.get_ident():
                raise QueryError(
                    "stop",
                    "query",
                    self.name,
                    expected="a call from outside its batches",
                    got="one from inside its own write",
                    why="the stop would wait for itself",
                    todo="set the stop event that was given to run()",
                )
            batches.closing = True
            if batches.gate is not None:
                batches.gate.close()
            whole = batches.changed.wait_for(lambda: batches.writer is None, timeout_s)
        whole = whole and self._await_commit(timeout_s)
        self.spark_query.stop()
        self._ended()
        return whole and self.spark_query.exception() is None

    def await_end(self, timeout_s: float | None = None) -> bool:
        """Wait until the query has ended, or the time is up, and tell whether it has.

        Raises
        ------
        QueryError
            The query failed; Spark's own error is its cause.
        """
        try:
            if timeout_s is None:
                self.spark_query.awaitTermination()
                has_ended = True
            else:
                has_ended = bool(self.spark_query.awaitTermination(timeout_s))  # type: ignore[arg-type]  # takes fractions of a second
            if has_ended:
                self._ended()
            return has_ended
        except StreamingQueryException as error:
            self._ended()
            raise QueryError(
                "run",
                "query",
                self.name,
                expected="every batch to be written",
                got=_first_cause(str(error)),
                why="the batch that failed has not been committed",
                todo="mend the cause and start again with the same checkpoint: the batch is then replayed",
            ) from error

    def _ended(self) -> None:
        self._batches.forget()
        self._on_end()

    def _await_commit(self, timeout_s: float) -> bool:
        # Spark notes a batch as done after the function has returned. It has been noted once the next one is
        # at our door, or once the query waits for its next trigger.
        batches = self._batches

        def noted() -> bool:
            return batches.parked or not self.is_active() or not self.spark_query.status["isTriggerActive"]

        waited = 0.0
        with batches.changed:
            while not noted() and waited < timeout_s:
                batches.changed.wait(POLL_S)
                waited += POLL_S
            return noted()


class _Batches:
    """What Spark calls for each batch.

    The JVM holds it as long as Spark's query, and Python's handle of that query holds Spark's query: neither must be reached from here,
    or no collector ever frees them, and each query that has ended keeps its plans for the life of the JVM.
    """

    def __init__(self, checkpoint: Checkpoint, write: Callable[[Batch], None], gate: Gate | None) -> None:
        self.checkpoint = checkpoint
        self.write: Callable[[Batch], None] | None = write
        self.gate = gate
        self.changed = threading.Condition()
        self.closing = False
        self.parked = False
        self.writer: int | None = None  # the thread that is inside `write`

    def forget(self) -> None:
        """Let go of the user's function, which may hold the query's handle; the query has ended."""
        self.write = self.gate = None

    def run(self, rows: DataFrame, batch_id: int) -> None:
        if self.gate is not None:
            self.gate.wait()
        with self.changed:
            if self.closing:
                self.parked = True
                self.changed.notify_all()
            else:
                self.writer = threading.get_ident()
        if self.parked:
            _wait_for_interrupt(rows)
        assert self.write is not None, "forgotten when the query has ended"  # noqa: S101
        try:
            logged = self.checkpoint.batch(batch_id)
            self.write(Batch(batch_id, rows, logged.watermark, self.checkpoint.app_id, logged.planned_at))
        finally:
            with self.changed:
                self.writer = None
                self.changed.notify_all()


class _BatchInterruptedError(RuntimeError):
    """Ends the call of a batch that must not happen."""


def _is_news(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], _BatchInterruptedError))


logging.getLogger("py4j.clientserver").addFilter(_is_news)  # it reports every exception, also this one, as an error


def _first_cause(text: str) -> str:
    """Take the one line that names the cause out of the pages that Spark prints."""
    raised = re.findall(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception)\b.*)$", text, re.MULTILINE)
    named = re.findall(r"^.*?(\[[A-Z_.]+\] .*)$", text, re.MULTILINE)
    return str((raised or named[::-1] or [text.strip().splitlines()[0]])[-1])[:500]


def _wait_for_interrupt(rows: DataFrame) -> None:
    # To return would commit the batch, to raise would be a failure. So sleep in the JVM, in the query's own thread,
    # where Spark's stop() interrupts it: Spark then takes the batch for one that did not happen.
    jvm: Any = rows.sparkSession.sparkContext._jvm  # noqa: SLF001 (no public way to the query's thread)
    try:
        jvm.java.lang.Thread.sleep(PARKED_MS)
    except Py4JJavaError:
        # Spark knows an interruption by this text, which its pattern can only bear when it is short.
        raise _BatchInterruptedError(INTERRUPTED) from None


def start(
    frame: DataFrame,
    write: Callable[[Batch], None],
    *,
    checkpoint: Checkpoint,
    output_mode: Literal["append", "update", "complete"] = "append",
    every: str | None = None,
    on_end: Callable[[], None] = lambda: None,
    gate: Gate | None = None,
) -> Query:
    """Start a query that hands each micro-batch to `write`.

    Guarantee: `write` sees every row; after a crash it sees the last unfinished batch again, with the same
    number, rows and watermark. So a `write` that is idempotent per batch makes the whole exactly once.

    Parameters
    ----------
    frame : DataFrame
        A streaming DataFrame.
    write : callable
        Called in the driver, one batch after the other.
    checkpoint : Checkpoint
        Claimed for this pipeline.
    output_mode : {"append", "update", "complete"}
        As in Structured Streaming.
    every : str, optional
        Time between two batches, such as ``"1 second"``; without it the query takes what is there now, in
        batches, and ends.
    on_end : callable
        Called when the query is seen to have ended, by `Query.stop` or `Query.await_end`; more than once maybe.
    gate : Gate, optional
        Where each batch waits before it begins; default is not at all.

    Raises
    ------
    pyspark.errors.AnalysisException
        Spark cannot run this plan as a stream.
    """
    batches = _Batches(checkpoint, write, gate)
    checkpoint.forget_unplanned()
    writer = (
        frame.writeStream.queryName(checkpoint.pipeline)
        .outputMode(output_mode)
        .option("checkpointLocation", checkpoint.spark_location)
        .foreachBatch(batches.run)
    )
    writer = writer.trigger(processingTime=every) if every else writer.trigger(availableNow=True)
    return Query(checkpoint.pipeline, writer.start(), batches, on_end)
