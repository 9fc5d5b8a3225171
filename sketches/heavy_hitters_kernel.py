"""Which rows of a block may be of a new heavy hitter, in a loop for numba. The equal in NumPy: `sketches.heavy_hitters_plain`."""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba's scalars are wrapped by NumPy's types, which NumPy's stubs see as others)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.count_min_kernel import U32
from sketches.jit import njit
from sketches.multipliers import MULTIPLIERS

__all__ = ["candidates", "lookup_of"]

U1 = np.uint64(1)


@njit()
def lookup_of(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the table, for `candidates`, of the hashes that are known: linear probing, 0 is a free place."""
    size = 16
    while size < 4 * hashes.size:
        size *= 2
    mask = np.uint64(size - 1)
    lookup = np.zeros(size, np.uint64)
    for h in hashes:
        at = h & mask
        while lookup[at] != 0 and lookup[at] != h:
            at = (at + U1) & mask
        lookup[at] = h
    return lookup


@njit()
def candidates(
    counts: NDArray[np.int64], hashes: NDArray[np.uint64], least: int, lookup: NDArray[np.uint64], out: NDArray[np.int64]
) -> int:
    """Put into `out` the rows whose hash is not known and has a smallest count of at least `least`; returns how many."""
    width = np.uint64(counts.shape[1])
    mask = np.uint64(lookup.size - 1)
    found = 0
    for i in range(hashes.size):
        h = hashes[i]
        at = h & mask
        while lookup[at] != 0 and lookup[at] != h:
            at = (at + U1) & mask
        if lookup[at] == h and h != 0:
            continue
        passed = True
        for row in range(counts.shape[0]):
            if counts[row, (((h * MULTIPLIERS[row]) >> U32) * width) >> U32] < least:
                passed = False  # nearly always in the first row
                break
        if passed:
            out[found] = i
            found += 1
    return found
