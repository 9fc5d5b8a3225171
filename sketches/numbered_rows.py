"""Rows that wait until there are many, to be given to their sketches number by number; texts one after the other."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sketches import numbered_rows_kernel, numbered_rows_plain
from sketches.columns import Bytes, Column
from sketches.jit import pick

__all__ = ["Arranged", "Rows", "Texts", "arrange", "frozen", "gather"]

NO_WORDS: Final = np.empty(0, np.uint64)
NO_NUMBERS: Final = np.empty(0, np.int64)
NO_BYTES: Final = np.empty(0, np.uint8)

arrange = pick(numbered_rows_kernel.arrange, numbered_rows_plain.arrange)
gather = pick(numbered_rows_kernel.gather, numbered_rows_plain.gather)


class Texts(NamedTuple):
    """Strings or binary values one after the other: value i is ``data[ends[i]:ends[i + 1]]``."""

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, data: NDArray[np.uint8], begins: NDArray[np.int64], stops: NDArray[np.int64]) -> Texts:
        """Return a copy of values that stand anywhere."""
        ends = np.zeros(begins.size + 1, np.int64)
        np.cumsum(stops - begins, out=ends[1:])
        if begins.size and (begins[1:] == stops[:-1]).all():
            return cls(data[begins[0] : stops[-1]].copy(), ends)
        out = np.empty(int(ends[-1]), np.uint8)
        gather(frozen(data), begins, stops, out, ends)
        return cls(out, ends)


class Arranged(NamedTuple):
    """Rows in the order of their numbers, those of one number as they came.

    Attributes
    ----------
    starts : ndarray (numbers + 1,) int64
        Rows of number g stand from ``starts[g]`` up to ``starts[g + 1]``.
    words : ndarray (rows,) uint64
    weights : ndarray (rows,) int64
        None if each is 1.
    order : ndarray (rows,) int64
        Of texts: where each stands in `texts`, which are as they came.
    texts : Texts, or None
    """

    starts: NDArray[np.int64]
    words: NDArray[np.uint64]
    weights: NDArray[np.int64]
    order: NDArray[np.int64]
    texts: Texts | None


class Rows:
    """Rows that wait: a number and a word for each, a weight where any is not 1, and a copy of its text.

    State: 12 bytes for a row, 8 for its weight, and its text with 8 bytes.
    """

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.size = self.text_bytes = 0
        self._numbers: list[NDArray[np.int32]] = []
        self._words: list[NDArray[np.uint64]] = []
        self._weights: list[NDArray[np.int64] | None] = []
        self._texts: list[Texts] = []

    def put(self, numbers: NDArray[np.int64], words: NDArray[np.uint64], weights: NDArray[np.int64] | None, values: Column) -> None:
        """Take rows, and the words and weights for one's own; of texts `words` may be none."""
        self._numbers.append(numbers.astype(np.int32))
        self._words.append(words)
        self._weights.append(weights)
        self.size += numbers.size
        if isinstance(values, Bytes):
            self._texts.append(Texts.of(values.data, values.starts, values.ends))
            self.text_bytes += self._texts[-1].data.size

    def arranged(self, count: int) -> Arranged:
        """Give the rows out, in the order of their numbers, all below `count`; none are left."""
        numbers, words, weights = np.concatenate(self._numbers), np.concatenate(self._words), self._all_weights()
        texts = self._all_texts() if self._texts else None
        self._forget()
        order = np.empty(0 if texts is None else numbers.size, np.int64)
        found = Arranged(np.empty(count + 1, np.int64), np.empty_like(words), np.empty_like(weights), order, texts)
        arrange(numbers, words, weights, found.starts, found.words, found.weights, order)
        return found

    def _all_weights(self) -> NDArray[np.int64]:
        if all(weights is None for weights in self._weights):
            return NO_NUMBERS
        some = zip(self._weights, self._numbers, strict=True)
        return np.concatenate([np.ones(numbers.size, np.int64) if weights is None else weights for weights, numbers in some])

    def _all_texts(self) -> Texts:
        data = np.concatenate([part.data for part in self._texts])
        sizes = np.concatenate([np.diff(part.ends) for part in self._texts])
        return Texts(data, np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes))))


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view that cannot be written, whatever the array is: so kernels are compiled once."""
    found = np.ascontiguousarray(array).view()
    found.flags.writeable = False
    return found
