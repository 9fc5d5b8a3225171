"""HyperLogLog's registers in NumPy alone, bit for bit what `sketches.hyperloglog_kernel` computes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.hash_kernel import U1
from sketches.hash_plain import hash_words8

__all__ = ["floor_of", "leading_zeros", "leading_zeros_in", "update", "update_groups", "update_words8"]

CHUNK = 8192


def leading_zeros(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Count them for each word above 0."""
    alone = words & ~(words >> U1)  # the bit after the first is 0 now, so that making a float of it does not round up
    return (64 - np.frexp(alone.astype(np.float64))[1]).astype(np.uint8)


def leading_zeros_in(bits: int) -> NDArray[np.uint8]:
    """Count them in each number of so many bits, in order."""
    return np.array([bits - number.bit_length() for number in range(1 << bits)], np.uint8)


def _split(precision: int, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    bits = np.uint64(precision)
    places = (hashes >> np.uint64(64 - precision)).astype(np.int64)
    return places, leading_zeros(hashes << bits | U1 << (bits - U1)) + np.uint8(1)


def floor_of(registers: NDArray[np.uint8]) -> int:
    """Return the lowest register."""
    return int(registers.min())


def update(registers: NDArray[np.uint8], precision: int, floor: int, hashes: NDArray[np.uint64]) -> None:
    """Take hashes; `floor` is a rank that all registers have, at least."""
    del floor  # it spares work, and changes nothing
    places, ranks = _split(precision, hashes)
    higher = np.flatnonzero(ranks > registers[places])
    np.maximum.at(registers, places[higher], ranks[higher])


def update_words8(registers: NDArray[np.uint8], precision: int, floor: int, words: NDArray[np.uint64], seed: np.uint64) -> None:
    """Hash words of eight bytes, chunk by chunk, and take them."""
    buffer = np.empty(min(CHUNK, words.size), np.uint64)
    for start in range(0, words.size, CHUNK):
        part = words[start : start + CHUNK]
        hash_words8(part, seed, buffer[: part.size])
        update(registers, precision, floor, buffer[: part.size])


def update_groups(states: NDArray[np.uint8], precision: int, groups: NDArray[np.int64], hashes: NDArray[np.uint64]) -> None:
    """Take each hash into the registers of its group."""
    places, ranks = _split(precision, hashes)
    higher = np.flatnonzero(ranks > states[groups, places])
    np.maximum.at(states, (groups[higher], places[higher]), ranks[higher])
