"""Keys of any type as numbers, over many calls: the table of keys that sketches by number, `sketches.numbered`, leave to somebody else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sketches import places_kernel, places_plain
from sketches.columns import CANONICAL_NAN, hashes
from sketches.jit import pick

__all__ = ["Places"]

LEAST: Final = 1 << 10  # slots
PIECE: Final = 1 << 14  # rows for which there is room at once
ALL: Final = np.empty(0, np.bool_)

_index = pick(places_kernel.index, places_plain.index)
_place = pick(places_kernel.place, places_plain.place)


class Places:
    """Distinct keys, numbered by first appearance (those of one 64-bit hash in one call may be the other way round).

    Guarantee: equal keys have one number, in all calls; equality is that of ``GROUP BY``: null equals null, NaN equals NaN, -0.0 equals
    0.0, structs are compared field by field. Exact: no key is taken for another one by its hash.

    Parameters
    ----------
    types : sequence of pyarrow.DataType
        Of the key's columns, one or more; plain values or structs of such.

    State: each key once, and 12 to 32 bytes for it.

    Examples
    --------
    >>> places = Places([pa.string()])
    >>> places.numbers([pa.array(["b", "a", None])]).tolist(), places.numbers([pa.array(["c", None, "b"])]).tolist()
    ([0, 1, 2], [3, 2, 0])
    >>> places.distinct()[0].to_pylist()
    ['b', 'a', None, 'c']
    """

    def __init__(self, types: Sequence[pa.DataType]) -> None:
        self._types = list(types)
        self._parts: list[_Words] = []
        self._pairs: list[_Words] = []
        self._keys: list[list[pa.Array]] = [[pa.array([], kind)] for kind in self._types]
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def numbers(self, columns: Sequence[pa.Array | pa.ChunkedArray]) -> NDArray[np.int64]:
        """Return the number of each row's key; new ones get the next numbers.

        Parameters
        ----------
        columns : sequence of pyarrow.Array or ChunkedArray (n,)
            As `types` says.
        """
        whole = [column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in columns]
        parts = [part for column in whole for part in _flat(column)]
        if not self._parts:
            self._parts = [_Texts(part.type) if _is_text(part.type) else _Words() for part in parts]
            self._pairs = [_Words() for _ in parts[1:]]
        found, firsts = self._parts[0].numbers(parts[0])
        for table, pairs, part in zip(self._parts[1:], self._pairs, parts[1:], strict=True):
            more, _ = table.numbers(part)
            found, firsts = pairs.of(found.astype(np.uint64) << np.uint64(32) | more.astype(np.uint64), ALL)
        if firsts.size:
            taken = pa.array(firsts)
            for kept, column in zip(self._keys, whole, strict=True):
                kept.append(_canonical(column.take(taken)))
            self._count += firsts.size
        return found

    def distinct(self) -> list[pa.Array]:
        """Return the columns of the distinct keys, by number."""
        self._keys = [[pa.concat_arrays(kept)] if len(kept) > 1 else kept for kept in self._keys]
        return [kept[0] for kept in self._keys]


class _Words:
    """A table of words."""

    def __init__(self) -> None:
        self._slots = np.full(LEAST, -1, np.int32)
        self._words = np.empty(LEAST // 2, np.uint64)
        self._used, self._null = 0, -1

    def numbers(self, column: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return a number for each row, and the first rows of the new ones, in order."""
        valid = column.is_valid().to_numpy(zero_copy_only=False) if column.null_count else ALL
        return self.of(_words(column), valid)

    def of(self, words: NDArray[np.uint64], valid: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        out = np.empty(words.size, np.int64)
        firsts: list[NDArray[np.int64]] = []
        for start in range(0, words.size, PIECE):
            stop = min(start + PIECE, words.size)
            self._make_room(stop - start)
            some = np.empty(stop - start, np.int64)
            before = self._used
            self._used, self._null = _place(
                words[start:stop], valid[start:stop], self._slots, self._shift, self._words, before, self._null, out[start:stop], some
            )
            firsts.append(some[: self._used - before] + start)
        return out, np.concatenate(firsts) if firsts else np.empty(0, np.int64)

    @property
    def _shift(self) -> np.uint64:
        return np.uint64(65 - self._slots.size.bit_length())

    def _make_room(self, more: int) -> None:
        needed = self._used + more
        if needed <= self._words.size:
            return
        size = 1 << (2 * max(needed, 2 * self._used) - 1).bit_length()
        words = np.empty(size // 2, np.uint64)
        words[: self._used] = self._words[: self._used]
        self._words, self._slots = words, np.full(size, -1, np.int32)
        _index(self._slots, self._shift, words, self._used, self._null)


class _Texts(_Words):
    """A table of values that are no words: found by their hashes, and compared."""

    def __init__(self, kind: pa.DataType) -> None:
        super().__init__()
        self._kept: list[pa.Array] = [pa.array([], kind)]

    def numbers(self, column: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        coded = column.dictionary_encode(null_encoding="encode") if not pa.types.is_dictionary(column.type) else column
        distinct, codes = coded.dictionary, coded.indices.to_numpy()
        valid = distinct.is_valid().to_numpy(zero_copy_only=False)
        found = np.zeros(len(distinct), np.uint64)
        found[valid] = hashes(distinct.drop_null())
        numbers = np.empty(len(distinct), np.int64)
        firsts: list[NDArray[np.int64]] = []
        left = np.arange(len(distinct))
        while left.size:  # once, but for two values of one hash
            some, new = self.of(found[left], valid[left])
            self._kept.append(distinct.take(pa.array(left[new])))
            numbers[left] = some
            firsts.append(left[new])
            known = self._kept[0] if len(self._kept) == 1 else pa.concat_arrays(self._kept)
            self._kept = [known]
            same = pc.equal(known.take(pa.array(some)), distinct.take(pa.array(left))).fill_null(True).to_numpy(zero_copy_only=False)
            left = left[~same]
            found[left] += np.uint64(1)
        rows = np.full(len(distinct), len(codes), np.int64)
        rows[codes[::-1]] = np.arange(len(codes))[::-1]  # the first row of each
        return numbers[codes], rows[np.concatenate(firsts)] if firsts else np.empty(0, np.int64)


def _flat(column: pa.Array) -> Iterator[pa.Array]:
    if pa.types.is_struct(column.type):
        yield column.is_valid()  # children below a null struct are null, so it is a part of its own
        for child in column.flatten():
            yield from _flat(child)
    elif pa.types.is_decimal128(column.type):
        halves = np.frombuffer(column.buffers()[1] or b"", np.int64, 2 * len(column), 16 * column.offset if len(column) else 0)
        missing = column.is_null().to_numpy(zero_copy_only=False)
        yield from (pa.array(halves[half::2], mask=missing) for half in (0, 1))
    else:
        yield column


def _is_text(kind: pa.DataType) -> bool:
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)
    return not (is_number or pa.types.is_temporal(kind))


def _words(column: pa.Array) -> NDArray[np.uint64]:
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.uint64)
    if pa.types.is_floating(column.type):
        numbers = pc.fill_null(column, 0.0).to_numpy().astype(np.float64)
        words: NDArray[np.uint64] = (numbers + 0.0).view(np.uint64)  # -0.0 + 0.0 is 0.0
        words[np.isnan(numbers)] = CANONICAL_NAN[np.dtype(np.float64)]
        return words
    if pa.types.is_boolean(column.type):
        flags: NDArray[Any] = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
        return flags.astype(np.uint64)
    wide = column.type.bit_width // 8
    if not len(column):
        return np.empty(0, np.uint64)
    values = np.frombuffer(column.buffers()[1], f"i{wide}", len(column), column.offset * wide)
    return values.astype(np.int64, copy=False).view(np.uint64)


def _canonical(column: pa.Array) -> pa.Array:
    """Return floats with one zero and one NaN, as keys come out."""
    if pa.types.is_struct(column.type):
        children = [_canonical(column.field(at)) for at in range(column.type.num_fields)]
        return pa.StructArray.from_arrays(children, fields=list(column.type), mask=column.is_null())
    if not pa.types.is_floating(column.type):
        return column
    zero, nan = (pa.scalar(value, column.type) for value in (0.0, float("nan")))
    positive = pc.if_else(pc.equal(column, zero), zero, column)
    return pc.if_else(pc.is_nan(positive), nan, positive)
