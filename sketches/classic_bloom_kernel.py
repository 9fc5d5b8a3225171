"""Classic Bloom filters in loops for numba: some bits anywhere in the filter for each value. In NumPy: `sketches.classic_bloom_plain`.

Bit i of a value is the upper half of (hash times the odd number i of `sketches.multipliers`), times the bits, shifted. Double hashing
(Kirsch, Mitzenmacher 2006), an addition for each bit, keeps the rate of large filters only.

Of a part of the hashes the first bits are done, then the second ones, and so on: nothing waits for what is read, and no branch is guessed.
Value by value, until a bit is clear, took three to nine times as long.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba's scalars are wrapped by NumPy's types, which NumPy's stubs see as others)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit
from sketches.multipliers import MULTIPLIERS

__all__ = ["contains", "insert", "insert_grouped"]

U1 = np.uint64(1)
U6 = np.uint64(6)
U32 = np.uint64(32)
U63 = np.uint64(63)
BITS = np.uint64(64)
PART = 256


@njit()
def insert(table: NDArray[np.uint64], hashes: NDArray[np.uint64], probes: int) -> None:
    """Set the bits of each hash; table : ndarray (bits / 64,) uint64."""
    bits = np.uint64(table.size) * BITS
    places = np.empty(PART, np.uint64)
    for start in range(0, hashes.size, PART):
        part = hashes[start : start + PART]
        at = places[: part.size]
        for number in range(probes):
            multiplier = MULTIPLIERS[number]
            for i in range(part.size):
                at[i] = (((part[i] * multiplier) >> U32) * bits) >> U32
            for i in range(part.size):
                table[at[i] >> U6] |= U1 << (at[i] & U63)


@njit()
def insert_grouped(tables: NDArray[np.uint64], groups: NDArray[np.int64], hashes: NDArray[np.uint64], probes: int) -> None:
    """Set the bits of each hash in the table of its group."""
    bits = np.uint64(tables.shape[1]) * BITS
    for i in range(hashes.size):
        table = tables[groups[i]]
        for number in range(probes):
            bit = (((hashes[i] * MULTIPLIERS[number]) >> U32) * bits) >> U32
            table[bit >> U6] |= U1 << (bit & U63)


@njit()
def contains(table: NDArray[np.uint64], hashes: NDArray[np.uint64], probes: int, out: NDArray[np.bool_]) -> None:
    """Say of each hash whether all its bits are set."""
    bits = np.uint64(table.size) * BITS
    places = np.empty(PART, np.uint64)
    found = np.empty(PART, np.uint64)
    for start in range(0, hashes.size, PART):
        part = hashes[start : start + PART]
        at = places[: part.size]
        answers = out[start : start + PART]
        found[:] = U1
        for number in range(probes):
            multiplier = MULTIPLIERS[number]
            for i in range(part.size):
                at[i] = (((part[i] * multiplier) >> U32) * bits) >> U32
            for i in range(part.size):
                found[i] &= table[at[i] >> U6] >> (at[i] & U63)
        for i in range(part.size):
            answers[i] = found[i] != 0
