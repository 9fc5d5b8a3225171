"""Counters of distinct values by number: HyperLogLog and UltraLogLog."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches import by_number_kernel, by_number_plain, numbered_registers_kernel, numbered_registers_plain
from sketches.columns import BLOCK
from sketches.distinct import DistinctSketch
from sketches.jit import pick
from sketches.numbered import Numbers
from sketches.numbered_states import States
from sketches.stored import Blobs
from sketches.ultraloglog import UltraLogLog

__all__ = ["NumberedRegisters"]

WORD: Final = 64

_take = pick(numbered_registers_kernel.take, numbered_registers_plain.take)
_take_stored = pick(numbered_registers_kernel.take_stored, numbered_registers_plain.take_stored)
_settle_pieces = pick(numbered_registers_kernel.settle_pieces, numbered_registers_plain.settle_pieces)
_settle_codes = pick(numbered_registers_kernel.settle_codes, numbered_registers_plain.settle_codes)
_emit = pick(numbered_registers_kernel.emit, numbered_registers_plain.emit)
_sort_codes = pick(by_number_kernel.sort_codes, by_number_plain.sort_codes)
_starts_of_codes = pick(by_number_kernel.starts_of_codes, by_number_plain.starts_of_codes)


class NumberedRegisters(States[DistinctSketch]):
    """Registers by number: see `sketches.numbered_states`. An item of the log is a code: number << 32 | place << 8 | register."""

    ENTRY_BYTES = 4
    ITEM_ENTRIES = 1
    ITEM_BYTES = 8
    SKIP = 1

    def __init__(self, template: DistinctSketch) -> None:
        super().__init__(template)
        self._ultra = isinstance(template, UltraLogLog)
        self._codes = np.empty(0, np.uint64)
        size = template.state.size
        self._scratch = np.zeros(size, np.uint8), np.zeros(-(-size // WORD), np.uint64), np.zeros(-(-size // WORD**2), np.uint64)

    def _log_room(self, items: int) -> None:
        if self._items + BLOCK > self._codes.size:
            codes, self._codes = self._codes, np.empty(items + BLOCK, np.uint64)
            self._codes[: self._items] = codes[: self._items]

    def _take(self, keep: bool, numbers: Numbers, hashes: NDArray[np.uint64], weights: NDArray[Any] | None) -> None:
        del weights  # no such sketch has them
        precision = self.template.precision
        self._items = _take(self._states, self._rows, precision, self._ultra, keep, numbers, hashes, self._codes, self._items)

    def _take_payloads(self, numbers: Numbers, blobs: Blobs, span: slice, fits: NDArray[np.bool_]) -> None:
        begins, ends = blobs.begins[span] + self._head.size, blobs.ends[span] - 4
        state = self._states, self._rows, self._used, self.template.precision, self._ultra
        before = self._used
        self._used, self._filled, self._known = _take_stored(
            *state, numbers, blobs.data, begins, ends, fits, self._arena, self._filled, self._pieces, self._known
        )
        self._mixed |= self._used > before and bool(self._known or self._items)

    def _sort_log(self) -> Numbers:
        self._codes = _sort_codes(self._codes[: self._items], len(self))
        starts = np.empty(len(self) + 1, np.int64)
        _starts_of_codes(self._codes, starts)
        return starts

    def _settle(self) -> None:
        _settle_pieces(self._states, self._rows, self._ultra, self._arena, self._pieces[: self._known])
        _settle_codes(self._states, self._rows, self._ultra, self._codes[: self._items])

    def _emit(self, numbers: Numbers, out: NDArray[np.uint8], at: int, ends: Numbers) -> int:
        order, piece_starts, item_starts = self._order()
        scratch, words, tops = self._scratch
        return _emit(
            self._states,
            self._rows,
            self._ultra,
            numbers,
            self._arena,
            self._pieces,
            order,
            piece_starts,
            self._codes,
            item_starts,
            self._head,
            scratch,
            words,
            tops,
            out,
            at,
            ends,
        )
