"""What the pictures of lookups in docs/joins.md show: versions of a table, histories, files, a circuit breaker; by the real code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from spark_ext.epochs import ByAge, EveryBatch, Ledger, Lookup, OnRequest, Pinned, ask_refresh
from spark_ext.epochs.lookups import Refresh
from spark_ext.epochs.pins import Pins
from spark_ext.joins.copy_kernel import HASH, SINCE, UNTIL, copied, found, held
from spark_ext.joins.key_ranges import key_ranges
from spark_ext.joins.remote.breaker import Breaker, State

__all__ = [
    "ASKED_AT",
    "BREAKER",
    "DOWN",
    "FILES",
    "GROWS",
    "HISTORIES",
    "KEYS",
    "Attempt",
    "Call",
    "History",
    "Version",
    "attempts",
    "calls",
    "ranges",
    "versions",
]

NOON: Final = datetime(2025, 1, 1, 12, tzinfo=UTC)
MINUTE: Final = timedelta(minutes=1)

# Minutes behind noon: batch n is planned at n; batch 3 crashes and is tried again.
GROWS: Final = (1.5, 3.4, 4.5)
ASKED_AT: Final = 4.6
TRIES: Final = ((0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0), (3, 3.6), (4, 4.2), (5, 5.0), (6, 6.0))


@dataclass(frozen=True)
class Attempt:
    """An attempt at an epoch: when it was made, which version it read, and when that was chosen."""

    epoch: int
    minute: float
    version: int
    chosen: float


def versions(refresh: Refresh) -> list[Attempt]:
    """Play a table that changes and a pipeline that reads it: `Pins`, a ledger and a table in a folder that is thrown away."""
    made: list[Attempt] = []
    with TemporaryDirectory() as folder:
        path, ledger = str(Path(folder) / "names"), Ledger(str(Path(folder) / "ledger"))
        ledger.create()
        write_deltalake(path, pa.table({"name": ["v0"]}))

        def grow() -> None:
            write_deltalake(path, pa.table({"name": [f"v{DeltaTable(path).version() + 1}"]}), mode="overwrite")

        def begin() -> Pins:
            return Pins("pipeline", "pipeline:1", Ledger(ledger.path), {"names": Lookup(path, refresh=refresh)})

        runs = [begin()]

        def attempt(epoch: int, minute: float) -> None:
            if made and made[-1].epoch == epoch:
                runs.append(begin())  # a restart knows only what the ledger has
            (row,) = runs[-1].of_batch(epoch, NOON + epoch * MINUTE)
            made.append(Attempt(epoch, minute, row.version, (row.refreshed_at - NOON) / MINUTE))

        acts: list[tuple[float, Callable[[], object]]] = [(minute, grow) for minute in GROWS]
        acts.append((ASKED_AT, lambda: ask_refresh(ledger, "pipeline", "names")))
        acts += [(minute, lambda epoch=epoch, minute=minute: attempt(epoch, minute)) for epoch, minute in TRIES]  # type: ignore[misc]
        for _, act in sorted(acts, key=lambda one: one[0]):
            act()
    return made


def attempts() -> dict[str, list[Attempt]]:
    """Return what each policy reads, by how it is asked for."""
    asked: dict[str, Refresh] = {
        "EveryBatch()": EveryBatch(),
        "ByAge(2 min)": ByAge(2 * MINUTE),
        "OnRequest()": OnRequest(),
        "Pinned(0)": Pinned(0),
    }
    return {name: versions(refresh) for name, refresh in asked.items()}


@dataclass(frozen=True)
class Version:
    """A row of a history: what held, from when, until when; None: it still holds, or holds until the next one."""

    name: str
    since: float
    until: float | None


@dataclass(frozen=True)
class History:
    """Rows of one key that meet its history; times are years or hours, as `ticks` says."""

    title: str
    versions: Sequence[Version]
    rows: Sequence[float]
    ticks: dict[float, str]
    has_ends: bool = True
    tolerance: float | None = None

    def met(self) -> list[str | None]:
        """Return what each row meets."""
        schema = [(HASH, pa.int64()), ("k0", pa.string()), ("p0", pa.string()), (SINCE, pa.int64())]
        columns = [[7] * len(self.versions), ["k"] * len(self.versions), [one.name for one in self.versions]]
        columns.append([_whole(one.since) for one in self.versions])
        if self.has_ends:
            schema.append((UNTIL, pa.int64()))
            columns.append([None if one.until is None else _whole(one.until) for one in self.versions])
        copy = copied(pa.table([pa.array(column, kind) for column, (_, kind) in zip(columns, schema, strict=True)], pa.schema(schema)),
                      name="history", overlap="fail")  # fmt: skip
        assert copy is not None, "one key has one hash"  # noqa: S101
        asked = len(self.rows)
        starts, counts = found(copy, np.full(asked, 7), [pa.array(["k"] * asked)])
        tolerance_us = None if self.tolerance is None else _whole(self.tolerance)
        times = np.array([_whole(row) for row in self.rows])
        at, has = held(copy, starts, counts, times, np.ones(asked, bool), tolerance_us=tolerance_us)
        names = copy.rows.column("p0").to_pylist()
        return [names[place] if some else None for place, some in zip(at.tolist(), has.tolist(), strict=True)]


def _whole(time: float) -> int:
    return round(time * 1_000)


HISTORIES: Final = [
    History(
        "lookup_history(event_time=...): valid_from <= event time < valid_to",
        [Version("US Airways", 2005, 2008), Version("US Airways II", 2008, 2013), Version("American", 2014, None)],
        [2004, 2006.5, 2008, 2013.5, 2015],
        {year: str(year) for year in range(2003, 2018, 2)},
    ),
    History(
        "lookup_history(valid_to=None, tolerance=2 h): measurements",
        [Version("4 C", 1, None), Version("6 C", 4, None), Version("5 C", 5.5, None)],
        [0.5, 2.25, 3.5, 4, 7.5, 8],
        {hour: f"{hour:02}:00" for hour in range(10)},
        has_ends=False,
        tolerance=2,
    ),
]

FILES: Final = ((0, 12), (13, 24), (25, 41), (42, 58), (59, 77), (78, 99))
KEYS: Final = (4, 7, 8, 46, 51, 55, 57, 90)


def ranges() -> list[tuple[int, int]]:
    """Return the ranges of keys that a table is asked for, three at most."""
    return key_ranges(pa.array(KEYS), most=3) or []


@dataclass(frozen=True)
class Call:
    """Somebody wants to ask at that second: what came of it, and the state of the circuit behind it."""

    second: float
    outcome: Literal["answered", "failed", "not asked"]
    state: State


# When somebody wants to ask; the service is down from 3 to 27.
WANTED: Final = (1, 2, 4, 5, 6, 8, 10, 13, 19, 20, 23, 26, 32, 33, 34.5)
DOWN: Final = (3, 27)
BREAKER: Final = (3, 10.0)  # failures, cooldown in seconds


def calls() -> tuple[list[Call], list[tuple[float, State]]]:
    """Play a circuit breaker: what became of each call, and from when on it is in which state."""
    now = 0.0
    breaker = Breaker(*BREAKER, clock=lambda: now)
    made: list[Call] = []
    states: list[tuple[float, State]] = [(0.0, breaker.state)]

    def look() -> None:
        if breaker.state != states[-1][1]:
            states.append((now, breaker.state))

    for half in range(2 * 36):
        now = half / 2
        look()
        if now in WANTED:
            outcome: Literal["answered", "failed", "not asked"] = "not asked"
            if breaker.admits():
                outcome = "failed" if DOWN[0] <= now < DOWN[1] else "answered"
                if outcome == "answered":
                    breaker.succeeded()
                else:
                    breaker.failed("HTTP 503")
            made.append(Call(now, outcome, breaker.state))
            look()
    return made, states
