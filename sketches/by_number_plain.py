"""Rows brought into the order of their numbers in NumPy alone, as `sketches.by_number_kernel` does it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["sort_codes", "sort_items", "starts_of_codes", "starts_of_numbers"]

U32 = np.uint64(32)
Codes = NDArray[np.uint64]
Numbers = NDArray[np.uint32]
Weights = NDArray[np.int64]


def sort_codes(codes: Codes, most: int) -> Codes:
    """Return codes, the numbers in their upper halves, none above `most`, in the order of those."""
    del most
    return codes[np.argsort(codes >> U32, kind="stable")]


def sort_items(numbers: Numbers, hashes: Codes, weights: Weights, most: int) -> tuple[Numbers, Codes, Weights]:
    """Return items in the order of their numbers, none above `most`. `weights` may have none."""
    del most
    order = np.argsort(numbers, kind="stable")
    return numbers[order], hashes[order], weights[order] if weights.size else weights


def starts_of_codes(codes: Codes, starts: NDArray[np.int64]) -> None:
    """Find where the codes of each number begin, for 0 to the number of numbers; codes : in order."""
    starts[:] = np.searchsorted(codes >> U32, np.arange(starts.size, dtype=np.uint64))


def starts_of_numbers(numbers: Numbers, starts: NDArray[np.int64]) -> None:
    """Find where the items of each number begin, as `starts_of_codes`."""
    starts[:] = np.searchsorted(numbers, np.arange(starts.size, dtype=np.uint32))
