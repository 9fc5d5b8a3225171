"""XXH64 in NumPy alone, bit for bit what `sketches.hash_kernel` computes: each step is done for all items that still have bytes for it."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sketches.hash_kernel import P1, P2, P3, P4, P5, U1, U4, U7, U8, U11, U12, U18, U23, U27, U29, U31, U32, U33, U64

__all__ = ["hash_bytes", "hash_words4", "hash_words8"]

Words = NDArray[np.uint64]


def hash_words8(words: Words, seed: np.uint64, out: Words) -> None:
    """Hash values of eight bytes."""
    with np.errstate(over="ignore"):
        h = (seed + P5 + U8) ^ _mix(np.uint64(0), words)
        out[:] = _avalanche(_rotl(h, U27) * P1 + P4)


def hash_words4(words: NDArray[np.uint32], seed: np.uint64, out: Words) -> None:
    """Hash values of four bytes."""
    with np.errstate(over="ignore"):
        h = (seed + P5 + U4) ^ (words.astype(np.uint64) * P1)
        out[:] = _avalanche(_rotl(h, U23) * P2 + P3)


def hash_bytes(data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], seed: np.uint64, out: Words) -> None:
    """Hash byte strings: the one from ``starts[i]`` up to ``ends[i]`` into ``out[i]``."""
    with np.errstate(over="ignore"):
        padded = np.concatenate([data, np.zeros(8, np.uint8)])  # a window of eight fits wherever an item has one byte left
        windows = sliding_window_view(padded, 8)
        sizes, at = ends - starts, starts.copy()
        h = np.where(sizes >= 32, np.uint64(0), seed + P5)
        long = np.flatnonzero(sizes >= 32)
        if long.size:
            h[long] = _long(windows, at, ends, long, seed)
        h += sizes.astype(np.uint64)
        todo = np.flatnonzero(ends - at >= 8)
        while todo.size:
            h[todo] = _rotl(h[todo] ^ _mix(np.uint64(0), _load(windows, at[todo])), U27) * P1 + P4
            at[todo] += 8
            todo = todo[ends[todo] - at[todo] >= 8]
        todo = np.flatnonzero(ends - at >= 4)
        h[todo] = _rotl(h[todo] ^ ((_load(windows, at[todo]) & np.uint64(0xFFFFFFFF)) * P1), U23) * P2 + P3
        at[todo] += 4
        todo = np.flatnonzero(ends > at)
        while todo.size:
            h[todo] = _rotl(h[todo] ^ (padded[at[todo]].astype(np.uint64) * P5), U11) * P1
            at[todo] += 1
            todo = todo[ends[todo] > at[todo]]
        out[:] = _avalanche(h)


def _long(windows: NDArray[np.uint8], at: NDArray[np.int64], ends: NDArray[np.int64], long: NDArray[np.int64], seed: np.uint64) -> Words:
    """Hash whole blocks of 32 bytes, four lanes each; moves `at` on."""
    lanes = np.empty((4, at.size), np.uint64)
    lanes[:, :] = np.array([seed + P1 + P2, seed + P2, seed, seed - P1])[:, None]
    todo = long
    while todo.size:
        for lane in range(4):
            lanes[lane, todo] = _mix(lanes[lane, todo], _load(windows, at[todo] + 8 * lane))
        at[todo] += 32
        todo = todo[ends[todo] - at[todo] >= 32]
    found = lanes[:, long]
    h = _rotl(found[0], U1) + _rotl(found[1], U7) + _rotl(found[2], U12) + _rotl(found[3], U18)
    for lane in range(4):
        h = (h ^ _mix(np.uint64(0), found[lane])) * P1 + P4
    return h


def _load(windows: NDArray[np.uint8], at: NDArray[np.int64]) -> Words:
    return np.ascontiguousarray(windows[at]).view("<u8").reshape(-1).astype(np.uint64, copy=False)


def _rotl(x: Words, bits: np.uint64) -> Words:
    return (x << bits) | (x >> (U64 - bits))


def _mix(lane: np.uint64 | Words, word: Words) -> Words:
    return _rotl(lane + word * P2, U31) * P1


def _avalanche(h: Words) -> Words:
    h = (h ^ (h >> U33)) * P2
    h = (h ^ (h >> U29)) * P3
    return h ^ (h >> U32)
