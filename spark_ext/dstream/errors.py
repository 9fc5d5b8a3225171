"""The errors of this package; what `pyspark.streaming` says for the same mistake is part of each text."""

from __future__ import annotations

from pyspark.errors import IllegalArgumentException

from spark_ext.errors import QueryError, SettingsError

__all__ = ["BatchError", "StreamArgumentError", "StreamStateError"]


class StreamArgumentError(SettingsError, IllegalArgumentException):
    """An argument, or a program, that cannot run; a ValueError as well as Spark's IllegalArgumentException."""


class StreamStateError(QueryError):
    """A call that the context cannot take now: already started, already stopped, or another one is active."""


class BatchError(QueryError):
    """A batch failed; its text begins with the traceback of the user's function.

    Attributes
    ----------
    batch : int
        Number of the batch.
    time_ms : int
        Its time, ms since 1970.
    traceback : str
        Of the function that raised, as Python prints it; from the worker if it ran there.
    """

    def __init__(self, *, batch: int, time_ms: int, where: str, traceback: str, got: str) -> None:
        super().__init__(
            "finish",
            "batch",
            str(batch),
            expected=f"{where} to return",
            got=got,
            why="the batch is not committed, and nothing after it ran",
            todo="mend the cause and start again from the checkpoint: the batch is retried with the same input",
        )
        self.batch = batch
        self.time_ms = time_ms
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.traceback.rstrip()}\n\n{self.args[0]}"
