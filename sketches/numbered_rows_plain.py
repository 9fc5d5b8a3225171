"""Rows in the order of their numbers, and texts one after the other, in NumPy alone: what `sketches.numbered_rows_kernel` does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.items import _gathered

__all__ = ["arrange", "gather"]

Longs = NDArray[np.int64]


def arrange(
    numbers: NDArray[np.int32],
    keys: NDArray[np.uint64],
    weights: Longs,
    starts: Longs,
    sorted_keys: NDArray[np.uint64],
    sorted_weights: Longs,
    rows: Longs,
) -> None:
    """Bring rows into the order of their numbers."""
    order = np.argsort(numbers, kind="stable")
    starts[0] = 0
    np.cumsum(np.bincount(numbers, minlength=starts.size - 1), out=starts[1:])
    if keys.size:
        sorted_keys[:] = keys[order]
    if weights.size:
        sorted_weights[:] = weights[order]
    if rows.size:
        rows[:] = order


def gather(data: NDArray[np.uint8], begins: Longs, stops: Longs, out: NDArray[np.uint8], out_ends: Longs) -> None:
    """Copy texts: that of i from ``begins[i]`` up to ``stops[i]``, to where ``out_ends[i]`` says."""
    found, ends = _gathered(data, begins, stops)
    places, sizes = out_ends[: begins.size], stops - begins
    out[np.repeat(places - ends + sizes, sizes) + np.arange(found.size)] = found
