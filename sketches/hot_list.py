"""What Misra-Gries and SpaceSaving have in common: a table of counters over blocks of the stream, with both bounds for each item."""
# ruff: noqa: SLF001 (what is looked into is another one of the same class)

from __future__ import annotations

import struct
import threading
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sketches import hot_list_kernel, hot_list_plain
from sketches.base import Sketch, is_whole, out_of_range
from sketches.columns import BLOCK, Column, column, one
from sketches.envelope import damaged
from sketches.items import Items
from sketches.jit import pick
from sketches.whole_weights import whole_weights

__all__ = ["Hot", "HotList"]

MOST_CAPACITY: Final = 1 << 24
MOST: Final = (1 << 63) - 1
SEGMENT: Final = 2 * BLOCK  # values between two purges, at least
KEPT: Final = 1 << 17  # entries of the greatest table that stays for the next call: 4 MiB
PARAMETERS: Final = struct.Struct("<I")
HEAD: Final = struct.Struct("<QQ")
NO_WEIGHTS: Final = np.empty(0, np.int64)
NO_HASHES: Final = np.empty(0, np.uint64)

_add = pick(hot_list_kernel.add, hot_list_plain.add)
_index = pick(hot_list_kernel.index, hot_list_plain.index)
_purge = pick(hot_list_kernel.purge, hot_list_plain.purge)


class Hot(NamedTuple):
    """An item of a hot list: its value, what the class estimates, and lower <= true count <= upper."""

    item: Any
    estimate: int
    lower: int
    upper: int


class _Table:
    """Room for entries while values are taken: hash, count, and where the value is; kept for the next call of the thread."""

    _own = threading.local()

    def __init__(self, room: int) -> None:
        size = 1 << (2 * room - 1).bit_length()
        self.room = room
        self.slots = np.empty(size, np.int32)
        self.shift = np.uint64(65 - size.bit_length())
        self.keys = np.empty(room, np.uint64)
        self.counts = np.empty(room, np.int64)
        self.places = np.empty(room, np.int64)
        self.used = 0

    @classmethod
    def of(cls, room: int, hashes: NDArray[np.uint64], counts: NDArray[np.int64]) -> _Table:
        """Return a table with these entries; their places are -1, -2 and so on."""
        least = 1 << (room - 1).bit_length()
        found: _Table | None = getattr(cls._own, "table", None)
        if found is None or not least <= found.room <= 4 * least:
            found = cls(least)
            if least <= KEPT:
                cls._own.table = found
        used = found.used = hashes.size
        found.keys[:used], found.counts[:used], found.places[:used] = hashes, counts, -1 - np.arange(used)
        _index(found.slots, found.shift, found.keys, used)
        return found

    def add(self, hashes: NDArray[np.uint64], weights: NDArray[np.int64], first: int) -> None:
        self.used = int(_add(self.slots, self.shift, self.keys, self.counts, self.places, self.used, hashes, weights, first))

    def purge(self, capacity: int) -> int:
        """Bring it down to its capacity; returns how much was taken off each count."""
        if self.used <= capacity:
            return 0
        used, cut = _purge(self.slots, self.shift, self.keys, self.counts, self.places, self.used, capacity)
        self.used = int(used)
        return int(cut)


class HotList(Sketch):
    """Counters for the most frequent items of a stream; see `sketches.MisraGries` and `sketches.SpaceSaving`."""

    __slots__ = ("_capacity", "_counts", "_cut", "_hashes", "_items", "_total")
    SPARE: ClassVar[int]
    """Counters of the capacity that are not in the table."""

    def __init__(self, capacity: int) -> None:
        least = 1 + self.SPARE
        if not is_whole(capacity, least, MOST_CAPACITY):
            raise out_of_range("capacity", f"an integer from {least} to {MOST_CAPACITY:,}", capacity)
        self._capacity = int(capacity)
        self._hashes: NDArray[np.uint64] = NO_HASHES
        self._counts: NDArray[np.int64] = NO_WEIGHTS
        self._items = Items()
        self._cut = 0
        self._total = 0

    @classmethod
    def from_error(cls, epsilon: float) -> Self:
        """Return one whose `error` is at most `epsilon` times the total weight, whatever comes.

        Parameters
        ----------
        epsilon : float
            Between 6e-8 and 1.
        """
        if not 1 / MOST_CAPACITY < epsilon < 1:
            raise out_of_range("epsilon", f"a number between {1 / MOST_CAPACITY:.0e} and 1", epsilon)
        return cls(max(1 + cls.SPARE, int(np.ceil(1 / epsilon)) - 1 + cls.SPARE))

    @abstractmethod
    def _estimates(self, lower: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the estimates of items with these lower bounds."""

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """The capacity."""
        return {"capacity": self._capacity}

    @property
    def is_empty(self) -> bool:
        """Whether it has taken no value yet; values of weight zero are none."""
        return self._total == 0

    @property
    def total(self) -> int:
        """The weight of all values, exact."""
        return self._total

    def error(self) -> int:
        """Return upper minus lower bound of every item, in the table or not: what the purges have taken off."""
        return self._cut

    # Taking -----------------------------------------------------------------------------------------------------------

    def update(self, value: Any, weight: int = 1) -> None:
        """Take one value; for many `update_many` is a hundred times as fast and more.

        Parameters
        ----------
        value : scalar
            As for `sketches.base.Sketch.update`.
        weight : int
            How often; none below 0.
        """
        found = one(value)
        self._update_column(found, whole_weights(weight, 1)[: len(found)])

    def update_many(self, values: Any, weights: Any = None) -> None:
        """Take all values of an array; nulls are no values.

        Parameters
        ----------
        values : array (n,)
            NumPy or Arrow, of the types in `sketches.columns`.
        weights : array (n,), optional
            Integers, none below 0; one for each value, also for nulls.

        Raises
        ------
        SketchError
            Weights that are not integers, or below 0; a total above 2^63 - 1; nothing was taken.
        SketchTypeError
            Values of another type than before; nothing was taken.
        """
        found = column(values)
        self._update_column(found, self._weights_of(weights, len(values), found))

    def _weights_of(self, weights: Any, rows: int, values: Column) -> NDArray[Any] | None:
        return None if weights is None else whole_weights(weights, rows, values.rows)

    def _update_column(self, values: Column, weights: NDArray[Any] | None) -> None:
        self._items.check(values, self.KIND)
        some: NDArray[np.int64] = NO_WEIGHTS
        if weights is not None:
            some = weights
            if not some.all():
                values, some = values.take(np.flatnonzero(some)), some[some > 0]
        total = self._total + (len(values) if weights is None else _sum(some))
        if total > MOST:
            raise out_of_range("weights", f"a total up to {MOST:,}", total)
        if not len(values):
            return
        capacity = self._capacity - self.SPARE
        length = min(len(values), max(SEGMENT, capacity))
        table = _Table.of(min(capacity, self._hashes.size + len(values)) + length, self._hashes, self._counts)
        buffer = np.empty(length, np.uint64)
        for start in range(0, len(values), length):
            stop = min(start + length, len(values))
            values.hash_into(start, stop, buffer[: stop - start])
            table.add(buffer[: stop - start], some[start:stop], start)
            self._cut += table.purge(capacity)
        self._total = total
        self._keep(table, values)
        self._items.kind = self._items.kind or values.kind  # also where the purge has left no item

    def _merge(self, other: Self) -> None:
        theirs = other._items.column()
        self._items.check(theirs, self.KIND, action="merge")
        if self._total + other._total > MOST:
            raise out_of_range("weights", f"a total up to {MOST:,}", self._total + other._total)
        table = _Table.of(self._hashes.size + max(other._hashes.size, 1), self._hashes, self._counts)
        table.add(other._hashes, other._counts, 0)
        self._cut += other._cut + table.purge(self._capacity - self.SPARE)
        self._total += other._total
        self._keep(table, theirs)
        self._items.kind = self._items.kind or other._items.kind

    def _keep(self, table: _Table, values: Column) -> None:
        """Take over the entries: first those whose items are here already, then those that stand among `values`."""
        used = table.used
        places = table.places[:used]
        old, new = np.flatnonzero(places < 0), np.flatnonzero(places >= 0)
        order = np.concatenate((old, new))
        if new.size or old.size < len(self._items):
            if old.size < len(self._items):
                self._items = self._items.take(-1 - places[old])
            self._items.kind = self._items.kind or values.kind
            self._items.append(values, places[new])
        self._hashes, self._counts = table.keys[order], table.counts[order]

    def copy(self) -> Self:
        """Return another one with the same content."""
        found = type(self)(self._capacity)
        found._hashes, found._counts, found._items = self._hashes, self._counts, self._items.copy()  # arrays are replaced, never written
        found._cut, found._total = self._cut, self._total
        return found

    # Asking -----------------------------------------------------------------------------------------------------------

    def estimate(self, value: Any) -> int:
        """Return about how often a value came."""
        found = one(value)
        return int(self._estimates(self._lower(found))[0]) if len(found) else 0

    def lower_bound(self, value: Any) -> int:
        """Return how often a value came at least: always, so there is no confidence to ask for."""
        found = one(value)
        return int(self._lower(found)[0]) if len(found) else 0

    def upper_bound(self, value: Any) -> int:
        """Return how often a value came at most: always."""
        found = one(value)
        return int(self._lower(found)[0]) + self._cut if len(found) else 0

    def estimate_many(self, values: Any) -> NDArray[np.int64]:
        """Return for each row the estimate of its value, as an array (n,) int64; 0 for nulls."""
        return self._in_rows(values, self._estimates)

    def bounds_many(self, values: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return for each row the lower and the upper bound of its value, as arrays (n,) int64; 0 and 0 for nulls."""
        return self._in_rows(values, lambda lower: lower), self._in_rows(values, lambda lower: lower + self._cut)

    def _in_rows(self, values: Any, answer_of: Callable[[NDArray[np.int64]], NDArray[np.int64]]) -> NDArray[np.int64]:
        found = column(values)
        answers = answer_of(self._lower(found))
        if found.rows is None:
            return answers
        in_rows = np.zeros(len(values), np.int64)
        in_rows[found.rows] = answers
        return in_rows

    def top(self, n: int) -> list[Hot]:
        """Return the `n` items with the greatest counters, the greatest first; fewer if the table has fewer.

        An item that came more often than `upper` of the first one left out is among them.
        """
        return self._hots(self._ranked()[: max(n, 0)])

    def items(self, threshold: float) -> tuple[list[Hot], list[Hot]]:
        """Return the items that came at least `threshold` times for certain, and those of the others that possibly did.

        Parameters
        ----------
        threshold : float
            Above `error`, or there may be items that are in neither list; a share is ``share * sketch.total``.

        Returns
        -------
        guaranteed, possible : list of Hot
            The greatest first. Each item that came `threshold` times is in one of them.
        """
        if not threshold > self._cut:
            raise out_of_range("threshold", f"a number above {self._cut}, the error", threshold)
        ranked = self._ranked()
        lower = self._counts[ranked]
        return self._hots(ranked[lower >= threshold]), self._hots(ranked[(lower < threshold) & (lower + self._cut >= threshold)])

    def _ranked(self) -> NDArray[np.int64]:
        return np.lexsort((self._hashes, -self._counts))

    def _hots(self, places: NDArray[np.int64]) -> list[Hot]:
        lower = self._counts[places]
        values = self._items.take(places).values().tolist()
        some = zip(values, self._estimates(lower).tolist(), lower.tolist(), (lower + self._cut).tolist(), strict=True)
        return [Hot(*parts) for parts in some]

    def _lower(self, values: Column) -> NDArray[np.int64]:
        self._items.check(values, self.KIND, action="ask")
        found = np.zeros(len(values), np.int64)
        if not self._hashes.size or not len(values):
            return found
        hashes = np.empty(len(values), np.uint64)
        values.hash_into(0, len(values), hashes)
        order = np.argsort(self._hashes)
        at = order[np.minimum(np.searchsorted(self._hashes, hashes, sorter=order), order.size - 1)]
        return np.where(self._hashes[at] == hashes, self._counts[at], 0)

    # Bytes ------------------------------------------------------------------------------------------------------------

    def _pack(self) -> tuple[bytes, bytes | memoryview]:
        order = np.argsort(self._hashes)
        counts = self._counts[order].astype("<i8").tobytes()
        return PARAMETERS.pack(self._capacity), HEAD.pack(self._total, self._cut) + self._items.take(order).pack() + counts

    @classmethod
    def _unpack(cls, version: int, parameters: memoryview, payload: memoryview) -> Self:
        if len(parameters) != PARAMETERS.size or len(payload) < HEAD.size:
            raise damaged(cls.KIND, f"{PARAMETERS.size} bytes of parameters", f"{len(parameters)}, and {len(payload)} of payload")
        (capacity,) = PARAMETERS.unpack(parameters)
        if not 1 + cls.SPARE <= capacity <= MOST_CAPACITY:
            raise damaged(cls.KIND, f"a capacity from {1 + cls.SPARE} to {MOST_CAPACITY}", f"{capacity}")
        found = cls(capacity)
        total, cut = HEAD.unpack_from(payload)
        items, rest = Items.unpack(cls.KIND, payload[HEAD.size :])
        if len(rest) != 8 * len(items) or len(items) > capacity - cls.SPARE:
            raise damaged(cls.KIND, f"up to {capacity - cls.SPARE} items and 8 bytes for each", f"{len(items)} and {len(rest)}")
        counts = np.frombuffer(rest, "<i8").astype(np.int64)
        taken = _sum(counts) + cut * (capacity - cls.SPARE + 1)
        if not (counts > 0).all() or not taken <= total <= MOST or (total == 0) != (not items.kind):
            raise damaged(cls.KIND, "counts from 1 whose sum, and what was taken off, is within the total", f"{taken} of {total}")
        hashes = np.empty(len(items), np.uint64)
        items.column().hash_into(0, len(items), hashes)
        if (hashes[1:] <= hashes[:-1]).any():
            raise damaged(cls.KIND, "items in the order of their hashes", "another one")
        found._hashes, found._counts, found._items, found._cut, found._total = hashes, counts, items, cut, total
        return found


def _sum(weights: NDArray[np.int64]) -> int:
    """Return the exact sum of what is not negative."""
    return (int((weights >> 32).sum()) << 32) + int((weights & 0xFFFFFFFF).sum())
