"""Folds: the values of each key put together, in the order in which they come.

Three ways, the next one where the one before is not exact: columns (sums, least, greatest), values as objects under keys as
numbers, and a dict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.dstream.columns.blocks import Block, gathered, pack, pack_pairs, pair_columns, pair_objects, unpack
from spark_ext.dstream.columns.keys import coded
from spark_ext.dstream.columns.known import Reduction, reduction

__all__ = ["Combining", "Fold", "Folded", "Grouping", "Reducing", "fold_column", "folded"]

NOT_YET: Final = object()
KEYS_HELD: Final = 1_000_000  # of what can be sent on before its end


class Fold(Protocol):
    """How values are put together."""

    kind: Reduction | None

    def into_slots(self, slots: list[Any], codes: list[int], values: list[Any]) -> None:
        """Put each value to the one at its place, which is `NOT_YET` at first."""

    def into_table(self, table: dict[Any, Any], pairs: Iterable[Any]) -> None:
        """Put each pair's value to the one of its key."""


class Reducing:
    """As `reduceByKey`."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self.function = function
        self.kind = reduction(function)

    def into_slots(self, slots: list[Any], codes: list[int], values: list[Any]) -> None:  # noqa: D102 (Fold's)
        function = self.function
        for code, value in zip(codes, values, strict=True):
            there = slots[code]
            slots[code] = value if there is NOT_YET else function(there, value)

    def into_table(self, table: dict[Any, Any], pairs: Iterable[Any]) -> None:  # noqa: D102 (Fold's)
        function = self.function
        for key, value in pairs:
            if key in table:
                table[key] = function(table[key], value)
            else:
                table[key] = value


class Combining:
    """As `combineByKey`, before anything moves."""

    kind: Reduction | None = None

    def __init__(self, create: Callable[[Any], Any], merge: Callable[[Any, Any], Any]) -> None:
        self.create = create
        self.merge = merge

    def into_slots(self, slots: list[Any], codes: list[int], values: list[Any]) -> None:  # noqa: D102 (Fold's)
        create, merge = self.create, self.merge
        for code, value in zip(codes, values, strict=True):
            there = slots[code]
            slots[code] = create(value) if there is NOT_YET else merge(there, value)

    def into_table(self, table: dict[Any, Any], pairs: Iterable[Any]) -> None:  # noqa: D102 (Fold's)
        create, merge = self.create, self.merge
        for key, value in pairs:
            table[key] = merge(table[key], value) if key in table else create(value)


class Grouping:
    """As `groupByKey`: a list of the values."""

    kind: Reduction | None = None

    def into_slots(self, slots: list[Any], codes: list[int], values: list[Any]) -> None:  # noqa: D102 (Fold's)
        slots[:] = [[] if there is NOT_YET else there for there in slots]
        for code, value in zip(codes, values, strict=True):
            slots[code].append(value)

    def into_table(self, table: dict[Any, Any], pairs: Iterable[Any]) -> None:  # noqa: D102 (Fold's)
        for key, value in pairs:
            if key in table:
                table[key].append(value)
            else:
                table[key] = [value]


class Folded:
    """What has been put together so far: one value per key."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold
        self._keys: pa.Array | None = None
        self._values: Block = []
        self._table: dict[Any, Any] | None = None

    def __len__(self) -> int:
        if self._table is not None:
            return len(self._table)
        return 0 if self._keys is None else len(self._keys)

    @property
    def is_table(self) -> bool:
        """Whether it is a dict by now."""
        return self._table is not None

    def add(self, block: Block) -> None:
        """Put in a block of pairs."""
        columns = pair_columns(block)
        if self._table is None and columns is not None and self._add_columns(*columns):
            return
        self._fold.into_table(self.table(), pair_objects(block))

    def block(self) -> Block:
        """Return the pairs; a list of them may be a column once packed."""
        if self._table is not None:
            return list(self._table.items())
        return [] if self._keys is None else pack_pairs(self._keys, self._values)

    def table(self) -> dict[Any, Any]:
        """Return the pairs as a dict, which is what they are kept in from now on."""
        if self._table is None:
            self._table = {} if self._keys is None else dict(zip(unpack(self._keys), unpack(self._values), strict=True))
            self._keys, self._values = None, []
        return self._table

    def _add_columns(self, keys: pa.Array, values: pa.Array) -> bool:
        there = 0 if self._keys is None else len(self._keys)
        if self._keys is not None:
            if self._keys.type != keys.type:
                return False
            keys = pa.concat_arrays([self._keys, keys])
        found = coded(keys)
        if found is None:
            return False
        made = self._fold_columns(found.codes, len(found.keys), values) if self._fold.kind is not None else None
        if made is None:
            made = [*unpack(self._values), *[NOT_YET] * (len(found.keys) - there)]
            self._fold.into_slots(made, found.codes[there:].tolist(), unpack(values))
        self._keys, self._values = found.keys, made
        return True

    def _fold_columns(self, codes: NDArray[np.int64], count: int, values: pa.Array) -> pa.Array | None:
        if self._keys is not None:
            if isinstance(self._values, list) or self._values.type != values.type:
                return None
            values = pa.concat_arrays([self._values, values])  # what is there comes first, so the order of a sum is kept
        assert self._fold.kind is not None, "asked by the caller"  # noqa: S101 (a fact)
        return fold_column(self._fold.kind, codes, count, values)


def folded(blocks: Iterable[Block], fold: Fold, *, sends_on: bool) -> Iterator[Block]:
    """Return pairs with their values put together; none for none.

    Parameters
    ----------
    blocks : iterable of Block
        Of pairs.
    sends_on : bool
        Whether somebody puts the results of many together again: then what is held is bounded, and a key may come twice.
    """
    made = Folded(fold)
    # Numbers for keys pay even if the function must be called: Arrow's hash of them is the faster one.
    prepared = (block if made.is_table else pack(block) for block in blocks)
    for block in gathered(prepared):
        made.add(block)
        if sends_on and len(made) > KEYS_HELD:
            yield made.block()
            made = Folded(fold)
    if len(made):
        yield made.block()


def fold_column(kind: Reduction, codes: NDArray[np.int64], count: int, values: pa.Array) -> pa.Array | None:
    """Return one value per code, exactly what the function would give in this order; None if that is not sure.

    Parameters
    ----------
    kind : Reduction
        What is done to the values of a code.
    codes : ndarray (rows,) int64
        Each from 0 to `count` - 1, all of them there.
    values : Array (rows,)
    """
    if values.null_count:
        return None
    if isinstance(kind, tuple):
        return _fold_fields(kind, codes, count, values)
    if kind == "sub" or not (pa.types.is_int64(values.type) or pa.types.is_float64(values.type)):
        return None
    numbers = values.to_numpy()
    if kind == "add":
        made = _sums(codes, count, numbers)
    elif numbers.dtype == np.float64 and (np.isnan(numbers).any() or ((numbers == 0) & np.signbit(numbers)).any()):
        return None  # which of equal zeros, or of a NaN and a number, depends on the order
    else:
        made = _extremes(codes, count, numbers, np.minimum if kind == "min" else np.maximum)
    return None if made is None else pa.array(made)


def _fold_fields(kinds: tuple[Reduction, ...], codes: NDArray[np.int64], count: int, values: pa.Array) -> pa.Array | None:
    if not pa.types.is_struct(values.type) or values.type.num_fields != len(kinds):
        return None
    fields = [fold_column(kind, codes, count, field) for kind, field in zip(kinds, values.flatten(), strict=True)]
    if any(field is None for field in fields):
        return None
    return pa.StructArray.from_arrays(fields, names=[str(place) for place in range(len(fields))])


def _sums(codes: NDArray[np.int64], count: int, numbers: NDArray[Any]) -> NDArray[Any] | None:
    if numbers.dtype == np.float64:
        if ((numbers == 0) & np.signbit(numbers)).any():
            return None  # bincount begins with 0.0
        return np.bincount(codes, numbers, count)
    if len(numbers) and max(abs(int(numbers.max())), abs(int(numbers.min()))) * len(numbers) >= np.iinfo(np.int64).max:
        return None
    made = np.zeros(count, np.int64)
    np.add.at(made, codes, numbers)
    return made


def _extremes(codes: NDArray[np.int64], count: int, numbers: NDArray[Any], of_two: np.ufunc) -> NDArray[Any]:
    made = np.empty(count, numbers.dtype)
    made[codes] = numbers  # any of the code's own to begin with
    of_two.at(made, codes, numbers)
    return made
