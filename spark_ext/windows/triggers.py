"""When a window gives out its result before it closes, and what it gives out: named policies.

Every window gives out its final result when it closes, that is when the watermark has passed its end and its grace.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from spark_ext.errors import SettingsError

__all__ = ["Trigger", "each_batch", "each_rows", "early", "on_close"]

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Trigger:
    """When a window fires.

    A window that has closed fires for the last time, ``is_final``. Before that it fires in a batch that brought it rows, or left
    rows that were not given out yet, if one of the conditions holds.

    Attributes
    ----------
    every_batch : bool
        In each batch that has rows for it.
    every_rows : int, optional
        When so many rows have come since it last fired.
    every_us : int, optional
        When so much processing time has passed since it last fired, or since its first row: microseconds, by the time at which
        Spark planned the batch, so that a replay fires alike.
    at_end : bool
        When the watermark has passed its end, while its grace still runs; and again with each batch that then brings rows.
    accumulating : bool
        Give out all rows so far each time; or (discarding) only those since it last fired.
    """

    every_batch: bool = False
    every_rows: int | None = None
    every_us: int | None = None
    at_end: bool = False
    accumulating: bool = True

    def __post_init__(self) -> None:
        if self.only_on_close:  # all rows come since the last firing
            object.__setattr__(self, "accumulating", True)

    def discarding(self) -> Trigger:
        """Return the same, but each firing gives out only what came since the last one: firings add up to the whole.

        A window whose rows have all been given out closes without a further row.
        """
        return Trigger(self.every_batch, self.every_rows, self.every_us, self.at_end, accumulating=False)

    @property
    def only_on_close(self) -> bool:
        """Whether a window fires once."""
        return not (self.every_batch or self.every_rows or self.every_us or self.at_end)


def on_close() -> Trigger:
    """Fire once, when the window closes."""
    return Trigger()


def each_batch() -> Trigger:
    """Fire in each batch that has rows for the window."""
    return Trigger(every_batch=True, at_end=True)


def each_rows(rows: int) -> Trigger:
    """Fire when `rows` rows have come to the window since it last fired, looked at once per batch.

    Raises
    ------
    SettingsError
        `rows` is not above zero.
    """
    if isinstance(rows, bool) or not isinstance(rows, int) or rows <= 0:
        raise SettingsError("use", "trigger", "each_rows", expected="rows > 0", got=repr(rows), todo="correct it")
    return Trigger(every_rows=rows)


def early(*, every: timedelta) -> Trigger:
    """Fire each `every` of processing time while rows come, when the window ends, and again for rows within its grace.

    Raises
    ------
    SettingsError
        `every` is not above zero.
    """
    if not isinstance(every, timedelta) or every <= timedelta(0):
        raise SettingsError("use", "trigger", "early", expected="every, a timedelta above zero", got=repr(every), todo="correct it")
    return Trigger(every_us=every // MICROSECOND, at_end=True)
