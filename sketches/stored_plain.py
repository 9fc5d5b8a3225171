"""Stored sketches by the column in NumPy alone, bit for bit what `sketches.stored_kernel` finds."""

from __future__ import annotations

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from sketches.envelope import HEADER, OVERHEAD

__all__ = ["check_headers", "checksums", "seal", "verify"]

Places = NDArray[np.int64]


def checksums(data: NDArray[np.uint8], begins: Places, ends: Places, out: NDArray[np.uint32]) -> None:
    """Compute the CRC32C of each ``data[begins[i]:ends[i]]``."""
    for row, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
        out[row] = google_crc32c.value(data[begin:end].tobytes())


def verify(data: NDArray[np.uint8], begins: Places, ends: Places, fits: NDArray[np.bool_]) -> None:
    """Make `fits` false for each sketch ``data[begins[i]:ends[i]]`` whose last four bytes are not its checksum."""
    some = np.flatnonzero(fits)
    found = np.empty(some.size, np.uint32)
    checksums(data, begins[some], ends[some] - 4, found)
    fits[some] = found == data[ends[some, None] + np.arange(-4, 0)].view("<u4")[:, 0]


def seal(data: NDArray[np.uint8], begins: Places, ends: Places) -> None:
    """Write its checksum at the end of each sketch ``data[begins[i]:ends[i]]``."""
    found = np.empty(ends.size, np.uint32)
    checksums(data, begins, ends - 4, found)
    data[ends[:, None] + np.arange(-4, 0)] = found.astype("<u4", copy=False).view(np.uint8).reshape(-1, 4)


def check_headers(data: NDArray[np.uint8], begins: Places, ends: Places, head: NDArray[np.uint8], fits: NDArray[np.bool_]) -> None:
    """Say of each sketch whether it begins as `head`, header and parameters, does but for its length, and is as long as it says."""
    fits[:] = ends - begins >= OVERHEAD + head.size - HEADER.size
    some = np.flatnonzero(fits)
    found = data[begins[some, None] + np.arange(head.size)]
    lengths = np.ascontiguousarray(found[:, 8:12]).view("<u4")[:, 0]
    same = found == head
    same[:, 8:12] = (lengths == (ends - begins)[some] - head.size - 4)[:, None]
    fits[some] = same.all(axis=1)
