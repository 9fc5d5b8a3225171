"""Weights that are counts: whole numbers, not negative, in int64."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches.errors import SketchError

__all__ = ["LARGEST", "sum_of", "whole_weights"]

LARGEST: Final = (1 << 63) - 1
EXACT: Final = 2.0**53  # up to here a float64 that looks whole is


def whole_weights(weights: Any, count: int, rows: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Return the weights of the values that are not null.

    Parameters
    ----------
    weights : array (count,), or one number for all
        Integers, booleans, or floats without a fraction and up to 2^53.
    count : int
        Rows that were given.
    rows : ndarray, optional
        Those that are not null.

    Raises
    ------
    SketchError
        Other weights: nothing was taken.
    """
    if isinstance(weights, np.ma.MaskedArray) and np.ma.getmaskarray(weights).any():
        raise _refused(count, "a masked array")
    found = np.asarray(weights)
    found = np.broadcast_to(found, (count,)) if found.ndim == 0 else found
    if found.dtype.kind not in "iufb" or found.shape != (count,):
        raise _refused(count, f"{found.dtype} of shape {found.shape}")
    found = found if rows is None else found[rows]
    wrong = ~((found >= 0) & (found <= EXACT) & (found == np.floor(found))) if found.dtype.kind == "f" else found < 0
    wrong |= found > LARGEST if found.dtype.kind == "u" else False
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise _refused(count, f"{found[at]} at {at}")
    return np.ascontiguousarray(found, np.int64)


def sum_of(weights: NDArray[np.int64]) -> int:
    """Return the sum, also where it does not fit in 64 bits."""
    small = float(weights.sum(dtype=np.float64)) < 2.0**62
    return int(weights.sum()) if small else sum(weights.tolist())


def _refused(count: int, got: str) -> SketchError:
    expected = f"{count:,} whole numbers from 0 to 2^63 - 1 (as floats: to 2^53)"
    return SketchError("use", "argument", "weights", expected=expected, got=got, todo="give one count for each value")
