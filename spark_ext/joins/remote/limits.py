"""How long, how often and how much is asked of a remote service, and how much of its answers is kept."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Final

from spark_ext.errors import SettingsError

__all__ = ["Cache", "Limits"]

ZERO: Final = timedelta(0)
MiB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of what is asked of one source; each process that asks (a worker, or the driver) keeps them by itself.

    Attributes
    ----------
    batch_size : int >= 1
        Keys that are asked for at once.
    timeout : timedelta > 0
        For one attempt, connecting included.
    attempts : int >= 1
        Attempts for a batch of keys, the first included.
    backoff : timedelta > 0
        Upper bound of the random wait after the first attempt; doubles with each further one, up to 50 times itself. A service that
        says how long to wait (``Retry-After``) is heeded.
    deadline : timedelta > 0
        For all attempts of a batch of keys; none is begun that it leaves no time for.
    failures : int >= 1
        Failed attempts in a row, of whatever batches of keys, that open the circuit: from then on nothing is asked.
    cooldown : timedelta > 0
        How long the circuit stays open before one attempt is made to see whether the service is back.
    most_bytes : int >= 1
        Size of an answer above which it is refused.
    most_matches : int >= 1
        Rows for one key above which the key counts as failed: bounds how much the join can grow.

    Raises
    ------
    SettingsError
        A value out of its interval.
    """

    batch_size: int = 500
    timeout: timedelta = timedelta(seconds=5)
    attempts: int = 4
    backoff: timedelta = timedelta(milliseconds=100)
    deadline: timedelta = timedelta(seconds=30)
    failures: int = 5
    cooldown: timedelta = timedelta(seconds=30)
    most_bytes: int = 16 * MiB
    most_matches: int = 1_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, timedelta) and value <= ZERO:
                raise _refused(field.name, "more than no time", repr(value))
            if isinstance(value, int) and value < 1:
                raise _refused(field.name, "1 or more", repr(value))


@dataclass(frozen=True, slots=True)
class Cache:
    """What is kept of the answers, in each process that asks; also that a key has no rows.

    Attributes
    ----------
    max_rows : int >= 0
        Rows kept, a key without rows counted as one; those used least recently go first. 0: nothing is kept.
    ttl : timedelta > 0
        How long an answer is taken for true. A row is joined to an answer that is at most so old.
    missing_ttl : timedelta > 0, optional
        The same for keys without rows; default is `ttl`. Shorter where keys appear that were asked for too early.

    Raises
    ------
    SettingsError
        A value out of its interval.
    """

    max_rows: int = 100_000
    ttl: timedelta = timedelta(minutes=5)
    missing_ttl: timedelta | None = None

    def __post_init__(self) -> None:
        if self.max_rows < 0:
            raise _refused("max_rows", "0 or more", repr(self.max_rows))
        for name, value in (("ttl", self.ttl), ("missing_ttl", self.missing_ttl)):
            if value is not None and value <= ZERO:
                raise _refused(name, "more than no time", repr(value))


def _refused(name: str, expected: str, got: str) -> SettingsError:
    return SettingsError("use", "setting of a lookup", name, expected=expected, got=got, todo="correct it")
