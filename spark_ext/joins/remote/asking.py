"""Asks a source for keys: what is remembered first, the rest in batches, with retries, a deadline and a circuit breaker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from threading import Lock
from time import monotonic
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential
from tenacity.nap import sleep as nap

from spark_ext.joins.remote.answers import Answer, named
from spark_ext.joins.remote.breaker import Breaker
from spark_ext.joins.remote.failure import AskError, Failure
from spark_ext.joins.remote.limits import Limits
from spark_ext.joins.remote.remembered import Key, Remembered

__all__ = ["SOURCES", "Asker", "Client", "Found", "breaker_of"]

SOURCES: Final = 64  # whose answers and circuits a process keeps
LONGEST_WAIT: Final = 50  # times the first


class Client(Protocol):
    """A connection to a source; used by one thread at a time."""

    @property
    def batch_size(self) -> int:
        """Keys that are asked for at once."""

    def refuses(self, key: Key) -> Failure | None:
        """Return why a key cannot be asked for, if so."""

    def ask(self, keys: pa.Table, timeout_s: float) -> Answer:
        """Ask once; raises `AskError`, and nothing else, where there is no answer that can be used."""


class Limited(Protocol):
    """A source, with its limits."""

    @property
    def limits(self) -> Limits:
        """How long, how often and how much is asked."""

    def __hash__(self) -> int:
        """Return a number that is equal for equal sources."""


@dataclass(frozen=True, slots=True)
class Found:
    """What became of each of k keys.

    Attributes
    ----------
    rows : pa.Table
        Answers, of these keys and others.
    starts, counts : ndarray (k,) int64
        Where the rows of each key stand.
    failures : mapping of int to Failure
        Keys that could not be looked up, by number.
    """

    rows: pa.Table
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]
    failures: dict[int, Failure]

    @property
    def failed(self) -> NDArray[np.bool_]:
        """Tell for each key whether it could not be looked up."""
        return np.isin(np.arange(len(self.starts)), list(self.failures))


class Asker:
    """Asks a source.

    Guarantee: a key that is remembered is not asked for; a failure is not remembered. No attempt is begun while the circuit is open.

    Parameters
    ----------
    client : Client
        The connection.
    limits : Limits
        How long, how often, how much.
    remembered : Remembered
        Answers so far.
    breaker : Breaker
        The circuit of the source in this process.
    clock, now, sleep : callable
        Seconds that only go up, the time of day, and how to wait; for tests.
    """

    def __init__(
        self,
        client: Client,
        limits: Limits,
        remembered: Remembered,
        breaker: Breaker,
        *,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], None] = nap,
    ) -> None:
        self._client, self._limits, self._remembered, self._breaker = client, limits, remembered, breaker
        self._clock, self._now, self._sleep = clock, now, sleep
        first_s = limits.backoff.total_seconds()
        self._backoff = wait_random_exponential(multiplier=first_s, max=first_s * LONGEST_WAIT)
        self._lock = Lock()  # queries of one driver share it

    def find(self, keys: pa.Table, *, stop: bool) -> Found:
        """Look keys up.

        Parameters
        ----------
        keys : pa.Table (k rows)
            Distinct, without nulls.
        stop : bool
            Ask no further after a failure; keys that were not asked for count as without rows then.
        """
        values = list(zip(*(column.to_pylist() for column in keys.columns), strict=True))
        failures: dict[int, Failure] = {}
        with self._lock:
            starts, counts = self._remembered.find(values)
            asked = []
            for at in np.flatnonzero(starts < 0).tolist():
                refused = self._client.refuses(values[at])
                if refused is None:
                    asked.append(at)
                else:
                    failures[at] = refused
            size = self._client.batch_size
            for first in range(0, len(asked), size):
                if stop and failures:
                    break
                batch = np.array(asked[first : first + size], np.int64)
                answer = self._answer(keys.take(pa.array(batch)))
                if isinstance(answer, Failure):
                    failures |= dict.fromkeys(batch.tolist(), answer)
                else:
                    self._take(batch, answer, values, keys.column_names, starts, counts, failures)
            rows = self._remembered.rows  # a table does not change; what is forgotten now is still in this one
            self._remembered.shrink()
        return Found(rows, starts, counts, failures)

    def _take(
        self,
        batch: NDArray[np.int64],
        answer: Answer,
        values: Sequence[Key],
        names: Sequence[str],
        starts: NDArray[np.int64],
        counts: NDArray[np.int64],
        failures: dict[int, Failure],
    ) -> None:
        """Remember an answer, and note where it stands."""
        found = np.bincount(answer.owners, minlength=len(batch)).astype(np.int64)
        bad = dict(answer.failures)
        most = self._limits.most_matches
        for at in np.flatnonzero(found > most).tolist():
            expected, todo = f"at most {most} rows for a key", "raise most_matches, or let the service answer with fewer"
            bad.setdefault(at, Failure(expected, f"{found[at]} for {named(names, values[batch[at]])}", todo))
        good = ~np.isin(np.arange(len(batch)), list(bad))
        order = np.argsort(answer.owners, kind="stable")
        order = order[good[answer.owners[order]]]
        kept = batch[good]
        counts[kept] = found[good]
        rows = answer.rows.take(pa.array(order)) if answer.rows.num_columns else answer.rows
        starts[kept] = self._remembered.put([values[at] for at in kept], found[good], rows)
        failures |= {int(batch[at]): one for at, one in bad.items()}

    def _answer(self, keys: pa.Table) -> Answer | Failure:
        begun = self._clock()
        end = begun + self._limits.deadline.total_seconds()

        def is_over(state: RetryCallState) -> bool:
            return state.attempt_number >= self._limits.attempts or self._clock() + state.upcoming_sleep >= end

        attempts = 0
        retrying = Retrying(stop=is_over, wait=self._wait, retry=retry_if_exception(_is_transient), sleep=self._sleep, reraise=True)
        try:
            for attempt in retrying:
                with attempt:
                    if not self._breaker.admits():
                        return self._open() if not attempts else self._open().because(f"after {attempts} attempts")
                    attempts += 1
                    try:
                        answer = self._client.ask(keys, min(self._limits.timeout.total_seconds(), end - self._clock()))
                    except AskError as error:
                        self._breaker.failed(error.failure.text)
                        raise
                    self._breaker.succeeded()
                    return answer
        except AskError as error:
            if attempts == 1:
                return error.failure
            return error.failure.because(f"{attempts} attempts in {self._clock() - begun:.1f} s")
        raise AssertionError  # the loop ends with an answer or an error

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return max(self._backoff(state), error.wait_s if isinstance(error, AskError) else 0.0)

    def _open(self) -> Failure:
        breaker = self._breaker
        since = (self._now() - timedelta(seconds=breaker.open_s)).isoformat(timespec="seconds")
        return Failure(
            "a closed circuit",
            f"one that is open since {since}",
            "see why the service fails; lookups go on by themselves once it answers",
            f"{breaker.count} failures in a row, the last: {breaker.reason}; asked again in {breaker.left_s:.0f} s",
        )


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, AskError) and error.is_transient


@lru_cache(SOURCES)
def breaker_of(source: Limited) -> Breaker:
    """Return the circuit of a source in this process."""
    return Breaker(source.limits.failures, source.limits.cooldown.total_seconds(), monotonic)
