"""A circuit breaker: after failures in a row nothing is asked for a while, then once, to see.

closed -- `failures` in a row --> open -- `cooldown_s` passed --> half open -- one attempt --> closed, or open again
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

__all__ = ["Breaker", "State"]

State = Literal["closed", "open", "half_open"]


class Breaker:
    """Whether a service may be asked now.

    Guarantee: after `failures` failures with no success between them nobody is admitted for `cooldown_s`; then one is, and nobody else
    until its outcome is told. An outcome that is never told counts as a failure once another `cooldown_s` has passed.

    Parameters
    ----------
    failures : int >= 1
        In a row; they open the circuit.
    cooldown_s : float > 0
        Seconds that it stays open.
    clock : callable
        Seconds that only go up.

    Examples
    --------
    >>> now = [0.0]
    >>> breaker = Breaker(2, 10.0, lambda: now[0])
    >>> breaker.failed("HTTP 503"); breaker.failed("HTTP 500"); breaker.state, breaker.admits()
    ('open', False)
    >>> now[0] = 10.0
    >>> breaker.state, breaker.admits(), breaker.admits()
    ('half_open', True, False)
    >>> breaker.succeeded(); breaker.state
    'closed'
    """

    def __init__(self, failures: int, cooldown_s: float, clock: Callable[[], float]) -> None:
        self._limit, self._cooldown_s, self._clock = failures, cooldown_s, clock
        self._count, self._reason = 0, ""
        self._opened_at: float | None = None  # by the first failure too many
        self._blocked_at: float | None = None  # by the last one, or by the attempt that is under way

    @property
    def state(self) -> State:
        """Return closed, open, or half open: the next one who asks may try."""
        if self._blocked_at is None:
            return "closed"
        return "half_open" if self.left_s <= 0 else "open"

    @property
    def left_s(self) -> float:
        """Return the seconds until the next attempt is admitted."""
        return 0.0 if self._blocked_at is None else max(0.0, self._blocked_at + self._cooldown_s - self._clock())

    @property
    def open_s(self) -> float:
        """Return the seconds since it opened, failed attempts to close it included."""
        return 0.0 if self._opened_at is None else self._clock() - self._opened_at

    @property
    def count(self) -> int:
        """Return the number of failures since the last success."""
        return self._count

    @property
    def reason(self) -> str:
        """Return what the last failure was."""
        return self._reason

    def admits(self) -> bool:
        """Tell whether an attempt may be made; who is told so makes it, and tells the outcome."""
        if self.state == "open":
            return False
        if self._blocked_at is not None:
            self._blocked_at = self._clock()  # half open: the others wait for the outcome
        return True

    def succeeded(self) -> None:
        """Take note of an answer."""
        self._count, self._reason, self._opened_at, self._blocked_at = 0, "", None, None

    def failed(self, reason: str) -> None:
        """Take note of a failed attempt."""
        self._count, self._reason = self._count + 1, reason
        if self._count >= self._limit:
            self._blocked_at = self._clock()
            if self._opened_at is None:
                self._opened_at = self._blocked_at
