"""A sample of a stream in which heavier items are likelier: the k least of exponential keys, each divided by the item's weight."""
# ruff: noqa: SLF001 (what is looked into is another one of the same class)

from __future__ import annotations

import math
import struct
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from sketches.base import Sketch, checked_weights, out_of_range
from sketches.columns import BLOCK, Column, column, one
from sketches.draws import checked_seed, digest, fold, log, uniforms
from sketches.envelope import damaged
from sketches.items import Items
from sketches.reservoir import MOST_COUNT, MOST_SIZE, checked_size
from sketches.sample_bounds import Of, deviates, numbers_of

__all__ = ["WeightedReservoirSample"]

LEAST_WEIGHT: Final = 1e-100
MOST_WEIGHT: Final = 1e100
MOST_KEY: Final = 1e102
PARAMETERS: Final = struct.Struct("<I")
HEAD: Final = struct.Struct("<QQ")
CHUNK: Final = 4 * BLOCK  # values that are compared at once; it does not show in the result
NONE: Final = np.empty(0, np.float64)


class WeightedReservoirSample(Sketch):
    """A sample without replacement with probabilities by weight.

    Guarantee: the sample of size k has the law of drawing k times, each time one of the items not yet drawn, with probability proportional
    to its weight; in any order of the stream, and after any merges. `estimate` and `estimate_sum` are unbiased for k >= 2, whatever the
    function; their bounds are the normal distribution's, right in the limit of many sampled items that the function is not zero for.

    Parameters
    ----------
    size : int
        Items of the sample k, 1 to 2^24.
    seed : int
        0 to 2^64 - 1. As for `ReservoirSample`: parts under one seed are independent unless their first k values and weights are equal.

    Each value has the key E / weight, E exponential with mean 1, and the k least keys stay: Efraimidis and Spirakis' u^(1 / weight) in
    logarithms. Their A-ExpJ saves random numbers by jumping to the next value that will stay. Here a random number is half a nanosecond,
    and depends on the row's number only, so instead of jumping a block of values is compared at once with what can still stay, 1 - u <
    weight times the greatest key, as E >= 1 - u; a logarithm is taken of those that pass. The sample has the same law, and does not depend
    on how a stream is cut into calls.

    Memory: 16 bytes for each item and the item.

    Not supported: negative weights, and those outside 1e-100 to 1e100 but zero, which stands for no value; bounds against somebody who
    chooses values knowing the seed.
    Equal: samples of which each has k items merge to the k least keys of both, in any order of merging. Of parts with fewer the keys are
    drawn when they are needed; then merges are equal by distribution.

    References
    ----------
    Efraimidis, Spirakis 2006, "Weighted random sampling with a reservoir", section 3 (A-Res, A-ExpJ). Cohen, Kaplan 2007, "Summarizing data
    using bottom-k sketches", section 4: given the k-th key T, each item with a lesser one is there with probability 1 - exp(-weight T).

    Examples
    --------
    >>> sample = WeightedReservoirSample(1000, seed=1)
    >>> sample.update_many(np.arange(100_000), weights=np.arange(100_000) % 10)
    >>> bool(sample.lower_bound(lambda number: number % 10 == 9) < 90_000 < sample.upper_bound(lambda number: number % 10 == 9))
    True
    """

    __slots__ = ("_count", "_items", "_key_", "_keys", "_size", "_weights")
    KIND = "weighted_reservoir"

    def __init__(self, size: int, seed: int = 0) -> None:
        self._size = checked_size(size)
        self._items = Items()
        self._weights: NDArray[np.float64] = NONE
        self._keys: NDArray[np.float64] = NONE  # ascending; none before the sample is full
        self._count = 0
        self._key_ = fold(1, checked_seed(seed))

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """The size; samples of several seeds go together."""
        return {"size": self._size}

    @property
    def is_empty(self) -> bool:
        """Whether it has taken no value yet; values of weight zero are none."""
        return self._count == 0

    @property
    def count(self) -> int:
        """How many values above weight zero it has seen."""
        return self._count

    # Taking -----------------------------------------------------------------------------------------------------------

    def update(self, value: Any, weight: float = 1.0) -> None:
        """Take one value; None is no value."""
        found = one(value)
        self._update_column(found, checked_weights(np.asarray([weight]), 1, found))

    def update_many(self, values: Any, weights: Any = None) -> None:
        """Take all values of an array; nulls are no values.

        Parameters
        ----------
        values : array (n,)
            NumPy or Arrow, of the types in `sketches.columns`.
        weights : array (n,), optional
            0, or 1e-100 to 1e100; one for each value, also for nulls. None: each has 1.

        Raises
        ------
        SketchError
            Other weights; nothing was taken.
        SketchTypeError
            Values of another type, or of another one than before; nothing was taken.
        """
        found = column(values)
        self._update_column(found, self._weights_of(weights, len(values), found))

    def _weights_of(self, weights: Any, rows: int, values: Column) -> NDArray[Any] | None:
        return None if weights is None else checked_weights(weights, rows, values)

    def _of_group(self, number: int) -> Self:
        group = self.copy()
        group._key_ = fold(self._key_, number)
        return group

    def _update_column(self, values: Column, weights: NDArray[Any] | None) -> None:
        self._items.check(values, self.KIND)
        some = np.ones(len(values)) if weights is None else weights.astype(np.float64, copy=False)
        if not some.all():
            present = np.flatnonzero(some)
            values, some = values.take(present), some[present]
        wrong = (some < LEAST_WEIGHT) | (some > MOST_WEIGHT)
        if wrong.any():
            raise out_of_range("weights", f"0, or {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}", float(some[wrong][0]))
        begin = 0
        if not self._keys.size:
            begin = min(self._size - len(self._items), len(values))
            self._items.append(values, np.arange(begin))
            self._weights = np.concatenate((self._weights, some[:begin]))
            if len(self._items) == self._size:
                self._key_, self._keys = self._drawn()
                self._keep(np.argsort(self._keys, kind="stable"))
        self._count += begin
        if begin < len(values):
            self._choose(values, some, begin)

    def _keep(self, order: NDArray[np.int64]) -> None:
        self._items, self._weights, self._keys = self._items.take(order), self._weights[order], self._keys[order]

    def _choose(self, values: Column, weights: NDArray[np.float64], begin: int) -> None:
        """Take values after the sample is full."""
        keys, kept = self._keys, -1 - np.arange(self._size)  # kept: -1 - place among the items, or place among the values
        for start in range(begin, len(values), CHUNK):
            some = weights[start : start + CHUNK]
            u = uniforms(self._key_, self._count, some.size)
            self._count += some.size
            able = np.flatnonzero(1.0 - u < some * keys[-1])
            new = -log(u[able]) / some[able]
            less = new < keys[-1]
            if less.any():
                keys = np.concatenate((keys, new[less]))
                order = np.argsort(keys, kind="stable")[: self._size]
                keys, kept = keys[order], np.concatenate((kept, able[less] + start))[order]
        new_places = np.flatnonzero(kept >= 0)
        if new_places.size:
            old = np.flatnonzero(kept < 0)
            order = np.empty(self._size, np.int64)
            order[old], order[new_places] = np.arange(old.size), np.arange(old.size, self._size)
            self._items = self._items.take(-1 - kept[old])
            self._items.append(values, kept[new_places])
            self._weights = np.concatenate((self._weights[-1 - kept[old]], weights[kept[new_places]]))
            self._keys = keys
            self._items, self._weights = self._items.take(order), self._weights[order]

    def _drawn(self) -> tuple[int, NDArray[np.float64]]:
        """Return the key of the random numbers and those of the items, which are drawn from it if the sample is not full yet."""
        if self._keys.size:
            return self._key_, self._keys
        key = digest(self._key_, self._items.column(), self._weights)
        return key, -log(uniforms(fold(key, 1), 0, len(self._items))) / self._weights

    def _merge(self, other: Self) -> None:
        theirs = other._items.column()
        self._items.check(theirs, self.KIND, action="merge")
        if not len(theirs):
            return
        count, size = self._count + other._count, len(self._items) + len(theirs)
        if size >= self._size:
            (our_key, ours), (their_key, their_keys) = self._drawn(), other._drawn()
            self._key_ = fold(our_key, self._count, their_key, other._count)
            self._keys = np.concatenate((ours, their_keys))
        self._items.append(theirs, np.arange(len(theirs)))
        self._weights = np.concatenate((self._weights, other._weights))
        self._count = count
        if size >= self._size:
            self._keep(np.argsort(self._keys, kind="stable")[: self._size])

    def copy(self) -> Self:
        """Return another one with the same content; it goes on with the same random numbers."""
        found = type(self)(self._size)
        found._items, found._weights, found._keys = self._items.copy(), self._weights, self._keys  # arrays are replaced, never written
        found._count, found._key_ = self._count, self._key_
        return found

    # Asking -----------------------------------------------------------------------------------------------------------

    def sample(self) -> NDArray[Any]:
        """Return the items, as `sketches.items.Items.values` gives them; once full, in the order in which they would be drawn."""
        return self._items.values()

    def sample_arrow(self) -> Any:
        """Return the items as a pyarrow.Array."""
        return self._items.to_arrow()

    @property
    def weights(self) -> NDArray[np.float64]:
        """The weights of the items of `sample`."""
        return self._weights.copy()

    def estimate(self, of: Of = None) -> float:
        """Return the sum of weight times what is asked over all values: of truths, the weight of those it is true for.

        Parameters
        ----------
        of : function, optional
            Of the sample: a number or a truth for each item. None: the items.
        """
        return self._sum(numbers_of(self._items, of) * self._weights, 0.0)[0]

    def lower_bound(self, of: Of = None, *, confidence: float = 0.95) -> float:
        """Return the lower of the two bounds between which the sum of `estimate` is with that confidence, in the limit."""
        total, side = self._sum(numbers_of(self._items, of) * self._weights, deviates(confidence))
        return total - side

    def upper_bound(self, of: Of = None, *, confidence: float = 0.95) -> float:
        """Return the upper one of the two bounds; see `lower_bound`."""
        total, side = self._sum(numbers_of(self._items, of) * self._weights, deviates(confidence))
        return total + side

    def estimate_sum(self, of: Of = None) -> float:
        """Return the sum of what is asked over all values, each counted once: of truths, how many values. Light ones make it rough."""
        return self._sum(numbers_of(self._items, of).astype(np.float64), 0.0)[0]

    def _sum(self, numbers: NDArray[np.float64], sides: float) -> tuple[float, float]:
        """Return the sum over all values, and so many standard deviations of it: each item stands for 1 / its probability of them."""
        if not self._keys.size or self._count == self._size:  # they are all here
            return float(numbers.sum()), 0.0
        if self._size == 1:
            raise out_of_range("size", "at least 2 where something is estimated", self._size)
        chance = -np.expm1(-self._weights[:-1] * self._keys[-1])
        stands = numbers[:-1] / chance
        return float(stands.sum()), sides * math.sqrt(float((stands * stands * (1.0 - chance)).sum()))

    # Bytes ------------------------------------------------------------------------------------------------------------

    def _pack(self) -> tuple[bytes, bytes | memoryview]:
        parts = (
            HEAD.pack(self._count, self._key_),
            self._items.pack(),
            self._weights.astype("<f8").tobytes(),
            self._keys.astype("<f8").tobytes(),
        )
        return PARAMETERS.pack(self._size), b"".join(parts)

    @classmethod
    def _unpack(cls, version: int, parameters: memoryview, payload: memoryview) -> Self:
        if len(parameters) != PARAMETERS.size or len(payload) < HEAD.size:
            raise damaged(cls.KIND, f"{PARAMETERS.size} bytes of parameters", f"{len(parameters)}, and {len(payload)} of payload")
        (size,) = PARAMETERS.unpack(parameters)
        if not 1 <= size <= MOST_SIZE:
            raise damaged(cls.KIND, f"a size from 1 to {MOST_SIZE}", f"{size}")
        found = cls(size)
        count, key = HEAD.unpack_from(payload)
        items, rest = Items.unpack(cls.KIND, payload[HEAD.size :])
        kept = min(count, size)
        if count > MOST_COUNT or len(items) != kept or (count == 0) != (not items.kind):
            raise damaged(cls.KIND, f"{kept} items of {count} values", f"{len(items)}")
        keys = kept if kept == size else 0
        if len(rest) != 8 * (kept + keys):
            raise damaged(cls.KIND, f"{8 * (kept + keys)} bytes of weights and keys", f"{len(rest)}")
        numbers = np.frombuffer(rest, "<f8").astype(np.float64)
        found._items, found._count, found._key_ = items, count, key
        found._weights, found._keys = numbers[:kept].copy(), numbers[kept:].copy()
        if not ((found._weights >= LEAST_WEIGHT) & (found._weights <= MOST_WEIGHT)).all():
            raise damaged(cls.KIND, f"weights from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}", "others")
        if not ((found._keys > 0) & (found._keys <= MOST_KEY)).all() or not (found._keys[1:] >= found._keys[:-1]).all():
            raise damaged(cls.KIND, "keys above 0 in ascending order", "others")
        return found
