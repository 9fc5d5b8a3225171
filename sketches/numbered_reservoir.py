"""Reservoirs by number: Algorithm L for each in one pass over the rows, byte for byte what `ReservoirSample` does."""
# ruff: noqa: SLF001 (the hooks of sketches are for the package)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches import numbered_reservoir_bytes_kernel as stored_kernel
from sketches import numbered_reservoir_kernel as kernel
from sketches.columns import Column, Words
from sketches.errors import EngineError, SketchError
from sketches.items import CODES, mixed
from sketches.jit import HAS_NUMBA
from sketches.numbered import Numbered, Numbers, Objects
from sketches.numbered_hot_bytes import ODD_KINDS, WIDTHS, odd_words, room_for, width_of
from sketches.numbered_reservoir_bytes_kernel import FIRST, SEAL
from sketches.numbered_reservoir_draws_kernel import COUNT, KEY, ROOM
from sketches.numbered_reservoir_kernel import BYTES, FIRST_ROOM, POOL, TEXTS
from sketches.numbered_reservoir_merge_kernel import merge
from sketches.numbered_rows import NO_BYTES, NO_NUMBERS, NO_WORDS, Rows, frozen
from sketches.reservoir import MOST_COUNT, ReservoirSample
from sketches.stored import Blobs, arrow_of, blobs_of, head_of, seal_all, spans

__all__ = ["NumberedReservoirs", "ReservoirObjects", "reservoirs"]

LINE: Final = 8  # words of a state
FEWEST: Final = 1 << 10  # words there is room for at the begin
Parts = tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]
ROWS_EACH: Final = 16  # that wait for each sample before they are given to it
MOST_ROWS: Final = 1 << 21
MOST_TEXT: Final = 1 << 26  # bytes


def reservoirs(template: ReservoirSample) -> Numbered[ReservoirSample]:
    """Return the form that is fastest: loops where numba is there to compile them, else objects that give the same bytes."""
    return NumberedReservoirs(template) if HAS_NUMBA else ReservoirObjects(template)


class ReservoirObjects(Objects[ReservoirSample]):
    """Reservoirs as objects, all of items of one type: what `NumberedReservoirs` is without numba."""

    def __init__(self, template: ReservoirSample) -> None:
        super().__init__(template)
        self._kind = ""

    def _update(self, numbers: Numbers, values: Column, weights: NDArray[Any] | None, times: NDArray[np.int64] | None) -> None:
        _check_kind("update", self._kind, values.kind, len(values))
        self._kind = self._kind or (values.kind if len(values) else "")
        super()._update(numbers, values, weights, times)

    def merge_stored(self, numbers: Numbers, stored: Any) -> Mapping[int, SketchError]:  # noqa: D102
        self._check_numbers(numbers, len(stored))
        wrong: dict[int, SketchError] = {}
        blobs = blobs_of(stored)
        for place, row in enumerate(blobs.rows.tolist()):
            try:
                sketch, ours = _read(self.template, blobs, place, self._kind), self._sketches[numbers[row]]
                _check_count(ours.count, sketch.count)
                ours.merge(sketch)
            except EngineError as error:
                wrong[row] = error  # type: ignore[assignment]  # of a type that is none, too
            else:
                self._kind = self._kind or sketch._items.kind
        return wrong


class NumberedReservoirs(Numbered[ReservoirSample]):
    """Reservoirs 0 to n - 1, with a line of eight words for each and their items in one pool.

    Guarantee: each gives the bytes that `ReservoirSample` gives that took the same values and stored samples in the same order: its law,
    its random numbers. Those follow from the seed of the template, the number, and the first values. So two workers that sample parts of a
    stream under one seed and one number choose other places unless the first values are equal, one by one; where that may be, as with few
    distinct values, give each worker's template a seed of its own, such as ``draws.fold(seed, partition)``: equal random numbers in parts
    that are merged would make the sample of the whole less random than it says.

    All have items of one type, that of the first values or stored items; stored samples of another type are rows that are not taken.

    State: 64 bytes for a sample; 8 bytes for an item, up to three times that while samples grow; texts in up to twice their bytes, and
    16 bytes for each. No row is kept that was not taken.
    """

    def __init__(self, template: ReservoirSample, count: int = 0) -> None:
        super().__init__(template)
        self._size = int(template.parameters["size"])
        self._kind = ""
        self._lines: NDArray[np.int64] = np.zeros((0, LINE), np.int64)
        self._marks: NDArray[np.int64] = np.zeros(3, np.int64)
        self._pool = np.empty(0, np.uint64)
        self._texts = np.empty(0, np.uint8)
        self._text_ends = np.zeros(1, np.int64)
        self._count = 0
        self._rows = Rows()
        self.grow(count)

    def __len__(self) -> int:
        return self._count

    def grow(self, count: int) -> None:  # noqa: D102
        before = self._count
        if count > len(self._lines):
            lines = np.zeros((max(count, len(self._lines) * 3 // 2), LINE), np.int64)
            lines[:before] = self._lines[:before]
            self._lines = lines
        if count > before:
            kernel.prepare(self._lines.view(np.uint64)[before:count, KEY], np.uint64(self.template._key_), before)
            self._count = count

    def _run(self, loop: Any, *found: Any) -> int:
        """Run a kernel from where it has room again; returns how far it came."""
        lines = self._lines[: self._count]
        kept = self._pool, self._texts, self._text_ends, self._marks
        return int(loop(lines, lines.view(np.uint64), lines.view(np.float64), *found, *kept))

    # Taking -----------------------------------------------------------------------------------------------------------

    def _update(self, numbers: Numbers, values: Column, weights: NDArray[Any] | None, times: NDArray[np.int64] | None) -> None:
        _check_kind("update", self._kind, values.kind, len(values))
        for start in range(0, len(values), MOST_ROWS):
            part = values if len(values) <= MOST_ROWS else values.take(np.arange(start, min(start + MOST_ROWS, len(values))))
            self._kind = values.kind
            words = part.words.astype(np.uint64) if isinstance(part, Words) else NO_WORDS
            self._rows.put(numbers[start : start + MOST_ROWS], words, None, part)
            if self._rows.size >= min(ROWS_EACH * self._count, MOST_ROWS) or self._rows.text_bytes >= MOST_TEXT:
                self._sample()

    def _sample(self) -> None:
        """Give the rows that wait to their samples."""
        if not self._rows.size:
            return
        starts, words, _, order, texts = self._rows.arranged(self._count)
        there = np.flatnonzero(starts[1:] > starts[:-1])
        runs = np.stack((there, starts[there], starts[there + 1]), axis=1)
        source, begins, ends = NO_BYTES, NO_NUMBERS, NO_NUMBERS
        if texts is not None:
            source, begins, ends = texts.data, texts.ends[order], texts.ends[order + 1]
        width, growth = width_of(self._kind), self._growth(runs)
        self._make_room(growth, growth, source.size * growth // order.size if order.size else 0)  # of texts about as much
        run = 0
        while True:
            run = self._run(kernel.take, runs, run, words, frozen(source), begins, ends, self._size, width)
            if run == len(runs):
                return
            _, row, end = runs[run].tolist()
            self._make_room(self._size, end - row, 0 if width else int((ends[row:end] - begins[row:end]).max()))

    def _growth(self, runs: NDArray[np.int64]) -> int:
        """Return how many words of the pool some runs take, at most."""
        lines = self._lines[runs[:, 0]]
        wanted = np.minimum(lines[:, COUNT] + runs[:, 2] - runs[:, 1], self._size)
        return int(np.minimum(np.maximum(wanted + wanted // 2, FIRST_ROOM), self._size)[wanted > lines[:, ROOM]].sum())

    def _make_room(self, words: int, texts: int, text_bytes: int) -> None:
        """Make room in the pool for a block, and for texts; what is no longer used is left out."""
        if self._marks[POOL] + words > self._pool.size:
            alive = int(self._lines[: self._count, ROOM].sum())
            larger = np.empty(max(alive + alive // 2 + words, FEWEST), np.uint64)
            self._marks[POOL] = kernel.move(self._lines[: self._count], self._pool, larger)
            self._pool = larger
        if not width_of(self._kind) and (
            self._marks[TEXTS] + texts + 1 > self._text_ends.size or self._marks[BYTES] + text_bytes > self._texts.size
        ):
            lines, alive = self._lines[: self._count], int(np.minimum(self._lines[: self._count, COUNT], self._size).sum())
            sizes = np.empty(self._count, np.int64)
            stored_kernel.measure(lines, self._size, self._pool, 0, self._text_ends, sizes)
            alive_bytes = int(sizes.sum()) - self._count * (FIRST + SEAL) - 4 * alive
            data = np.empty(max(2 * alive_bytes + text_bytes, FEWEST), np.uint8)
            ends = np.empty(max(2 * alive + texts, FEWEST) + 1, np.int64)
            kernel.compact(lines, self._size, self._pool, self._texts, self._text_ends, data, ends, self._marks)
            self._texts, self._text_ends = data, ends

    # Stored forms -----------------------------------------------------------------------------------------------------

    def merge_stored(self, numbers: Numbers, stored: Any) -> Mapping[int, SketchError]:  # noqa: D102
        self._check_numbers(numbers, len(stored))
        wrong: dict[int, SketchError] = {}
        self._sample()
        blobs = blobs_of(stored)
        for span in spans(blobs.ends - blobs.begins):
            self._merge_span(numbers, blobs, span, wrong)
        return wrong

    def _merge_span(self, numbers: Numbers, blobs: Blobs, span: slice, wrong: dict[int, SketchError]) -> None:
        fits, begins, ends = blobs.fit(head_of(self.template), span), blobs.begins[span], blobs.ends[span]
        codes, lines = np.zeros(fits.size, np.int64), np.zeros((fits.size, LINE), np.int64)
        views = lines, lines.view(np.uint64), lines.view(np.float64)
        stored_kernel.heads(blobs.data, begins, ends, self._size, WIDTHS, fits, codes, *views)
        kind = self._kind or self._first_kind(blobs, span.start + np.flatnonzero(fits & (codes > 0)))
        fits &= (codes == CODES[kind]) & (codes > 0)
        fits[_odd_forms(blobs.data, begins, np.flatnonzero(fits), lines[:, COUNT], self._size, kind)] = False
        for place in (span.start + np.flatnonzero(~fits)).tolist():
            try:
                _read(self.template, blobs, place, kind)  # nothing is wrong with it if it is empty
            except EngineError as error:
                wrong[int(blobs.rows[place])] = error  # type: ignore[assignment]  # of a type that is none, too
        rows = blobs.rows[span]
        self._check_counts(numbers, rows, lines[:, COUNT], fits, wrong)
        if fits.any():
            self._kind = kind
            self._merge_forms(numbers[rows[fits]], blobs.data, begins[fits], lines[fits])

    def _first_kind(self, blobs: Blobs, places: NDArray[np.int64]) -> str:
        """Return the type of the items of the first form that has any and is sound."""
        for place in places.tolist():
            try:
                return _read(self.template, blobs, place, "")._items.kind
            except EngineError:
                continue
        return ""

    def _check_counts(
        self, numbers: Numbers, rows: NDArray[np.int64], counts: NDArray[np.int64], fits: NDArray[np.bool_], wrong: dict[int, SketchError]
    ) -> None:
        """Leave out what would make a sample count more than can be stored."""
        if float(counts[fits].sum(dtype=np.float64)) + float(self._lines[:, COUNT].max(initial=0)) < MOST_COUNT:
            return
        seen: dict[int, int] = {}
        for place in np.flatnonzero(fits).tolist():
            number = int(numbers[rows[place]])
            before = seen.get(number, int(self._lines[number, COUNT]))
            try:
                _check_count(before, int(counts[place]))
            except SketchError as error:
                wrong[int(rows[place])] = error
                fits[place] = False
            else:
                seen[number] = before + int(counts[place])

    def _merge_forms(self, numbers: Numbers, data: NDArray[np.uint8], starts: NDArray[np.int64], heads: NDArray[np.int64]) -> None:
        """Merge stored forms that are sound, in their order."""
        width = width_of(self._kind)
        firsts, words, begins, ends = _items(data, starts, np.minimum(heads[:, COUNT], self._size), width)
        views = heads, heads.view(np.uint64), heads.view(np.float64)
        done = 0
        while True:
            found = firsts, words, data, begins, ends, done, self._size, width
            done = self._run(merge, numbers, *views, *found)
            if done == numbers.size:
                return
            start, stop = int(firsts[done]), int(firsts[done + 1])
            self._make_room(self._size, stop - start, 0 if width else int((ends[start:stop] - begins[start:stop]).sum()))

    def to_stored(self, start: int = 0, stop: int | None = None) -> Any:  # noqa: D102
        self._sample()
        start, stop, _ = slice(start, stop).indices(len(self))
        lines, width = self._lines[start : max(start, stop)], width_of(self._kind)
        sizes = np.empty(len(lines), np.int64)
        stored_kernel.measure(lines, self._size, self._pool, width, self._text_ends, sizes)
        out, ends = room_for(self.template.KIND, sizes)
        kept = self._pool, self._texts, self._text_ends
        head = head_of(self.template)
        stored_kernel.pack(lines, lines.view(np.uint64), self._size, *kept, CODES[self._kind], width, head, out, ends)
        seal_all(out, ends[:-1], ends[1:])
        return arrow_of(out, ends[1:])

    def at(self, number: int) -> ReservoirSample:  # noqa: D102
        number = range(len(self))[number]
        return type(self.template).from_bytes(self.to_stored(number, number + 1)[0].as_buffer())


def _read(template: ReservoirSample, blobs: Blobs, place: int, kind: str) -> ReservoirSample:
    """Read a stored form as its class does, and refuse what cannot be merged."""
    sketch = type(template).from_bytes(blobs.data[blobs.begins[place] : blobs.ends[place]].data)
    template.copy().merge(sketch)
    _check_kind("merge", kind, sketch._items.kind, len(sketch._items))
    return sketch


def _items(data: NDArray[np.uint8], starts: NDArray[np.int64], sizes: NDArray[np.int64], width: int) -> Parts:
    """Return where the items of each of some forms begin, and the items: words, or where in `data` each begins and ends."""
    firsts = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    size = int(firsts[-1])
    words, begins, ends = np.empty(size if width else 0, np.uint64), *np.empty((2, 0 if width else size), np.int64)
    stored_kernel.items(data, starts, firsts, width, words, begins, ends)
    return firsts, words, begins, ends


def _odd_forms(
    data: NDArray[np.uint8], starts: NDArray[np.int64], places: NDArray[np.int64], counts: NDArray[np.int64], size: int, kind: str
) -> NDArray[np.int64]:
    """Return those forms that have items whose byte forms no value has."""
    if kind not in ODD_KINDS or not places.size:
        return NO_NUMBERS
    firsts, words, _, _ = _items(data, starts[places], np.minimum(counts[places], size), width_of(kind))
    odd = odd_words(Words(words.astype(np.uint32) if width_of(kind) == 4 else words, kind))
    found: NDArray[np.int64] = places[np.searchsorted(firsts, np.flatnonzero(odd), "right") - 1]
    return found


def _check_kind(action: str, ours: str, theirs: str, number: int) -> None:
    if ours and number and theirs != ours:
        raise mixed(action, ReservoirSample.KIND, ours, theirs)


def _check_count(ours: int, theirs: int) -> None:
    if ours + theirs > MOST_COUNT:
        raise SketchError(
            "merge",
            "sketch",
            ReservoirSample.KIND,
            expected=f"a count up to {MOST_COUNT:,}",
            got=f"{ours + theirs:,}",
            todo="leave it out: no stream is that long",
        )
