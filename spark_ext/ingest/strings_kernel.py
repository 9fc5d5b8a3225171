"""Copy strings from where they stand in records into one column."""

from __future__ import annotations

from typing import Any

from sketches.jit import njit
from spark_ext.ingest.bytes_kernel import copy_bytes, unescape
from spark_ext.ingest.codes import DOUBLED, ESCAPED

__all__ = ["gather"]


@njit()
def _undouble(data: Any, at: int, length: int, out: Any, place: int) -> int:
    """Write a checked CSV string with each pair of quotes as one to ``out[place:]``; return its length."""
    end = at + length
    start = place
    quote = data[at - 1]
    while at < end:
        byte = data[at]
        out[place] = byte
        place += 1
        at += 2 if byte == quote else 1
    return place - start


@njit()
def gather(data: Any, spans: Any, lengths: Any, flags: Any, rows: Any, offsets: Any, out: Any) -> None:
    """Copy the strings of some records, as the text they stand for.

    Parameters
    ----------
    data : ndarray uint8
        The records.
    spans, lengths, flags : ndarray (n,) int64, int32, uint8
        Where the string of each record is; a negative length is none. Whether it has escapes or doubled quotes.
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
            if flags[row] == ESCAPED:
                place += unescape(data, spans[row], length, out, place)
            elif flags[row] == DOUBLED:
                place += _undouble(data, spans[row], length, out, place)
            else:
                copy_bytes(data, spans[row], length, out, place)
                place += length
    offsets[len(rows)] = place
