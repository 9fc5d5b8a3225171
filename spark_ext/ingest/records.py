"""A block of records as columns: what a fetcher hands to a decoder, without an object per record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["Bytes", "Headers", "Records"]

LAST_MS: Final = 253_402_300_799_999  # the end of the year 9999: producers may send any number


@dataclass(frozen=True, slots=True)
class Bytes:
    """Byte strings one after the other in one buffer.

    Attributes
    ----------
    data : ndarray (m,) uint8
        All bytes, without separators.
    offsets : ndarray (n + 1,) int64
        String ``i`` is ``data[offsets[i]:offsets[i + 1]]``.
    valid : ndarray (n,) bool
        False where there is no string at all (null), which has no bytes in `data`.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    valid: NDArray[np.bool_]

    @classmethod
    def of(cls, strings: list[bytes | None]) -> Self:
        """Lay byte strings out one after the other; for tests and for fetchers that have objects anyway."""
        lengths = np.fromiter((len(one) if one is not None else 0 for one in strings), np.int64, len(strings))
        offsets = np.zeros(len(strings) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        data = np.frombuffer(b"".join(one for one in strings if one is not None), np.uint8)
        return cls(data, offsets, np.fromiter((one is not None for one in strings), np.bool_, len(strings)))

    def __len__(self) -> int:
        return len(self.valid)

    def to_arrow(self) -> pa.Array:
        """Return the strings as ``binary``, which is what Spark takes; only their ends are copied, 4 bytes each."""
        validity = None if self.valid.all() else pa.py_buffer(np.packbits(self.valid, bitorder="little"))
        offsets = np.ascontiguousarray(self.offsets, np.int32)  # a block is far below 2 GiB
        return pa.Array.from_buffers(pa.binary(), len(self), [validity, pa.py_buffer(offsets), pa.py_buffer(self.data)])


@dataclass(frozen=True, slots=True)
class Headers:
    """Headers of records, flattened.

    Attributes
    ----------
    offsets : ndarray (n + 1,) int64
        Record ``i`` has the headers ``offsets[i]`` to ``offsets[i + 1]``, in the order in which they were sent.
    names, values : Bytes
        One each per header; a value may be null.
    """

    offsets: NDArray[np.int64]
    names: Bytes
    values: Bytes


@dataclass(frozen=True, slots=True)
class Records:
    """Records of one partition in the order of their offsets, which may have gaps.

    Attributes
    ----------
    offsets : ndarray (n,) int64
        Where each record is in its partition.
    timestamps : ndarray (n,) int64
        Milliseconds since 1970, -1 where the record has none; a producer may send any number.
    keys, values : Bytes
        As they came.
    headers : Headers or None
        None if nobody asked for them.
    """

    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    keys: Bytes
    values: Bytes
    headers: Headers | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def times_us(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the timestamps in microseconds since 1970, and which of them are times at all: from 1970 to 9999."""
        known = (self.timestamps >= 0) & (self.timestamps <= LAST_MS)
        return np.where(known, self.timestamps, 0) * 1000, known
