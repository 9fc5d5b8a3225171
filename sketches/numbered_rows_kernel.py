"""Rows in the order of their numbers, and texts one after the other, in loops for numba.

Each function has its equal without numba in `sketches.numbered_rows_plain`: same arguments, same results.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba gives the values of a kernel their types; NumPy's own say too little about scalars)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit

__all__ = ["arrange", "gather"]


@njit()
def arrange(
    numbers: NDArray[np.int32],
    keys: NDArray[np.uint64],
    weights: NDArray[np.int64],
    starts: NDArray[np.int64],
    sorted_keys: NDArray[np.uint64],
    sorted_weights: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> None:
    """Bring rows into the order of their numbers; those of number g then begin at ``starts[g]``. All but the numbers may be empty."""
    starts[:] = 0
    for i in range(numbers.size):
        starts[numbers[i] + 1] += 1
    for g in range(1, starts.size):
        starts[g] += starts[g - 1]
    at = starts.copy()
    for i in range(numbers.size):
        place = at[numbers[i]]
        at[numbers[i]] = place + 1
        if keys.size:
            sorted_keys[place] = keys[i]
        if weights.size:
            sorted_weights[place] = weights[i]
        if rows.size:
            rows[place] = i


@njit()
def gather(
    data: NDArray[np.uint8], begins: NDArray[np.int64], stops: NDArray[np.int64], out: NDArray[np.uint8], out_ends: NDArray[np.int64]
) -> None:
    """Copy texts: that of i from ``begins[i]`` up to ``stops[i]``, to where ``out_ends[i]`` says."""
    for i in range(begins.size):
        at = out_ends[i]
        for j in range(begins[i], stops[i]):
            out[at] = data[j]
            at += 1
