"""UltraLogLog's registers in NumPy alone, bit for bit what `sketches.ultraloglog_kernel` computes.

A register is unpacked to a word that has a bit for each rank, those more than two below the highest left out; such words are joined by or.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.hash_kernel import U1
from sketches.hash_plain import hash_words8
from sketches.hyperloglog_plain import CHUNK, leading_zeros

__all__ = ["floor_of", "merge", "update", "update_groups", "update_words8"]

Registers = NDArray[np.uint8]
Words = NDArray[np.uint64]


def floor_of(registers: Registers, precision: int) -> int:
    """Return a rank such that no value of this rank or below can change a register."""
    return max(0, (int(registers.min()) >> 2) - (precision - 2) - 3)


def update(registers: Registers, precision: int, floor: int, hashes: Words) -> None:
    """Take hashes; `floor` is a rank such that none of it, or below, can change a register."""
    del floor  # it spares work, and changes nothing
    _update(registers, (hashes >> np.uint64(64 - precision)).astype(np.int64), precision, hashes)


def update_words8(registers: Registers, precision: int, floor: int, words: Words, seed: np.uint64) -> None:
    """Hash words of eight bytes, chunk by chunk, and take them."""
    buffer = np.empty(min(CHUNK, words.size), np.uint64)
    for start in range(0, words.size, CHUNK):
        part = words[start : start + CHUNK]
        hash_words8(part, seed, buffer[: part.size])
        update(registers, precision, floor, buffer[: part.size])


def update_groups(states: Registers, precision: int, groups: NDArray[np.int64], hashes: Words) -> None:
    """Take each hash into the registers of its group."""
    places = groups * states.shape[1] + (hashes >> np.uint64(64 - precision)).astype(np.int64)
    flat = states.reshape(-1)
    _update(flat, places, precision, hashes)
    if not np.shares_memory(flat, states):
        states[...] = flat.reshape(states.shape)


def merge(registers: Registers, others: Registers) -> None:
    """Make each register what it would be had it seen what both have."""
    registers[:] = _packed(_unpacked(registers) | _unpacked(others))


def _update(registers: Registers, places: NDArray[np.int64], precision: int, hashes: Words) -> None:
    bits = np.uint64(precision)
    ranks = leading_zeros(hashes << bits | U1 << (bits - U1)) + np.uint8(1)
    some = np.flatnonzero((ranks + np.uint8(precision)) >= registers[places] >> np.uint8(2))  # others are too low to be kept
    touched, which = np.unique(places[some], return_inverse=True)
    words = _unpacked(registers[touched])
    np.bitwise_or.at(words, which, U1 << (ranks[some].astype(np.uint64) + np.uint64(precision - 2)))
    registers[touched] = _packed(words)


def _unpacked(registers: Registers) -> Words:
    wide = registers.astype(np.uint64)
    top = np.maximum(wide >> np.uint64(2), np.uint64(2)) - np.uint64(2)
    return np.where(wide > 0, (np.uint64(4) | wide & np.uint64(3)) << top, np.uint64(0))


def _packed(words: Words) -> Registers:
    top = np.uint64(63) - leading_zeros(np.maximum(words, U1)).astype(np.uint64)
    low = words >> (np.maximum(top, np.uint64(2)) - np.uint64(2)) & np.uint64(3)
    return np.where(words > 0, (top << np.uint64(2)) | low, np.uint64(0)).astype(np.uint8)
