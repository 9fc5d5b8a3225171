"""Tables of many hot lists in loops for numba: each run of rows counted in a table in the cache.

Its equal without numba is in `sketches.numbered_hot_plain`: same arguments, same lists; the order of entries in a list is nobody's
business.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba gives the values of a kernel their types; NumPy's own say too little about scalars)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.hot_list_kernel import FREE, nth_greatest
from sketches.jit import njit

__all__ = ["absorb"]

SMALL = 32  # counts below it are counted one by one
LAST = np.int64(SMALL - 1)


@njit()
def _cut(counts: NDArray[np.int64], used: int, nth: int, seen: NDArray[np.int64]) -> np.int64:
    """Return the nth greatest of the first `used` counts."""
    seen[:] = 0
    for i in range(used):
        seen[min(counts[i], LAST)] += 1
    above = seen[LAST]
    if above >= nth:
        return nth_greatest(counts[:used], nth)
    value = LAST
    while above < nth:
        value -= 1
        above += seen[value]
    return value


@njit()
def absorb(
    starts: NDArray[np.int64],
    row_keys: NDArray[np.uint64],
    row_weights: NDArray[np.int64],
    rows: NDArray[np.int64],
    ends: NDArray[np.int64],
    keys: NDArray[np.uint64],
    counts: NDArray[np.int64],
    capacity: int,
    segment: int,
    room: int,
    totals: NDArray[np.int64],
    cuts: NDArray[np.int64],
    new_ends: NDArray[np.int64],
    new_keys: NDArray[np.uint64],
    new_counts: NDArray[np.int64],
    sources: NDArray[np.int64],
) -> None:
    """Count each list's rows on top of its entries, at most `segment` rows exactly between two purges.

    Parameters
    ----------
    starts, row_keys, row_weights, rows
        Rows in the order of their lists, as `sketches.numbered_rows` brings them; no weights: each is one.
    ends, keys, counts : ndarray (lists + 1,), (entries,), (entries,)
        Entries of list g stand from ``ends[g]`` up to ``ends[g + 1]``.
    room : int
        Entries of the largest table that may come about.
    totals, cuts : ndarray (lists,) int64
        What has been counted, and what was taken off; both grow.
    new_ends, new_keys, new_counts : ndarray
        The entries afterwards.
    sources : ndarray
        Where each new entry has its text from: a row, or -1 - the place of an old entry. Not filled when `rows` is empty.
    """
    has_weights, has_rows = row_weights.size > 0, rows.size > 0
    size = 1
    while size < 2 * room:
        size *= 2
    slots = np.empty(size, np.int32)
    names = np.empty(room, np.uint64)
    sums = np.empty(room, np.int64)
    places = np.empty(room, np.int64)
    seen = np.empty(SMALL, np.int64)
    out = 0
    new_ends[0] = 0
    for g in range(starts.size - 1):
        old, old_end, row, row_end = ends[g], ends[g + 1], starts[g], starts[g + 1]
        if row == row_end:
            for entry in range(old, old_end):
                new_keys[out] = keys[entry]
                new_counts[out] = counts[entry]
                if has_rows:
                    sources[out] = -1 - entry
                out += 1
            new_ends[g + 1] = out
            continue
        size, shift = 2, np.uint64(63)
        while size < 2 * (min(capacity, old_end - old + row_end - row) + min(segment, row_end - row)):
            size *= 2
            shift -= np.uint64(1)
        last = size - 1
        slots[:size] = FREE
        used = 0
        for entry in range(old, old_end):
            slot = np.int64(keys[entry] >> shift)
            while slots[slot] != FREE:
                slot = (slot + 1) & last
            slots[slot] = used
            names[used] = keys[entry]
            sums[used] = counts[entry]
            places[used] = -1 - entry
            used += 1
        total = np.int64(0)
        while row < row_end:
            stop = min(row + segment, row_end)
            for i in range(row, stop):
                h = row_keys[i]
                weight = row_weights[i] if has_weights else np.int64(1)
                total += weight
                slot = np.int64(h >> shift)
                while True:
                    entry = slots[slot]
                    if entry == FREE:
                        slots[slot] = used
                        names[used] = h
                        sums[used] = weight
                        if has_rows:
                            places[used] = rows[i]
                        used += 1
                        break
                    if names[entry] == h:
                        sums[entry] += weight
                        break
                    slot = (slot + 1) & last
            row = stop
            if used > capacity:
                cut = _cut(sums, used, capacity + 1, seen)
                cuts[g] += cut
                kept = 0
                for entry in range(used):
                    if sums[entry] > cut:
                        names[kept] = names[entry]
                        sums[kept] = sums[entry] - cut
                        places[kept] = places[entry]
                        kept += 1
                used = kept
                if row < row_end:
                    slots[:size] = FREE
                    for entry in range(used):
                        slot = np.int64(names[entry] >> shift)
                        while slots[slot] != FREE:
                            slot = (slot + 1) & last
                        slots[slot] = entry
        totals[g] += total
        for entry in range(used):
            new_keys[out] = names[entry]
            new_counts[out] = sums[entry]
            if has_rows:
                sources[out] = places[entry]
            out += 1
        new_ends[g + 1] = out
