"""HyperLogLog's registers in loops for numba.

A register holds the highest rank of its values' hashes: leading zeros after the index, plus one. Once each register is above some floor
most values can change none. So a group of values is first counted, in a loop that LLVM makes vectors of, for those that pass the floor;
only a group that has one touches the registers.
"""
# mypy: disable-error-code="return-value"
# (numba gives the values of a kernel their types; NumPy's own say too little about scalars)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.hash_kernel import U1, U4, U32, hash_words8
from sketches.jit import njit

__all__ = ["floor_of", "leading_zeros", "update", "update_groups", "update_words8"]

CHUNK = 1024  # hashes in the first cache
GROUP = 32
WORTH = 4  # below this floor nearly each group has a value that passes
U0 = np.uint64(0)
U2 = np.uint64(2)
U3 = np.uint64(3)
U5 = np.uint64(5)
U48 = np.uint64(48)
U56 = np.uint64(56)
U60 = np.uint64(60)
U62 = np.uint64(62)
U63 = np.uint64(63)
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@njit(inline="always")
def leading_zeros(word: np.uint64) -> np.uint64:
    """Count them in a word above 0; by arithmetic, since no branch here could be predicted."""
    count = np.uint64(word >> U32 == U0) << U5
    word <<= count
    step = np.uint64(word >> U48 == U0) << U4
    word <<= step
    count += step
    step = np.uint64(word >> U56 == U0) << U3
    word <<= step
    count += step
    step = np.uint64(word >> U60 == U0) << U2
    word <<= step
    count += step
    step = np.uint64(word >> U62 == U0) << U1
    word <<= step
    return count + step + np.uint64(word >> U63 == U0)


@njit(inline="always")
def raise_one(registers: NDArray[np.uint8], shift: np.uint64, precision: np.uint64, last: np.uint64, hashed: np.uint64) -> None:
    at = hashed >> shift
    rest = hashed << precision | last
    if rest >> U1 >> (U63 - np.uint64(registers[at])) == U0:  # as many leading zeros as the register says, so its rank is higher
        registers[at] = np.uint8(leading_zeros(rest) + U1)


@njit()
def floor_of(registers: NDArray[np.uint8]) -> int:
    """Return the lowest register."""
    least = np.uint8(255)
    for i in range(registers.size):
        least = min(least, registers[i])
    return np.int64(least)


@njit()
def update(registers: NDArray[np.uint8], precision: int, floor: int, hashes: NDArray[np.uint64]) -> None:
    """Take hashes; `floor` is a rank that all registers have, at least."""
    bits = np.uint64(precision)
    shift = np.uint64(64 - precision)
    last = U1 << (bits - U1)  # the rank ends where the hash does
    if floor < WORTH:
        for i in range(hashes.size):
            raise_one(registers, shift, bits, last, hashes[i])
        return
    limit = ALL >> np.uint64(floor)
    for start in range(0, hashes.size, GROUP):
        group = hashes[start : start + GROUP]
        passing = 0
        for i in range(group.size):
            passing += (group[i] << bits) <= limit
        if passing:
            for i in range(group.size):
                if (group[i] << bits) <= limit:
                    raise_one(registers, shift, bits, last, group[i])


@njit()
def update_words8(registers: NDArray[np.uint8], precision: int, floor: int, words: NDArray[np.uint64], seed: np.uint64) -> None:
    """Hash words of eight bytes, chunk by chunk, and take them."""
    buffer = np.empty(CHUNK, np.uint64)
    for start in range(0, words.size, CHUNK):
        part = words[start : start + CHUNK]
        hash_words8(part, seed, buffer[: part.size])
        update(registers, precision, floor, buffer[: part.size])


@njit()
def update_groups(states: NDArray[np.uint8], precision: int, groups: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
    """Take each hash into the registers of its group."""
    bits = np.uint64(precision)
    shift = np.uint64(64 - precision)
    last = U1 << (bits - U1)
    for i in range(hashes.size):  # without branches: waiting for one state after the other would cost more than writing each
        at = hashes[i] >> shift
        states[groups[i], at] = max(states[groups[i], at], np.uint8(leading_zeros(hashes[i] << bits | last) + U1))
