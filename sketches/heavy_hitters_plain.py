"""Which rows of a block may be of a new heavy hitter, in NumPy alone: what `sketches.heavy_hitters_kernel` finds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.count_min_plain import minima

__all__ = ["candidates", "lookup_of"]


def lookup_of(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return what `candidates` takes for the hashes that are known."""
    return np.compress(hashes != 0, hashes)


def candidates(
    counts: NDArray[np.int64], hashes: NDArray[np.uint64], least: int, lookup: NDArray[np.uint64], out: NDArray[np.int64]
) -> int:
    """Put into `out` the rows whose hash is not known and has a smallest count of at least `least`; returns how many."""
    smallest = np.empty(hashes.size, np.int64)
    minima(counts, hashes, smallest)
    rows = np.flatnonzero(smallest >= least)
    rows = rows[~np.isin(hashes[rows], lookup)]
    out[: rows.size] = rows
    return int(rows.size)
