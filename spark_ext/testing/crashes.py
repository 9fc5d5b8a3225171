"""Crashes of a driver and of workers, made on purpose."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from spark_ext.epochs import points
from spark_ext.epochs.points import Point
from spark_ext.testing.steps import Crash, CrashInOperator, ScriptError

__all__ = ["Attempt", "Hit", "KillPoint", "SimulatedCrashError", "Watch"]


class SimulatedCrashError(Exception):
    """Ends a batch as a crash would.

    It derives from Exception, as another one would break the channel between Python and the JVM, and the query would hang. So
    code of the job could catch it; the kit finds that out: a driver that reaches a further point after its crash, or a
    query that goes on, is a `ScriptError`.
    """


@dataclass(frozen=True, slots=True)
class Hit:
    """A crash that happened: at a point of the commit, or in an operator."""

    point: str
    sink: str
    batch_id: int | None


@dataclass(slots=True)
class Attempt:
    """One attempt of a run at a batch: the points that it reached, with their sinks."""

    run: int
    batch_id: int
    reached: list[tuple[Point, str]] = field(default_factory=list)


@dataclass
class Watch:
    """Sees each point of a script's batches, and crashes there when it is told to."""

    folder: Path
    run: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    _armed: list[tuple[Crash, int]] = field(default_factory=list)
    _operators: list[CrashInOperator] = field(default_factory=list)
    _dead: Hit | None = None
    _after_death: list[str] = field(default_factory=list)

    def arm(self, step: Crash | CrashInOperator) -> None:
        """Crash there in the next batch."""
        if isinstance(step, Crash):
            self._armed.append((step, step.hits))
        else:
            self._operators.append(step)
            switch_of(self.folder, step.at).touch()

    def started(self) -> None:
        """Note a start of the query."""
        self.run += 1
        self._dead = None
        self._after_death.clear()

    def has_crashed(self, *, error: str) -> bool:
        """Tell whether the end of a query, with this error, was a crash of the script."""
        if self._dead is not None:
            return True
        for step in self._operators:
            if in_operator(step.at) in error:
                self._operators.remove(step)
                if all(other.at != step.at for other in self._operators):  # else the replay crashes, too
                    switch_of(self.folder, step.at).unlink()
                self.hits.append(Hit("in_operator", step.at, None))
                return True
        return False

    def check_death(self, *, is_active: bool) -> None:
        """Raise if a driver lived on after its crash.

        Raises
        ------
        ScriptError
            The job caught the crash.
        """
        if self._dead is None or not (is_active or self._after_death):
            return
        got = f"point {self._after_death[0]}" if self._after_death else "a query that goes on"
        raise ScriptError(
            "crash",
            "batch",
            str(self._dead.batch_id),
            expected=f"nothing after the crash at {_named(self._dead.point, self._dead.sink)}",
            got=got,
            why="the job caught the crash, which no real one can be",
            todo="let it catch only errors that it knows",
        )

    def settled(self) -> list[Crash | CrashInOperator]:
        """Disarm what did not happen and return it."""
        missed: list[Crash | CrashInOperator] = [step for step, _ in self._armed]
        self._armed.clear()
        missed += self._operators
        for name in {step.at for step in self._operators}:
            switch_of(self.folder, name).unlink()
        self._operators.clear()
        return missed

    def __call__(self, point: Point, batch_id: int, sink: str) -> None:
        """See a point."""
        if self._dead is not None:
            self._after_death.append(_named(point, sink))
            raise SimulatedCrashError(_named(point, sink))
        if not self.attempts or (self.attempts[-1].run, self.attempts[-1].batch_id) != (self.run, batch_id):
            self.attempts.append(Attempt(self.run, batch_id))
        self.attempts[-1].reached.append((point, sink))
        for number, (step, left) in enumerate(self._armed):
            if step.point == point and step.sink in (None, sink):
                self._armed[number : number + 1] = [(step, left - 1)] if left > 1 else []
                self._dead = Hit(point, sink, batch_id)
                self.hits.append(self._dead)
                raise SimulatedCrashError(_named(point, sink))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See the points, and keep the tracebacks of our own crashes out of the log."""
        log = logging.getLogger("py4j.clientserver")
        log.addFilter(_is_news)
        try:
            with points.watched(self):
                yield
        finally:
            log.removeFilter(_is_news)


@dataclass
class KillPoint:
    """Kill this process, or its JVM, with SIGKILL at a point: the truth that an exception only stands for.

    For a program of its own that a test starts: ``with points.watched(KillPoint("after_sink", "latest")): ...``.

    Attributes
    ----------
    point, sink
        As for `Crash`.
    skip : int
        How many times the point is passed first.
    victim : str
        ``driver``: this process, with Python. ``jvm``: that of the running Spark session.
    """

    point: Point
    sink: str | None = None
    skip: int = 0
    victim: Literal["driver", "jvm"] = "driver"

    def __call__(self, point: Point, batch_id: int, sink: str) -> None:
        """See a point."""
        if point != self.point or self.sink not in (None, sink):
            return
        self.skip -= 1
        if self.skip < 0:
            os.kill(os.getpid() if self.victim == "driver" else _jvm_pid(), signal.SIGKILL)


def switch_of(folder: str | Path, name: str) -> Path:
    """Return the file that, as long as it is there, lets an operator fail."""
    return Path(folder).resolve() / f"crash-in-{name}"


def in_operator(name: str) -> str:
    """Return the text of an operator's simulated crash."""
    return f"simulated crash in operator {name!r}"


def _jvm_pid() -> int:
    from pyspark import SparkContext  # noqa: PLC0415 (a driver has it)

    jvm = SparkContext._jvm  # noqa: SLF001 (no public way)
    assert jvm is not None, "a batch is running"  # noqa: S101
    return int(jvm.java.lang.ProcessHandle.current().pid())


def _named(point: str, sink: str) -> str:
    return f"{point} of {sink!r}" if sink else point


def _is_news(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], SimulatedCrashError))
