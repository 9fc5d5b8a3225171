"""Count-Min tables in loops for numba: one cell in each row for each hash. The equal in NumPy: `sketches.count_min_plain`.

The cell in a row is the upper half of (hash times the row's odd number, see `sketches.multipliers`), times the width, shifted.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba's scalars are wrapped by NumPy's types, which NumPy's stubs see as others)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit
from sketches.multipliers import MULTIPLIERS

__all__ = ["add", "add_grouped", "add_weighted", "count_distinct", "minima", "raise_grouped", "raise_to"]

PART = 512  # cells of a part stay in the first cache
U32 = np.uint64(32)


@njit()
def add(counts: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
    """Add one to the cells of each hash; counts : ndarray (depth, width) int64."""
    width = np.uint64(counts.shape[1])
    cells = np.empty(PART, np.uint64)
    for start in range(0, hashes.size, PART):
        part = hashes[start : start + PART]
        at = cells[: part.size]
        for number in range(counts.shape[0]):  # row by row: a row fits where the table does not, and LLVM makes vectors of its cells
            row = counts[number]
            multiplier = MULTIPLIERS[number]
            for i in range(part.size):
                at[i] = (((part[i] * multiplier) >> U32) * width) >> U32
            for i in range(part.size):
                row[at[i]] += 1


@njit()
def add_weighted(counts: NDArray[np.int64], hashes: NDArray[np.uint64], weights: NDArray[np.int64]) -> None:
    """Add its weight to the cells of each hash."""
    width = np.uint64(counts.shape[1])
    cells = np.empty(PART, np.uint64)
    for start in range(0, hashes.size, PART):
        part = hashes[start : start + PART]
        some = weights[start : start + PART]
        at = cells[: part.size]
        for number in range(counts.shape[0]):
            row = counts[number]
            multiplier = MULTIPLIERS[number]
            for i in range(part.size):
                at[i] = (((part[i] * multiplier) >> U32) * width) >> U32
            for i in range(part.size):
                row[at[i]] += some[i]


@njit()
def add_grouped(
    states: NDArray[np.int64], depth: int, groups: NDArray[np.int64], hashes: NDArray[np.uint64], weights: NDArray[np.int64]
) -> None:
    """Add its weight to the cells of each hash, and to the total, in the state of its group; states : ndarray (groups, cells + 1)."""
    last = states.shape[1] - 1
    width = last // depth
    for i in range(hashes.size):
        state = states[groups[i]]
        for number in range(depth):
            at = (((hashes[i] * MULTIPLIERS[number]) >> U32) * np.uint64(width)) >> U32
            state[number * width + np.int64(at)] += weights[i]
        state[last] += weights[i]


@njit()
def minima(counts: NDArray[np.int64], hashes: NDArray[np.uint64], out: NDArray[np.int64]) -> None:
    """Find the smallest count of each hash."""
    width = np.uint64(counts.shape[1])
    cells = np.empty(PART, np.uint64)
    for start in range(0, hashes.size, PART):
        part = hashes[start : start + PART]
        least = out[start : start + PART]
        at = cells[: part.size]
        for number in range(counts.shape[0]):
            row = counts[number]
            multiplier = MULTIPLIERS[number]
            for i in range(part.size):
                at[i] = (((part[i] * multiplier) >> U32) * width) >> U32
            if number == 0:
                for i in range(part.size):
                    least[i] = row[at[i]]
            else:
                for i in range(part.size):
                    least[i] = min(least[i], row[at[i]])


@njit()
def raise_to(counts: NDArray[np.int64], hashes: NDArray[np.uint64], wanted: NDArray[np.int64]) -> None:
    """Raise the cells of each hash that are below what is wanted for it."""
    width = np.uint64(counts.shape[1])
    for i in range(hashes.size):
        for number in range(counts.shape[0]):
            at = (((hashes[i] * MULTIPLIERS[number]) >> U32) * width) >> U32
            counts[number, at] = max(counts[number, at], wanted[i])


@njit()
def raise_grouped(
    states: NDArray[np.int64], depth: int, groups: NDArray[np.int64], hashes: NDArray[np.uint64], weights: NDArray[np.int64]
) -> None:
    """Raise the cells of each hash, which has one row only for its group, to its smallest before all of this plus its weight."""
    last = states.shape[1] - 1
    width = last // depth
    wanted = np.empty(hashes.size, np.int64)
    for i in range(hashes.size):
        least = np.int64(0)
        for number in range(depth):
            at = (((hashes[i] * MULTIPLIERS[number]) >> U32) * np.uint64(width)) >> U32
            count = states[groups[i], number * width + np.int64(at)]
            if number == 0 or count < least:
                least = count
        wanted[i] = least + weights[i]
    for i in range(hashes.size):
        for number in range(depth):
            at = (((hashes[i] * MULTIPLIERS[number]) >> U32) * np.uint64(width)) >> U32
            place = number * width + np.int64(at)
            states[groups[i], place] = max(states[groups[i], place], wanted[i])
        states[groups[i], last] += weights[i]


@njit()
def count_distinct(hashes: NDArray[np.uint64], weights: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return the distinct hashes, in no order that matters, and the sum of the weights of each."""
    size = 16
    while size < 2 * hashes.size:
        size *= 2
    mask = np.uint64(size - 1)
    places = np.zeros(size, np.int32)  # 1 + where in `found`
    found = np.empty(hashes.size, np.uint64)
    sums = np.empty(hashes.size, np.int64)
    count = 0
    for i in range(hashes.size):
        at = hashes[i] & mask
        while places[at] != 0 and found[places[at] - 1] != hashes[i]:
            at = (at + np.uint64(1)) & mask
        if places[at] == 0:
            found[count] = hashes[i]
            sums[count] = 0
            count += 1
            places[at] = count
        sums[places[at] - 1] += weights[i]
    return found[:count], sums[:count]
