"""The hot list with half-lives: which items weigh most when a row weighs half as much after each half-life."""

from __future__ import annotations

import math
import struct
from datetime import timedelta
from typing import Any, ClassVar, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sketches.base import is_whole, out_of_range
from sketches.columns import BLOCK, Column, one
from sketches.decaying import MOST_ROWS, forward_terms, halved, weighted
from sketches.envelope import damaged
from sketches.errors import SketchError
from sketches.items import Items
from sketches.numeric import LATEST, LONGEST, MICROSECOND, instant, length_us
from sketches.timed import TimedSketch

__all__ = ["DecayedHot", "DecayingTop"]

MOST_CAPACITY: Final = 1 << 24
SEGMENT: Final = 2 * BLOCK  # rows between two purges, at least
ROUNDED: Final = 2.0**-30  # more than all additions of floats can change a counter by
SLACK: Final = 1 + 2.0**-20  # in stored bytes, of sums that were rounded elsewhere
PARAMETERS: Final = struct.Struct("<Iq")
HEAD: Final = struct.Struct("<Qqdd")
NO_HASHES: Final = np.empty(0, np.uint64)
NO_COUNTS: Final = np.empty(0)
Entries = tuple[NDArray[np.uint64], NDArray[np.float64], NDArray[np.int64]]


class DecayedHot(NamedTuple):
    """An item of a hot list at an instant: its value, and lower <= its decayed weight <= upper; the estimate is the counter."""

    item: Any
    estimate: float
    lower: float
    upper: float


class DecayingTop(TimedSketch):
    """The heaviest items by exponentially decayed weight, whatever the order in which rows arrive.

    A table of Misra and Gries over weights by forward decay (see `DecayingWindow`): time going by divides all counters, and what was taken
    off them, by the same power of two, so the bounds keep.

    Guarantee: for every item and instant ``lower_bound <= decayed weight <= upper_bound``, and ``upper_bound - lower_bound`` is at most
    ``error_at(instant) <= total_at(instant) / (capacity + 1)`` and ``2**-29`` of the counter, always: no probability, any order, any
    merges. So each item of more than a ``1 / (capacity + 1)`` share of the decayed weight is in the table. The bounds are wider than the
    table's by ``2**-30``, for the rounding of up to 2**22 calls. Items are told apart by 64-bit hashes: among d distinct ones, one of the
    table shares its hash with another with a probability below ``capacity * d / 2**64``, and then both are counted as one. Rows more than
    1022 half-lives older than the newest one have no weight left.

    Parameters
    ----------
    capacity : int
        Items in the table, 1 to 2**24.
    half_life : timedelta
        After which a row has half its weight: from a microsecond to 285 years.

    State: 32 bytes, 16 for each item of the table and the items (8 for an int64). While values are taken, 80 for each of ``capacity +
    16,384`` rows.

    Equal: by guarantee. Where a stream is cut into calls or parts decides when the table is purged; the same calls give the same bytes.

    Not supported: rare items; values of several types in one list; a row far in the future (a wrong clock) makes all others vanish.

    References
    ----------
    Cormode, Shkapenyuk, Srivastava, Xu, 2009, Forward Decay: A Practical Time Decay Model for Streaming Systems, section V (heavy hitters).
    Agarwal, Cormode, Huang, Phillips, Wei, Yi, 2013, Mergeable Summaries, section 3: the purge and its bound.

    Examples
    --------
    >>> top = DecayingTop(capacity=10, half_life=timedelta(hours=1))
    >>> top.update_many(np.array(["a", "a", "b"]), np.array(["2026-01-01T10", "2026-01-01T10", "2026-01-01T12"], "M8[h]"))
    >>> [(hot.item, hot.estimate) for hot in top.top(2, np.datetime64("2026-01-01T12"))]
    [('b', 1.0), ('a', 0.5)]
    """

    __slots__ = ("_capacity", "_counts", "_cut", "_half_life", "_hashes", "_items", "_total")
    KIND: ClassVar[str] = "decaying_top"

    def __init__(self, capacity: int, half_life: timedelta) -> None:
        if not is_whole(capacity, 1, MOST_CAPACITY):
            raise out_of_range("capacity", f"an integer from 1 to {MOST_CAPACITY:,}", capacity)
        self._capacity = int(capacity)
        self._half_life = length_us("half_life", half_life)
        self._rows = 0
        self._newest = 0
        self._total = 0.0
        self._cut = 0.0
        self._hashes: NDArray[np.uint64] = NO_HASHES  # in order; arrays are replaced, never written
        self._counts: NDArray[np.float64] = NO_COUNTS
        self._items = Items()

    @classmethod
    def from_error(cls, *, epsilon: float, half_life: timedelta) -> Self:
        """Return one whose error is at most `epsilon` times the decayed weight of all rows, whatever comes; from 6e-8 to 1."""
        if not 1 / MOST_CAPACITY < epsilon < 1:
            raise out_of_range("epsilon", f"a number between {1 / MOST_CAPACITY:.0e} and 1", epsilon)
        return cls(max(1, math.ceil(1 / epsilon) - 1), half_life)

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """The capacity, and the half-life as text."""
        return {"capacity": self._capacity, "half_life": str(self._half_life * MICROSECOND)}

    # Taking -----------------------------------------------------------------------------------------------------------

    def _update_timed(self, values: Column, times: NDArray[np.int64], weights: NDArray[np.float64] | None) -> None:
        self._items.check(values, self.KIND)
        if weights is not None and not weights.all():
            some = np.flatnonzero(weights)
            values, times, weights = values.take(some), times[some], weights[some]
        if not len(values):
            return
        newest = max(int(times.max()), self._newest) if self._rows else int(times.max())
        landmark = newest // self._half_life
        entries, total, cut = self._at_landmark(landmark)
        length = min(len(values), max(SEGMENT, self._capacity))
        hashes = np.empty(length, np.uint64)
        for start in range(0, len(values), length):
            stop = min(start + length, len(values))
            values.hash_into(start, stop, hashes[: stop - start])
            with np.errstate(over="ignore", under="ignore"):
                terms = forward_terms(times[start:stop], self._half_life, landmark)
                if weights is not None:
                    terms *= weights[start:stop]
                total += float(terms.sum())
                if not math.isfinite(total):
                    raise _too_large()
            entries, more = self._purged(_joined(entries, _summed(hashes[: stop - start], terms, np.arange(start, stop))))
            cut += more
        self._keep(entries, values)
        self._rows, self._newest = min(self._rows + len(values), MOST_ROWS), newest
        self._total, self._cut = total, cut

    def _merge(self, other: Self) -> None:
        theirs = other._items.column()
        self._items.check(theirs, self.KIND, action="merge")
        if not other._rows:
            return
        newest = max(self._newest, other._newest) if self._rows else other._newest
        landmark = newest // self._half_life
        mine, total, cut = self._at_landmark(landmark)
        more, others, theirs_cut = other._at_landmark(landmark)
        if not math.isfinite(total + others):
            raise _too_large()
        entries, purged = self._purged(_joined(mine, (more[0], more[1], -1 - more[2])))
        self._keep(entries, theirs)
        self._items.kind = self._items.kind or other._items.kind
        self._rows, self._newest = min(self._rows + other._rows, MOST_ROWS), newest
        self._total, self._cut = total + others, cut + theirs_cut + purged

    def _at_landmark(self, landmark: int) -> tuple[Entries, float, float]:
        """Return the table, the total and the cut as of another landmark; places of items here are -1, -2 and so on."""
        factor = halved(landmark - self._newest // self._half_life) if self._rows else 1.0
        with np.errstate(under="ignore"):
            counts = self._counts * factor
        some = np.flatnonzero(counts)
        return (self._hashes[some], counts[some], -1 - some), self._total * factor, self._cut * factor

    def _purged(self, entries: Entries) -> tuple[Entries, float]:
        """Bring a table down to the capacity: the greatest count but so many is taken off all of them."""
        if entries[1].size and not entries[1].min() > 0:  # too old to weigh anything
            some = np.flatnonzero(entries[1])
            entries = (entries[0][some], entries[1][some], entries[2][some])
        hashes, counts, places = entries
        if counts.size <= self._capacity:
            return entries, 0.0
        at = counts.size - self._capacity - 1
        cut = float(np.partition(counts, at)[at])
        some = np.flatnonzero(counts > cut)
        return (hashes[some], counts[some] - cut, places[some]), cut

    def _keep(self, entries: Entries, values: Column) -> None:
        """Take over the entries: some items are here already, others stand among `values`."""
        self._hashes, self._counts, places = entries
        old, new = np.flatnonzero(places < 0), np.flatnonzero(places >= 0)
        if old.size < len(self._items):
            self._items = self._items.take(-1 - places[old])
        if new.size:
            self._items.append(values, places[new])
            self._items = self._items.take(np.argsort(np.concatenate((old, new))))

    def copy(self) -> Self:
        """Return another one with the same content."""
        found = object.__new__(type(self))
        found._capacity, found._half_life, found._rows, found._newest = self._capacity, self._half_life, self._rows, self._newest
        found._total, found._cut = self._total, self._cut
        found._hashes, found._counts, found._items = self._hashes, self._counts, self._items.copy()
        return found

    def _key(self) -> tuple[int, int]:
        return self._capacity, self._half_life

    # Asking -----------------------------------------------------------------------------------------------------------

    def total_at(self, instant: Any) -> float:
        """Return the decayed weight of all rows; rows after the instant weigh more than they will at their own time."""
        return self._weights_at(np.array([self._total]), instant)[0]

    def error_at(self, instant: Any) -> float:
        """Return how much weight any item may have beyond its counter: what purges have taken off."""
        return self._weights_at(np.array([self._cut]), instant)[0]

    def estimate(self, value: Any, instant: Any) -> float:
        """Return the counter of a value, 0 if it is not in the table."""
        return self._weights_at(self._lower(one(value)), instant)[0]

    def lower_bound(self, value: Any, instant: Any) -> float:
        """Return the decayed weight that a value has at least: always, so there is no confidence to ask for."""
        return self._weights_at(self._lower(one(value)) * (1 - ROUNDED), instant)[0]

    def upper_bound(self, value: Any, instant: Any) -> float:
        """Return the decayed weight that a value has at most: always."""
        return self._weights_at((self._lower(one(value)) + self._cut) * (1 + ROUNDED), instant)[0]

    def top(self, n: int, instant: Any) -> list[DecayedHot]:
        """Return the `n` items with the greatest counters at an instant, the greatest first; fewer if the table has fewer.

        The order is the same at each instant, as all weights fade alike.
        """
        places = np.lexsort((self._hashes, -self._counts))[: max(n, 0)]
        counts = self._counts[places]
        values = self._items.take(places).values().tolist() if places.size else []
        columns = (counts, counts * (1 - ROUNDED), (counts + self._cut) * (1 + ROUNDED))
        return [DecayedHot(*parts) for parts in zip(values, *(self._weights_at(some, instant) for some in columns), strict=True)]

    def _weights_at(self, weights: NDArray[np.float64], time: Any) -> list[float]:
        whole, part = divmod(instant(time), self._half_life)
        halvings = self._newest // self._half_life - whole
        return [weighted(weight, halvings, part / self._half_life) for weight in weights.tolist()]

    def _lower(self, values: Column) -> NDArray[np.float64]:
        self._items.check(values, self.KIND, action="ask")
        if not self._hashes.size or not len(values):
            return np.zeros(1)
        hashes = np.empty(len(values), np.uint64)
        values.hash_into(0, len(values), hashes)
        at = np.minimum(np.searchsorted(self._hashes, hashes), self._hashes.size - 1)
        return np.where(self._hashes[at] == hashes, self._counts[at], 0.0)

    # Bytes ------------------------------------------------------------------------------------------------------------

    def _pack(self) -> tuple[bytes, bytes]:
        head = HEAD.pack(self._rows, self._newest, self._total, self._cut)
        return PARAMETERS.pack(self._capacity, self._half_life), head + self._items.pack() + self._counts.astype("<f8").tobytes()

    @classmethod
    def _unpack(cls, version: int, parameters: memoryview, payload: memoryview) -> Self:
        if len(parameters) != PARAMETERS.size or len(payload) < HEAD.size:
            raise damaged(cls.KIND, f"{PARAMETERS.size} bytes of parameters", f"{len(parameters)}, and {len(payload)} of payload")
        capacity, half_life = PARAMETERS.unpack(parameters)
        if not 1 <= capacity <= MOST_CAPACITY or not 1 <= half_life <= LONGEST:
            expected = f"a capacity from 1 to {MOST_CAPACITY} and a half-life from 1 to {LONGEST} microseconds"
            raise damaged(cls.KIND, expected, f"{capacity} and {half_life}")
        rows, newest, total, cut = HEAD.unpack_from(payload)
        items, rest = Items.unpack(cls.KIND, payload[HEAD.size :])
        if len(rest) != 8 * len(items) or len(items) > capacity:
            raise damaged(cls.KIND, f"up to {capacity} items and 8 bytes for each", f"{len(items)} and {len(rest)}")
        empty = not any(payload[: HEAD.size]) and not items.kind
        if not -LATEST <= newest <= LATEST or not 0 <= rows <= MOST_ROWS or (rows == 0) != empty:
            raise damaged(cls.KIND, "a number of rows and their newest time", f"{rows} and {newest}")
        counts = np.frombuffer(rest, "<f8").astype(np.float64)
        if not (counts > 0).all() or not cut >= 0 or not total < math.inf or not counts.max(initial=0.0) / SLACK <= total:
            raise damaged(cls.KIND, "counts above 0 within a total", f"{counts[:1].tolist()} and more, {cut!r} of {total!r}")
        with np.errstate(over="ignore"):
            taken = float(counts.sum()) / SLACK
        if not taken + cut * (capacity + 1) / SLACK <= total:
            raise damaged(cls.KIND, f"counts, and what was taken off, within {total!r}", repr(taken))
        hashes = np.empty(len(items), np.uint64)
        items.column().hash_into(0, len(items), hashes)
        if (hashes[1:] <= hashes[:-1]).any():
            raise damaged(cls.KIND, "items in the order of their hashes", "another one")
        found = cls(capacity, half_life * MICROSECOND)
        found._rows, found._newest, found._total, found._cut = rows, newest, total, cut
        found._hashes, found._counts, found._items = hashes, counts, items
        return found


def _summed(hashes: NDArray[np.uint64], weights: NDArray[np.float64], places: NDArray[np.int64]) -> Entries:
    """Return the distinct hashes in order, for each the sum of its weights and the least of its places."""
    order = np.argsort(hashes)
    ordered = hashes[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    found = places[order]
    if starts.size == ordered.size:
        return ordered, weights[order], found
    return ordered[starts], np.add.reduceat(weights[order], starts), np.minimum.reduceat(found, starts)


def _joined(one: Entries, other: Entries) -> Entries:
    """Return both tables in one; a place below 0 goes before others."""
    if not one[0].size:
        return other
    return _summed(np.concatenate((one[0], other[0])), np.concatenate((one[1], other[1])), np.concatenate((one[2], other[2])))


def _too_large() -> SketchError:
    expected = "weights whose sum is a float"
    return SketchError("use", "argument", "weights", expected=expected, got="larger ones", todo="scale them down")
