"""Exact sums of 64-bit and 128-bit integers per segment, as words and a carry, so that overflow shows at the end only.

A sum of int64 is ``low + carry * 2**64``; one of 128-bit integers is ``unsigned(low) + (high + carry * 2**64) * 2**64``. Partial
sums may leave the range on the way: were that an error, it would depend on how rows were split into batches.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.state.segments import Segments
from spark_ext.windows.aggregates.reduce import reduce

__all__ = ["decimals", "fits_decimal", "sum_64", "sum_128"]

Words = NDArray[np.int64]
MASK = np.int64(2**32 - 1)
LIMIT_HIGH, LIMIT_LOW = divmod(10**38, 2**64)


def sum_64(values: Words, segments: Segments) -> tuple[Words, Words]:
    """Sum int64 values.

    Returns
    -------
    low, carry : ndarray (k,) int64
        The sum of each segment is ``low + carry * 2**64``. Exact up to 2**31 rows.
    """
    low = reduce(np.add, values, segments)
    largest = max(-int(values.min()), int(values.max())) if len(values) else 0
    if largest * int(segments.sizes.max(initial=0)) < 2**63:
        return low, np.zeros(len(segments), np.int64)
    upper = reduce(np.add, values >> 32, segments)
    lower = reduce(np.add, values & MASK, segments)
    return low, ((upper + (lower >> 32)) >> 32) + (low < 0)


def sum_128(low: Words, high: Words, segments: Segments) -> tuple[Words, Words, Words]:
    """Sum 128-bit integers, given as their words.

    Returns
    -------
    low, high, carry : ndarray (k,) int64
        As the head of this module says.
    """
    upper = reduce(np.add, (low >> 32) & MASK, segments)
    lower = reduce(np.add, low & MASK, segments)
    from_low = (upper + (lower >> 32)) >> 32
    middle, carry = sum_64(high, segments)
    raised = middle + from_low
    return reduce(np.add, low, segments), raised, carry + (raised < middle)


def fits_decimal(low: Words, high: Words, carry: Words) -> NDArray[np.bool_]:
    """Return which 128-bit sums have at most 38 digits."""
    below, above = low.view(np.uint64), np.uint64(LIMIT_LOW)
    too_large = (high > LIMIT_HIGH) | ((high == LIMIT_HIGH) & (below >= above))
    # -10**38 is ~10**38 + 1 in words, itself too small.
    bound = -(10**38)
    bound_high, bound_low = bound >> 64, np.uint64(bound & (2**64 - 1))
    too_small = (high < bound_high) | ((high == bound_high) & (below <= bound_low))
    fits: NDArray[np.bool_] = (carry == 0) & ~too_large & ~too_small
    return fits


def decimals(parts: tuple[Words, ...], data_type: pa.DataType) -> pa.Array:
    """Return decimals of the given words, low first; ``data_type`` is as wide as these, sign-extended."""
    wide = np.empty((len(parts[0]), data_type.bit_width // 64), np.int64)
    for i, part in enumerate(parts):
        wide[:, i] = part
    wide[:, len(parts) :] = (parts[-1] >> 63)[:, None]
    return pa.Array.from_buffers(data_type, len(wide), [None, pa.py_buffer(wide)])
