"""Words of eight bytes get numbers by first appearance, in loops for numba. The equal in NumPy: `sketches.places_plain`."""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba's scalars are wrapped by NumPy's types, which NumPy's stubs see as others)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit

__all__ = ["index", "place"]

ODD = np.uint64(0x9E3779B97F4A7C15)
NOBODY = np.int32(-1)


@njit()
def index(slots: NDArray[np.int32], shift: np.uint64, words: NDArray[np.uint64], used: int, null: int) -> None:
    """Fill a table of twice as many slots with the numbers of the words so far; that of the null is in none."""
    slots[:] = NOBODY
    mask = slots.size - 1
    for number in range(used):
        if number != null:
            at = np.int64((words[number] * ODD) >> shift)
            while slots[at] != NOBODY:
                at = (at + 1) & mask
            slots[at] = number


@njit()
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
    """Give words numbers; there is room for all of them to be new.

    Parameters
    ----------
    values : ndarray (n,) uint64
        The words.
    valid : ndarray (n,) or (0,) bool
        Which are there; of none, all are.
    slots, shift, words, used, null
        The table, the words by number, how many there are, and which of them is the null, -1 if none is.
    out : ndarray (n,) int64
        Gets the numbers.
    firsts : ndarray (n,) int64
        Gets the rows of the new ones, in the order of their numbers.

    Returns
    -------
    tuple of int
        `used` and `null` afterwards.
    """
    before = used
    mask = slots.size - 1
    for i in range(values.size):
        if valid.size and not valid[i]:
            if null < 0:
                null = used
                firsts[used - before] = i
                words[used] = np.uint64(0)
                used += 1
            out[i] = null
            continue
        at = np.int64((values[i] * ODD) >> shift)
        while True:
            number = slots[at]
            if number == NOBODY:
                slots[at] = used
                firsts[used - before] = i
                words[used] = values[i]
                out[i] = used
                used += 1
                break
            if words[number] == values[i]:
                out[i] = number
                break
            at = (at + 1) & mask
    return used, null
