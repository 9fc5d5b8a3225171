"""Split-block Bloom filters in NumPy alone, bit for bit what `sketches.bloom_kernel` makes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.bloom_kernel import ONE, SALTS, SHIFT, U32, ZERO

__all__ = ["contains", "insert", "insert_grouped", "masks_of", "or_at", "places_of"]


def insert(table: NDArray[np.uint32], hashes: NDArray[np.uint64]) -> np.uint32:
    """Set the bits of each hash; table : ndarray (blocks, 8) uint32."""
    or_at(table, places_of(hashes, len(table)), masks_of(hashes))
    return ZERO


def insert_grouped(tables: NDArray[np.uint32], groups: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
    """Set the bits of each hash in the table of its group."""
    blocks = tables.shape[1]
    or_at(tables.reshape(-1, SALTS.size), groups * blocks + places_of(hashes, blocks), masks_of(hashes))


def contains(table: NDArray[np.uint32], hashes: NDArray[np.uint64], out: NDArray[np.bool_]) -> np.uint32:
    """Say of each hash whether all its bits are set."""
    masks = masks_of(hashes)
    out[:] = ((table[places_of(hashes, len(table))] & masks) == masks).all(axis=1)
    return ZERO


def places_of(hashes: NDArray[np.uint64], blocks: int) -> NDArray[np.int64]:
    """Return the block of each hash."""
    return (((hashes >> U32) * np.uint64(blocks)) >> U32).astype(np.int64)


def masks_of(hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Return the bits of each hash in its block, as an array (n, 8)."""
    return ONE << ((hashes.astype(np.uint32)[:, None] * SALTS) >> SHIFT)


def or_at(rows: NDArray[np.uint32], places: NDArray[np.int64], masks: NDArray[np.uint32]) -> None:
    """Set the bits of each mask in the row of its place; many masks may have one place."""
    if not places.size:
        return
    order = np.argsort(places, kind="stable")
    in_order = places[order]
    starts = np.flatnonzero(np.diff(in_order, prepend=-1))
    rows[in_order[starts]] |= np.bitwise_or.reduceat(masks[order], starts, axis=0)
