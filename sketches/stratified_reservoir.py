"""A uniform sample of each stratum of a stream, so that small ones are in it too."""
# ruff: noqa: SLF001 (what is looked into are samples of this package)

from __future__ import annotations

import math
import struct
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from sketches.base import Sketch, is_whole, out_of_range
from sketches.columns import Column, column, hash_blocks, one
from sketches.draws import checked_seed, fold
from sketches.envelope import damaged
from sketches.errors import SketchError
from sketches.items import Items
from sketches.reservoir import MOST_SIZE, ReservoirSample, checked_size
from sketches.sample_bounds import Of, deviates, numbers_of

__all__ = ["StratifiedReservoirSample"]

MOST_STRATA: Final = 1 << 20
ROWS: Final = 1 << 20  # values that are sorted by stratum at once
GUESS_BITS: Final = 16  # of a key's hash, which nearly tell its stratum
GUESS_SHIFT: Final = np.uint64(64 - GUESS_BITS)
PARAMETERS: Final = struct.Struct("<IIQ")


class StratifiedReservoirSample(Sketch):
    """A reservoir for each stratum: values come with the key of theirs.

    Guarantee: the sample of each stratum is uniform, as that of a `ReservoirSample` of the same size, and independent of the others. Sums
    over all values are unbiased: an item of a stratum of N values, k of them sampled, stands for N / k. Bounds are the normal
    distribution's: right in the limit of strata with many sampled items.

    Parameters
    ----------
    size : int
        Items of each stratum k, 1 to 2^24.
    most_strata : int
        Strata there may be, 1 to 2^20: more of them are refused, so that a wrong key cannot fill the memory.
    seed : int
        0 to 2^64 - 1. Each stratum has its own random numbers, of the seed and its key; see `ReservoirSample` for parts under one seed.

    Memory: for each stratum what a `ReservoirSample` takes, its key, and some 2 KiB of Python objects.

    Not supported: null keys; keys of several types in one sample (integers of 32 and of 64 bits are two); weights.
    Equal: by distribution, as `ReservoirSample`. Strata are told apart by 64-bit hashes of their keys: two of s strata share one with
    probability below s^2 / 2^65.

    References
    ----------
    Cochran 1977, "Sampling techniques", chapter 5. Li 1994, as for `ReservoirSample`.

    Examples
    --------
    >>> sample = StratifiedReservoirSample(100, seed=1)
    >>> sample.update_many(np.arange(10_000), strata=np.where(np.arange(10_000) < 9_990, "large", "small"))
    >>> sample.counts()
    {'large': 9990, 'small': 10}
    >>> len(sample.sample("large")), len(sample.sample("small"))
    (100, 10)
    """

    __slots__ = ("_kind", "_names", "_parts", "_places", "_seed", "_size", "_strata")
    KIND = "stratified_reservoir"

    def __init__(self, size: int, most_strata: int = 1024, seed: int = 0) -> None:
        self._size = checked_size(size)
        if not is_whole(most_strata, 1, MOST_STRATA):
            raise out_of_range("most_strata", f"an integer from 1 to {MOST_STRATA:,}", most_strata)
        self._strata = int(most_strata)
        self._seed = checked_seed(seed)
        self._names = Items()
        self._parts: list[ReservoirSample] = []
        self._places: dict[int, int] = {}  # of the hashes of the keys
        self._kind = Items()  # knows the type of the values

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """Size, number of strata there may be, and seed, which a stratum that comes later begins with."""
        return {"size": self._size, "most_strata": self._strata, "seed": self._seed}

    @property
    def is_empty(self) -> bool:
        """Whether it has taken no value yet."""
        return not self._parts

    # Taking -----------------------------------------------------------------------------------------------------------

    def update(self, value: Any, stratum: Any = None) -> None:
        """Take one value of a stratum; None is no value."""
        if value is not None and stratum is None:
            raise self._no_key("None")
        self._update_strata(one(value), one(stratum) if value is not None else one(None))

    def update_many(self, values: Any, strata: Any = None) -> None:
        """Take all values of an array; nulls are no values.

        Parameters
        ----------
        values : array (n,)
            NumPy or Arrow, of the types in `sketches.columns`.
        strata : array (n,)
            The key of each value's stratum, of the same types; null only where the value is null.

        Raises
        ------
        SketchError
            No keys, null ones, as many strata as there may not be; nothing was taken.
        SketchTypeError
            Values or keys of another type, or of another one than before; nothing was taken.
        """
        found = column(values)
        if strata is None:
            raise self._no_key("none")
        keys = column(strata)
        if len(strata) != len(values):
            todo = "give a key for each value"
            raise SketchError("use", "argument", "strata", expected=f"{len(values):,} keys", got=f"{len(strata):,}", todo=todo)
        if found.rows is not None or keys.rows is not None:
            there = np.full(len(values), -1)
            there[slice(None) if keys.rows is None else keys.rows] = np.arange(len(keys))
            wanted = there if found.rows is None else there[found.rows]
            if (wanted < 0).any():
                raise self._no_key("null")
            keys = keys.take(wanted)
        self._update_strata(found, keys)

    def _no_key(self, got: str) -> SketchError:
        todo = "give one, such as a text for those without a key"
        return SketchError("use", "argument", "strata", expected="a key for each value", got=got, todo=todo)

    def _update_column(self, values: Column, weights: NDArray[Any] | None) -> None:
        if len(values):
            raise self._no_key("none")

    def _update_strata(self, values: Column, keys: Column) -> None:
        if not len(values):
            return
        self._kind.check(values, self.KIND)
        self._names.check(keys, self.KIND)
        places = self._places_for(keys)
        for start in range(0, len(values), ROWS):
            some = places[start : start + ROWS]
            order = np.argsort(some, kind="stable") + start
            counts = np.bincount(some)
            ends = np.cumsum(counts)
            for place in np.flatnonzero(counts).tolist():
                self._parts[place]._update_column(values.take(order[ends[place] - counts[place] : ends[place]]), None)
        self._kind.kind = values.kind

    def _places_for(self, keys: Column) -> NDArray[np.integer[Any]]:
        """Return for each key where the sample of its stratum is, and make those that are new.

        Small numbers are given as such: NumPy sorts them by radix.
        """
        before = len(self._parts)
        found = np.empty(len(keys), np.int64)
        known, guess = np.empty(0, np.uint64), np.zeros(1 << GUESS_BITS, np.int64)
        try:
            for start, hashes in hash_blocks(keys):
                if known.size < len(self._parts):
                    known = self._hashes()
                    guess[known >> GUESS_SHIFT] = np.arange(known.size)
                some = found[start : start + hashes.size]
                some[:] = guess[hashes >> GUESS_SHIFT]
                strange = np.flatnonzero(known[some] != hashes) if known.size else np.arange(hashes.size)
                if strange.size:
                    names, first, groups = np.unique(hashes[strange], return_index=True, return_inverse=True)
                    come = np.argsort(first)
                    places = np.empty(names.size, np.int64)
                    places[come] = self._known(names[come], keys, strange[first[come]] + start)
                    some[strange] = places[groups]
        except SketchError:
            self._forget(before)
            raise
        return found.astype(np.uint16) if len(self._parts) <= 1 << 16 else found

    def _forget(self, before: int) -> None:
        """Take back strata that were made in vain."""
        del self._parts[before:]
        self._places = dict(list(self._places.items())[:before])
        self._names = self._names.take(np.arange(before)) if before else Items()

    def _known(self, hashes: NDArray[np.uint64], keys: Column, places: NDArray[np.int64]) -> list[int]:
        """Return where the samples of strata are; makes those that are new."""
        each = hashes.tolist()
        new = [number for number, name in enumerate(each) if name not in self._places]
        if len(self._parts) + len(new) > self._strata:
            raise SketchError(
                "update",
                "sketch",
                self.KIND,
                expected=f"at most {self._strata:,} strata",
                got=f"{len(self._parts) + len(new):,}",
                why="each takes the memory of a sample",
                todo="give coarser keys, or a greater most_strata",
            )
        for number in new:
            self._places[each[number]] = len(self._parts)
            self._parts.append(ReservoirSample(self._size, fold(self._seed, each[number])))
        self._names.append(keys, places[new])
        return [self._places[name] for name in each]

    def _hashes(self) -> NDArray[np.uint64]:
        return np.fromiter(self._places, np.uint64, len(self._places))

    def _merge(self, other: Self) -> None:
        if not other._parts:
            return
        self._kind.check(other._parts[0]._items.column(), self.KIND, action="merge")
        self._names.check(other._names.column(), self.KIND, action="merge")
        known = self._known(other._hashes(), other._names.column(), np.arange(len(other._parts)))
        for place, part in zip(known, other._parts, strict=True):
            self._parts[place].merge(part)
        self._kind.kind = other._kind.kind

    def copy(self) -> Self:
        """Return another one with the same content; it goes on with the same random numbers."""
        found = type(self)(self._size, self._strata, self._seed)
        found._names, found._kind, found._places = self._names.copy(), self._kind.copy(), dict(self._places)
        found._parts = [part.copy() for part in self._parts]
        return found

    # Asking -----------------------------------------------------------------------------------------------------------

    def strata(self) -> list[Any]:
        """Return the keys, in the order in which they came."""
        found: list[Any] = self._names.values().tolist()
        return found

    def counts(self) -> dict[Any, int]:
        """Return how many values each stratum has had."""
        return {name: part.count for name, part in zip(self.strata(), self._parts, strict=True)}

    def sample(self, stratum: Any) -> NDArray[Any]:
        """Return the items of a stratum; none if it has not come yet."""
        found = self.reservoir(stratum)
        return np.empty(0) if found is None else found.sample()

    def reservoir(self, stratum: Any) -> ReservoirSample | None:
        """Return a copy of the sample of a stratum; None if it has not come yet."""
        key = one(stratum)
        self._names.check(key, self.KIND, action="ask")
        if not len(key):
            raise self._no_key("None")
        out = np.empty(1, np.uint64)
        key.hash_into(0, 1, out)
        place = self._places.get(int(out[0]))
        return None if place is None else self._parts[place].copy()

    def estimate(self, of: Of = None) -> float:
        """Return the sum over all values, estimated without bias; of truths, the number of values they are true for.

        Parameters
        ----------
        of : function, optional
            Of the sample of one stratum: a number or a truth for each item. None: the items.
        """
        return self._sum(of)[0]

    def lower_bound(self, of: Of = None, *, confidence: float = 0.95) -> float:
        """Return the lower of the two bounds between which the sum is with that confidence, in the limit."""
        sides = deviates(confidence)
        total, variance = self._sum(of)
        return total - sides * math.sqrt(variance)

    def upper_bound(self, of: Of = None, *, confidence: float = 0.95) -> float:
        """Return the upper one of the two bounds; see `lower_bound`."""
        sides = deviates(confidence)
        total, variance = self._sum(of)
        return total + sides * math.sqrt(variance)

    def estimate_mean(self, of: Of = None) -> float:
        """Return the mean over all values: the sum over their number, which is known; NaN without values."""
        count = sum(part.count for part in self._parts)
        return self._sum(of)[0] / count if count else math.nan

    def _sum(self, of: Of) -> tuple[float, float]:
        """Return the estimated sum over all values and the estimated variance of it."""
        total = variance = 0.0
        for part in self._parts:
            numbers = numbers_of(part._items, of).astype(np.float64)
            count, size = part.count, numbers.size
            total += count * float(numbers.mean())
            if size < count:
                variance += count * (count - size) / size * (float(numbers.var(ddof=1)) if size > 1 else math.inf)
        return total, variance

    # Bytes ------------------------------------------------------------------------------------------------------------

    def _pack(self) -> tuple[bytes, bytes | memoryview]:
        order = np.argsort(self._hashes())
        parts = [self._parts[place]._pack()[1] for place in order.tolist()]
        return PARAMETERS.pack(self._size, self._strata, self._seed), b"".join((self._names.take(order).pack(), *parts))

    @classmethod
    def _unpack(cls, version: int, parameters: memoryview, payload: memoryview) -> Self:
        if len(parameters) != PARAMETERS.size:
            raise damaged(cls.KIND, f"{PARAMETERS.size} bytes of parameters", f"{len(parameters)}")
        size, strata, seed = PARAMETERS.unpack(parameters)
        if not 1 <= size <= MOST_SIZE or not 1 <= strata <= MOST_STRATA:
            raise damaged(cls.KIND, f"a size up to {MOST_SIZE} and up to {MOST_STRATA} strata, both from 1", f"{size} and {strata}")
        found = cls(size, strata, seed)
        names, rest = Items.unpack(cls.KIND, payload)
        if len(names) > strata or bool(names.kind) != bool(len(names)):
            raise damaged(cls.KIND, f"up to {strata} keys", f"{len(names)} of type {names.kind!r}")
        hashes = np.empty(len(names), np.uint64)
        names.column().hash_into(0, len(names), hashes)
        if (hashes[1:] <= hashes[:-1]).any():
            raise damaged(cls.KIND, "keys in the order of their hashes", "another one")
        found._names, found._places = names, {name: place for place, name in enumerate(hashes.tolist())}
        for _ in range(len(names)):
            part = ReservoirSample(size)
            rest = part._read(rest)
            found._parts.append(part)
            found._kind.kind = found._kind.kind or part._items.kind
            if part.is_empty or part._items.kind != found._kind.kind:
                raise damaged(cls.KIND, f"values of type {found._kind.kind!r} in each stratum", f"{part.count} of {part._items.kind!r}")
        if len(rest):
            raise damaged(cls.KIND, "the end of the bytes", f"{len(rest)} more")
        return found
