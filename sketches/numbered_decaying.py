"""Decaying windows by number: sums of blocks of rows of one number each, added to the windows in two floats."""
# ruff: noqa: SLF001 (the hooks of sketches are for the package)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches import numbered_decaying_kernel, numbered_decaying_plain
from sketches.columns import Column
from sketches.decaying import DecayingWindow, forward_terms
from sketches.envelope import CHECKSUM
from sketches.errors import EngineError, SketchError
from sketches.jit import pick
from sketches.numbered import Numbered, Numbers
from sketches.numbered_rows import NO_NUMBERS, NO_WORDS, arrange
from sketches.numeric import LATEST, as_numbers
from sketches.stored import Blobs, arrow_of, blobs_of, head_of, seal_all, spans

__all__ = ["NumberedDecaying"]

BLOCK: Final = 4096  # rows of one number that are added up before they are added to its window
STEP: Final = 8  # numbers that are added up at a time
PART: Final = 1 << 20  # rows that are worked on at once
HEAD_BYTES: Final = 20
FORM: Final = np.dtype([("head", "u1", HEAD_BYTES), ("line", "<i8", 2), ("sums", "<f8", 5), ("seal", "<u4")])
Longs = NDArray[np.int64]
Floats = NDArray[np.float64]

_add = pick(numbered_decaying_kernel.add, numbered_decaying_plain.add)


class NumberedDecaying(Numbered[DecayingWindow]):
    """Decaying windows 0 to n - 1.

    Guarantee: that of the class for each. Of the 64 units of 2**-53 in its text, a block takes as before 10 for exp2 and its argument and 2
    for the products; up to 4,096 rows of one number are added 8 at a time, in at most 28 roundings; and blocks and merges are added in two
    floats each. Merges give the bytes of the class.

    State: 56 bytes for a window.
    """

    def __init__(self, template: DecayingWindow, count: int = 0) -> None:
        super().__init__(template)
        self._half_life = template._half_life
        self._lines = np.zeros((0, 2), np.int64)
        self._sums = np.zeros((0, 5))
        self._count = 0
        self.grow(count)

    def __len__(self) -> int:
        return self._count

    def grow(self, count: int) -> None:  # noqa: D102
        if count > len(self._lines):
            more = max(count, len(self._lines) * 3 // 2) - len(self._lines)
            self._lines = np.concatenate((self._lines, np.zeros((more, 2), np.int64)))
            self._sums = np.concatenate((self._sums, np.zeros((more, 5))))
        self._count = max(count, self._count)

    def _update(self, numbers: Numbers, values: Column, weights: NDArray[Any] | None, times: Longs | None) -> None:
        found = as_numbers(values)
        if found is None or not np.isfinite(found).all():
            got = values.kind if found is None else f"{found[~np.isfinite(found)][0]:g}"
            raise SketchError("use", "argument", "values", expected="finite numbers", got=got, todo="leave such rows out")
        moments = np.empty(0, np.int64) if times is None else times
        if weights is not None and not weights.all():
            some = np.flatnonzero(weights)
            numbers, found, moments, weights = numbers[some], found[some], moments[some], weights[some]
        before = self._lines.copy(), self._sums.copy()
        for start in range(0, found.size, PART):
            part = slice(start, start + PART)
            if not self._take(numbers[part], found[part], moments[part], None if weights is None else weights[part]):
                self._lines, self._sums = before
                raise _too_large()

    def _take(self, numbers: Numbers, found: Floats, times: Longs, weights: Floats | None) -> bool:
        """Take rows; returns whether the sums are floats."""
        starts, order = np.empty(self._count + 1, np.int64), np.empty(numbers.size, np.int64)
        arrange(numbers.astype(np.int32), NO_WORDS, NO_NUMBERS, starts, NO_WORDS, NO_NUMBERS, order)
        owners, firsts = _cut(starts[:-1], np.diff(starts), BLOCK)
        lengths = np.diff(firsts, append=numbers.size)
        found, times = found[order], times[order]
        lines, sums = np.empty((owners.size, 2), np.int64), np.zeros((owners.size, 5))
        lines[:, 0], lines[:, 1] = lengths, np.maximum.reduceat(times, firsts)
        with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):  # an overflow is found afterwards
            landmarks: Any = np.repeat(lines[:, 1] // self._half_life, lengths)  # one for each row
            terms = forward_terms(times, self._half_life, landmarks)
            if weights is not None:
                terms *= weights[order]
            sums[:, 0], sums[:, 2] = _sums(terms, firsts), _sums(terms * found, firsts)
            means = np.where(sums[:, 0] == 0, 0.0, sums[:, 2] / sums[:, 0])
            found -= np.repeat(means, lengths)
            sums[:, 4] = _sums(terms * found * found, firsts)
        fits = np.empty(owners.size, np.bool_)
        _add(self._lines, self._sums, owners, lines, sums, self._half_life, fits)
        return bool(fits.all())

    # Stored forms -----------------------------------------------------------------------------------------------------

    def merge_stored(self, numbers: Numbers, stored: Any) -> Mapping[int, SketchError]:  # noqa: D102
        self._check_numbers(numbers, len(stored))
        wrong: dict[int, SketchError] = {}
        blobs = blobs_of(stored)
        for span in spans(blobs.ends - blobs.begins):
            self._merge_span(numbers, blobs, span, wrong)
        return wrong

    def _merge_span(self, numbers: Numbers, blobs: Blobs, span: slice, wrong: dict[int, SketchError]) -> None:
        fits = blobs.fit(head_of(self.template), span)
        fits &= blobs.ends[span] - blobs.begins[span] == FORM.itemsize
        places = span.start + np.flatnonzero(fits)
        forms = blobs.data[blobs.begins[places][:, None] + np.arange(FORM.itemsize)].view(FORM)[:, 0]
        sound = _are_sound(forms)
        for place in [*(span.start + np.flatnonzero(~fits)).tolist(), *places[~sound].tolist()]:
            try:
                self.template.copy().merge(type(self.template).from_bytes(blobs.data[blobs.begins[place] : blobs.ends[place]].data))
            except EngineError as error:
                wrong[int(blobs.rows[place])] = error  # type: ignore[assignment]  # bytes, or parameters
        rows, forms = blobs.rows[places[sound]], forms[sound]
        taken = np.empty(rows.size, np.bool_)
        lines, sums = np.ascontiguousarray(forms["line"]), np.ascontiguousarray(forms["sums"])
        _add(self._lines, self._sums, numbers[rows], lines, sums, self._half_life, taken)
        for row in rows[~taken].tolist():
            wrong[row] = _too_large()

    def to_stored(self, start: int = 0, stop: int | None = None) -> Any:  # noqa: D102
        start, stop, _ = slice(start, stop).indices(self._count)
        forms = np.empty(max(stop - start, 0), FORM)
        head = head_of(self.template).copy()
        head[8:12].view("<u4")[0] = FORM.itemsize - HEAD_BYTES - CHECKSUM.size
        forms["head"], forms["line"], forms["sums"] = head, self._lines[start:stop], self._sums[start:stop]
        data, ends = forms.view(np.uint8), (np.arange(len(forms)) + 1) * FORM.itemsize
        seal_all(data, ends - FORM.itemsize, ends)
        return arrow_of(data, ends)

    def at(self, number: int) -> DecayingWindow:  # noqa: D102
        number = range(len(self))[number]
        return type(self.template).from_bytes(self.to_stored(number, number + 1)[0].as_buffer())


def _cut(starts: Longs, lengths: Longs, most: int) -> tuple[Longs, Longs]:
    """Cut runs into pieces of at most so many; returns for each piece its run, and where it begins."""
    pieces = (lengths + (most - 1)) // most
    owners = np.repeat(np.arange(starts.size), pieces)
    turns = np.arange(owners.size) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    return owners, starts[owners] + most * turns


def _sums(numbers: Floats, firsts: Longs) -> Floats:
    """Return the sum of each piece, none without numbers; a piece of 8**n is added in at most 7 n roundings."""
    while True:
        lengths = np.diff(firsts, append=numbers.size)
        if lengths.max(initial=0) <= STEP:
            return np.add.reduceat(numbers, firsts)
        owners, cuts = _cut(firsts, lengths, STEP)
        numbers = np.add.reduceat(numbers, cuts)
        firsts = np.searchsorted(owners, np.arange(firsts.size))


def _are_sound(forms: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which forms the class takes."""
    rows, newest, sums = forms["line"][:, 0], forms["line"][:, 1], forms["sums"]
    zeros = (forms["line"] == 0).all(axis=1) & (np.ascontiguousarray(sums).view(np.int64) == 0).all(axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        whole = np.isfinite(sums).all(axis=1) & (sums[:, 0] + sums[:, 1] == sums[:, 0]) & (sums[:, 2] + sums[:, 3] == sums[:, 2])
    filled = (rows > 0) & (newest >= -LATEST) & (newest <= LATEST) & whole & (sums[:, 4] >= 0) & (sums[:, 0] > 0)
    found: NDArray[np.bool_] = zeros | filled
    return found


def _too_large() -> SketchError:
    expected = "numbers whose weighted squares and their sum are floats"
    return SketchError("use", "argument", "values", expected=expected, got="larger ones", todo="scale them down")
