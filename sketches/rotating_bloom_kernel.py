"""Bloom filters in generations, in loops for numba: for each block one part for each generation, so that all of them are neighbours.

A slice of time has the generation (number of the slice) modulo (how many there are). The equal in NumPy: `sketches.rotating_bloom_plain`.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba's scalars are wrapped by NumPy's types, which NumPy's stubs see as others)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.bloom_kernel import ONE, PART, SALTS, SHIFT, U32, ZERO
from sketches.jit import njit

__all__ = ["add_if_new", "contains", "forget", "insert"]


@njit()
def forget(table: NDArray[np.uint32], newest: int, slice_now: int) -> None:
    """Empty the generations of the slices after `newest` up to `slice_now`; table : ndarray (blocks, generations, 8) uint32."""
    generations = table.shape[1]
    first = max(newest + 1, slice_now - generations + 1)
    for number in range(first, slice_now + 1):
        table[:, number % generations] = 0


@njit()
def insert(table: NDArray[np.uint32], hashes: NDArray[np.uint64], places: NDArray[np.int64]) -> np.uint32:
    """Set the bits of each hash in the generation at its place."""
    blocks = np.uint64(table.shape[0])
    read = ZERO
    for start in range(0, hashes.size, PART):
        part = hashes[start : start + PART]
        some = places[start : start + PART]
        for i in range(part.size):
            read |= table[((part[i] >> U32) * blocks) >> U32, some[i], 0]
        for i in range(part.size):
            key = np.uint32(part[i])
            block = table[((part[i] >> U32) * blocks) >> U32, some[i]]
            for lane in range(8):
                block[lane] |= np.uint32(ONE << (np.uint32(key * SALTS[lane]) >> SHIFT))
    return read


@njit()
def contains(table: NDArray[np.uint32], hashes: NDArray[np.uint64], held: NDArray[np.int64], out: NDArray[np.bool_]) -> np.uint32:
    """Say of each hash whether all its bits are set in one of the generations at the places `held`."""
    blocks = np.uint64(table.shape[0])
    generations = table.shape[1]
    read = ZERO
    for start in range(0, hashes.size, PART):
        part = hashes[start : start + PART]
        answers = out[start : start + PART]
        for i in range(part.size):
            block = table[((part[i] >> U32) * blocks) >> U32]
            for generation in range(0, generations, 2):  # two have one cache line
                read |= block[generation, 0]
        for i in range(part.size):
            key = np.uint32(part[i])
            block = table[((part[i] >> U32) * blocks) >> U32]
            found = False
            for place in held:
                bits = block[place]
                missing = ZERO
                for lane in range(8):
                    missing |= np.uint32(ONE << (np.uint32(key * SALTS[lane]) >> SHIFT)) & ~bits[lane]
                found |= missing == ZERO
            answers[i] = found
    return read


@njit()
def add_if_new(
    table: NDArray[np.uint32], hashes: NDArray[np.uint64], slices: NDArray[np.int64], newest: int, out: NDArray[np.bool_]
) -> int:
    """Take one after the other what no generation has, and say which those were; returns the newest slice then."""
    blocks = np.uint64(table.shape[0])
    generations = table.shape[1]
    read = ZERO
    for start in range(0, hashes.size, PART):
        part = hashes[start : start + PART]
        for i in range(part.size):
            block = table[((part[i] >> U32) * blocks) >> U32]
            for generation in range(0, generations, 2):
                read |= block[generation, 0]
        for i in range(part.size):
            now = slices[start + i]
            if now > newest:
                forget(table, newest, now)
                newest = now
            if now <= newest - generations:
                out[start + i] = False
                continue
            key = np.uint32(part[i])
            block = table[((part[i] >> U32) * blocks) >> U32]
            found = False
            for generation in range(generations):
                missing = ZERO
                for lane in range(8):
                    missing |= np.uint32(ONE << (np.uint32(key * SALTS[lane]) >> SHIFT)) & ~block[generation, lane]
                found |= missing == ZERO
            out[start + i] = not found
            if not found:
                bits = block[now % generations]
                for lane in range(8):
                    bits[lane] |= np.uint32(ONE << (np.uint32(key * SALTS[lane]) >> SHIFT))
    return newest if read == read else newest - 1  # noqa: PLR0124 (always the former: keeps the reads)
