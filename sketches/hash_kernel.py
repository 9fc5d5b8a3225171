"""XXH64 in loops for numba: eight-byte words, four-byte words, and byte strings out of one buffer.

Source: Collet, "xxHash fast digest algorithm", specification 0.2.0. Each function fills `out`; its equal without numba stands in
`sketches.hash_plain`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit

__all__ = ["hash_bytes", "hash_words4", "hash_words8"]

P1 = np.uint64(0x9E3779B185EBCA87)
P2 = np.uint64(0xC2B2AE3D27D4EB4F)
P3 = np.uint64(0x165667B19E3779F9)
P4 = np.uint64(0x85EBCA77C2B2AE63)
P5 = np.uint64(0x27D4EB2F165667C5)
U1 = np.uint64(1)
U4 = np.uint64(4)
U7 = np.uint64(7)
U8 = np.uint64(8)
U11 = np.uint64(11)
U12 = np.uint64(12)
U18 = np.uint64(18)
U23 = np.uint64(23)
U27 = np.uint64(27)
U29 = np.uint64(29)
U31 = np.uint64(31)
U32 = np.uint64(32)
U33 = np.uint64(33)
U64 = np.uint64(64)


@njit(inline="always")
def rotl(x: np.uint64, bits: np.uint64) -> np.uint64:
    return (x << bits) | (x >> (U64 - bits))


@njit(inline="always")
def avalanche(h: np.uint64) -> np.uint64:
    h ^= h >> U33
    h *= P2
    h ^= h >> U29
    h *= P3
    h ^= h >> U32
    return h


@njit(inline="always")
def mix(lane: np.uint64, word: np.uint64) -> np.uint64:
    return rotl(lane + word * P2, U31) * P1


@njit(inline="always")
def load4(data: NDArray[np.uint8], at: int) -> np.uint64:
    return (
        np.uint64(data[at])
        | np.uint64(data[at + 1]) << U8
        | np.uint64(data[at + 2]) << np.uint64(16)
        | np.uint64(data[at + 3]) << np.uint64(24)
    )


@njit(inline="always")
def load8(data: NDArray[np.uint8], at: int) -> np.uint64:
    return load4(data, at) | load4(data, at + 4) << U32


@njit()
def hash_words8(words: NDArray[np.uint64], seed: np.uint64, out: NDArray[np.uint64]) -> None:
    """Hash values of eight bytes."""
    begin = seed + P5 + U8
    for i in range(words.size):  # over plain slices: LLVM makes vectors of it
        h = begin ^ (rotl(words[i] * P2, U31) * P1)
        out[i] = avalanche(rotl(h, U27) * P1 + P4)


@njit()
def hash_words4(words: NDArray[np.uint32], seed: np.uint64, out: NDArray[np.uint64]) -> None:
    """Hash values of four bytes."""
    begin = seed + P5 + U4
    for i in range(words.size):
        h = begin ^ (np.uint64(words[i]) * P1)
        out[i] = avalanche(rotl(h, U23) * P2 + P3)


@njit()
def hash_bytes(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], seed: np.uint64, out: NDArray[np.uint64]
) -> None:
    """Hash byte strings: the one from ``starts[i]`` up to ``ends[i]`` into ``out[i]``."""
    for i in range(starts.size):
        at = starts[i]
        end = ends[i]
        size = np.uint64(end - at)
        if end - at >= 32:
            v1 = seed + P1 + P2
            v2 = seed + P2
            v3 = seed
            v4 = seed - P1
            while at + 32 <= end:
                v1 = mix(v1, load8(data, at))
                v2 = mix(v2, load8(data, at + 8))
                v3 = mix(v3, load8(data, at + 16))
                v4 = mix(v4, load8(data, at + 24))
                at += 32
            h = rotl(v1, U1) + rotl(v2, U7) + rotl(v3, U12) + rotl(v4, U18)
            h = (h ^ mix(np.uint64(0), v1)) * P1 + P4
            h = (h ^ mix(np.uint64(0), v2)) * P1 + P4
            h = (h ^ mix(np.uint64(0), v3)) * P1 + P4
            h = (h ^ mix(np.uint64(0), v4)) * P1 + P4
        else:
            h = seed + P5
        h += size
        while at + 8 <= end:
            h = rotl(h ^ mix(np.uint64(0), load8(data, at)), U27) * P1 + P4
            at += 8
        if at + 4 <= end:
            h = rotl(h ^ (load4(data, at) * P1), U23) * P2 + P3
            at += 4
        while at < end:
            h = rotl(h ^ (np.uint64(data[at]) * P5), U11) * P1
            at += 1
        out[i] = avalanche(h)
