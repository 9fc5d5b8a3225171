"""Membership by one cache line a value: the split-block Bloom filter."""

from __future__ import annotations

import struct
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from sketches import bloom_kernel, bloom_plain
from sketches.base import check_confidence, is_whole, out_of_range
from sketches.bloom_math import MOST_VALUES, blocked_rate, bounds_of, filled_planes, smallest, values_behind
from sketches.columns import BLOCK
from sketches.envelope import damaged
from sketches.jit import pick
from sketches.membership import MembershipSketch
from sketches.payload import empty_lines, pack_table, unpack_table

__all__ = ["BloomFilter"]

LANES: Final = 8
LANE_BITS: Final = 32
MOST_BLOCKS: Final = 1 << 26  # 2 GiB
LEAST_RATE: Final = 1e-8  # below it, values that differ but have the same bits in their block begin to count
PARAMETERS: Final = struct.Struct("<I")

_insert = pick(bloom_kernel.insert, bloom_plain.insert)
_insert_grouped = pick(bloom_kernel.insert_grouped, bloom_plain.insert_grouped)
_contains = pick(bloom_kernel.contains, bloom_plain.contains)


class BloomFilter(MembershipSketch):
    """A set that may take a stranger for a member, and never a member for a stranger.

    Guarantee: a value that was taken is found for sure. After n distinct values another one is found with probability
    ``sum over i of (-1)^i C(8, i) (1 - (1 - (31/32)^i) / blocks)^n``, which is below the rate asked for until n is above the capacity
    asked for. Probability is over the hashes of values: who knows them can choose values that are wrongly found.

    Memory: ``32 * blocks`` bytes; for 1 % that is 1.3 bytes for a value, a tenth more than `ClassicBloomFilter`, for one cache miss
    instead of up to seven.

    Parameters
    ----------
    blocks : int
        From 1 to 2^26.

    Attributes
    ----------
    state : ndarray (blocks, 8) uint32
        The bits.

    Equal: byte for byte, whatever the order and grouping.

    Not supported: taking values out again, counting how often (see `CountMinSketch`), forgetting (see `RotatingBloomFilter`), rates
    below 1e-8. The hash is our own (seed 42, as in Spark SQL): bits cannot be exchanged with filters in Parquet files, which have seed 0.

    References
    ----------
    Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters (2007), section 3 (blocked filters and their rate).
    Apache Parquet: Bloom filter specification (split blocks, salts).
    Whang, Vander-Zanden, Taylor: A Linear-Time Probabilistic Counting Algorithm (1990) (`estimate`).

    Examples
    --------
    >>> seen = BloomFilter.from_error(capacity=1000, false_positive_rate=0.01)
    >>> seen.update_many(np.arange(1000))
    >>> seen.contains(999), round(seen.estimate(), -2)
    (True, 1000.0)
    >>> bool(seen.contains_many(np.arange(1000, 11_000)).mean() < 0.013)
    True
    """

    __slots__ = ("_merge_key",)
    KIND: ClassVar[str] = "bloom"

    def __init__(self, blocks: int) -> None:
        if not is_whole(blocks, 1, MOST_BLOCKS):
            raise out_of_range("blocks", f"from 1 to {MOST_BLOCKS:,}", blocks)
        self._merge_key = (int(blocks),)
        self.state = empty_lines(blocks, LANES, np.uint32)

    @classmethod
    def from_error(cls, *, capacity: int, false_positive_rate: float) -> Self:
        """Make the smallest filter that keeps a rate up to so many distinct values.

        Parameters
        ----------
        capacity : int
            Distinct values, at least 1.
        false_positive_rate : float
            Of a value that was not taken, in the mean over filters that hold `capacity` values; from 1e-8 up to, not with, 1.

        Raises
        ------
        SketchError
            Out of range, or the filter would take more than 2 GiB.
        """
        if not is_whole(capacity, 1, MOST_VALUES):
            raise out_of_range("capacity", "at least 1", capacity)
        if not LEAST_RATE <= false_positive_rate < 1:
            raise out_of_range("false_positive_rate", f"from {LEAST_RATE:g} up to, not with, 1", false_positive_rate)
        blocks = smallest(lambda some: blocked_rate(capacity, some), false_positive_rate, MOST_BLOCKS)
        if blocks is None:
            raise out_of_range("capacity", f"what {MOST_BLOCKS * 32 >> 30} GiB can keep at rate {false_positive_rate!r}", capacity)
        return cls(blocks)

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """What two filters must have in common to be merged."""
        return {"blocks": len(self.state)}

    def estimate(self) -> float:
        """Return about how many distinct values were taken; infinite when all bits of the filter are set."""
        in_lanes, cells = self._set_in_lanes(), len(self.state) * LANE_BITS
        return max(values_behind(1 - int(in_lanes.sum()) / (LANES * cells), cells), float(in_lanes.max()))

    def false_positive_rate(self) -> float:
        """Return the probability that a value that was not taken is found now: the mean over blocks of how full their lanes are."""
        total = 0.0
        for start in range(0, len(self.state), BLOCK):
            total += float(np.prod(np.bitwise_count(self.state[start : start + BLOCK]) / LANE_BITS, axis=1).sum())
        return total / len(self.state)

    def of_state(self, state: NDArray[Any]) -> Self:
        """Return a filter of the same size that has these bits, not a copy, for its content."""
        made = object.__new__(type(self))
        made._merge_key, made.state = self._merge_key, state
        return made

    def copy(self) -> Self:
        """Return another one with the same content."""
        state = empty_lines(len(self.state), LANES, np.uint32)
        np.copyto(state, self.state)
        return self.of_state(state)

    def _set_in_lanes(self) -> NDArray[np.int64]:
        return np.asarray(np.bitwise_count(self.state).sum(axis=0, dtype=np.int64))

    def _bounds(self, confidence: float) -> tuple[float, float]:
        estimate, sure = self.estimate(), float(self._set_in_lanes().max())  # each value sets one bit of each lane
        least, most = bounds_of(estimate, filled_planes(estimate, len(self.state)), check_confidence(confidence))
        return max(least, sure), most

    def _ask(self, hashes: NDArray[np.uint64], answer: NDArray[np.bool_]) -> None:
        _contains(self.state, hashes, answer)

    def _update_hashes(self, hashes: NDArray[np.uint64], weights: NDArray[Any] | None) -> None:
        _insert(self.state, hashes)

    def _update_states(
        self, states: NDArray[Any], groups: NDArray[np.int64], hashes: NDArray[np.uint64], weights: NDArray[Any] | None
    ) -> None:
        _insert_grouped(states, groups, hashes)

    def _key(self) -> Any:
        return self._merge_key

    def _pack(self) -> tuple[bytes, bytes | memoryview]:
        return PARAMETERS.pack(len(self.state)), pack_table(self.state)

    @classmethod
    def _unpack(cls, version: int, parameters: memoryview, payload: memoryview) -> Self:
        if len(parameters) != PARAMETERS.size:
            raise damaged(cls.KIND, f"{PARAMETERS.size} bytes of parameters", f"{len(parameters)}")
        (blocks,) = PARAMETERS.unpack(parameters)
        if not 1 <= blocks <= MOST_BLOCKS:
            raise damaged(cls.KIND, f"blocks from 1 to {MOST_BLOCKS:,}", f"{blocks:,}")
        made = object.__new__(cls)
        made._merge_key, made.state = (blocks,), unpack_table(cls.KIND, payload, blocks, LANES, np.uint32)
        return made.copy()
