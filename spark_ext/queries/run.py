"""Run queries until they end or somebody asks for a stop: Ctrl-C, SIGTERM, or the JVM being told to go."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from types import FrameType
from typing import Any, Final

from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.java_gateway import ensure_callback_server_started

from spark_ext.queries.query import Query

__all__ = ["Outcome", "run"]

POLL_S: Final = 0.25
BEFORE_SPARK: Final = 1000  # Spark's own shutdown hook has priority 40; higher runs first
HOOK_TIMEOUT_S: Final = 600


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
        One of the queries failed; the others have been stopped at a batch boundary.
    """
    asked = stop or threading.Event()
    with _signals(asked), _jvm_hook(queries, asked):
        try:
            while any(query.is_active() for query in queries) and not asked.is_set():
                for query in queries:
                    query.await_end(POLL_S / len(queries))
                on_tick()
            for query in queries:
                query.await_end() if not asked.is_set() else query.stop()
        except Py4JError:
            if not asked.is_set():  # else the JVM went first, after its hook had stopped the queries
                raise
        except BaseException:
            for query in queries:
                query.stop(timeout_s=0 if asked.is_set() else 60)
            raise
        on_tick()
    return Outcome.STOPPED if asked.is_set() else Outcome.FINISHED


@contextmanager
def _signals(asked: threading.Event) -> Iterator[None]:
    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only; a notebook stops through `stop`
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _StopQueries:
    """A ``java.lang.Runnable`` for the JVM's shutdown."""

    def __init__(self, queries: Sequence[Query], asked: threading.Event) -> None:
        self._queries = queries
        self._asked = asked

    def run(self) -> None:
        self._asked.set()
        for query in self._queries:
            query.stop()

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
