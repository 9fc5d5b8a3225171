"""Tables by number: Bloom filters, and counts by Count-Min."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches import (
    bloom_kernel,
    bloom_plain,
    by_number_kernel,
    by_number_plain,
    classic_bloom_kernel,
    classic_bloom_plain,
    count_min_kernel,
    count_min_plain,
    numbered_tables_kernel,
    numbered_tables_plain,
    numbered_tables_stored_kernel,
)
from sketches.base import StateSketch
from sketches.bloom import BloomFilter
from sketches.classic_bloom import ClassicBloomFilter
from sketches.columns import BLOCK
from sketches.count_min import CountMinSketch
from sketches.jit import pick
from sketches.numbered import Numbers
from sketches.numbered_states import States
from sketches.numbered_tables_kernel import BLOOM, CLASSIC, CONSERVATIVE, COUNTS
from sketches.stored import Blobs
from sketches.whole_weights import LARGEST, sum_of

__all__ = ["NumberedTables"]

WORD: Final = 64
NONE: Final = np.empty(0, np.int64)

_split = pick(numbered_tables_kernel.split, numbered_tables_plain.split)
_tally = pick(numbered_tables_kernel.tally, numbered_tables_plain.tally)
_take_stored = pick(numbered_tables_stored_kernel.take_stored, numbered_tables_plain.take_stored)
_settle = pick(numbered_tables_kernel.settle, numbered_tables_plain.settle)
_emit = pick(numbered_tables_kernel.emit, numbered_tables_plain.emit)
_sort_items = pick(by_number_kernel.sort_items, by_number_plain.sort_items)
_starts_of_numbers = pick(by_number_kernel.starts_of_numbers, by_number_plain.starts_of_numbers)
_insert_blocks = pick(bloom_kernel.insert_grouped, bloom_plain.insert_grouped)
_insert_bits = pick(classic_bloom_kernel.insert_grouped, classic_bloom_plain.insert_grouped)
_add = pick(count_min_kernel.add_grouped, count_min_plain.add_grouped)


class NumberedTables(States[StateSketch]):
    """Tables by number: see `sketches.numbered_states`. An item of the log is a number, a hash and, where they are not all 1, a weight.

    Conservative counts are all taken from the log: the values of one sketch between two flushes are counted, then raised together.
    """

    SKIP = 5

    def __init__(self, template: StateSketch) -> None:
        super().__init__(template)
        lanes, self._kind, self._probes = _form_of(template)
        self._lanes = lanes
        self.ENTRY_BYTES = 4 + 8 * lanes
        self.ITEM_ENTRIES = {BLOOM: 1, CLASSIC: self._probes}.get(self._kind, self._probes + 1)
        self.ITEM_BYTES = 12
        self._numbers, self._hashes, self._weights = np.empty(0, np.uint32), np.empty(0, np.uint64), NONE
        self._totals = NONE
        words = self._state_bytes // 8
        lines = words // lanes
        self._scratch = np.zeros(words, np.uint64), np.zeros(-(-lines // WORD), np.uint64), np.zeros(-(-lines // WORD**2), np.uint64)
        self._direct = np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.int64)

    def grow(self, count: int) -> None:  # noqa: D102
        super().grow(count)
        self._totals = np.concatenate((self._totals, np.zeros(len(self) - len(self._totals), np.int64)))

    @property
    def _words(self) -> NDArray[np.uint64]:
        """The rows, as words of 64 bits."""
        return self._states.reshape(len(self._states), self.template.state.size).view(np.uint64)

    def _check_room(self, numbers: Numbers, weights: NDArray[Any] | None) -> None:
        if self._kind < COUNTS or not numbers.size:
            return
        more = numbers.size if weights is None else sum_of(weights)
        if more + int(self._totals.max()) > LARGEST:  # of some number alone?
            order = np.argsort(numbers, kind="stable")
            starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))
            some = np.ones(numbers.size, object) if weights is None else weights[order].astype(object)
            for number, total in zip(numbers[order[starts]].tolist(), np.add.reduceat(some, starts).tolist(), strict=True):
                self.template.check_room(total, int(self._totals[number]))  # type: ignore[attr-defined]  # it counts
        _tally(self._totals, numbers, NONE if weights is None else weights)

    def _keeps(self) -> bool:
        return self._kind == CONSERVATIVE or super()._keeps()

    def _log_room(self, items: int) -> None:
        if self._items + BLOCK <= self._hashes.size:
            return
        room = items + BLOCK
        numbers, hashes, weights = (
            np.empty(room, np.uint32),
            np.empty(room, np.uint64),
            np.empty(room if self._weights.size else 0, np.int64),
        )
        numbers[: self._items], hashes[: self._items], weights[: self._items] = self._log()
        self._numbers, self._hashes, self._weights = numbers, hashes, weights

    def _log(self) -> tuple[NDArray[np.uint32], NDArray[np.uint64], NDArray[np.int64]]:
        return self._numbers[: self._items], self._hashes[: self._items], self._weights[: self._items]

    def _take(self, keep: bool, numbers: Numbers, hashes: NDArray[np.uint64], weights: NDArray[Any] | None) -> None:
        some = NONE if weights is None else weights
        if some.size and not self._weights.size:  # the first ones
            self._weights = np.ones(self._hashes.size, np.int64)
            self.ITEM_BYTES = 20
        if not self._direct[0].size:
            self._direct = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.int64)
        rows, direct_hashes, direct_weights = self._direct
        log = self._numbers, self._hashes, self._weights
        self._items, direct = _split(self._rows, keep, numbers, hashes, some, *log, self._items, rows, direct_hashes, direct_weights)
        if not direct:
            return
        rows, direct_hashes = rows[:direct], direct_hashes[:direct]
        if self._kind == BLOOM:
            _insert_blocks(self._states, rows, direct_hashes)
        elif self._kind == CLASSIC:
            _insert_bits(self._states, rows, direct_hashes, self._probes)
        else:
            _add(self._states, self._probes, rows, direct_hashes, direct_weights[:direct])

    def _take_payloads(self, numbers: Numbers, blobs: Blobs, span: slice, fits: NDArray[np.bool_]) -> None:
        begins, ends = blobs.begins[span] + self._head.size, blobs.ends[span] - 4
        before = self._used
        self._used, self._filled, self._known = _take_stored(
            self._kind,
            self._probes,
            self._lanes,
            self._words,
            self._rows,
            self._used,
            self._totals,
            numbers,
            blobs.data,
            begins,
            ends,
            fits,
            self._arena,
            self._filled,
            self._pieces,
            self._known,
        )
        self._mixed |= self._used > before and bool(self._known or self._items)

    def _check_merge(self, number: int, found: StateSketch) -> None:
        if isinstance(found, CountMinSketch):
            found.check_room(found.total, int(self._totals[number]))
            self._totals[number] += found.total

    def _sort_log(self) -> Numbers:
        self._numbers, self._hashes, self._weights = _sort_items(*self._log(), len(self))
        starts = np.empty(len(self) + 1, np.int64)
        _starts_of_numbers(self._numbers, starts)
        return starts

    def _settle(self) -> None:
        form, pieces = (self._kind, self._probes, self._lanes), self._pieces[: self._known]
        _settle(*form, self._words, self._rows, self._arena, pieces, self._hashes, self._weights, self._order()[2])

    def _emit(self, numbers: Numbers, out: NDArray[np.uint8], at: int, ends: Numbers) -> int:
        order, piece_starts, item_starts = self._order()
        scratch, words, tops = self._scratch
        return _emit(
            self._kind,
            self._probes,
            self._lanes,
            self._words,
            self._rows,
            numbers,
            self._arena,
            self._pieces,
            order,
            piece_starts,
            self._hashes,
            self._weights,
            item_starts,
            self._head,
            scratch,
            words,
            tops,
            out,
            at,
            ends,
        )


def _form_of(template: StateSketch) -> tuple[int, int, int]:
    """Return the words of a line, the kind, and how many lines a value has part in."""
    if isinstance(template, BloomFilter):
        return 4, BLOOM, 1
    if isinstance(template, ClassicBloomFilter):
        return 1, CLASSIC, int(template.parameters["probes"])
    assert isinstance(template, CountMinSketch)  # noqa: S101 (there are no others)
    return 1, CONSERVATIVE if template.parameters["conservative"] else COUNTS, int(template.parameters["depth"])
