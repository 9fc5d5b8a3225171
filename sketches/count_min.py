"""How often each value came: the Count-Min sketch, plain and conservative."""

from __future__ import annotations

import math
import operator
import struct
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from sketches import count_min_kernel, count_min_plain
from sketches.base import StateSketch, check_confidence, checked_hashes, is_whole, out_of_range
from sketches.columns import BLOCK, Column, column, hash_blocks, one
from sketches.envelope import damaged
from sketches.errors import SketchError
from sketches.jit import pick
from sketches.multipliers import MOST
from sketches.payload import pack_table, unpack_table
from sketches.whole_weights import LARGEST, sum_of, whole_weights

__all__ = ["CountMinSketch"]

MOST_CELLS: Final = 1 << 28  # 2 GiB
PARAMETERS: Final = struct.Struct("<BIB")  # depth, width, conservative

_add = pick(count_min_kernel.add, count_min_plain.add)
_add_weighted = pick(count_min_kernel.add_weighted, count_min_plain.add_weighted)
_add_grouped = pick(count_min_kernel.add_grouped, count_min_plain.add_grouped)
_minima = pick(count_min_kernel.minima, count_min_plain.minima)
_raise_to = pick(count_min_kernel.raise_to, count_min_plain.raise_to)
_raise_grouped = pick(count_min_kernel.raise_grouped, count_min_plain.raise_grouped)
_count_distinct = pick(count_min_kernel.count_distinct, count_min_plain.count_distinct)


class CountMinSketch(StateSketch):
    """How often each value came, never too low.

    Guarantee: for each value ``count <= estimate``, and ``estimate <= count + (e / width) * total`` with probability at least
    ``1 - e^-depth``; for other confidences see `lower_bound`. Probability is over the hashes of values, for one value at a time: who knows
    them can choose values that collide.

    Memory: ``8 * (depth * width + 1)`` bytes.

    Parameters
    ----------
    depth : int
        Rows, from 1 to 32.
    width : int
        Cells of a row, at least 1; depth * width up to 2^28.
    conservative : bool
        Raise cells only as far as the value needs it (Estan, Varghese): estimates are never above those of the plain sketch, and far below
        them for rare values; two to four times the time; no inner products. Values are taken in blocks of 8192 of a call: those of a block
        are counted, then each cell is raised to the largest (estimate before the block + count in the block) of its values.

    Attributes
    ----------
    state : ndarray (depth * width + 1,) int64
        The cells, row by row, and the total.

    Equal: byte for byte, whatever the order and grouping, when not conservative. Conservative ones keep the guarantee whatever the order,
    and are never above the plain sketch of the same values; where they were split, ordered or merged differently they are not equal. A
    merge adds cells: it is less tight than one pass.

    Not supported: negative weights and fractions. A total above 2^63 - 1 is refused, and nothing taken. For the values that came often
    themselves take `HeavyHitters`.

    References
    ----------
    Cormode, Muthukrishnan: An Improved Data Stream Summary: The Count-Min Sketch and its Applications (2005), theorems 1 and 3.
    Estan, Varghese: New Directions in Traffic Measurement and Accounting (2002), section 3.3 (conservative update).

    Examples
    --------
    >>> bids = CountMinSketch.from_error(epsilon=0.001, delta=0.01)
    >>> bids.update_many(np.repeat(np.arange(100), np.arange(100)))
    >>> bids.estimate(99), bids.lower_bound(99) <= 99 <= bids.upper_bound(99), bids.total
    (99, True, 4950)
    """

    __slots__ = ("_merge_key", "counts")
    KIND: ClassVar[str] = "count_min"

    counts: NDArray[np.int64]
    """The cells, as an array (depth, width): a view of `state`."""

    def __init__(self, depth: int, width: int, conservative: bool = False) -> None:
        if not is_whole(depth, 1, MOST):
            raise out_of_range("depth", f"from 1 to {MOST}", depth)
        if not is_whole(width, 1, MOST_CELLS // depth):
            raise out_of_range("width", f"from 1 to {MOST_CELLS // depth:,} for a depth of {depth}", width)
        self._merge_key = (int(depth), int(width), bool(conservative))
        self._take_state(np.zeros(depth * width + 1, np.int64))

    @classmethod
    def from_error(cls, *, epsilon: float, delta: float, conservative: bool = False) -> Self:
        """Make a sketch whose estimates are above the count by more than ``epsilon * total`` with probability at most delta.

        Parameters
        ----------
        epsilon : float
            Above 0, below 1; width is ``ceil(e / epsilon)``.
        delta : float
            Above 0, below 1; depth is ``ceil(ln(1 / delta))``.
        conservative : bool
            As for the class.
        """
        if not 0 < epsilon < 1:
            raise out_of_range("epsilon", "above 0, below 1", epsilon)
        if not 0 < delta < 1:
            raise out_of_range("delta", "above 0, below 1", delta)
        depth, width = math.ceil(-math.log(delta)), math.ceil(math.e / epsilon)
        if depth > MOST:
            raise out_of_range("delta", f"at least e^-{MOST}", delta)
        if width * depth > MOST_CELLS:
            raise out_of_range("epsilon", f"at least {math.e * depth / MOST_CELLS:.1e} for this delta", epsilon)
        return cls(depth, width, conservative)

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """What two sketches must have in common to be merged."""
        depth, width, conservative = self._merge_key
        return {"depth": depth, "width": width, "conservative": conservative}

    @property
    def total(self) -> int:
        """The sum of all weights."""
        return int(self.state[-1])

    @property
    def epsilon(self) -> float:
        """``e / width``: the error that an estimate keeps to, as part of the total, with probability ``1 - delta``."""
        return math.e / float(self._merge_key[1])

    @property
    def delta(self) -> float:
        """``e^-depth``."""
        return math.exp(-float(self._merge_key[0]))

    @property
    def is_empty(self) -> bool:
        """Whether it has taken no weight yet."""
        return not self.state[-1]

    def update(self, value: Any, weight: int = 1) -> None:
        """Take one value, as if it came `weight` times."""
        found = one(value)
        self._update_column(found, whole_weights(weight, len(found)))

    def update_many(self, values: Any, weights: Any = None) -> None:
        """Take all values of an array; nulls are no values.

        Parameters
        ----------
        values : array (n,)
            NumPy or Arrow, of the types in `sketches.columns`.
        weights : array (n,), optional
            How often each came: whole numbers, not negative; one for each row, also for nulls.

        Raises
        ------
        SketchTypeError, SketchError
            Values or weights of other types, or a total above 2^63 - 1; nothing was taken.
        """
        found = column(values)
        self._update_column(found, self._weights_of(weights, len(values), found))

    def _weights_of(self, weights: Any, rows: int, values: Column) -> NDArray[Any] | None:
        return None if weights is None else whole_weights(weights, rows, values.rows)

    def update_hashes(self, hashes: NDArray[np.int64] | NDArray[np.uint64], weights: Any = None) -> None:
        """Take values that were hashed already, by `sketches.hashes` or by Spark SQL's ``xxhash64`` of one column."""
        some = checked_hashes(hashes)
        self._update_hashes(some, None if weights is None else whole_weights(weights, some.size))

    def estimate(self, value: Any) -> int:
        """Return how often a value came: never less than it did. None came 0 times."""
        found = one(value)
        return int(self._estimate_column(found)[0]) if len(found) else 0

    def estimate_many(self, values: Any) -> NDArray[np.int64]:
        """Return for each row how often its value came, as an array (n,) int64; 0 for nulls."""
        found = column(values)
        if found.rows is None:
            return self._estimate_column(found)
        answer = np.zeros(len(values), np.int64)
        answer[found.rows] = self._estimate_column(found)
        return answer

    def estimate_hashes(self, hashes: NDArray[np.int64] | NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return `estimate` for values that were hashed already."""
        some = checked_hashes(hashes)
        answer = np.empty(some.size, np.int64)
        for start in range(0, some.size, BLOCK):
            _minima(self.counts, some[start : start + BLOCK], answer[start : start + BLOCK])
        return answer

    def lower_bound(self, value: Any, confidence: float = 0.95) -> int:
        """Return a count that with this confidence is not above the true one.

        It is ``estimate - k / width * total``, with ``k = (1 - confidence) ^ (-1 / depth)``: in one row the error is above k times its mean
        with probability 1 / k (Markov). For a confidence of ``1 - e^-depth``, k is e, as in the guarantee.
        """
        return max(0, self.estimate(value) - self.error(confidence))

    def upper_bound(self, value: Any, confidence: float = 0.95) -> int:
        """Return a count that is not below the true one: the estimate, for sure, so whatever the confidence."""
        check_confidence(confidence)
        return self.estimate(value)

    def error(self, confidence: float = 0.95) -> int:
        """Return by how much, with this confidence, an estimate is too high at most."""
        return math.floor(self._reach(confidence) * self.total)

    def inner_product(self, other: Self) -> int:
        """Return the sum over all values of (count here) * (count there), the size of a join: never less than it is.

        Guarantee: too high by more than ``e / width * total * other.total`` with probability at most ``e^-depth``.

        Raises
        ------
        SketchError
            Of other parameters, or conservative: those have too little in cells that values share.
        """
        if type(other) is not type(self) or other._key() != self._key():
            raise self._mismatch(other)
        if self._merge_key[2]:
            why, todo = "the product could be too low", "use sketches that are not conservative"
            raise SketchError("multiply", "sketch", self.KIND, expected="conservative False", got="True", why=why, todo=todo)
        if self.total * other.total <= LARGEST:
            return int(np.einsum("ij,ij->i", self.counts, other.counts).min())
        pairs = zip(self.counts.tolist(), other.counts.tolist(), strict=True)
        return int(min(sum(map(operator.mul, ours, theirs)) for ours, theirs in pairs))  # larger than 64 bits

    def inner_product_lower_bound(self, other: Self, confidence: float = 0.95) -> int:
        """Return a number that with this confidence is not above the true inner product."""
        return max(0, self.inner_product(other) - math.floor(self._reach(confidence) * self.total * other.total))

    def check_room(self, more: int, most: int | None = None) -> None:
        """Refuse as much more weight if the total, or another one that is given, would not fit then."""
        most = self.total if most is None else most
        if more + most > LARGEST:
            todo = "start a new sketch before that"
            raise SketchError("update", "sketch", self.KIND, expected=f"a total up to {LARGEST:,}", got=f"{more + most:,}", todo=todo)

    def of_state(self, state: NDArray[Any]) -> Self:
        """Return a sketch of the same parameters that has this array, not a copy, for its content."""
        made = object.__new__(type(self))
        made._merge_key = self._merge_key
        made._take_state(state)
        return made

    def _take_state(self, state: NDArray[np.int64]) -> None:
        self.state, self.counts = state, state[:-1].reshape(self._merge_key[:2])

    def _reach(self, confidence: float) -> float:
        depth, width, _ = self._merge_key
        return float((1 - check_confidence(confidence)) ** (-1 / depth) / width)

    def _estimate_column(self, values: Column) -> NDArray[np.int64]:
        answer = np.empty(len(values), np.int64)
        for start, part in hash_blocks(values):
            _minima(self.counts, part, answer[start : start + part.size])
        return answer

    def _update_column(self, values: Column, weights: NDArray[Any] | None) -> None:
        self.check_room(len(values) if weights is None else sum_of(weights))
        for start, part in hash_blocks(values):
            self._take(part, None if weights is None else weights[start : start + part.size])

    def _update_hashes(self, hashes: NDArray[np.uint64], weights: NDArray[Any] | None) -> None:
        self.check_room(hashes.size if weights is None else sum_of(weights))
        for start in range(0, hashes.size, BLOCK):
            self._take(hashes[start : start + BLOCK], None if weights is None else weights[start : start + BLOCK])

    def _take(self, hashes: NDArray[np.uint64], weights: NDArray[np.int64] | None) -> None:
        """Take one block; there is room for it."""
        if self._merge_key[2]:
            found, sums = _count_distinct(hashes, np.ones(hashes.size, np.int64) if weights is None else weights)
            wanted = np.empty(found.size, np.int64)
            _minima(self.counts, found, wanted)
            _raise_to(self.counts, found, wanted + sums)
        elif weights is None:
            _add(self.counts, hashes)
        else:
            _add_weighted(self.counts, hashes, weights)
        self.state[-1] += hashes.size if weights is None else weights.sum()

    def _update_states(
        self, states: NDArray[Any], groups: NDArray[np.int64], hashes: NDArray[np.uint64], weights: NDArray[Any] | None
    ) -> None:
        counts = np.ones(hashes.size, np.int64) if weights is None else weights
        self.check_room(sum_of(counts), int(states[groups, -1].max(initial=0)))
        if not self._merge_key[2]:
            _add_grouped(states, len(self.counts), groups, hashes, counts)
            return
        order = np.lexsort((hashes, groups))
        groups, hashes = groups[order], hashes[order]
        firsts = np.flatnonzero(np.concatenate([[True], (np.diff(groups) != 0) | (np.diff(hashes) != 0)]))
        _raise_grouped(states, len(self.counts), groups[firsts], hashes[firsts], np.add.reduceat(counts[order], firsts))

    def _merge(self, other: Self) -> None:
        self.check_room(other.total)
        self.state += other.state

    def _key(self) -> Any:
        return self._merge_key

    def _pack(self) -> tuple[bytes, bytes | memoryview]:
        return PARAMETERS.pack(*self._merge_key), pack_table(self.state[:, None])

    @classmethod
    def _unpack(cls, version: int, parameters: memoryview, payload: memoryview) -> Self:
        if len(parameters) != PARAMETERS.size:
            raise damaged(cls.KIND, f"{PARAMETERS.size} bytes of parameters", f"{len(parameters)}")
        depth, width, conservative = PARAMETERS.unpack(parameters)
        if not (1 <= depth <= MOST and 1 <= width <= MOST_CELLS // depth and conservative in (0, 1)):
            raise damaged(cls.KIND, "depth, width and conservative in their ranges", f"{depth}, {width}, {conservative}")
        made = object.__new__(cls)
        made._merge_key = (depth, width, bool(conservative))
        made._take_state(unpack_table(cls.KIND, payload, depth * width + 1, 1, np.int64).reshape(-1))
        made._check_content()
        return made

    def _check_content(self) -> None:
        """Refuse cells that no values can have made: later sums of them could not be told from wrong ones."""
        if self.state.min() < 0:
            raise damaged(self.KIND, "counts that are not negative", f"{self.state.min()}")
        sums = [sum_of(row) for row in self.counts]
        if (max(sums) > self.total) if self._merge_key[2] else any(some != self.total for some in sums):
            raise damaged(self.KIND, f"rows that add up to the total {self.total:,}", f"{max(sums):,}")
