"""Hot lists by number: rows are kept until there are many, brought into the order of their lists, and counted in the cache."""
# ruff: noqa: SLF001 (the hooks of sketches are for the package)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches import numbered_hot_kernel, numbered_hot_plain
from sketches.base import out_of_range
from sketches.columns import Column
from sketches.errors import EngineError, SketchError
from sketches.hot_list import MOST, HotList, _sum
from sketches.items import mixed
from sketches.jit import pick
from sketches.numbered import Numbered, Numbers
from sketches.numbered_hot_bytes import read, store, width_of
from sketches.numbered_rows import NO_BYTES, NO_NUMBERS, NO_WORDS, Rows, Texts
from sketches.stored import Blobs, blobs_of, spans

__all__ = ["NumberedHotLists"]

SEGMENT: Final = 4096  # rows of a list that are counted exactly between two purges
FEWEST: Final = 1 << 21  # rows that are kept before they are counted
MOST_ROWS: Final = 1 << 23
MOST_TEXT: Final = 1 << 26  # bytes
MOST_LISTS: Final = (1 << 31) - 1
LOW: Final = 0xFFFFFFFF

_absorb = pick(numbered_hot_kernel.absorb, numbered_hot_plain.absorb)


class NumberedHotLists(Numbered[HotList]):
    """Hot lists 0 to n - 1, MisraGries or SpaceSaving, with tables one after the other.

    Guarantee: that of the class for each list. Rows of all lists are kept until they are 2^21, or as many as there are entries if that is
    more, up to 2^23 (or their texts 2^26 bytes, or as many as those of entries). Then each list's rows are counted on top of its entries,
    exactly, at most 4,096 between two purges. A purge takes the greatest count c but `capacity` off at least ``capacity + 1`` counts, and
    nothing else is ever taken off: the argument of `MisraGries`. Stored lists are merged as rows, each with its count for a weight.

    All lists have items of one type, that of the first values or stored items; stored lists of another type are rows that are not taken.
    The hash of a number is one-to-one, so only the hash is kept, and the number is computed from it.

    State: 16 bytes for an entry, and the text with 8 bytes; 24 bytes for a list; 12 bytes for a row that is kept, 8 for its weight, and
    its text with 8 bytes. While rows are counted: as much again.
    """

    def __init__(self, template: HotList, count: int = 0) -> None:
        super().__init__(template)
        self._capacity = int(template.parameters["capacity"]) - template.SPARE
        self._kind = ""
        self._rows = Rows()
        self._all = 0  # the weight of all that was taken into any list: up to MOST, no list can have more
        self._totals = np.zeros(0, np.int64)
        self._cuts = np.zeros(0, np.int64)
        self._ends = np.zeros(1, np.int64)
        self._keys = NO_WORDS
        self._counts = NO_NUMBERS
        self._texts: Texts | None = None
        self.grow(count)

    def __len__(self) -> int:
        return self._totals.size

    def grow(self, count: int) -> None:  # noqa: D102
        more = count - len(self)
        if count > MOST_LISTS:
            raise SketchError("group", "sketches", self.template.KIND, expected=f"up to {MOST_LISTS:,}", got=f"{count:,}", todo="use fewer")
        if more > 0:
            self._totals, self._cuts = (np.concatenate((old, np.zeros(more, np.int64))) for old in (self._totals, self._cuts))
            self._ends = np.concatenate((self._ends, np.full(more, self._ends[-1])))

    # Taking -----------------------------------------------------------------------------------------------------------

    def _update(self, numbers: Numbers, values: Column, weights: NDArray[Any] | None, times: NDArray[np.int64] | None) -> None:
        if self._kind and len(values) and values.kind != self._kind:
            raise mixed("update", self.template.KIND, self._kind, values.kind)
        if weights is not None and not weights.all():
            some = np.flatnonzero(weights)
            numbers, values, weights = numbers[some], values.take(some), weights[some]
        taken = len(values) if weights is None else _sum(weights)
        if self._all + taken > MOST:
            self._check_totals(numbers, np.ones(len(values), np.int64) if weights is None else weights)
        self._all += taken
        for start in range(0, len(values), FEWEST):
            stop = min(start + FEWEST, len(values))
            keys = np.empty(stop - start, np.uint64)
            values.hash_into(start, stop, keys)
            part = values if keys.size == len(values) else values.take(np.arange(start, stop))
            self._put(numbers[start:stop], keys, None if weights is None else weights[start:stop].copy(), part)

    def _put(self, numbers: Numbers, keys: NDArray[np.uint64], weights: NDArray[np.int64] | None, values: Column) -> None:
        if keys.size:
            self._kind = self._kind or values.kind
            self._rows.put(numbers, keys, weights, values)
            text = MOST_TEXT if self._texts is None else max(MOST_TEXT, self._texts.data.size)
            if self._rows.size >= min(max(FEWEST, self._keys.size), MOST_ROWS) or self._rows.text_bytes >= text:
                self._count()

    def _check_totals(self, numbers: Numbers, weights: NDArray[np.int64]) -> None:
        """Refuse weights that are too much for a list."""
        self._count()
        low, high = self._totals & LOW, self._totals >> 32
        np.add.at(low, numbers, weights & LOW)
        np.add.at(high, numbers, weights >> 32)
        over = np.flatnonzero(high + (low >> 32) >= 1 << 31)
        if over.size:
            raise out_of_range("weights", f"a total up to {MOST:,}", (int(high[over[0]]) << 32) + int(low[over[0]]))

    def _count(self) -> None:
        """Count the rows that are kept."""
        if not self._rows.size:
            return
        starts, keys, weights, order, texts = self._rows.arranged(len(self))
        news, olds = np.diff(starts), np.diff(self._ends)
        room = int((np.minimum(news + olds, self._capacity) + np.minimum(news, SEGMENT)).max())
        most = int(np.minimum(news + olds, self._capacity).sum())
        ends, found, counts = np.empty_like(starts), np.empty(most, np.uint64), np.empty(most, np.int64)
        sources = np.empty(0 if texts is None else most, np.int64)
        _absorb(
            starts, keys, weights, order, self._ends, self._keys, self._counts, self._capacity, SEGMENT, room,
            self._totals, self._cuts, ends, found, counts, sources,
        )  # fmt: skip
        used = int(ends[-1])
        if texts is not None:
            self._texts = _chosen(self._texts, texts, sources[:used])
        self._ends, self._keys, self._counts = ends, found[:used], counts[:used]
        if 2 * used < most:
            self._keys, self._counts = self._keys.copy(), self._counts.copy()

    # Stored forms -----------------------------------------------------------------------------------------------------

    def merge_stored(self, numbers: Numbers, stored: Any) -> Mapping[int, SketchError]:  # noqa: D102
        self._check_numbers(numbers, len(stored))
        wrong: dict[int, SketchError] = {}
        blobs = blobs_of(stored)
        for span in spans(blobs.ends - blobs.begins):
            self._merge_span(numbers, blobs, span, wrong)
        return wrong

    def _merge_span(self, numbers: Numbers, blobs: Blobs, span: slice, wrong: dict[int, SketchError]) -> None:
        found = read(blobs, span, self.template, self._kind)
        if self._all + _sum(found.totals) > MOST:
            for place in range(span.start, span.stop):  # one by one, in their order: each either fits or does not
                self._merge_one(numbers, blobs, place, wrong)
            return
        if found.totals.any():
            self._kind = found.kind
        self._take(numbers[blobs.rows[found.places]], found.totals, found.cuts, found.sizes, found.hashes, found.counts, found.items)
        for place in found.others.tolist():
            self._merge_one(numbers, blobs, place, wrong)

    def _merge_one(self, numbers: Numbers, blobs: Blobs, place: int, wrong: dict[int, SketchError]) -> None:
        """Merge a stored form as its class reads it."""
        row = int(blobs.rows[place])
        number = numbers[row : row + 1]
        try:
            sketch = type(self.template).from_bytes(blobs.data[blobs.begins[place] : blobs.ends[place]].data)
            probe = self.template.copy()
            probe._items.kind = self._kind
            if self._all + sketch.total > MOST:
                self._count()
                probe._total = int(self._totals[number[0]])
            probe.merge(sketch)
        except EngineError as error:
            wrong[row] = error  # type: ignore[assignment]  # of a type that is none, too
            return
        self._kind = self._kind or sketch._items.kind
        items, one = sketch._items.column(), np.ones(1, np.int64)
        self._take(number, one * sketch.total, one * sketch.error(), one * len(items), sketch._hashes, sketch._counts, items)

    def _take(
        self,
        numbers: Numbers,
        totals: NDArray[np.int64],
        cuts: NDArray[np.int64],
        sizes: NDArray[np.int64],
        hashes: NDArray[np.uint64],
        counts: NDArray[np.int64],
        items: Column,
    ) -> None:
        """Take lists as rows; what they counted beyond their entries is in none of the rows."""
        self._all += _sum(totals)
        owners = np.repeat(np.arange(numbers.size), sizes)
        beyond = totals.copy()
        np.subtract.at(beyond, owners, counts)
        np.add.at(self._totals, numbers, beyond)
        np.add.at(self._cuts, numbers, cuts)
        self._put(numbers[owners], hashes, counts, items)

    def to_stored(self, start: int = 0, stop: int | None = None) -> Any:  # noqa: D102
        self._count()
        start, stop, _ = slice(start, stop).indices(len(self))
        ends = self._ends[start : max(start, stop) + 1]
        some = slice(int(ends[0]), int(ends[-1]))
        texts = None
        if not width_of(self._kind):
            whole = self._texts or Texts(NO_BYTES, np.zeros(1, np.int64))
            texts = Texts(whole.data, whole.ends[some.start : some.stop + 1])
        lists = slice(start, max(start, stop))
        found = self._keys[some], self._counts[some], texts, self._totals[lists], self._cuts[lists]
        return store(self.template, self._kind, ends - ends[0], *found)

    def at(self, number: int) -> HotList:  # noqa: D102
        number = range(len(self))[number]
        return type(self.template).from_bytes(self.to_stored(number, number + 1)[0].as_buffer())


def _chosen(old: Texts | None, new: Texts, sources: NDArray[np.int64]) -> Texts:
    """Return texts out of two places: that of -1 - i is the i-th old one, that of i the i-th new one."""
    if old is None:
        return Texts.of(new.data, new.ends[sources], new.ends[sources + 1])
    data = np.concatenate((old.data, new.data))
    ends = np.concatenate((old.ends[:-1], new.ends + old.data.size))  # the old ones end where the new ones begin
    places = np.where(sources < 0, -1 - sources, old.ends.size - 1 + sources)
    return Texts.of(data, ends[places], ends[places + 1])
