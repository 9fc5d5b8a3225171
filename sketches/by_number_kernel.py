"""Rows brought into the order of their numbers in loops for numba. The equal in NumPy: `sketches.by_number_plain`.

A digit after the other, from the lowest, of at most ten bits: a thousand places are written to at a time, which the caches bear. Equal
numbers stay in their order.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba's scalars are wrapped by NumPy's types, which NumPy's stubs see as others)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit

__all__ = ["sort_codes", "sort_items", "starts_of_codes", "starts_of_numbers"]

U32 = np.uint64(32)
MOST_BITS = 10


@njit()
def _digits(most: int) -> tuple[int, int]:
    """Return how many digits numbers up to `most` are sorted by, and the bits of each."""
    bits = 0
    while most >> bits:
        bits += 1
    digits = -(-bits // MOST_BITS)
    return digits, -(-bits // max(digits, 1))


@njit()
def sort_codes(codes: NDArray[np.uint64], most: int) -> NDArray[np.uint64]:
    """Return codes, the numbers in their upper halves, none above `most`, in the order of those; `codes` is overwritten."""
    one = codes
    other = np.empty_like(codes)
    digits, bits = _digits(most)
    places = np.empty(1 << bits, np.int64)
    mask = np.uint64((1 << bits) - 1)
    shift = U32
    for _ in range(digits):
        places[:] = 0
        for i in range(one.size):
            places[(one[i] >> shift) & mask] += 1
        total = 0
        for digit in range(places.size):
            count = places[digit]
            places[digit] = total
            total += count
        for i in range(one.size):
            digit = (one[i] >> shift) & mask
            other[places[digit]] = one[i]
            places[digit] += 1
        one, other = other, one
        shift += np.uint64(bits)
    return one


@njit()
def sort_items(
    numbers: NDArray[np.uint32], hashes: NDArray[np.uint64], weights: NDArray[np.int64], most: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint64], NDArray[np.int64]]:
    """Return items in the order of their numbers, none above `most`; what is given is overwritten. `weights` may have none."""
    weighted = weights.size > 0
    numbers1 = np.empty_like(numbers)
    hashes1 = np.empty_like(hashes)
    weights1 = np.empty_like(weights)
    digits, bits = _digits(most)
    places = np.empty(1 << bits, np.int64)
    mask = np.uint64((1 << bits) - 1)
    shift = np.uint64(0)
    for _ in range(digits):
        places[:] = 0
        for i in range(numbers.size):
            places[(np.uint64(numbers[i]) >> shift) & mask] += 1
        total = 0
        for digit in range(places.size):
            count = places[digit]
            places[digit] = total
            total += count
        for i in range(numbers.size):
            digit = (np.uint64(numbers[i]) >> shift) & mask
            at = places[digit]
            numbers1[at] = numbers[i]
            hashes1[at] = hashes[i]
            if weighted:
                weights1[at] = weights[i]
            places[digit] = at + 1
        numbers, numbers1 = numbers1, numbers
        hashes, hashes1 = hashes1, hashes
        weights, weights1 = weights1, weights
        shift += np.uint64(bits)
    return numbers, hashes, weights


@njit()
def starts_of_codes(codes: NDArray[np.uint64], starts: NDArray[np.int64]) -> None:
    """Find where the codes of each number begin, for 0 to the number of numbers; codes : in order."""
    number = 0
    for i in range(codes.size):
        here = np.int64(codes[i] >> U32)
        while number <= here:
            starts[number] = i
            number += 1
    starts[number:] = codes.size


@njit()
def starts_of_numbers(numbers: NDArray[np.uint32], starts: NDArray[np.int64]) -> None:
    """Find where the items of each number begin, as `starts_of_codes`."""
    number = 0
    for i in range(numbers.size):
        here = np.int64(numbers[i])
        while number <= here:
            starts[number] = i
            number += 1
    starts[number:] = numbers.size
