"""Classic Bloom filters in loops for numba: some bits anywhere in the filter for each value. In NumPy: `sketches.classic_bloom_plain`.

Bit i of a value is at ``a + i b + c i (i - 1) / 2`` on a circle of 2^64, scaled to the bits: a and b are the hash and its halves swapped
(double hashing; Kirsch, Mitzenmacher 2006), the square term (their section on extended double hashing) spreads the bits of a value whose b
is near a small fraction of the circle.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba's scalars are wrapped by NumPy's types, which NumPy's stubs see as others)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit

__all__ = ["contains", "insert", "insert_grouped"]

CURVE = np.uint64(0x9E3779B97F4A7C15)
U1 = np.uint64(1)
U6 = np.uint64(6)
U32 = np.uint64(32)
U63 = np.uint64(63)
BITS = np.uint64(64)


@njit()
def insert(table: NDArray[np.uint64], hashes: NDArray[np.uint64], probes: int) -> None:
    """Set the bits of each hash; table : ndarray (bits / 64,) uint64."""
    bits = np.uint64(table.size) * BITS
    for i in range(hashes.size):
        at = hashes[i]
        step = (at << U32) | (at >> U32) | U1
        for _ in range(probes):
            bit = ((at >> U32) * bits) >> U32
            table[bit >> U6] |= U1 << (bit & U63)
            at += step
            step += CURVE


@njit()
def insert_grouped(tables: NDArray[np.uint64], groups: NDArray[np.int64], hashes: NDArray[np.uint64], probes: int) -> None:
    """Set the bits of each hash in the table of its group."""
    bits = np.uint64(tables.shape[1]) * BITS
    for i in range(hashes.size):
        table = tables[groups[i]]
        at = hashes[i]
        step = (at << U32) | (at >> U32) | U1
        for _ in range(probes):
            bit = ((at >> U32) * bits) >> U32
            table[bit >> U6] |= U1 << (bit & U63)
            at += step
            step += CURVE


@njit()
def contains(table: NDArray[np.uint64], hashes: NDArray[np.uint64], probes: int, out: NDArray[np.bool_]) -> None:
    """Say of each hash whether all its bits are set."""
    bits = np.uint64(table.size) * BITS
    for i in range(hashes.size):
        at = hashes[i]
        step = (at << U32) | (at >> U32) | U1
        found = U1
        for _ in range(probes):
            bit = ((at >> U32) * bits) >> U32
            found &= table[bit >> U6] >> (bit & U63)
            if found == 0:
                break
            at += step
            step += CURVE
        out[i] = found != 0
