"""Copy strings from where they stand in records into one column."""

from __future__ import annotations

from typing import Any

from numba import njit

from spark_ext.ingest.bytes_kernel import copy_bytes, unescape

__all__ = ["gather"]


@njit(cache=True, nogil=True)
def gather(data: Any, spans: Any, lengths: Any, escaped: Any, rows: Any, offsets: Any, out: Any) -> None:
    """Copy the strings of some records, without their escapes.

    Parameters
    ----------
    data : ndarray uint8
        The records.
    spans, lengths, escaped : ndarray (n,) int64, int32, uint8
        Where the string of each record is; a negative length is none. Whether it has escapes.
    rows : ndarray (m,) int64
        Which records.
    offsets : ndarray (m + 1,) int32
        Out: where each string begins in `out`.
    out : ndarray uint8
        Out: the strings; it has eight bytes more than the sum of the lengths.
    """
    place = 0
    for i in range(len(rows)):
        row = rows[i]
        offsets[i] = place
        length = lengths[row]
        if length > 0:
            if escaped[row]:
                place += unescape(data, spans[row], length, out, place)
            else:
                copy_bytes(data, spans[row], length, out, place)
                place += length
    offsets[len(rows)] = place
