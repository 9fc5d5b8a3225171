"""Stored hot lists in loops for numba: read out of and written into one buffer.

Each function has its equal without numba in `sketches.numbered_hot_bytes_plain`: same arguments, same results.
"""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba gives the values of a kernel their types; NumPy's own say too little about scalars)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit
from sketches.machine import load4, load8, store4, store8

__all__ = ["entries", "heads", "pack"]

BEGIN = 16  # header and parameters
ITEMS = BEGIN + 16  # after total and cut
FIRST = ITEMS + 5  # after type and number
SEAL = 4
NONE_TAKEN = np.uint64(0)
MOST = np.uint64((1 << 63) - 1)
RUN = 16  # entries that are sorted by insertion


@njit()
def heads(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    capacity: int,
    widths: NDArray[np.int64],
    fits: NDArray[np.bool_],
    codes: NDArray[np.int64],
    sizes: NDArray[np.int64],
    totals: NDArray[np.int64],
    cuts: NDArray[np.int64],
) -> None:
    """Look at stored forms whose header fits: which do in all but the order and the byte forms of their items; and what is in them.

    `widths` gives the bytes of an item by the number of its type, 0 for texts.
    """
    for i in range(starts.size):
        at, length = starts[i], ends[i] - starts[i]
        if not fits[i] or length < FIRST + SEAL:
            fits[i] = False
            continue
        fits[i] = False
        code = np.int64(data[at + ITEMS])
        total = load8(data, at + BEGIN)
        cut = load8(data, at + BEGIN + 8)
        size = np.int64(load4(data, at + ITEMS + 1))
        if code >= widths.size or total > MOST or size > capacity or (total == NONE_TAKEN) != (code == 0):
            continue
        left_bytes = length - FIRST - SEAL
        item_bytes = widths[code] * size
        if widths[code] == 0:
            if left_bytes < 4 * size:
                continue
            item_bytes = 4 * size
            for j in range(size):
                item_bytes += np.int64(load4(data, at + FIRST + 4 * j))
        if left_bytes != item_bytes + 8 * size or (code == 0 and size > 0):
            continue
        place = at + FIRST + item_bytes
        left = total
        good = True
        for j in range(size):
            count = load8(data, place + 8 * j)
            if count == NONE_TAKEN or count > left:
                good = False
                break
            left -= count
        if not good or cut > left // np.uint64(capacity + 1):
            continue
        fits[i] = True
        codes[i] = code
        sizes[i] = size
        totals[i] = np.int64(total)
        cuts[i] = np.int64(cut)


@njit()
def entries(
    data: NDArray[np.uint8],
    starts: NDArray[np.int64],
    firsts: NDArray[np.int64],
    width: int,
    words: NDArray[np.uint64],
    counts: NDArray[np.int64],
    begins: NDArray[np.int64],
    stops: NDArray[np.int64],
) -> None:
    """Take the entries out of forms that fit; those of form i go to ``firsts[i]`` and on. `width` 0: texts, by their places."""
    for i in range(starts.size):
        first = firsts[i]
        size = firsts[i + 1] - first
        place = starts[i] + FIRST
        if width == 0:
            text = place + 4 * size
            for j in range(size):
                begins[first + j] = text
                text += np.int64(load4(data, place + 4 * j))
                stops[first + j] = text
            place = text
        elif width == 4:
            for j in range(size):
                words[first + j] = load4(data, place + 4 * j)
            place += 4 * size
        else:
            for j in range(size):
                words[first + j] = load8(data, place + 8 * j)
            place += 8 * size
        for j in range(size):
            counts[first + j] = np.int64(load8(data, place + 8 * j))


@njit()
def _order(keys: NDArray[np.uint64], first: int, size: int, order: NDArray[np.int64], spare: NDArray[np.int64]) -> None:
    """Set `order` to the places of some keys from the least on: runs by insertion, then merged."""
    for begin in range(0, size, RUN):
        for i in range(begin, min(begin + RUN, size)):
            key = keys[first + i]
            j = i
            while j > begin and keys[order[j - 1]] > key:
                order[j] = order[j - 1]
                j -= 1
            order[j] = first + i
    run = RUN
    while run < size:
        for begin in range(0, size, 2 * run):
            middle, end = min(begin + run, size), min(begin + 2 * run, size)
            i, j = begin, middle
            for k in range(begin, end):
                if j >= end or (i < middle and keys[order[i]] <= keys[order[j]]):
                    spare[k] = order[i]
                    i += 1
                else:
                    spare[k] = order[j]
                    j += 1
        order[:size] = spare[:size]
        run *= 2


@njit()
def pack(
    ends: NDArray[np.int64],
    keys: NDArray[np.uint64],
    counts: NDArray[np.int64],
    words: NDArray[np.uint64],
    texts: NDArray[np.uint8],
    text_ends: NDArray[np.int64],
    totals: NDArray[np.int64],
    cuts: NDArray[np.int64],
    code: int,
    width: int,
    head: NDArray[np.uint8],
    out: NDArray[np.uint8],
    out_ends: NDArray[np.int64],
) -> None:
    """Write the forms of lists, all but their checksums: that of list g from ``out_ends[g]`` on.

    Entries of list g stand from ``ends[g]`` up to ``ends[g + 1]``; `words` are their values, or with `width` 0 the bytes of entry e from
    ``text_ends[e]`` up to ``text_ends[e + 1]``.
    """
    most = 0
    for g in range(totals.size):
        most = max(most, ends[g + 1] - ends[g])
    order, spare = np.empty(most, np.int64), np.empty(most, np.int64)
    for g in range(totals.size):
        at = out_ends[g]
        size = ends[g + 1] - ends[g]
        out[at : at + BEGIN] = head
        store4(out, at + 8, np.uint32(out_ends[g + 1] - at - BEGIN - SEAL))
        store8(out, at + BEGIN, np.uint64(totals[g]))
        store8(out, at + BEGIN + 8, np.uint64(cuts[g]))
        out[at + ITEMS] = code if totals[g] else 0
        store4(out, at + ITEMS + 1, np.uint32(size))
        at += FIRST
        _order(keys, ends[g], size, order, spare)
        if width == 0:
            text = at + 4 * size
            for i in range(size):
                begin, stop = text_ends[order[i]], text_ends[order[i] + 1]
                store4(out, at + 4 * i, np.uint32(stop - begin))
                for j in range(begin, stop):
                    out[text] = texts[j]
                    text += 1
            at = text
        elif width == 4:
            for i in range(size):
                store4(out, at + 4 * i, np.uint32(words[order[i]]))
            at += 4 * size
        else:
            for i in range(size):
                store8(out, at + 8 * i, words[order[i]])
            at += 8 * size
        for i in range(size):
            store8(out, at + 8 * i, np.uint64(counts[order[i]]))
