"""Bloom filters in generations in NumPy alone, bit for bit what `sketches.rotating_bloom_kernel` makes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.bloom_kernel import ZERO
from sketches.bloom_plain import masks_of, or_at, places_of

__all__ = ["add_if_new", "contains", "forget", "insert"]


def forget(table: NDArray[np.uint32], newest: int, slice_now: int) -> None:
    """Empty the generations of the slices after `newest` up to `slice_now`; table : ndarray (blocks, generations, 8) uint32."""
    generations = table.shape[1]
    gone = np.arange(max(newest + 1, slice_now - generations + 1), slice_now + 1)
    table[:, gone % generations] = 0


def insert(table: NDArray[np.uint32], hashes: NDArray[np.uint64], places: NDArray[np.int64]) -> np.uint32:
    """Set the bits of each hash in the generation at its place."""
    blocks, generations, lanes = table.shape
    or_at(table.reshape(-1, lanes), places_of(hashes, blocks) * generations + places, masks_of(hashes))
    return ZERO


def contains(table: NDArray[np.uint32], hashes: NDArray[np.uint64], held: NDArray[np.int64], out: NDArray[np.bool_]) -> np.uint32:
    """Say of each hash whether all its bits are set in one of the generations at the places `held`."""
    out[:] = _found(table[places_of(hashes, len(table))][:, held], masks_of(hashes))
    return ZERO


def add_if_new(
    table: NDArray[np.uint32], hashes: NDArray[np.uint64], slices: NDArray[np.int64], newest: int, out: NDArray[np.bool_]
) -> int:
    """Take one after the other what no generation has, and say which those were; returns the newest slice then.

    Between two rotations only rows of one block depend on each other: of each block the first row left is decided, with all those that
    are found after that. Each round sets a bit in each block that it takes a row of, so there are at most as many as a block has bits.
    """
    out[:] = False
    blocks, generations, _ = table.shape
    places, masks = places_of(hashes, blocks), masks_of(hashes)
    clock = np.maximum(np.maximum.accumulate(slices), newest)
    starts = np.flatnonzero(np.diff(clock, prepend=clock[:1] - 1)).tolist()
    for start, stop in zip(starts, [*starts[1:], hashes.size], strict=True):
        now = int(clock[start])
        forget(table, newest, now)
        newest = now
        left = start + np.flatnonzero(slices[start:stop] > now - generations)
        left = left[~_found(table[places[left]], masks[left])]
        while left.size:
            _, firsts = np.unique(places[left], return_index=True)
            taken = left[firsts]
            out[taken] = True
            table[places[taken], slices[taken] % generations] |= masks[taken]
            left = np.delete(left, firsts)
            left = left[~_found(table[places[left]], masks[left])]
    return newest


def _found(blocks: NDArray[np.uint32], masks: NDArray[np.uint32]) -> NDArray[np.bool_]:
    wanted = masks[:, None]
    return np.asarray(((blocks & wanted) == wanted).all(axis=2).any(axis=1))
