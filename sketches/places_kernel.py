"""Tables of keys in loops for numba: the number of each key, new ones in the order in which they come. In NumPy: `sketches.places_plain`.

A slot holds the number of a key, plus one; 0 is free. At most half of them are in use. Of byte strings it also holds the upper half of the
hash, so that only strings that are most likely equal are compared.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba's scalars are wrapped by NumPy's types, which NumPy's stubs see as others)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.hash_kernel import P1, P2, U31, U32
from sketches.jit import njit
from sketches.machine import load8

__all__ = ["find_bytes", "find_words", "refill_bytes", "refill_words"]

LOW = np.uint64(0xFFFFFFFF)


@njit(inline="always")
def _mixed(key: np.int64, seed: np.uint64) -> np.uint64:
    word = (np.uint64(key) ^ seed) * P2
    word = (word ^ word >> U31) * P1
    return word ^ word >> U32


@njit()
def find_words(
    keys: NDArray[np.int64],
    valid: NDArray[np.bool_],
    slots: NDArray[np.int32],
    seed: np.uint64,
    known: NDArray[np.int64],
    count: int,
    null: int,
    out: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Find the number of each key; new ones are added to `known`.

    Parameters
    ----------
    valid : ndarray (n,) bool
        False where a key is null; none at all if none is.
    known : ndarray (room,) int64
        The keys by number; there must be room for as many as half the slots.
    null : int
        The number of null, -1 if it has none yet.

    Returns
    -------
    tuple of int
        How many keys there are, the number of null, and how many of the rows were found: fewer than there are when the slots are too few.
    """
    mask = np.uint64(slots.size - 1)
    most = slots.size // 2
    nulls = valid.size > 0
    for i in range(keys.size):
        if nulls and not valid[i]:
            if null < 0:
                if count >= most:
                    return count, null, i
                null = count
                known[count] = 0
                count += 1
            out[i] = null
            continue
        key = keys[i]
        at = _mixed(key, seed) & mask
        while True:
            number = np.int64(slots[at]) - 1
            if number < 0:
                if count >= most:
                    return count, null, i
                known[count] = key
                number = count
                count += 1
                slots[at] = count
                break
            if known[number] == key:
                break
            at = (at + np.uint64(1)) & mask
        out[i] = number
    return count, null, keys.size


@njit()
def refill_words(slots: NDArray[np.int32], seed: np.uint64, known: NDArray[np.int64], count: int, null: int) -> None:
    """Fill free slots with the keys there are, which all differ."""
    mask = np.uint64(slots.size - 1)
    for number in range(count):
        if number != null:
            at = _mixed(known[number], seed) & mask
            while slots[at] != 0:
                at = (at + np.uint64(1)) & mask
            slots[at] = number + 1


@njit()
def _same(one: NDArray[np.uint8], at: int, other: NDArray[np.uint8], begin: int, size: int) -> bool:
    i = 0
    while i + 8 <= size:
        if load8(one, at + i) != load8(other, begin + i):
            return False
        i += 8
    while i < size:
        if one[at + i] != other[begin + i]:
            return False
        i += 1
    return True


@njit()
def find_bytes(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    hashes: NDArray[np.uint64],
    valid: NDArray[np.bool_],
    slots: NDArray[np.uint64],
    known: NDArray[np.uint64],
    bounds: NDArray[np.int64],
    pool: NDArray[np.uint8],
    count: int,
    null: int,
    out: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Find the number of each byte string, as `find_words`; it ends also where the pool has no room.

    Parameters
    ----------
    hashes : ndarray (n,) uint64
        Of the strings; equal strings have equal ones.
    known : ndarray (room,) uint64
        The hashes by number.
    bounds : ndarray (room + 1,) int64
        Key i is ``pool[bounds[i]:bounds[i + 1]]``.
    """
    mask = np.uint64(slots.size - 1)
    most = slots.size // 2
    nulls = valid.size > 0
    for i in range(hashes.size):
        if nulls and not valid[i]:
            if null < 0:
                if count >= most:
                    return count, null, i
                null = count
                known[count] = 0
                bounds[count + 1] = bounds[count]
                count += 1
            out[i] = null
            continue
        size = ends[i] - starts[i]
        at = hashes[i] & mask
        while True:
            slot = slots[at]
            number = np.int64(slot & LOW) - 1
            if number < 0:
                begin = bounds[count]
                if count >= most or begin + size > pool.size:
                    return count, null, i
                pool[begin : begin + size] = data[starts[i] : ends[i]]
                known[count] = hashes[i]
                number = count
                count += 1
                bounds[count] = begin + size
                slots[at] = hashes[i] & ~LOW | np.uint64(count)
                break
            if (slot ^ hashes[i]) & ~LOW == 0:
                begin = bounds[number]
                if bounds[number + 1] - begin == size and _same(data, starts[i], pool, begin, size):
                    break
            at = (at + np.uint64(1)) & mask
        out[i] = number
    return count, null, hashes.size


@njit()
def refill_bytes(slots: NDArray[np.uint64], known: NDArray[np.uint64], count: int, null: int) -> None:
    """Fill free slots with the keys there are, by their hashes."""
    mask = np.uint64(slots.size - 1)
    for number in range(count):
        if number != null:
            at = known[number] & mask
            while slots[at] != 0:
                at = (at + np.uint64(1)) & mask
            slots[at] = known[number] & ~LOW | np.uint64(number + 1)
