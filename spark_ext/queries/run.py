"""Run queries until they end or somebody asks for a stop: Ctrl-C, SIGTERM, or the JVM being told to go."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from typing import Any, Final

from py4j.protocol import Py4JError, Py4JJavaError
from pyspark import SparkContext
from pyspark.java_gateway import ensure_callback_server_started

from spark_ext.queries.query import Query
from spark_ext.queries.signals import stop_asked_by_signals

__all__ = ["Outcome", "run"]

POLL_S: Final = 0.25
BEFORE_SPARK: Final = 1000  # Spark's own shutdown hook has priority 40; higher runs first
HOOK_TIMEOUT_S: Final = 600
STOP_TIMEOUT_S: Final = 600
AFTER_FAILURE_S: Final = 60

_log = logging.getLogger(__name__)


class Outcome(Enum):
    """How a run ended."""

    FINISHED = "finished"
    STOPPED = "stopped"


def run(queries: Sequence[Query], *, on_tick: Callable[[], None] = lambda: None, stop: threading.Event | None = None) -> Outcome:
    """Wait for all queries to end; on SIGTERM, Ctrl-C or `stop`, stop each at its next batch boundary.

    Guarantee: after a stop no batch is half written. Under spark-submit this holds as well when the signal goes
    to the JVM. A second Ctrl-C does not wait for the batch, which is then replayed at the next start.

    Parameters
    ----------
    queries : sequence of Query
        Running queries.
    on_tick : callable
        Called a few times per second in this thread, for progress.
    stop : threading.Event, optional
        Set it from another thread to ask for the stop.

    Raises
    ------
    QueryError
        One of the queries failed, also while it was being stopped; the others have been stopped at a batch boundary.
    """
    asked = stop or threading.Event()
    failed: list[Exception] = []
    with stop_asked_by_signals(asked), _jvm_hook(queries, asked):
        try:
            while any(query.is_active() for query in queries) and not asked.is_set():
                for query in queries:
                    query.await_end(POLL_S / len(queries))
                on_tick()
            if asked.is_set():
                failed = _stop_all(queries, timeout_s=STOP_TIMEOUT_S)
            else:
                for query in queries:
                    query.await_end()
            on_tick()
        except BaseException as error:
            # The JVM may go first, after its hook has stopped the queries.
            if not (asked.is_set() and _is_jvm_gone(error)):
                others = _stop_all(queries, timeout_s=0 if isinstance(error, KeyboardInterrupt) else AFTER_FAILURE_S)
                _report([other for other in others if str(other) != str(error)])
                raise
    if failed:
        _report(failed[1:])
        raise failed[0]
    return Outcome.STOPPED if asked.is_set() else Outcome.FINISHED


def _stop_all(queries: Sequence[Query], *, timeout_s: float) -> list[Exception]:
    """Stop every query, whatever becomes of the others; return what went wrong."""
    failed: list[Exception] = []
    for query in queries:
        try:
            query.stop(timeout_s=timeout_s)
            query.await_end()  # raises what a batch failed with; of an interrupted batch Spark says nothing
        except Exception as error:  # noqa: BLE001 (the next query has to be stopped as well)
            if not _is_jvm_gone(error):
                failed.append(error)
    return failed


def _report(errors: Sequence[Exception]) -> None:
    for error in errors:
        _log.error("while the queries were being stopped: %s", error, exc_info=error)


def _is_jvm_gone(error: BaseException) -> bool:
    return isinstance(error, Py4JError) and not isinstance(error, Py4JJavaError)  # the latter is an answer


class _StopQueries:
    """A ``java.lang.Runnable`` for the JVM's shutdown."""

    def __init__(self, queries: Sequence[Query], asked: threading.Event) -> None:
        self._queries = queries
        self._asked = asked

    def run(self) -> None:
        self._asked.set()
        _report(_stop_all(self._queries, timeout_s=STOP_TIMEOUT_S))

    class Java:
        """Tells Py4J what this object is to the JVM."""

        implements = ("java.lang.Runnable",)


@contextmanager
def _jvm_hook(queries: Sequence[Query], asked: threading.Event) -> Iterator[None]:
    context = SparkContext._active_spark_context  # noqa: SLF001
    assert context is not None, "queries are running"  # noqa: S101
    gateway: Any = context._gateway  # noqa: SLF001
    ensure_callback_server_started(gateway)  # type: ignore[no-untyped-call]
    jvm = gateway.jvm
    manager = jvm.org.apache.hadoop.util.ShutdownHookManager.get()
    hook = jvm.java.lang.Thread(_StopQueries(queries, asked))  # never started; gives the hook an identity in Java
    manager.addShutdownHook(hook, BEFORE_SPARK, HOOK_TIMEOUT_S, jvm.java.util.concurrent.TimeUnit.SECONDS)
    try:
        yield
    finally:
        with suppress(Py4JError):  # the JVM may be going down already
            manager.removeShutdownHook(hook)
