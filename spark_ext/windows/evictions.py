"""Which rows of a window that never closes still count when it fires: named policies."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from spark_ext.errors import SettingsError

__all__ = ["Eviction", "keep_all", "keep_for", "keep_last"]

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Eviction:
    """What the global window forgets before it fires.

    Attributes
    ----------
    keep_rows : int, optional
        All but the latest so many rows of a key, by event time.
    keep_us : int, optional
        All rows of a key but those that are at most this much older than its latest, microseconds.
    """

    keep_rows: int | None = None
    keep_us: int | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is forgotten."""
        return self.keep_rows is None and self.keep_us is None


def keep_all() -> Eviction:
    """Forget nothing: a running aggregate."""
    return Eviction()


def keep_last(rows: int) -> Eviction:
    """Keep the latest `rows` rows of each key.

    Raises
    ------
    SettingsError
        `rows` is not above zero.
    """
    if isinstance(rows, bool) or not isinstance(rows, int) or rows <= 0:
        raise SettingsError("use", "eviction", "keep_last", expected="rows > 0", got=repr(rows), todo="correct it")
    return Eviction(keep_rows=rows)


def keep_for(span: timedelta) -> Eviction:
    """Keep the rows of each key that are at most `span` older than its latest row.

    Raises
    ------
    SettingsError
        `span` is not above zero.
    """
    if not isinstance(span, timedelta) or span <= timedelta(0):
        raise SettingsError("use", "eviction", "keep_for", expected="a timedelta above zero", got=repr(span), todo="correct it")
    return Eviction(keep_us=span // MICROSECOND)
