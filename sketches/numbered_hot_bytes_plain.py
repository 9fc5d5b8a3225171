"""Stored hot lists without numba, one after the other: what `sketches.numbered_hot_bytes_kernel` reads and writes."""

from __future__ import annotations

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sketches.items import _gathered
from sketches.numbered_hot_bytes_kernel import BEGIN, FIRST, SEAL

__all__ = ["entries", "heads", "pack"]

Longs = NDArray[np.int64]
HEAD: Final = struct.Struct("<QQBI")
MOST: Final = (1 << 63) - 1


def heads(
    data: NDArray[np.uint8],
    starts: Longs,
    ends: Longs,
    capacity: int,
    widths: Longs,
    fits: NDArray[np.bool_],
    codes: Longs,
    sizes: Longs,
    totals: Longs,
    cuts: Longs,
) -> None:
    """Look at stored forms whose header fits: which do in all but the order and the byte forms of their items; and what is in them."""
    for i in np.flatnonzero(fits).tolist():
        form = data[starts[i] : ends[i]]
        fits[i] = False
        if form.size < FIRST + SEAL:
            continue
        total, cut, code, size = HEAD.unpack_from(form.data, BEGIN)
        if code >= widths.size or total > MOST or size > capacity or (total == 0) != (code == 0) or (code == 0 and size):
            continue
        rest = form[FIRST:-SEAL]
        item_bytes = int(widths[code]) * size
        if widths[code] == 0:
            if rest.size < 4 * size:
                continue
            item_bytes = 4 * size + int(rest[: 4 * size].view("<u4").sum(dtype=np.int64))
        if rest.size != item_bytes + 8 * size:
            continue
        counts = rest[item_bytes:].view("<u8").tolist()
        if 0 in counts or sum(counts) + cut * (capacity + 1) > total:
            continue
        fits[i], codes[i], sizes[i], totals[i], cuts[i] = True, code, size, total, cut


def entries(
    data: NDArray[np.uint8],
    starts: Longs,
    firsts: Longs,
    width: int,
    words: NDArray[np.uint64],
    counts: Longs,
    begins: Longs,
    stops: Longs,
) -> None:
    """Take the entries out of forms that fit; those of form i go to ``firsts[i]`` and on. `width` 0: texts, by their places."""
    for start, first, end in zip((starts + FIRST).tolist(), firsts[:-1].tolist(), firsts[1:].tolist(), strict=True):
        size, place = end - first, start + (width or 4) * (end - first)
        numbers = data[start:place].view(f"<u{width or 4}")
        if width:
            words[first:end] = numbers
        else:
            stops[first:end] = place + np.cumsum(numbers, dtype=np.int64)
            begins[first:end] = stops[first:end] - numbers
            place = int(stops[end - 1]) if size else place
        counts[first:end] = data[place : place + 8 * size].view("<i8")


def pack(
    ends: Longs,
    keys: NDArray[np.uint64],
    counts: Longs,
    words: NDArray[np.uint64],
    texts: NDArray[np.uint8],
    text_ends: Longs,
    totals: Longs,
    cuts: Longs,
    code: int,
    width: int,
    head: NDArray[np.uint8],
    out: NDArray[np.uint8],
    out_ends: Longs,
) -> None:
    """Write the forms of lists, all but their checksums: that of list g from ``out_ends[g]`` on."""
    for g in range(totals.size):
        order = ends[g] + np.argsort(keys[ends[g] : ends[g + 1]])
        if width:
            items = words[order].astype(f"<u{width}").tobytes()
        else:
            data, stops = _gathered(texts, text_ends[order], text_ends[order + 1])
            items = np.diff(stops, prepend=0).astype("<u4").tobytes() + data.tobytes()
        begin = head.copy()
        begin[8:12].view("<u4")[0] = out_ends[g + 1] - out_ends[g] - BEGIN - SEAL
        state = HEAD.pack(int(totals[g]), int(cuts[g]), code if totals[g] else 0, order.size)
        form = b"".join((begin.tobytes(), state, items, counts[order].astype("<i8").tobytes()))
        out[out_ends[g] : out_ends[g + 1] - SEAL] = np.frombuffer(form, np.uint8)
