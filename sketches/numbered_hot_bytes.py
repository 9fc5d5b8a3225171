"""Stored hot lists, many at once: their entries as columns, and back. What is not plainly sound is left to the class."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sketches import numbered_hot_bytes_kernel, numbered_hot_bytes_plain
from sketches.columns import BLOCK, CANONICAL_NAN, SEED, Bytes, Column, Words
from sketches.errors import SketchError
from sketches.hash_kernel import P1, P2, P3, P4, P5, U4, U8, U23, U27, U29, U31, U32, U33, U64
from sketches.hash_plain import _rotl
from sketches.hot_list import HotList
from sketches.items import CODES, NAMES, NUMPY, TEXTS
from sketches.jit import pick
from sketches.numbered_hot_bytes_kernel import FIRST, SEAL
from sketches.numbered_rows import NO_BYTES, NO_NUMBERS, NO_WORDS, Texts
from sketches.stored import MOST_BYTES, Blobs, arrow_of, head_of, seal_all

__all__ = ["Read", "odd_words", "read", "room_for", "store", "width_of", "words_of_hashes"]

P1_BACK, P2_BACK, P3_BACK = (np.uint64(pow(int(odd), -1, 1 << 64)) for odd in (P1, P2, P3))
U58: Final = np.uint64(58)
ODD_KINDS: Final = ("bool", "float", "double")
"""Types of which not all words are values."""

_heads = pick(numbered_hot_bytes_kernel.heads, numbered_hot_bytes_plain.heads)
_entries = pick(numbered_hot_bytes_kernel.entries, numbered_hot_bytes_plain.entries)
_pack = pick(numbered_hot_bytes_kernel.pack, numbered_hot_bytes_plain.pack)


class Read(NamedTuple):
    """What is in some stored forms.

    Attributes
    ----------
    places : ndarray (n,) int64
        Those that are plainly sound, of the kind, capacity and type wanted.
    others : ndarray (m,) int64
        All others: the class has to say what is wrong with them.
    kind : str
        The type of their items.
    totals, cuts, sizes : ndarray (n,) int64
        What each has counted, what was taken off its counts, and how many entries it has.
    hashes : ndarray (entries,) uint64
    counts : ndarray (entries,) int64
    items : Column
    """

    places: NDArray[np.int64]
    others: NDArray[np.int64]
    kind: str
    totals: NDArray[np.int64]
    cuts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    counts: NDArray[np.int64]
    items: Column


def width_of(kind: str) -> int:
    """Return the bytes of an item of a type, 0 for texts."""
    return 0 if kind in TEXTS else NUMPY.get(kind, np.dtype(np.int64)).itemsize


WIDTHS: Final = np.array([width_of(NAMES[code]) for code in sorted(NAMES)], np.int64)


def read(blobs: Blobs, span: slice, template: HotList, kind: str) -> Read:
    """Read stored forms; `kind` is the type that their items must have, ``""`` for that of the first one that has any."""
    fits, begins, ends = blobs.fit(head_of(template), span), blobs.begins[span], blobs.ends[span]
    codes, sizes, totals, cuts = np.zeros((4, fits.size), np.int64)
    _heads(blobs.data, begins, ends, int(template.parameters["capacity"]) - template.SPARE, WIDTHS, fits, codes, sizes, totals, cuts)
    filled = np.flatnonzero(fits & (codes > 0))
    code = CODES[kind] or (int(codes[filled[0]]) if filled.size else 0)
    fits &= (codes == code) | (codes == 0)
    places = np.flatnonzero(fits)
    owners = np.repeat(np.arange(places.size), sizes[places])
    items, counts = _items(blobs.data, begins[places], sizes[places], NAMES[code])
    hashes = np.empty(len(items), np.uint64)
    items.hash_into(0, len(items), hashes)
    wrong = odd_words(items)
    wrong[1:] |= (hashes[1:] <= hashes[:-1]) & (owners[1:] == owners[:-1])
    if wrong.any():
        fits[places[owners[wrong]]] = False
        stay = np.flatnonzero(fits[places[owners]])
        hashes, counts, items, places = hashes[stay], counts[stay], items.take(stay), np.flatnonzero(fits)
    others = span.start + np.flatnonzero(~fits)
    return Read(span.start + places, others, NAMES[code], totals[places], cuts[places], sizes[places], hashes, counts, items)


def _items(data: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64], kind: str) -> tuple[Column, NDArray[np.int64]]:
    """Return the items of some forms that fit, and their counts."""
    firsts = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    width, size = width_of(kind), int(firsts[-1])
    words, counts = np.empty(size if width else 0, np.uint64), np.empty(size, np.int64)
    begins, stops = np.empty((2, 0 if width else size), np.int64)
    _entries(data, starts, firsts, width, words, counts, begins, stops)
    if not width:
        return Bytes(data, begins, stops, kind), counts
    return Words(words.astype(np.uint32) if width == 4 else words, kind or "null"), counts


def odd_words(items: Column) -> NDArray[np.bool_]:
    """Tell which items have byte forms that no value has, as `sketches.items` refuses them: they would not be found by their hash."""
    if not isinstance(items, Words) or items.kind not in ODD_KINDS:
        return np.zeros(len(items), np.bool_)
    words = items.words
    if items.kind == "bool":
        return np.asarray(words > 1)
    numbers = words.view(NUMPY[items.kind])
    return np.asarray(((numbers == 0) & (words != 0)) | (np.isnan(numbers) & (words != CANONICAL_NAN[numbers.dtype])))


def store(
    template: HotList,
    kind: str,
    ends: NDArray[np.int64],
    keys: NDArray[np.uint64],
    counts: NDArray[np.int64],
    texts: Texts | None,
    totals: NDArray[np.int64],
    cuts: NDArray[np.int64],
) -> Any:
    """Return the stored forms of lists as a pyarrow.BinaryArray.

    Parameters
    ----------
    template : HotList
        Of their class and parameters.
    kind : str
        The type of the items.
    ends : ndarray (lists + 1,) int64
        Entries of list g stand from ``ends[g]`` up to ``ends[g + 1]``.
    keys, counts : ndarray (entries,)
        Hashes of the items, and how often they came.
    texts : Texts, optional
        The items, if they are not numbers: those are in the hashes.
    totals, cuts : ndarray (lists,) int64
    """
    width, head = width_of(kind), head_of(template)
    bytes_of = FIRST + SEAL + (8 + (width or 4)) * np.diff(ends)
    if texts is not None:
        bytes_of += np.diff(texts.ends[ends])
    out, out_ends = room_for(template.KIND, bytes_of)
    words = words_of_hashes(keys, width) if width else NO_WORDS
    data, places = (NO_BYTES, NO_NUMBERS) if texts is None else texts
    _pack(ends, keys, counts, words, data, places, totals, cuts, CODES[kind], width, head, out, out_ends)
    seal_all(out, out_ends[:-1], out_ends[1:])
    return arrow_of(out, out_ends[1:])


def room_for(kind: str, sizes: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return an array for stored forms of these sizes, and where each begins, and the end.

    Raises
    ------
    SketchError
        They are more bytes than an Arrow array of binary can have.
    """
    ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    if ends[-1] > MOST_BYTES:
        raise SketchError(
            "store",
            "sketches",
            kind,
            expected=f"up to {MOST_BYTES:,} bytes at once",
            got=f"{ends[-1]:,}",
            why="the offsets of an Arrow binary array have 32 bits",
            todo="store some of them at a time: to_stored(start, stop)",
        )
    return np.empty(int(ends[-1]), np.uint8), ends


def words_of_hashes(hashes: NDArray[np.uint64], width: int) -> NDArray[np.uint64]:
    """Return the words of 4 or 8 bytes that have these hashes: XXH64 of so few bytes is one-to-one."""
    out = np.empty_like(hashes)
    for start in range(0, hashes.size, BLOCK):
        h = hashes[start : start + BLOCK]
        h = (h ^ h >> U32) * P3_BACK
        h = (h ^ h >> U29 ^ h >> U58) * P2_BACK
        h = h ^ h >> U33
        if width == 4:
            out[start : start + BLOCK] = (_rotl((h - P3) * P2_BACK, U64 - U23) ^ (SEED + P5 + U4)) * P1_BACK
        else:
            h = _rotl((h - P4) * P1_BACK, U64 - U27) ^ (SEED + P5 + U8)
            out[start : start + BLOCK] = _rotl(h * P1_BACK, U64 - U31) * P2_BACK
    return out
