"""The table of a hot list in NumPy alone, entry for entry what `sketches.hot_list_kernel` makes; it needs no index."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["add", "index", "purge"]


def index(slots: NDArray[np.int32], shift: np.uint64, keys: NDArray[np.uint64], used: int) -> None:
    """Do nothing: entries are found by sorting."""


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
    """Count each hash, exactly; a new one becomes an entry, with its place."""
    together = np.concatenate((keys[:used], hashes))
    found, begins, groups = np.unique(together, return_index=True, return_inverse=True)
    sums = np.zeros(found.size, np.int64)
    if weights.size:
        np.add.at(sums, groups, np.concatenate((counts[:used], weights)))
    else:
        sums += np.bincount(groups[used:], minlength=found.size)
        sums[groups[:used]] += counts[:used]
    order = np.argsort(begins)  # entries stand in the order in which they came
    sources = np.concatenate((places[:used], np.arange(first, first + hashes.size)))
    keys[: found.size], counts[: found.size], places[: found.size] = found[order], sums[order], sources[begins[order]]
    return found.size


def purge(
    slots: NDArray[np.int32],
    shift: np.uint64,
    keys: NDArray[np.uint64],
    counts: NDArray[np.int64],
    places: NDArray[np.int64],
    used: int,
    capacity: int,
) -> tuple[int, np.int64]:
    """Take the greatest count but `capacity` off all of them, and leave out those with nothing left."""
    cut = np.partition(counts[:used], used - capacity - 1)[used - capacity - 1]
    stay = np.flatnonzero(counts[:used] > cut)
    keys[: stay.size], counts[: stay.size], places[: stay.size] = keys[stay], counts[stay] - cut, places[stay]
    return stay.size, cut
