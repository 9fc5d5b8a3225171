"""The errors of this package; what `pyspark.streaming` says for the same mistake is part of each text."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pyspark.errors import IllegalArgumentException, PySparkException

from spark_ext.errors import EngineError, QueryError, SettingsError

__all__ = ["BatchError", "NoStateError", "StreamArgumentError", "StreamStateError", "shown_time"]


class StreamArgumentError(SettingsError, IllegalArgumentException):
    """An argument, or a program, that cannot run; a ValueError as well as Spark's IllegalArgumentException."""

    def __init__(self, *parts: Any, **named: Any) -> None:
        super().__init__(*parts, **named)
        PySparkException.__init__(self, self.args[0])  # what its methods, `str` among them, look at


class StreamStateError(QueryError):
    """A call that the context cannot take now: already started, already stopped, or another one is active."""


class NoStateError(EngineError, LookupError):
    """A key has no state."""


class BatchError(QueryError):
    """A batch failed; its text begins with the traceback of the user's function.

    Attributes
    ----------
    batch : int
        Number of the batch in its checkpoint, from 0.
    time_ms : int
        Its time, ms since 1970.
    where : str
        The output operation or stream, and the line of the program where it is, such as ``"foreachRDD at job.py:12"``.
    traceback : str
        Of the function that raised, as Python prints it; from the worker if it ran there.
    """

    def __init__(self, *, batch: int, time_ms: int, where: str, traceback: str, got: str) -> None:
        super().__init__(
            "finish",
            "batch",
            f"{batch} of {shown_time(time_ms)}",
            expected=f"{where} to return",
            got=got,
            why="the batch is not committed, and nothing after it ran",
            todo="mend the cause and start again from the checkpoint: the batch is retried with the same input",
        )
        self.batch = batch
        self.time_ms = time_ms
        self.where = where
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.traceback.rstrip()}\n\n{self.args[0]}"


def shown_time(time_ms: int) -> str:
    """Return a batch time for people and for programs: local time with its zone, and ms since 1970."""
    local = datetime.fromtimestamp(time_ms / 1000).astimezone()
    return f"{local.isoformat(sep=' ', timespec='milliseconds')} ({time_ms} ms)"
