"""Stored sketches by the column in loops for numba: which have the header that is wanted, and their checksums.

The equal in NumPy: `sketches.stored_plain`.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba's scalars are wrapped by NumPy's types, which NumPy's stubs see as others)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit
from sketches.machine import crc_byte, crc_word, load4, load8, store4

__all__ = ["check_headers", "checksums", "seal", "verify"]

ONES = np.uint64(0xFFFFFFFF)
HEADER = 12
OVERHEAD = 16


@njit()
def _rest(data: NDArray[np.uint8], at: int, end: int, crc: np.uint64) -> np.uint32:
    while at + 8 <= end:
        crc = crc_word(crc, load8(data, at))
        at += 8
    while at < end:
        crc = crc_byte(crc, np.uint64(data[at]))
        at += 1
    return np.uint32(crc ^ ONES)


@njit()
def checksums(data: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64], out: NDArray[np.uint32]) -> None:
    """Compute the CRC32C of each ``data[begins[i]:ends[i]]``, four at a time: each waits for its own last step only."""
    fours = begins.size // 4 * 4
    for i in range(0, fours, 4):
        at0, at1, at2, at3 = begins[i], begins[i + 1], begins[i + 2], begins[i + 3]
        shared = min(ends[i] - at0, ends[i + 1] - at1, ends[i + 2] - at2, ends[i + 3] - at3) // 8 * 8
        crc0 = crc1 = crc2 = crc3 = ONES
        for j in range(0, shared, 8):
            crc0 = crc_word(crc0, load8(data, at0 + j))
            crc1 = crc_word(crc1, load8(data, at1 + j))
            crc2 = crc_word(crc2, load8(data, at2 + j))
            crc3 = crc_word(crc3, load8(data, at3 + j))
        out[i] = _rest(data, at0 + shared, ends[i], crc0)
        out[i + 1] = _rest(data, at1 + shared, ends[i + 1], crc1)
        out[i + 2] = _rest(data, at2 + shared, ends[i + 2], crc2)
        out[i + 3] = _rest(data, at3 + shared, ends[i + 3], crc3)
    for i in range(fours, begins.size):
        out[i] = _rest(data, begins[i], ends[i], ONES)


@njit()
def verify(data: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64], fits: NDArray[np.bool_]) -> None:
    """Make `fits` false for each sketch ``data[begins[i]:ends[i]]`` whose last four bytes are not its checksum."""
    stops = np.maximum(ends - 4, begins)
    found = np.empty(ends.size, np.uint32)
    checksums(data, begins, stops, found)
    for i in range(ends.size):
        if fits[i]:
            fits[i] = found[i] == load4(data, stops[i])


@njit()
def seal(data: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
    """Write its checksum at the end of each sketch ``data[begins[i]:ends[i]]``."""
    found = np.empty(ends.size, np.uint32)
    checksums(data, begins, ends - 4, found)
    for i in range(ends.size):
        store4(data, ends[i] - 4, found[i])


@njit()
def check_headers(
    data: NDArray[np.uint8], begins: NDArray[np.int64], ends: NDArray[np.int64], head: NDArray[np.uint8], fits: NDArray[np.bool_]
) -> None:
    """Say of each sketch whether it begins as `head`, header and parameters, does but for its length, and is as long as it says."""
    begin = load8(head, 0)
    for i in range(begins.size):
        at = begins[i]
        size = ends[i] - at
        if size < OVERHEAD + head.size - HEADER or load8(data, at) != begin or np.int64(load4(data, at + 8)) != size - head.size - 4:
            fits[i] = False
            continue
        same = True
        for j in range(HEADER, head.size):
            same &= data[at + j] == head[j]
        fits[i] = same
