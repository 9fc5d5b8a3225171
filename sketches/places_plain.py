"""Words of eight bytes get numbers by first appearance, in NumPy alone. The equal in loops: `sketches.places_kernel`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["index", "place"]


def index(slots: NDArray[np.int32], shift: np.uint64, words: NDArray[np.uint64], used: int, null: int) -> None:
    """Do nothing: `place` sorts."""
    del slots, shift, words, used, null


def place(
    values: NDArray[np.uint64],
    valid: NDArray[np.bool_],
    slots: NDArray[np.int32],
    shift: np.uint64,
    words: NDArray[np.uint64],
    used: int,
    null: int,
    out: NDArray[np.int64],
    firsts: NDArray[np.int64],
) -> tuple[int, int]:
    """Give words numbers, as `sketches.places_kernel.place`."""
    del slots, shift
    there = np.flatnonzero(valid) if valid.size else np.arange(values.size)
    numbers = np.flatnonzero(np.arange(used) != null)
    known = words[numbers]
    both = np.concatenate((known, values[there]))
    found, first, inverse = np.unique(both, return_index=True, return_inverse=True)
    is_new = first >= known.size
    row_of = np.full(found.size, -1, np.int64)
    row_of[is_new] = there[first[is_new] - known.size]
    fresh = row_of[is_new]
    if null < 0 and valid.size and not valid.all():
        fresh = np.append(fresh, np.flatnonzero(~valid)[0])
    fresh.sort()
    number_of = np.empty(found.size, np.int64)
    number_of[~is_new] = numbers[first[~is_new]]
    number_of[is_new] = used + np.searchsorted(fresh, row_of[is_new])
    out[there] = number_of[inverse[known.size :]]
    words[used : used + fresh.size] = values[fresh]
    firsts[: fresh.size] = fresh
    if valid.size and not valid.all():
        missing = np.flatnonzero(~valid)
        if null < 0:
            null = used + int(np.searchsorted(fresh, missing[0]))
            words[null] = 0
        out[missing] = null
    return used + fresh.size, null
