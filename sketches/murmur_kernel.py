"""MurmurHash3 (x64, 128 bits) in loops for numba, as Apache DataSketches uses it for HyperLogLog.

There a value's register is named by the low bits of the hash's first half, and its rank is that of the second half. Each function fills
`out` with words in our own order: that index in the first `precision` bits, then the beginning of the second half.

Source: A. Appleby, MurmurHash3_x64_128, seeds of both halves alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.hash_kernel import U8, U27, U31, U33, U64, load8, rotl
from sketches.jit import njit

__all__ = ["words_of_bytes", "words_of_words8"]

C1 = np.uint64(0x87C37B91114253D5)
C2 = np.uint64(0x4CF5AD432745937F)
F1 = np.uint64(0xFF51AFD7ED558CCD)
F2 = np.uint64(0xC4CEB9FE1A85EC53)
A1 = np.uint64(0x52DCE729)
A2 = np.uint64(0x38495AB5)
U5 = np.uint64(5)


@njit(inline="always")
def scramble1(word: np.uint64) -> np.uint64:
    return rotl(word * C1, U31) * C2


@njit(inline="always")
def scramble2(word: np.uint64) -> np.uint64:
    return rotl(word * C2, U33) * C1


@njit(inline="always")
def finish(h: np.uint64) -> np.uint64:
    h ^= h >> U33
    h *= F1
    h ^= h >> U33
    h *= F2
    h ^= h >> U33
    return h


@njit(inline="always")
def ordered(first: np.uint64, second: np.uint64, size: np.uint64, precision: np.uint64) -> np.uint64:
    first ^= size
    second ^= size
    first += second
    second += first
    first = finish(first)
    second = finish(second)
    first += second
    second += first
    return first << (U64 - precision) | second >> precision


@njit()
def words_of_words8(words: NDArray[np.uint64], seed: np.uint64, precision: int, out: NDArray[np.uint64]) -> None:
    """Hash values of eight bytes."""
    bits = np.uint64(precision)
    for i in range(words.size):
        out[i] = ordered(seed ^ scramble1(words[i]), seed, U8, bits)


@njit(inline="always")
def load_some(data: NDArray[np.uint8], at: int, count: int) -> np.uint64:
    word = np.uint64(0)
    for i in range(count):
        word |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return word


@njit()
def words_of_bytes(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    seed: np.uint64,
    precision: int,
    out: NDArray[np.uint64],
) -> None:
    """Hash byte strings; item i is ``data[starts[i]:ends[i]]``."""
    bits = np.uint64(precision)
    for i in range(starts.size):
        at = starts[i]
        end = ends[i]
        size = np.uint64(end - at)
        first = seed
        second = seed
        while at + 16 <= end:
            first ^= scramble1(load8(data, at))
            first = (rotl(first, U27) + second) * U5 + A1
            second ^= scramble2(load8(data, at + 8))
            second = (rotl(second, U31) + first) * U5 + A2
            at += 16
        if at + 8 < end:
            second ^= scramble2(load_some(data, at + 8, end - at - 8))
        if at + 8 <= end:
            first ^= scramble1(load8(data, at))
        elif at < end:
            first ^= scramble1(load_some(data, at, end - at))
        out[i] = ordered(first, second, size, bits)
