"""Tables of many hot lists in NumPy alone: the lists that `sketches.numbered_hot_kernel` makes, by sorting all of them at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["absorb"]

Longs = NDArray[np.int64]


def absorb(
    starts: Longs,
    row_keys: NDArray[np.uint64],
    row_weights: Longs,
    rows: Longs,
    ends: Longs,
    keys: NDArray[np.uint64],
    counts: Longs,
    capacity: int,
    segment: int,
    room: int,
    totals: Longs,
    cuts: Longs,
    new_ends: Longs,
    new_keys: NDArray[np.uint64],
    new_counts: Longs,
    sources: Longs,
) -> None:
    """Count each list's rows on top of its entries, at most `segment` rows exactly between two purges."""
    lists = starts.size - 1
    weights = row_weights if row_weights.size else np.ones(row_keys.size, np.int64)
    of_row = np.repeat(np.arange(lists), np.diff(starts))
    np.add.at(totals, of_row, weights)
    rounds = (np.arange(row_keys.size) - starts[of_row]) // segment
    places = rows if rows.size else np.zeros(row_keys.size, np.int64)
    owners, names, sums, origins = np.repeat(np.arange(lists), np.diff(ends)), keys, counts, -1 - np.arange(keys.size)
    for turn in range(int(rounds.max()) + 1 if rounds.size else 0):
        some = np.flatnonzero(rounds == turn)
        owners, names = np.concatenate((owners, of_row[some])), np.concatenate((names, row_keys[some]))
        sums, origins = np.concatenate((sums, weights[some])), np.concatenate((origins, places[some]))
        order = np.lexsort((names, owners))  # stable: the first of its like is the entry, or the row that came first
        owners, names = owners[order], names[order]
        first = np.flatnonzero(_changes(owners, names))
        sums, origins = np.add.reduceat(sums[order], first), origins[order][first]
        owners, names = owners[first], names[first]
        cut = _cut(owners, sums, capacity, lists)
        cuts += cut
        kept = np.flatnonzero(sums > cut[owners])
        owners, names, sums, origins = owners[kept], names[kept], sums[kept] - cut[owners[kept]], origins[kept]
    new_ends[0] = 0
    np.cumsum(np.bincount(owners, minlength=lists), out=new_ends[1:])
    new_keys[: names.size], new_counts[: names.size] = names, sums
    if rows.size:
        sources[: names.size] = origins


def _changes(owners: Longs, names: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Tell for each of some sorted pairs whether it is another than the one before."""
    return np.concatenate(([True], (owners[1:] != owners[:-1]) | (names[1:] != names[:-1])))


def _cut(owners: Longs, sums: Longs, capacity: int, lists: int) -> Longs:
    """Return for each list its greatest count but `capacity`, 0 where it has no more than those."""
    order = np.lexsort((-sums, owners))
    used = np.bincount(owners, minlength=lists)
    found = np.zeros(lists, np.int64)
    over = np.flatnonzero(used > capacity)
    found[over] = sums[order[(np.cumsum(used) - used)[over] + capacity]]
    return found
