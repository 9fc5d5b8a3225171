"""When a batch is due: clocks, and the gate at which the query waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["Clock", "Gate", "ManualClock", "WallClock"]

NEWS_EVERY_S: Final = 0.05  # how often inputs are asked when nobody waits for the clock
RECHECK_S: Final = 1.0  # a clock that is set back or forth is seen by then


class Clock(Protocol):
    """What tells the time."""

    def now_ms(self) -> int:
        """Return the time, ms since 1970."""

    def wait(self, changed: threading.Condition, until_ms: int) -> None:
        """Wait, with `changed` held, until something changes or the time is about there."""


class WallClock:
    """The machine's clock."""

    def now_ms(self) -> int:  # noqa: D102 (Clock's)
        return time.time_ns() // 1_000_000

    def wait(self, changed: threading.Condition, until_ms: int) -> None:  # noqa: D102 (Clock's)
        changed.wait(min(max(0.0, (until_ms - self.now_ms()) / 1000), RECHECK_S))


class ManualClock:
    """A clock that stands still until it is told to go on, for tests and for teaching.

    Parameters
    ----------
    start_ms : int
        First time, ms since 1970.
    """

    def __init__(self, start_ms: int = 0) -> None:
        self._now_ms = start_ms
        self._waiting: list[threading.Condition] = []

    def now_ms(self) -> int:  # noqa: D102 (Clock's)
        return self._now_ms

    def advance(self, ms: int) -> None:
        """Let time pass."""
        self._now_ms += ms  # before anybody is told: who waits has joined the list before looking at the time
        for changed in list(self._waiting):
            with changed:
                changed.notify_all()

    def wait(self, changed: threading.Condition, until_ms: int) -> None:  # noqa: D102 (Clock's)
        self._waiting.append(changed)
        try:
            if self._now_ms < until_ms:
                changed.wait(RECHECK_S)
        finally:
            self._waiting.remove(changed)


class Gate:
    """Lets a batch through when it is due; closed, it lets everything through to where the query parks.

    Parameters
    ----------
    clock : Clock
        What tells the time.
    due_ms : callable
        Asked anew at each batch: when the next one is due.
    has_news : callable, optional
        With pace ``asap``: whether an input has something; a batch then does not wait for its time.
    """

    def __init__(self, clock: Clock, due_ms: Callable[[], int], has_news: Callable[[], bool] | None = None) -> None:
        self._clock = clock
        self._due_ms = due_ms
        self._has_news = has_news
        self._changed = threading.Condition()
        self._is_open = True
        self._hurries = False

    def wait(self) -> None:
        """Return when the next batch is due, or in a hurry, or the gate is closed."""
        due_ms = self._due_ms()
        with self._changed:
            while self._is_open and not self._hurries and self._clock.now_ms() < due_ms:
                if self._has_news is None:
                    self._clock.wait(self._changed, due_ms)
                elif self._has_news():
                    return
                else:
                    self._changed.wait(NEWS_EVERY_S)

    def hurry(self, hurries: bool) -> None:
        """Let batches through before their time, or do so no longer."""
        with self._changed:
            self._hurries = hurries
            self._changed.notify_all()

    def close(self) -> None:
        """Keep nobody waiting any more."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()
