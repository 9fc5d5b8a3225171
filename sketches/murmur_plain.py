"""MurmurHash3 in NumPy alone, bit for bit what `sketches.murmur_kernel` computes: each step is done for all items at once."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sketches.hash_kernel import U8, U27, U31, U33, U64
from sketches.murmur_kernel import A1, A2, C1, C2, F1, F2, U5

__all__ = ["words_of_bytes", "words_of_words8"]

Words = NDArray[np.uint64]


def words_of_words8(words: Words, seed: np.uint64, precision: int, out: Words) -> None:
    """Hash values of eight bytes."""
    out[:] = _ordered(seed ^ _scramble1(words), np.full(words.size, seed), U8, precision)


def words_of_bytes(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], seed: np.uint64, precision: int, out: Words
) -> None:
    """Hash byte strings; item i is ``data[starts[i]:ends[i]]``."""
    padded = np.concatenate([data, np.zeros(16, np.uint8)])  # a window of sixteen fits wherever an item ends
    windows = sliding_window_view(padded, 16)
    sizes, at = ends - starts, starts.copy()
    first, second = np.full(sizes.size, seed), np.full(sizes.size, seed)
    todo = np.flatnonzero(sizes >= 16)
    while todo.size:
        low, high = _load(windows, at[todo], np.full(todo.size, 16))
        first[todo] = (_rotl(first[todo] ^ _scramble1(low), U27) + second[todo]) * U5 + A1
        second[todo] = (_rotl(second[todo] ^ _scramble2(high), U31) + first[todo]) * U5 + A2
        at[todo] += 16
        todo = todo[ends[todo] - at[todo] >= 16]
    low, high = _load(windows, at, ends - at)  # no bytes are zeros, which change nothing
    out[:] = _ordered(first ^ _scramble1(low), second ^ _scramble2(high), sizes.astype(np.uint64), precision)


def _load(windows: NDArray[np.uint8], at: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[Words, Words]:
    """Return two words for each item: its next bytes, then zeros."""
    some = np.where(np.arange(16) < sizes[:, None], windows[at], np.uint8(0))
    words = some.view("<u8").astype(np.uint64, copy=False)
    return words[:, 0], words[:, 1]


def _rotl(x: Words, bits: np.uint64) -> Words:
    return (x << bits) | (x >> (U64 - bits))


def _scramble1(word: Words) -> Words:
    return _rotl(word * C1, U31) * C2


def _scramble2(word: Words) -> Words:
    return _rotl(word * C2, U33) * C1


def _finish(h: Words) -> Words:
    h = (h ^ (h >> U33)) * F1
    h = (h ^ (h >> U33)) * F2
    return h ^ (h >> U33)


def _ordered(first: Words, second: Words, size: np.uint64 | Words, precision: int) -> Words:
    first, second = first ^ size, second ^ size
    first = first + second
    second = second + first
    first, second = _finish(first), _finish(second)
    first = first + second
    second = second + first
    return (first << np.uint64(64 - precision)) | (second >> np.uint64(precision))
