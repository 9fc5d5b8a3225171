"""UltraLogLog's registers in loops for numba.

A register has in its six high bits the highest rank of its values' hashes, plus precision - 2, and in its two low bits whether the ranks
one and two below that occurred too. As in `sketches.hyperloglog_kernel`, a group of values is first counted for those that can matter.
"""
# mypy: disable-error-code="return-value"
# (numba gives the values of a kernel their types; NumPy's own say too little about scalars)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.hash_kernel import U1, U4, U7, hash_words8
from sketches.hyperloglog_kernel import ALL, CHUNK, GROUP, U0, U2, U3, U63, WORTH, leading_zeros
from sketches.jit import njit

__all__ = ["floor_of", "merge", "update", "update_groups", "update_words8"]


@njit(inline="always")
def joined(one: np.uint64, other: np.uint64) -> np.uint64:
    """Return the register that has seen what two have seen."""
    high = max(one, other)
    low = min(one, other)
    apart = min((high >> U2) - (low >> U2), U7)
    return high | (U4 | (low & U3)) >> apart & U3 & (U0 - np.uint64(low != U0))  # no branches, see `leading_zeros`


@njit(inline="always")
def take_one(registers: NDArray[np.uint8], shift: np.uint64, precision: np.uint64, last: np.uint64, hashed: np.uint64) -> None:
    at = hashed >> shift
    rest = hashed << precision | last
    before = np.uint64(registers[at])
    least = max(before >> U2, precision + U1) - (precision + U1)  # a rank below the highest by three or more is not kept
    if rest >> U1 >> (U63 - least) == U0:
        registers[at] = np.uint8(joined(before, (leading_zeros(rest) + precision - U1) << U2))


@njit()
def floor_of(registers: NDArray[np.uint8], precision: int) -> int:
    """Return a rank such that no value of this rank or below can change a register."""
    least = np.uint8(255)
    for i in range(registers.size):
        least = min(least, registers[i])
    return max(0, np.int64(least >> 2) - (precision - 2) - 3)


@njit()
def update(registers: NDArray[np.uint8], precision: int, floor: int, hashes: NDArray[np.uint64]) -> None:
    """Take hashes; `floor` is a rank such that none of it, or below, can change a register."""
    bits = np.uint64(precision)
    shift = np.uint64(64 - precision)
    last = U1 << (bits - U1)
    if floor < WORTH:
        for i in range(hashes.size):
            take_one(registers, shift, bits, last, hashes[i])
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
                    take_one(registers, shift, bits, last, group[i])


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
    for i in range(hashes.size):
        at = hashes[i] >> shift
        rank = leading_zeros(hashes[i] << bits | last) + U1
        states[groups[i], at] = np.uint8(joined(np.uint64(states[groups[i], at]), (rank + bits - U2) << U2))


@njit()
def merge(registers: NDArray[np.uint8], others: NDArray[np.uint8]) -> None:
    """Make each register what it would be had it seen what both have."""
    for i in range(registers.size):
        high = max(registers[i], others[i])
        low = min(registers[i], others[i])
        apart = (high >> np.uint8(2)) - (low >> np.uint8(2))
        seen = (np.uint8(4) | (low & np.uint8(3))) >> min(apart, np.uint8(7)) & np.uint8(3)
        registers[i] = high | seen if low else high
