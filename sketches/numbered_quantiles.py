"""Quantiles by number: few values of a number are only kept, and stored as they are; many are given to a sketch at once."""
# ruff: noqa: SLF001 (the hooks of sketches are for the package)

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches.columns import Column, Words
from sketches.envelope import CHECKSUM
from sketches.errors import EngineError, SketchError
from sketches.numbered import Numbered, Numbers
from sketches.numbered_hot_bytes import room_for
from sketches.numbered_rows import NO_WORDS, Rows, frozen, gather
from sketches.numeric import as_numbers
from sketches.quantiles import ODD, PARAMETERS, Quantiles
from sketches.stored import Blobs, arrow_of, blobs_of, head_of, seal_all, spans

__all__ = ["NumberedQuantiles"]

MANY: Final = 4  # times k: so many values are given to a sketch
FEWEST: Final = 1 << 21  # rows that wait before they are sorted
MOST_ROWS: Final = 1 << 23
HEADER: Final = 12
MINUS_ZERO: Final = np.uint64(1 << 63)
STATE: Final = [("seed", "<u8"), ("n", "<u8"), ("least", "<f8"), ("most", "<f8"), ("variance", "<f8"), ("tosses", "<u8"), ("levels", "u1")]
FORM: Final = np.dtype([("head", "u1", HEADER + PARAMETERS.size), *STATE, ("size", "<u4"), ("coin", "u1")])
"""What a form of one level has before its values."""


class NumberedQuantiles(Numbered[Quantiles]):
    """Quantiles 0 to n - 1.

    Guarantee: that of the class for each. Values wait, sorted by number from time to time; those of a number that has more than 4 k of them
    are given to a sketch of its own, an object. Whoever has no more than k in all is stored without one, in the bytes of the class, and
    read again so.

    State: 8 bytes for a value that waits, of which a number has up to 4 k, and 4 more for up to 2^21 rows, or as many as wait sorted; a
    sketch for each number that had more than that, or more than k when it was stored.
    """

    def __init__(self, template: Quantiles, count: int = 0) -> None:
        super().__init__(template)
        self._rows = Rows()
        self._starts = np.zeros(1, np.int64)  # values of number g wait, sorted by number, from `_starts[g]` up to `_starts[g + 1]`
        self._words = NO_WORDS
        self._sketches: dict[int, Quantiles] = {}
        self.grow(count)

    def __len__(self) -> int:
        return self._starts.size - 1

    def grow(self, count: int) -> None:  # noqa: D102
        self._starts = np.concatenate((self._starts, np.full(max(count - len(self), 0), self._starts[-1])))

    def _update(self, numbers: Numbers, values: Column, weights: NDArray[Any] | None, times: NDArray[np.int64] | None) -> None:
        found = as_numbers(values)
        if found is None:
            raise SketchError("use", "argument", "values", expected="numbers", got=values.kind, todo="leave them out, or cast them")
        if found.size and math.isnan(found.min()):
            raise SketchError("use", "argument", "values", expected="numbers", got="nan", why="it has no rank", todo="leave it out")
        for start in range(0, found.size, FEWEST):
            self._put(numbers[start : start + FEWEST], found[start : start + FEWEST].view(np.uint64))

    def _put(self, numbers: Numbers, words: NDArray[np.uint64]) -> None:
        self._rows.put(numbers, words, None, Words(words, "double"))
        if self._rows.size >= min(max(FEWEST, self._words.size), MOST_ROWS):
            self._sort()

    def _sort(self) -> None:
        """Sort the values that wait by number, and give those of numbers that have many to their sketches."""
        if not self._rows.size:
            return
        sizes = np.diff(self._starts)
        self._rows.put(np.repeat(np.arange(sizes.size), sizes), self._words, None, Words(self._words, "double"))
        self._starts, self._words, *_ = self._rows.arranged(len(self))
        self._give(np.flatnonzero(np.diff(self._starts) > MANY * self.template.k))

    def _give(self, some: NDArray[np.int64]) -> None:
        """Give what waits of some numbers to their sketches."""
        if not some.size:
            return
        for number, start, stop in zip(some.tolist(), self._starts[some].tolist(), self._starts[some + 1].tolist(), strict=True):
            self._sketch(number)._update_column(Words(self._words[start:stop], "double"), None)
        sizes = np.diff(self._starts)
        given = np.zeros(sizes.size, np.bool_)
        given[some] = True
        self._words = self._words[np.repeat(~given, sizes)]
        np.cumsum(np.where(given, 0, sizes), out=self._starts[1:])

    def _sketch(self, number: int) -> Quantiles:
        if number not in self._sketches:
            self._sketches[number] = self.template._of_group(number)
        return self._sketches[number]

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
        begins, ends = blobs.begins[span], blobs.ends[span]
        fits &= ends - begins >= FORM.itemsize + CHECKSUM.size
        places = np.flatnonzero(fits)
        heads = blobs.data[begins[places][:, None] + np.arange(FORM.itemsize)].view(FORM)[:, 0]
        sizes = np.minimum(heads["n"], self.template.k).astype(np.int64)
        plain = (heads["n"] == sizes) & (heads["size"] == sizes) & (heads["levels"] == 1) & (heads["coin"] == ODD)
        plain &= (
            (heads["tosses"] == 0)
            & (_bits(heads["variance"]) == 0)
            & ((ends - begins)[places] == FORM.itemsize + 8 * sizes + CHECKSUM.size)
        )
        places, heads, sizes = places[plain], heads[plain], sizes[plain]
        words, firsts = _values(blobs.data, begins[places] + FORM.itemsize, sizes)
        sound = _are_sound(words, firsts, sizes, heads)
        fits[:] = False
        fits[places[sound]] = True
        rows = blobs.rows[span]
        self._put(np.repeat(numbers[rows[places[sound]]], sizes[sound]), words[np.repeat(sound, sizes)])
        for place in np.flatnonzero(~fits).tolist():
            row, begin, end = int(rows[place]), int(begins[place]), int(ends[place])
            try:
                sketch = type(self.template).from_bytes(blobs.data[begin:end].data)
                self.template.copy().merge(sketch)
                self._sketch(int(numbers[row])).merge(sketch)
            except EngineError as error:
                wrong[row] = error  # type: ignore[assignment]  # bytes, or parameters

    def to_stored(self, start: int = 0, stop: int | None = None) -> Any:  # noqa: D102
        self._sort()
        start, stop, _ = slice(start, stop).indices(len(self))
        stop = max(start, stop)
        sizes = np.diff(self._starts[start : stop + 1])
        own = np.array([number for number in self._sketches if start <= number < stop], np.int64)
        is_small = sizes <= self.template.k
        is_small[own - start] = False
        self._give(start + np.flatnonzero(~is_small & (sizes > 0)))
        large = np.flatnonzero(~is_small)
        forms = [self._sketches[start + place].to_bytes() for place in large.tolist()]
        small = np.flatnonzero(is_small)
        lengths = np.empty(stop - start, np.int64)
        lengths[small] = FORM.itemsize + CHECKSUM.size + 8 * sizes[small]
        lengths[large] = [len(form) for form in forms]
        out, ends = room_for(self.template.KIND, lengths)
        whole, bounds = np.frombuffer(b"".join(forms), np.uint8), np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths[large])))
        gather(frozen(whole), bounds[:-1], bounds[1:], out, ends[large])
        self._pack(start + small, sizes[small], out, ends[small])
        seal_all(out, ends[:-1], ends[1:])
        return arrow_of(out, ends[1:])

    def _pack(self, numbers: NDArray[np.int64], sizes: NDArray[np.int64], out: NDArray[np.uint8], places: NDArray[np.int64]) -> None:
        """Write the forms of numbers of which all values wait, all but their checksums."""
        starts = self._starts[numbers]
        for begin, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            self._words[begin : begin + size].view(np.float64).sort()
        values, full = self._words.view(np.float64), sizes > 0
        heads = np.zeros(numbers.size, FORM)
        heads["head"] = head_of(self.template)
        heads["head"][:, 8:HEADER] = (FORM.itemsize - HEADER - PARAMETERS.size + 8 * sizes).astype("<u4").view(np.uint8).reshape(-1, 4)
        heads["seed"] = np.uint64(self.template._seed) + numbers.astype(np.uint64)
        heads["n"], heads["size"], heads["levels"], heads["coin"] = sizes, sizes, 1, ODD
        heads["least"], heads["most"] = math.inf, -math.inf
        heads["least"][full], heads["most"][full] = values[starts[full]], values[(starts + sizes - 1)[full]]
        out[places[:, None] + np.arange(FORM.itemsize)] = heads.view(np.uint8).reshape(-1, FORM.itemsize)
        gather(frozen(self._words.view(np.uint8)), 8 * starts, 8 * (starts + sizes), out, places + FORM.itemsize)

    def at(self, number: int) -> Quantiles:  # noqa: D102
        number = range(len(self))[number]
        return type(self.template).from_bytes(self.to_stored(number, number + 1)[0].as_buffer())


def _values(data: NDArray[np.uint8], begins: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return values that stand anywhere in the bytes, and where those of each form begin."""
    firsts = np.cumsum(sizes) - sizes
    words = np.empty(int(sizes.sum()), np.uint64)
    gather(data, begins, begins + 8 * sizes, words.view(np.uint8), 8 * firsts)
    return words, firsts


def _are_sound(words: NDArray[np.uint64], firsts: NDArray[np.int64], sizes: NDArray[np.int64], heads: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which forms have sorted values, no NaN and no -0.0, of which the first is the minimum and the last the maximum."""
    values, owners = words.view(np.float64), np.repeat(np.arange(sizes.size), sizes)
    found = np.where(sizes > 0, True, (heads["least"] == math.inf) & (heads["most"] == -math.inf))
    full = np.flatnonzero(sizes)
    first, last = firsts[full], firsts[full] + sizes[full] - 1
    found[full] = (
        (_bits(heads["least"])[full] == words[first]) & (_bits(heads["most"])[full] == words[last]) & (values[first] <= values[last])
    )
    wrong = words == MINUS_ZERO
    wrong[1:] |= ~(values[1:] >= values[:-1]) & (owners[1:] == owners[:-1])
    found[owners[wrong]] = False
    return found


def _bits(numbers: NDArray[np.float64]) -> NDArray[np.uint64]:
    return np.ascontiguousarray(numbers).view(np.uint64)
