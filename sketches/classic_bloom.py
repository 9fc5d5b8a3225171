"""Membership in the fewest bits that are simple: the classic Bloom filter."""

from __future__ import annotations

import math
import struct
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from sketches import classic_bloom_kernel, classic_bloom_plain
from sketches.base import check_confidence, is_whole, out_of_range
from sketches.bloom_math import MOST_VALUES, bounds_of, classic_rate, smallest, values_behind
from sketches.envelope import damaged
from sketches.jit import pick
from sketches.membership import MembershipSketch
from sketches.payload import pack_table, unpack_table

__all__ = ["ClassicBloomFilter"]

WORD: Final = 64
MOST_BITS: Final = 1 << 32  # 512 MiB; places have 32 bits
MOST_PROBES: Final = 30
LEAST_RATE: Final = 1e-8
PARAMETERS: Final = struct.Struct("<IB")  # words, probes

_insert = pick(classic_bloom_kernel.insert, classic_bloom_plain.insert)
_insert_grouped = pick(classic_bloom_kernel.insert_grouped, classic_bloom_plain.insert_grouped)
_contains = pick(classic_bloom_kernel.contains, classic_bloom_plain.contains)


class ClassicBloomFilter(MembershipSketch):
    """A set that may take a stranger for a member, and never a member for a stranger; smaller than `BloomFilter`, and slower.

    Guarantee: a value that was taken is found for sure. After n distinct values another one is found with probability
    ``(1 - e^(-probes n / bits)) ^ probes``, to which `from_error` adds the effect of chance in small filters. Probability is over the
    hashes of values: who knows them can choose values that are wrongly found.

    Memory: ``bits / 8`` bytes; for 1 % that is 1.2 bytes for a value, for 0.01 % 2.4 (`BloomFilter`: 1.3 and 3.3).

    Parameters
    ----------
    bits : int
        A multiple of 64, up to 2^32.
    probes : int
        Bits of a value, from 1 to 30.

    Attributes
    ----------
    state : ndarray (bits / 64,) uint64
        The bits.

    Equal: byte for byte, whatever the order and grouping.

    Not supported: taking values out again, forgetting (see `RotatingBloomFilter`), more than 512 MiB. Where time counts for more than a
    tenth of the memory take `BloomFilter`: outside the caches each probe is a miss.

    References
    ----------
    Bloom: Space/Time Trade-offs in Hash Coding with Allowable Errors (1970).
    Kirsch, Mitzenmacher: Less Hashing, Same Performance: Building a Better Bloom Filter (2006): one hash is enough. Not their double
    hashing, though: it breaks the promise in filters for tens of values, see `sketches.multipliers`.
    Swamidass, Baldi: Mathematical Correction for Fingerprint Similarity Measures (2007) (`estimate`).

    Examples
    --------
    >>> seen = ClassicBloomFilter.from_error(capacity=1000, false_positive_rate=0.01)
    >>> seen.update_many(np.arange(1000))
    >>> seen.contains(999), round(seen.estimate(), -2), seen.parameters
    (True, 1000.0, {'bits': 9600, 'probes': 7})
    """

    __slots__ = ("_merge_key",)
    KIND: ClassVar[str] = "classic_bloom"

    def __init__(self, bits: int, probes: int) -> None:
        if not is_whole(bits, 1, MOST_BITS) or bits % WORD:
            raise out_of_range("bits", f"a multiple of {WORD} from {WORD} to {MOST_BITS:,}", bits)
        if not is_whole(probes, 1, MOST_PROBES):
            raise out_of_range("probes", f"from 1 to {MOST_PROBES}", probes)
        self._merge_key = (int(bits), int(probes))
        self.state = np.zeros(bits // WORD, np.uint64)

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
            Out of range, or the filter would take more than 512 MiB.
        """
        if not is_whole(capacity, 1, MOST_VALUES):
            raise out_of_range("capacity", "at least 1", capacity)
        if not LEAST_RATE <= false_positive_rate < 1:
            raise out_of_range("false_positive_rate", f"from {LEAST_RATE:g} up to, not with, 1", false_positive_rate)
        sizes = []
        for probes in range(1, MOST_PROBES + 1):
            words = smallest(lambda some, k=probes: classic_rate(capacity, WORD * some, k), false_positive_rate, MOST_BITS // WORD)  # type: ignore[misc]
            sizes += [] if words is None else [(words, probes)]
        if not sizes:
            raise out_of_range("capacity", f"what {MOST_BITS >> 23} MiB can keep at rate {false_positive_rate!r}", capacity)
        words, probes = min(sizes)
        return cls(WORD * words, probes)

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """What two filters must have in common to be merged."""
        bits, probes = self._merge_key
        return {"bits": bits, "probes": probes}

    def estimate(self) -> float:
        """Return about how many distinct values were taken; infinite when all bits are set."""
        bits, probes = self._merge_key
        set_bits = self._set_bits()
        return max(values_behind(1 - set_bits / bits, bits) / probes, float(math.ceil(set_bits / probes)))

    def false_positive_rate(self) -> float:
        """Return the probability that a value that was not taken is found now."""
        bits, probes = self._merge_key
        return (self._set_bits() / bits) ** probes

    def of_state(self, state: NDArray[Any]) -> Self:
        """Return a filter of the same parameters that has these bits, not a copy, for its content."""
        made = object.__new__(type(self))
        made._merge_key, made.state = self._merge_key, state
        return made

    def _set_bits(self) -> int:
        return int(np.bitwise_count(self.state).sum(dtype=np.int64))

    def _bounds(self, confidence: float) -> tuple[float, float]:
        bits, probes = self._merge_key
        check_confidence(confidence)
        set_bits = self._set_bits()
        sure, clear = float(math.ceil(set_bits / probes)), 1 - set_bits / bits  # fewer values do not set so many bits
        if not clear:
            return sure, math.inf
        load = -math.log(clear)  # balls for each bit; the variance is that of linear counting
        error = math.sqrt(bits * (math.exp(load) - load - 1)) / probes
        least, most = bounds_of(self.estimate(), error, confidence)
        return max(least, sure), most

    def _ask(self, hashes: NDArray[np.uint64], answer: NDArray[np.bool_]) -> None:
        _contains(self.state, hashes, self._merge_key[1], answer)

    def _update_hashes(self, hashes: NDArray[np.uint64], weights: NDArray[Any] | None) -> None:
        _insert(self.state, hashes, self._merge_key[1])

    def _update_states(
        self, states: NDArray[Any], groups: NDArray[np.int64], hashes: NDArray[np.uint64], weights: NDArray[Any] | None
    ) -> None:
        _insert_grouped(states, groups, hashes, self._merge_key[1])

    def _key(self) -> Any:
        return self._merge_key

    def _pack(self) -> tuple[bytes, bytes | memoryview]:
        return PARAMETERS.pack(self.state.size, self._merge_key[1]), pack_table(self.state)

    @classmethod
    def _unpack(cls, version: int, parameters: memoryview, payload: memoryview) -> Self:
        if len(parameters) != PARAMETERS.size:
            raise damaged(cls.KIND, f"{PARAMETERS.size} bytes of parameters", f"{len(parameters)}")
        words, probes = PARAMETERS.unpack(parameters)
        if not 1 <= words <= MOST_BITS // WORD or not 1 <= probes <= MOST_PROBES:
            expected = f"up to {MOST_BITS // WORD:,} words and {MOST_PROBES} probes"
            raise damaged(cls.KIND, expected, f"{words:,} words and {probes} probes")
        made = object.__new__(cls)
        made._merge_key, made.state = (WORD * words, probes), unpack_table(cls.KIND, payload, words, 1, np.uint64).reshape(-1)
        return made
