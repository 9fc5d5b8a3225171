"""The table of a hot list in loops for numba: entries one after the other, found by an open-addressed index of their hashes.

Each function has its equal without numba in `sketches.hot_list_plain`: same arguments, same entries in the same order.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba gives the values of a kernel their types; NumPy's own say too little about scalars)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit

__all__ = ["add", "index", "purge"]

FREE = np.int32(-1)
DIGIT = 8
SMALL = 256  # counts below it are counted one by one
MASK = np.int64(255)


@njit()
def index(slots: NDArray[np.int32], shift: np.uint64, keys: NDArray[np.uint64], used: int) -> None:
    """Note in `slots`, a power of two of them, where each of the first `used` entries is."""
    last = slots.size - 1
    slots[:] = FREE
    for entry in range(used):
        slot = np.int64(keys[entry] >> shift)
        while slots[slot] != FREE:
            slot = (slot + 1) & last
        slots[slot] = entry


@njit()
def add(
    slots: NDArray[np.int32],
    shift: np.uint64,
    keys: NDArray[np.uint64],
    counts: NDArray[np.int64],
    places: NDArray[np.int64],
    used: int,
    hashes: NDArray[np.uint64],
    weights: NDArray[np.int64],
    first: int,
) -> int:
    """Count each hash, exactly; a new one becomes an entry, with its place, the first being `first`. No weights: each is one."""
    last = slots.size - 1
    is_weighted = weights.size > 0
    for i in range(hashes.size):
        h = hashes[i]
        weight = weights[i] if is_weighted else np.int64(1)
        slot = np.int64(h >> shift)
        while True:
            entry = slots[slot]
            if entry == FREE:
                slots[slot] = used
                keys[used] = h
                counts[used] = weight
                places[used] = first + i
                used += 1
                break
            if keys[entry] == h:
                counts[entry] += weight
                break
            slot = (slot + 1) & last
    return used


@njit()
def nth_greatest(counts: NDArray[np.int64], nth: int) -> np.int64:
    """Return the count that has less than `nth` greater ones, and with those like it at least `nth`."""
    seen = np.zeros(SMALL, np.int64)
    for i in range(counts.size):
        seen[min(counts[i], MASK)] += 1
    if seen[SMALL - 1] < nth:
        value = SMALL - 1
        above = seen[value]
        while above < nth:
            value -= 1
            above += seen[value]
        return value
    prefix = np.int64(0)  # digit by digit, the highest first
    wanted = nth
    for shift in range(56, -1, -DIGIT):
        seen[:] = 0
        for i in range(counts.size):
            if (counts[i] >> shift) >> DIGIT == prefix:
                seen[(counts[i] >> shift) & MASK] += 1
        digit = SMALL - 1
        while seen[digit] < wanted:
            wanted -= seen[digit]
            digit -= 1
        prefix = (prefix << DIGIT) | digit
    return prefix


@njit()
def purge(
    slots: NDArray[np.int32],
    shift: np.uint64,
    keys: NDArray[np.uint64],
    counts: NDArray[np.int64],
    places: NDArray[np.int64],
    used: int,
    capacity: int,
) -> tuple[int, np.int64]:
    """Take the greatest count but `capacity` off all of them, and leave out those with nothing left; returns entries and what was taken."""
    cut = nth_greatest(counts[:used], capacity + 1)
    kept = 0
    for entry in range(used):
        if counts[entry] > cut:
            keys[kept] = keys[entry]
            counts[kept] = counts[entry] - cut
            places[kept] = places[entry]
            kept += 1
    index(slots, shift, keys, kept)
    return kept, cut
