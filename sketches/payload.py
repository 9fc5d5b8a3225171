"""Tables in stored sketches: whole, or only the rows that hold anything, whichever is shorter; so equal tables give equal bytes.

One flag byte, then little-endian: ``0`` and all cells; or ``1``, the number of rows (4 bytes), their places (4 bytes each, ascending), and
their cells.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches.envelope import damaged

__all__ = ["empty_lines", "pack_table", "unpack_table"]

WHOLE: Final = b"\0"
SPARSE: Final = b"\1"
LINE: Final = 64  # bytes of a cache line
COUNT: Final = struct.Struct("<I")
LARGEST_SPARSE: Final = 1 << 25  # bytes: a few bytes must not make their reader take more memory than this


def empty_lines(rows: int, cells: int, dtype: type[np.generic]) -> NDArray[Any]:
    """Return a table of zeros that begins where a cache line does, so that a row of half a line is in one line."""
    size = rows * cells * np.dtype(dtype).itemsize
    raw = np.zeros(size + LINE, np.uint8)
    begin = -raw.ctypes.data % LINE
    return raw[begin : begin + size].view(dtype).reshape(rows, cells)


def pack_table(table: NDArray[Any]) -> bytes:
    """Return the stored form of a table.

    Parameters
    ----------
    table : ndarray (rows, cells)
        Of unsigned or signed integers.
    """
    table = table.reshape(len(table), -1)
    stored = table.astype(table.dtype.newbyteorder("<"), copy=False)
    if table.nbytes <= LARGEST_SPARSE:
        places = np.flatnonzero(table.any(axis=1))
        if _sparse_bytes(places.size, table) < table.nbytes:
            return b"".join((SPARSE, COUNT.pack(places.size), places.astype("<u4").tobytes(), stored[places].tobytes()))
    return WHOLE + stored.tobytes()


def unpack_table(kind: str, payload: memoryview, rows: int, cells: int, dtype: type[np.generic]) -> NDArray[Any]:
    """Return the table of `rows` x `cells` that `pack_table` gave the bytes of, as an own array; refuses all other bytes."""
    words = np.dtype(dtype).newbyteorder("<")
    row_bytes, whole = cells * words.itemsize, rows * cells * words.itemsize
    if bytes(payload[:1]) == WHOLE:
        if len(payload) != 1 + whole:
            raise damaged(kind, f"{1 + whole:,} bytes of a table", f"{len(payload):,}")
        table = np.frombuffer(payload, words, offset=1).reshape(rows, cells).astype(dtype)
        if whole <= LARGEST_SPARSE and _sparse_bytes(int(np.count_nonzero(table.any(axis=1))), table) < whole:
            raise damaged(kind, "the shorter form of a table", "the longer one")
        return table
    if bytes(payload[:1]) != SPARSE or len(payload) < 1 + COUNT.size or whole > LARGEST_SPARSE:
        raise damaged(kind, "a table, whole or sparse", f"{len(payload):,} bytes that begin with {bytes(payload[:1])!r}")
    (count,) = COUNT.unpack_from(payload, 1)
    start = 1 + COUNT.size
    if len(payload) != start + count * (4 + row_bytes) or count * (4 + row_bytes) + COUNT.size >= whole:
        raise damaged(kind, f"{start + count * (4 + row_bytes):,} bytes for {count:,} of {rows:,} rows", f"{len(payload):,}")
    places = np.frombuffer(payload, "<u4", count, start).astype(np.int64)
    found = np.frombuffer(payload, words, count * cells, start + 4 * count).reshape(count, cells)
    if count and (places[-1] >= rows or (np.diff(places) <= 0).any() or not found.any(axis=1).all()):
        raise damaged(kind, f"ascending places below {rows:,}, of rows that hold something", "others")
    table = np.zeros((rows, cells), dtype)
    table[places] = found
    return table


def _sparse_bytes(rows: int, table: NDArray[Any]) -> int:
    return COUNT.size + rows * (4 + table.nbytes // len(table))
