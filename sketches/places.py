"""Keys numbered in the order in which they come, over many blocks: what `sketches.numbered` calls a number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketches.errors import SketchError
from sketches.key_columns import ALL_VALID, Key, KeyWords, WordIndex, key_of

__all__ = ["Places"]

Numbers = NDArray[np.int64]


class Places:
    """Number keys: the first one is 0, a new one the next.

    Null is a key like another, as in ``GROUP BY``, and so is NaN; -0.0 is 0.0. Keys keep the type of the first ones.

    Examples
    --------
    >>> places = Places()
    >>> places.numbers(np.array([7, 3, 7])), places.numbers(np.array([3, 9]))
    (array([0, 1, 0]), array([1, 2]))
    >>> places.keys().to_pylist(), len(places)
    ([7, 3, 9], 3)
    """

    def __init__(self) -> None:
        self._indexes: list[Any] = []
        self._pairs: list[WordIndex] = []

    def __len__(self) -> int:
        last = self._pairs or self._indexes
        return last[-1].count if last else 0

    def numbers(self, *columns: Any) -> Numbers:
        """Return the number of each row's key.

        Parameters
        ----------
        *columns : array (n,)
            One or several, always as many: NumPy arrays of integers, booleans, floats or times, or Arrow arrays of these, of strings,
            binary or decimals.

        Returns
        -------
        ndarray (n,) int64

        Raises
        ------
        SketchError
            Columns of another number, length or type than before; nothing was numbered.
        """
        if not columns or (self._indexes and len(columns) != len(self._indexes)) or len({len(column) for column in columns}) > 1:
            got = f"{len(columns)} of lengths {', '.join(str(len(column)) for column in columns)}"
            expected = f"{len(self._indexes) or 'some'} columns of equal length"
            raise SketchError("use", "argument", "keys", expected=expected, got=got, todo="give the columns of all rows")
        found: list[Key] = [key_of(column) for column in columns]
        indexes = self._indexes or [key.index() for key in found]
        for key, index in zip(found, indexes, strict=True):
            if key.kind != index.kind:
                todo = "cast them, or take other places"
                raise SketchError("use", "argument", "keys", expected=f"keys of type {index.kind}", got=str(key.kind), todo=todo)
        if not self._indexes:
            self._indexes, self._pairs = indexes, [WordIndex("pair", np.dtype(np.int64)) for _ in found[1:]]
        numbers: Numbers = indexes[0].find(found[0])
        for pairs, index, key in zip(self._pairs, indexes[1:], found[1:], strict=True):
            numbers = pairs.find(KeyWords("pair", numbers << 32 | index.find(key), ALL_VALID, np.dtype(np.int64)))
        return numbers

    def keys(self) -> Any:
        """Return the keys by number, as a pyarrow.Array; of several columns as structs."""
        import pyarrow as pa  # noqa: PLC0415 (Arrow only where it is asked for)

        found = self.columns()
        return found[0] if len(found) == 1 else pa.StructArray.from_arrays(found, [str(place) for place in range(len(found))])

    def columns(self) -> list[Any]:
        """Return the keys by number, as a pyarrow.Array for each column."""
        found, which = [], np.arange(len(self))
        for pairs, index in zip(self._pairs[::-1], self._indexes[:0:-1], strict=True):
            codes = pairs.known[which]
            found.append(index.keys().take(_indices(codes & 0xFFFFFFFF)))
            which = codes >> 32
        first = self._indexes[0].keys() if self._indexes else _indices(which[:0])
        return [first.take(_indices(which)), *found[::-1]]


def _indices(numbers: Numbers) -> Any:
    import pyarrow as pa  # noqa: PLC0415 (Arrow only where it is asked for)

    return pa.array(numbers)
