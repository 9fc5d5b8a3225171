"""Sketches by number whose content is one array: as rows of states, or, where they hold little, sparse.

    values ------------------> a log of items --.            .--> a row of states     where the dense form is the shorter one
    stored, sparse ----------> pieces ----------+-- flush ---+
                                                             '--> one piece for each number
    stored, dense -----------> rows

While all states together are few each sketch has a row from the begin, and values go there at once. When they are more a log is faster,
for it is sorted by number, so that a sketch is in the cache when its items come. Memory: in proportion to what `to_stored` returns, and a
log of at most `LOG_BYTES`, twice while it is sorted.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from sketches import by_number_kernel, by_number_plain
from sketches.base import StateSketch, checked_hashes
from sketches.columns import BLOCK, Column, Words, hash_blocks
from sketches.envelope import CHECKSUM
from sketches.errors import SketchBytesError, SketchError
from sketches.jit import pick
from sketches.numbered import Numbered, Numbers
from sketches.payload import empty_lines
from sketches.stored import MOST_BYTES, Blobs, arrow_of, blobs_of, head_of, seal_all, spans

__all__ = ["States", "longer"]

S = TypeVar("S", bound=StateSketch)
SMALL_BYTES: Final = 4 << 20  # of states: so many are all rows, and a value goes to its row at once; else a log, by number, is faster
LOG_BYTES: Final = 128 << 20  # ten million items
FIRST_ITEMS: Final = 1 << 14
ROOM_BYTES: Final = 32 << 20  # of stored sketches, for which there is made room at once
FIXED: Final = 8  # bytes of a payload that are no content, at most
LOW: Final = np.uint64(0xFFFFFFFF)

_sort_codes = pick(by_number_kernel.sort_codes, by_number_plain.sort_codes)
_starts_of_codes = pick(by_number_kernel.starts_of_codes, by_number_plain.starts_of_codes)


class States(Numbered[S]):
    """Sketches as rows and sparse forms; what a row and a sparse form are, a class of its own says.

    Attributes
    ----------
    _rows : ndarray (n,) int64
        The row of each number, -1 for none.
    _states : ndarray (rows, *state.shape)
        Those with a row.
    _pieces : ndarray (pieces, 3) int64
        Number, place in the arena, and entries, of each sparse form.
    _sums : ndarray (pieces + 1,) int64
        Entries in the pieces before, in the order of their numbers; there when `_ordered` is.
    _mixed : bool
        Whether a number with a row may also have pieces or items.
    """

    ENTRY_BYTES: int
    """Of an entry of a sparse form."""
    ITEM_ENTRIES: int
    """Entries that an item of the log can come to."""
    ITEM_BYTES: int
    """Of an item in the log."""
    SKIP: int
    """Bytes of a sparse payload before its entries."""

    def __init__(self, template: S) -> None:
        super().__init__(template)
        self._head = head_of(template)
        self._state_bytes = template.state.nbytes
        self._rows = np.empty(0, np.int64)
        self._states = self._room(0)
        self._used = 0
        self._arena = np.empty(0, np.uint8)
        self._filled = 0
        self._pieces = np.empty((0, 3), np.int64)
        self._known = 0
        self._mixed = False
        self._items = 0
        self._flushed_bytes = 0
        self._sums = np.zeros(1, np.int64)
        self._ordered: tuple[NDArray[np.uint64], Numbers, Numbers] | None = None

    # What each class says of itself -----------------------------------------------------------------------------------

    @abstractmethod
    def _take(self, keep: bool, numbers: Numbers, hashes: NDArray[np.uint64], weights: NDArray[Any] | None) -> None:
        """Take a block: into the rows there are, unless all is to be kept, and into the log, which has room."""

    @abstractmethod
    def _log_room(self, items: int) -> None:
        """Make room for so many items, if there is none for a block more."""

    @abstractmethod
    def _take_payloads(self, numbers: Numbers, blobs: Blobs, span: slice, fits: NDArray[np.bool_]) -> None:
        """Take those payloads that fit; make `fits` false for those that no sketch writes or that have no room."""

    @abstractmethod
    def _sort_log(self) -> Numbers:
        """Bring the log into the order of its numbers; return where the items of each begin, (n + 1,)."""

    @abstractmethod
    def _settle(self) -> None:
        """Take pieces and items of numbers that have a row into it."""

    @abstractmethod
    def _emit(self, numbers: Numbers, out: NDArray[np.uint8], at: int, ends: Numbers) -> int:
        """Write stored forms without checksums; `_ordered` is there, and nothing is mixed."""

    # What all do alike ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    def _room(self, rows: int) -> NDArray[Any]:
        state = self.template.state
        return empty_lines(rows, state.size, state.dtype.type).reshape(rows, *state.shape)

    def grow(self, count: int) -> None:  # noqa: D102
        before = len(self._rows)
        if count <= before:
            return
        more = np.full(count - before, -1, np.int64)
        if count * self._state_bytes <= SMALL_BYTES:
            self._row_room(more.size)
            more[:] = np.arange(self._used, self._used + more.size)
            self._used += more.size
        self._rows = np.concatenate((self._rows, more))
        self._ordered = None

    def _row_room(self, more: int) -> None:
        """Make room for so many rows more."""
        need = self._used + more
        if need > len(self._states):
            larger = self._room(max(need, 2 * len(self._states)))  # what is not written to takes no memory
            larger[: self._used] = self._states[: self._used]
            self._states = larger

    def update_hashes(self, numbers: Numbers, hashes: Any, weights: Any = None) -> None:  # noqa: D102
        some = checked_hashes(hashes)
        self.template.update_hashes(some[:0])  # does it take them?
        self._check_numbers(numbers, some.size)
        counts = self.template._weights_of(weights, some.size, Words(some, "long"))  # noqa: SLF001 (the hooks of sketches are for the package)
        self._update_blocks(numbers, _copies(some), counts)

    def _update(self, numbers: Numbers, values: Column, weights: NDArray[Any] | None, times: NDArray[np.int64] | None) -> None:
        del times  # no such class has them
        hashed = self.template._as_hashed(replace(values, rows=None))  # noqa: SLF001
        if hashed.rows is not None:  # some are no values after all
            numbers, weights = numbers[hashed.rows], None if weights is None else weights[hashed.rows]
        self._update_blocks(numbers, hash_blocks(hashed), weights)

    def _check_room(self, numbers: Numbers, weights: NDArray[Any] | None) -> None:
        """Refuse what would not fit, before anything is taken."""

    def _keeps(self) -> bool:
        """Tell whether items go to the log although their numbers have rows."""
        return self._used * self._state_bytes > SMALL_BYTES

    def _update_blocks(self, numbers: Numbers, blocks: Iterator[tuple[int, NDArray[np.uint64]]], weights: NDArray[Any] | None) -> None:
        self._check_room(numbers, weights)
        numbers, weights = _own(numbers), None if weights is None else _own(weights)
        self._ordered = None
        for start, hashes in blocks:
            if (self._items + hashes.size) * self.ITEM_BYTES > LOG_BYTES:
                self._flush()
                self._ordered = None
            self._log_room(max(self._items + hashes.size, min(4 * self._items, LOG_BYTES // self.ITEM_BYTES), FIRST_ITEMS))
            stop, keep = start + hashes.size, self._keeps()
            self._take(keep, numbers[start:stop], hashes, None if weights is None else weights[start:stop])
            self._mixed |= keep and self._used > 0

    # Stored forms -----------------------------------------------------------------------------------------------------

    def merge_stored(self, numbers: Numbers, stored: Any) -> Mapping[int, SketchError]:  # noqa: D102
        blobs = blobs_of(stored)
        self._check_numbers(numbers, len(stored))
        numbers = _own(numbers if blobs.rows.size == numbers.size else numbers[blobs.rows])
        self._ordered = None
        wrong: dict[int, SketchError] = {}
        sizes = blobs.ends - blobs.begins
        for part in spans(sizes, ROOM_BYTES):
            self._payload_room(numbers[part], blobs, part)
            for span in spans(sizes[part], start=part.start):
                fits = blobs.fit(self._head, span)
                self._take_payloads(numbers[span], blobs, span, fits)
                for place in (np.flatnonzero(~fits) + span.start).tolist():
                    try:
                        self._merge_one(int(numbers[place]), blobs.data[blobs.begins[place] : blobs.ends[place]])
                    except (SketchError, SketchBytesError) as error:
                        wrong[int(blobs.rows[place])] = error  # type: ignore[assignment]
        return wrong

    def _payload_room(self, numbers: Numbers, blobs: Blobs, part: slice) -> None:
        """Make room for the rows, pieces and bytes of the arena that payloads can come to."""
        some = np.flatnonzero(self._rows[numbers] < 0)
        begins = blobs.begins[part][some] + self._head.size
        sizes = blobs.ends[part][some] - begins
        if int(sizes.sum()) + self._filled > max(LOG_BYTES, 2 * self._flushed_bytes) and self._filled:
            self._flush()
            self._ordered = None
        dense = np.flatnonzero(sizes == 1 + self._state_bytes + CHECKSUM.size)
        dense = dense[blobs.data[begins[dense]] == 0]
        self._row_room(int(np.unique(numbers[some[dense]]).size))
        self._arena = longer(self._arena, self._filled, int(np.maximum(sizes, 0).sum()) - dense.size * self._state_bytes)
        self._pieces = longer(self._pieces, self._known, sizes.size - dense.size)

    def _merge_one(self, number: int, data: NDArray[np.uint8]) -> None:
        """Take one stored sketch by the way of all, or raise what is wrong with it."""
        found = type(self.template).from_bytes(data.tobytes())
        self.template.copy().merge(found)  # of equal parameters?
        self._check_merge(number, found)
        if self._rows[number] < 0:
            self._row_room(1)
            self._rows[number] = self._used
            self._used += 1
            self._mixed = True
        self.template.of_state(self._states[self._rows[number]]).merge(found)

    def _check_merge(self, number: int, found: S) -> None:
        """Refuse a sketch that has no room."""

    def to_stored(self, start: int = 0, stop: int | None = None) -> Any:  # noqa: D102
        return arrow_of(*self._stored(start, stop))

    def _stored(self, start: int = 0, stop: int | None = None) -> tuple[NDArray[np.uint8], Numbers]:
        """Return stored forms one after the other, and where each ends."""
        numbers = np.arange(*slice(start, stop).indices(len(self)), dtype=np.int64)
        if self._mixed:
            self._flush()
        return self._written(numbers, sealed=True)

    def at(self, number: int) -> S:  # noqa: D102
        if self._mixed:
            self._flush()
        row = self._rows[number]
        if row >= 0:
            return self.template.of_state(self._states[row]).copy()
        out, ends = self._written(np.array([range(len(self))[number]], np.int64), sealed=True)
        return type(self.template).from_bytes(out[: ends[0]].tobytes())

    def _written(self, numbers: Numbers, *, sealed: bool) -> tuple[NDArray[np.uint8], Numbers]:
        """Return stored forms; where they are not sealed their checksums are missing."""
        bounds = self._bounds(numbers)
        out, ends = np.empty(int(bounds.sum()), np.uint8), np.empty(numbers.size, np.int64)
        at = 0
        for span in spans(bounds):
            begin, at = at, self._emit(numbers[span], out, at, ends[span])
            if sealed:
                if at > MOST_BYTES:
                    expected, todo = f"up to {MOST_BYTES:,} bytes at once", "ask for fewer: to_stored(start, stop)"
                    raise SketchError("store", "sketches", self.template.KIND, expected=expected, got="more", todo=todo)
                begins = np.concatenate(([begin], ends[span][:-1]))
                seal_all(out, begins, ends[span])
        return out, ends

    def _bounds(self, numbers: Numbers) -> Numbers:
        """Return as many bytes as the stored form of each can have."""
        _, piece_starts, item_starts = self._order()
        entries = self._sums[piece_starts[numbers + 1]] - self._sums[piece_starts[numbers]]
        entries += (item_starts[numbers + 1] - item_starts[numbers]) * self.ITEM_ENTRIES
        content = np.where(self._rows[numbers] < 0, np.minimum(entries * self.ENTRY_BYTES, self._state_bytes), self._state_bytes)
        return np.asarray(content + (self._head.size + FIXED + CHECKSUM.size))

    def _order(self) -> tuple[NDArray[np.uint64], Numbers, Numbers]:
        """Return the pieces in the order of their numbers, where those of each begin, and where its items do."""
        if self._ordered is None:
            codes = self._pieces[: self._known, 0].astype(np.uint64) << np.uint64(32) | np.arange(self._known, dtype=np.uint64)
            order, starts = _sort_codes(codes, len(self)), np.empty(len(self) + 1, np.int64)
            _starts_of_codes(order, starts)
            self._sums = np.concatenate(([0], np.cumsum(self._pieces[order & LOW, 2])))
            self._ordered = order, starts, self._sort_log()
        return self._ordered

    def _flush(self) -> None:
        """Make of all that each number has one piece or a row."""
        _, piece_starts, item_starts = self._order()
        if self._mixed:
            self._settle()
        some = (np.diff(piece_starts) > 0) | (np.diff(item_starts) > 0)
        numbers = np.flatnonzero(some & (self._rows < 0))
        out, ends = self._written(numbers, sealed=False)
        content = np.concatenate(([0], ends[:-1]))[: ends.size] + self._head.size
        dense = out[content] == 0
        counts = (ends - CHECKSUM.size - content - self.SKIP) // self.ENTRY_BYTES
        self._pieces = np.column_stack((numbers, content + self.SKIP, counts))[~dense]
        self._known, self._arena = len(self._pieces), out
        self._filled = self._flushed_bytes = int(ends[-1]) if ends.size else 0
        self._row_room(int(np.count_nonzero(dense)))
        rows = self._states.reshape(len(self._states), self.template.state.size).view(np.uint8)
        for number, begin in zip(numbers[dense].tolist(), content[dense].tolist(), strict=True):
            rows[self._used] = out[begin + 1 : begin + 1 + self._state_bytes]
            self._rows[number] = self._used
            self._used += 1
        self._items, self._mixed, self._ordered = 0, False, None


def _own(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in the one form that kernels are compiled for: contiguous, and such as can be written to."""
    return array if array.flags.writeable and array.flags.c_contiguous else array.copy()


def _copies(hashes: NDArray[np.uint64]) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """Yield the hashes block by block, as `hash_blocks` does."""
    buffer = np.empty(min(BLOCK, hashes.size), np.uint64)
    for start in range(0, hashes.size, BLOCK):
        part = hashes[start : start + BLOCK]
        buffer[: part.size] = part
        yield start, buffer[: part.size]


def longer(array: NDArray[Any], used: int, more: int) -> NDArray[Any]:
    """Return an array that is nobody else's, or a longer one that has its first `used`, with room for `more`."""
    if used + more <= len(array):
        return array
    rows = max(used + more, len(array) + len(array) // 2, 1024)
    if array.flags.owndata and array.flags.c_contiguous:
        array.resize((rows, *array.shape[1:]), refcheck=False)  # large ones are not copied, but get other addresses
        return array
    larger = np.empty((rows, *array.shape[1:]), array.dtype)
    larger[:used] = array[:used]
    return larger
