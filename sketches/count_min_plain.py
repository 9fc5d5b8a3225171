"""Count-Min tables in NumPy alone, bit for bit what `sketches.count_min_kernel` makes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.count_min_kernel import U32
from sketches.multipliers import MULTIPLIERS

__all__ = ["add", "add_grouped", "add_weighted", "cells_of", "count_distinct", "minima", "raise_grouped", "raise_to"]


def add(counts: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
    """Add one to the cells of each hash; counts : ndarray (depth, width) int64."""
    for row, cells in zip(counts, cells_of(hashes, *counts.shape), strict=True):
        np.add.at(row, cells, 1)


def add_weighted(counts: NDArray[np.int64], hashes: NDArray[np.uint64], weights: NDArray[np.int64]) -> None:
    """Add its weight to the cells of each hash."""
    for row, cells in zip(counts, cells_of(hashes, *counts.shape), strict=True):
        np.add.at(row, cells, weights)


def add_grouped(
    states: NDArray[np.int64], depth: int, groups: NDArray[np.int64], hashes: NDArray[np.uint64], weights: NDArray[np.int64]
) -> None:
    """Add its weight to the cells of each hash, and to the total, in the state of its group; states : ndarray (groups, cells + 1)."""
    flat, size = states.reshape(-1), states.shape[1]
    width = size // depth
    for row, cells in enumerate(cells_of(hashes, depth, width)):
        np.add.at(flat, groups * size + row * width + cells, weights)
    np.add.at(flat, groups * size + size - 1, weights)


def minima(counts: NDArray[np.int64], hashes: NDArray[np.uint64], out: NDArray[np.int64]) -> None:
    """Find the smallest count of each hash."""
    out[:] = np.take_along_axis(counts, cells_of(hashes, *counts.shape), axis=1).min(axis=0)


def raise_to(counts: NDArray[np.int64], hashes: NDArray[np.uint64], wanted: NDArray[np.int64]) -> None:
    """Raise the cells of each hash that are below what is wanted for it."""
    for row, cells in zip(counts, cells_of(hashes, *counts.shape), strict=True):
        np.maximum.at(row, cells, wanted)


def raise_grouped(
    states: NDArray[np.int64], depth: int, groups: NDArray[np.int64], hashes: NDArray[np.uint64], weights: NDArray[np.int64]
) -> None:
    """Raise the cells of each hash, which has one row only for its group, to its smallest before all of this plus its weight."""
    flat, size = states.reshape(-1), states.shape[1]
    width = size // depth
    places = groups * size + np.arange(depth)[:, None] * width + cells_of(hashes, depth, width)
    wanted = flat[places].min(axis=0) + weights
    for some in places:
        np.maximum.at(flat, some, wanted)
    np.add.at(flat, groups * size + size - 1, weights)


def count_distinct(hashes: NDArray[np.uint64], weights: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the distinct hashes, in no order that matters, and the sum of the weights of each."""
    found, places = np.unique(hashes, return_inverse=True)
    sums = np.zeros(found.size, np.int64)
    np.add.at(sums, places, weights)
    return found, sums


def cells_of(hashes: NDArray[np.uint64], depth: int, width: int) -> NDArray[np.int64]:
    """Return the cell of each hash in each row, as an array (depth, n)."""
    return ((((hashes * MULTIPLIERS[:depth, None]) >> U32) * np.uint64(width)) >> U32).astype(np.int64)
