"""Classic Bloom filters in NumPy alone, bit for bit what `sketches.classic_bloom_kernel` makes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.classic_bloom_kernel import BITS, U1, U6, U32, U63
from sketches.multipliers import MULTIPLIERS

__all__ = ["contains", "insert", "insert_grouped"]


def insert(table: NDArray[np.uint64], hashes: NDArray[np.uint64], probes: int) -> None:
    """Set the bits of each hash; table : ndarray (bits / 64,) uint64."""
    bits = _bits_of(hashes, table.size, probes)
    np.bitwise_or.at(table, (bits >> U6).astype(np.int64), U1 << (bits & U63))


def insert_grouped(tables: NDArray[np.uint64], groups: NDArray[np.int64], hashes: NDArray[np.uint64], probes: int) -> None:
    """Set the bits of each hash in the table of its group."""
    bits = _bits_of(hashes, tables.shape[1], probes)
    places = groups * tables.shape[1] + (bits >> U6).astype(np.int64)
    np.bitwise_or.at(tables.reshape(-1), places, U1 << (bits & U63))


def contains(table: NDArray[np.uint64], hashes: NDArray[np.uint64], probes: int, out: NDArray[np.bool_]) -> None:
    """Say of each hash whether all its bits are set."""
    bits = _bits_of(hashes, table.size, probes)
    out[:] = ((table[bits >> U6] >> (bits & U63)) & U1).all(axis=0)


def _bits_of(hashes: NDArray[np.uint64], words: int, probes: int) -> NDArray[np.uint64]:
    """Return the bits of each hash, as an array (probes, n)."""
    return (((hashes * MULTIPLIERS[:probes, None]) >> U32) * (np.uint64(words) * BITS)) >> U32
