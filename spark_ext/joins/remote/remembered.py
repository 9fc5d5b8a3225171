"""Answers that were given: columns in one table, and for each key where its rows stand in it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.joins.remote.limits import Cache
from spark_ext.joins.remote.match_kernel import ranges

__all__ = ["Key", "Remembered"]

Key = tuple[Any, ...]
UNKNOWN: Final = -1
PARTS: Final = 32  # tables that are not united yet
SLACK: Final = 4_096  # rows of no key that are not worth a copy


@dataclass(slots=True)
class _Place:
    expires: float
    start: int
    count: int

    @property
    def weight(self) -> int:
        return max(1, self.count)


class Remembered:
    """Answers of a source, up to a number of rows and an age.

    Guarantee: a key is known if and only if it was put less than its time to live ago and has not had to go since. Places of rows stay
    as they are until `shrink` is called.

    Parameters
    ----------
    schema : pa.Schema
        Columns of an answer.
    cache : Cache
        Number of rows and age.
    clock : callable
        Seconds that only go up.

    State: the rows' columns, at most `max_rows` live ones and as many again dead; about 300 bytes a key for its place.
    """

    def __init__(self, schema: pa.Schema, cache: Cache, clock: Callable[[], float]) -> None:
        self._cache, self._clock = cache, clock
        self._ttl_s = cache.ttl.total_seconds()
        self._missing_ttl_s = self._ttl_s if cache.missing_ttl is None else cache.missing_ttl.total_seconds()
        self._places: OrderedDict[Key, _Place] = OrderedDict()  # the least recently used first
        self._parts = [schema.empty_table()]
        self._length = self._live = self._weight = 0

    def __len__(self) -> int:
        """Return the number of rows kept; a key without rows counts as one."""
        return self._weight

    @property
    def rows(self) -> pa.Table:
        """Answers, at the places that `find` and `put` tell."""
        if len(self._parts) > PARTS:
            self._parts = [pa.concat_tables(self._parts).combine_chunks()]
        return pa.concat_tables(self._parts)

    def find(self, keys: Sequence[Key]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return place of the first row (-1 for a key that is not known) and number of rows, for each key."""
        starts, counts = np.full(len(keys), UNKNOWN, np.int64), np.zeros(len(keys), np.int64)
        now, places = self._clock(), self._places
        for at, key in enumerate(keys):
            place = places.get(key)
            if place is None:
                continue
            if place.expires <= now:
                self._forget(key)
                continue
            places.move_to_end(key)
            starts[at], counts[at] = place.start, place.count
        return starts, counts

    def put(self, keys: Sequence[Key], counts: NDArray[np.int64], rows: pa.Table) -> NDArray[np.int64]:
        """Keep the answers for keys that are not known; rows stand in the order of the keys. Return the places of the first rows."""
        starts = self._length + np.cumsum(counts) - counts
        now = self._clock()
        for key, start, count in zip(keys, starts.tolist(), counts.tolist(), strict=True):
            place = self._places[key] = _Place(now + (self._ttl_s if count else self._missing_ttl_s), start, count)
            self._live, self._weight = self._live + count, self._weight + place.weight
        if rows.num_rows:
            self._parts.append(rows)
            self._length += rows.num_rows
        return starts

    def shrink(self) -> None:
        """Let the least recently used go until the rest is as small as agreed."""
        while self._weight > self._cache.max_rows:
            self._forget(next(iter(self._places)))
        if self._length > 2 * self._live + SLACK or not self._live:
            places = list(self._places.values())
            starts = np.array([place.start for place in places], np.int64)
            counts = np.array([place.count for place in places], np.int64)
            self._parts = [self.rows.take(pa.array(ranges(starts, counts)))]
            self._length = self._live
            for place, start in zip(places, (np.cumsum(counts) - counts).tolist(), strict=True):
                place.start = start

    def _forget(self, key: Key) -> None:
        place = self._places.pop(key)
        self._live, self._weight = self._live - place.count, self._weight - place.weight
