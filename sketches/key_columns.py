"""Columns of keys, and the table in which those of one column are found again: for `sketches.places`."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches import hash_kernel, hash_plain, places_kernel, places_plain
from sketches.columns import is_arrow, words_of
from sketches.errors import SketchError
from sketches.jit import pick

__all__ = ["ALL_VALID", "Key", "KeyBytes", "KeyValues", "KeyWords", "WordIndex", "key_of"]

FIRST: Final = 1 << 10  # slots at the begin
FIRST_BYTES: Final = 1 << 14
PART: Final = 1 << 13  # rows whose hashes stay in the cache
MOST: Final = 1 << 30  # keys: a slot has 32 bits
ALL_VALID: Final = np.empty(0, np.bool_)
Numbers = NDArray[np.int64]

_find_words = pick(places_kernel.find_words, places_plain.find_words)
_refill_words = pick(places_kernel.refill_words, places_plain.refill_words)
_find_bytes = pick(places_kernel.find_bytes, places_plain.find_bytes)
_refill_bytes = pick(places_kernel.refill_bytes, places_plain.refill_bytes)
_hash_bytes = pick(hash_kernel.hash_bytes, hash_plain.hash_bytes)


@dataclass(frozen=True, slots=True)
class KeyWords:
    """Numbers, booleans or times as words.

    Attributes
    ----------
    kind : pyarrow.DataType or str
        What they are.
    words : ndarray (n,) int64
    valid : ndarray (n,) bool
        False where a key is null; none at all if none is.
    dtype : numpy.dtype
        What the words are made of: integers, floats or booleans.
    """

    kind: Any
    words: Numbers
    valid: NDArray[np.bool_]
    dtype: np.dtype[Any]

    def index(self) -> WordIndex:
        """Return an empty table for such keys."""
        return WordIndex(self.kind, self.dtype)


@dataclass(frozen=True, slots=True)
class KeyBytes:
    """Strings or binary: key i is ``data[starts[i]:ends[i]]``."""

    kind: Any
    data: NDArray[np.uint8]
    starts: Numbers
    ends: Numbers
    valid: NDArray[np.bool_]

    def index(self) -> BytesIndex:
        """Return an empty table for such keys."""
        return BytesIndex(self.kind)


@dataclass(frozen=True, slots=True)
class KeyValues:
    """Keys of other types, as an Arrow array."""

    kind: Any
    array: Any

    def index(self) -> ValueIndex:
        """Return an empty table for such keys."""
        return ValueIndex(self.kind)


Key = KeyWords | KeyBytes | KeyValues


class WordIndex:
    """The numbers of words of 64 bits.

    Attributes
    ----------
    kind : pyarrow.DataType or str
    known : ndarray (room,) int64
        The words by number.
    count : int
        How many there are.
    """

    def __init__(self, kind: Any, dtype: np.dtype[Any]) -> None:
        self.kind = kind
        self.count = 0
        self.known = np.empty(FIRST // 2, np.int64)
        self._dtype = dtype
        self._null = -1
        self._seed = np.uint64(secrets.randbits(64))  # nobody can choose keys that meet
        self._slots = np.zeros(FIRST, np.int32)

    def find(self, keys: KeyWords) -> Numbers:
        """Return the number of each key."""
        out, done = np.empty(keys.words.size, np.int64), 0
        while True:
            valid = keys.valid[done:]
            self.count, self._null, found = _find_words(
                keys.words[done:], valid, self._slots, self._seed, self.known, self.count, self._null, out[done:]
            )
            done += found
            if done == out.size:
                return out
            self._slots = _larger(self._slots)
            self.known = _longer(self.known, self.count, self._slots.size // 2)
            _refill_words(self._slots, self._seed, self.known, self.count, self._null)

    def keys(self) -> Any:
        """Return the keys by number, as a pyarrow.Array."""
        import pyarrow as pa  # noqa: PLC0415 (Arrow only where it is asked for)

        words = self.known[: self.count]
        if self._dtype.kind == "f":
            wide = self._dtype.itemsize == 8
            values: Any = words.view(np.float64) if wide else words.astype(np.uint32).view(np.float32).astype(self._dtype)
        else:
            values = words.astype(self._dtype)
        mask = np.arange(self.count) == self._null if self._null >= 0 else None
        found = pa.array(values, mask=mask)
        return found if found.type == self.kind else found.view(self.kind)


class BytesIndex:
    """The numbers of byte strings; those are kept one after the other."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self.count = 0
        self._null = -1
        self._seed = np.uint64(secrets.randbits(64))
        self._slots = np.zeros(FIRST, np.uint64)
        self._known = np.empty(FIRST // 2, np.uint64)
        self._bounds = np.zeros(FIRST // 2 + 1, np.int64)
        self._pool = np.empty(FIRST_BYTES, np.uint8)

    def find(self, keys: KeyBytes) -> Numbers:
        """Return the number of each key."""
        out, hashes = np.empty(keys.starts.size, np.int64), np.empty(min(PART, keys.starts.size), np.uint64)
        for start in range(0, out.size, PART):
            part = slice(start, start + PART)
            some = hashes[: out[part].size]
            _hash_bytes(keys.data, keys.starts[part], keys.ends[part], self._seed, some)
            self._find_part(keys.data, keys.starts[part], keys.ends[part], some, keys.valid[part], out[part])
        return out

    def _find_part(
        self,
        data: NDArray[np.uint8],
        starts: Numbers,
        ends: Numbers,
        hashes: NDArray[np.uint64],
        valid: NDArray[np.bool_],
        out: Numbers,
    ) -> None:
        done = 0
        while True:
            rows = data, starts[done:], ends[done:], hashes[done:], valid[done:]
            self.count, self._null, found = _find_bytes(
                *rows, self._slots, self._known, self._bounds, self._pool, self.count, self._null, out[done:]
            )
            done += found
            if done == out.size:
                return
            need = int(self._bounds[self.count] + ends[done] - starts[done])
            if need > self._pool.size:
                self._pool = _longer(self._pool, int(self._bounds[self.count]), 2 * need)
            if self.count >= self._slots.size // 2:
                self._slots = _larger(self._slots)
                self._known = _longer(self._known, self.count, self._slots.size // 2)
                self._bounds = _longer(self._bounds, self.count + 1, self._slots.size // 2 + 1)
                _refill_bytes(self._slots, self._known, self.count, self._null)

    def keys(self) -> Any:
        """Return the keys by number, as a pyarrow.Array."""
        import pyarrow as pa  # noqa: PLC0415 (Arrow only where it is asked for)

        if self.kind not in (pa.string(), pa.binary()):
            return self._fixed_keys()
        bounds = self._bounds[: self.count + 1].copy()
        buffers = [None, pa.py_buffer(bounds), pa.py_buffer(self._pool[: bounds[-1]].copy())]
        large = pa.large_string() if self.kind == pa.string() else pa.large_binary()
        found = pa.Array.from_buffers(large, self.count, buffers)
        if self._null >= 0:
            found = pa.compute.if_else(pa.array(np.arange(self.count) != self._null), found, pa.scalar(None, large))
        return found.cast(self.kind)

    def _fixed_keys(self) -> Any:
        """Return keys of one width."""
        import pyarrow as pa  # noqa: PLC0415 (Arrow only where it is asked for)

        width, pool = self.kind.bit_width // 8, self._pool[: self._bounds[self.count]]
        valid = np.arange(self.count) != self._null
        if self._null >= 0:  # it has no bytes in the pool
            pool = np.insert(pool, np.full(width, self._bounds[self._null]), 0)
        bits = pa.py_buffer(np.packbits(valid, bitorder="little"))
        return pa.Array.from_buffers(self.kind, self.count, [bits if self._null >= 0 else None, pa.py_buffer(pool.copy())])


class ValueIndex:
    """The numbers of values of any type that Arrow can tell apart: a Python object for each that differs, in each block."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        self._numbers: dict[Any, int] = {}

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._numbers)

    def find(self, keys: KeyValues) -> Numbers:
        """Return the number of each key."""
        encoded = keys.array.dictionary_encode(null_encoding="encode")
        numbers = [self._numbers.setdefault(value, len(self._numbers)) for value in encoded.dictionary.to_pylist()]
        return np.asarray(np.array(numbers, np.int64)[encoded.indices.to_numpy()])

    def keys(self) -> Any:
        """Return the keys by number, as a pyarrow.Array."""
        import pyarrow as pa  # noqa: PLC0415 (Arrow only where it is asked for)

        return pa.array(list(self._numbers), self.kind)


def key_of(column: Any) -> Key:
    """Bring a column of keys into the form in which they are found."""
    if isinstance(column, np.ndarray) and column.ndim == 1 and not isinstance(column, np.ma.MaskedArray):
        if column.dtype.kind in "iu" or column.dtype in (np.float32, np.float64, np.bool_):
            return _words(column, ALL_VALID, None)
        if column.dtype.kind in "SUmM":
            import pyarrow as pa  # noqa: PLC0415 (Arrow only where it is asked for)

            return _of_arrow(pa.array(column.tolist() if column.dtype.kind in "SU" else column))  # Arrow would end texts at a zero
    elif not isinstance(column, np.ndarray) and is_arrow(column):
        from sketches.arrow_columns import to_arrow  # noqa: PLC0415

        return _of_arrow(to_arrow(column))
    got = f"an array of {column.dtype}" if isinstance(column, np.ndarray) else type(column).__name__
    expected = "an array of integers, booleans, floats, times, strings or binary, or an Arrow array"
    raise SketchError("use", "argument", "keys", expected=expected, got=got, todo="make it one")


def _words(values: NDArray[Any], valid: NDArray[np.bool_], kind: Any) -> KeyWords:
    """Return numbers as words; of a kind that has no name here, as Arrow calls them."""
    if kind is None:
        import pyarrow as pa  # noqa: PLC0415 (Arrow only where it is asked for)

        kind = pa.from_numpy_dtype(values.dtype)
    if values.dtype.kind == "f":
        bits = words_of(values).words
        return KeyWords(kind, bits.astype(np.int64) if bits.itemsize < 8 else bits.view(np.int64), valid, values.dtype)
    native = values.dtype.newbyteorder("=")
    words = values.astype(native, copy=False)
    words = np.ascontiguousarray(words.view(np.int64) if native == np.uint64 else words.astype(np.int64, copy=False))
    return KeyWords(kind, words, valid, native)


def _of_arrow(array: Any) -> Key:
    import pyarrow as pa  # noqa: PLC0415 (Arrow only where it is asked for)

    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
        if isinstance(array, pa.ChunkedArray):  # dictionaries of several chunks
            array = pa.concat_arrays([chunk.cast(array.type.value_type) for chunk in array.chunks])
    while isinstance(array, pa.ExtensionArray) or pa.types.is_dictionary(array.type):
        array = array.storage if isinstance(array, pa.ExtensionArray) else array.dictionary_decode()
    kind = array.type
    if kind.num_fields:
        raise SketchError("use", "argument", "keys", expected="keys of one value each", got=str(kind), todo="give their fields as columns")
    valid = np.asarray(array.is_valid()) if array.null_count else ALL_VALID
    if pa.types.is_boolean(kind):
        return _words(_buffer(array.cast(pa.uint8()), np.dtype(np.uint8)).astype(np.bool_), valid, kind)
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return _words(_buffer(array, np.dtype(kind.to_pandas_dtype())), valid, kind)
    if pa.types.is_temporal(kind) and kind.bit_width <= 64:  # not an interval of three parts
        return _words(_buffer(array, np.dtype(f"i{kind.bit_width // 8}")), valid, kind)
    return _bytes_or_values(array, valid)


def _bytes_or_values(array: Any, valid: NDArray[np.bool_]) -> Key:
    import pyarrow as pa  # noqa: PLC0415 (Arrow only where it is asked for)

    if array.type in (pa.string(), pa.large_string(), pa.string_view()):
        return _bytes(array if array.type == pa.string() else array.cast(pa.large_string()), valid, pa.string())
    if array.type in (pa.binary(), pa.large_binary(), pa.binary_view()):
        return _bytes(array if array.type == pa.binary() else array.cast(pa.large_binary()), valid, pa.binary())
    if pa.types.is_fixed_size_binary(array.type) or pa.types.is_decimal(array.type):  # equal ones have equal bytes
        width = array.type.bit_width // 8
        starts = np.arange(array.offset, array.offset + len(array)) * width
        return KeyBytes(array.type, _buffer_of(array), starts, starts + width, valid)
    return KeyValues(array.type, array)


def _buffer_of(array: Any) -> NDArray[np.uint8]:
    data = array.buffers()[1]
    return np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)


def _buffer(array: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    data = array.buffers()[1]
    return np.empty(0, dtype) if data is None else np.frombuffer(data, dtype)[array.offset : array.offset + len(array)]


def _bytes(array: Any, valid: NDArray[np.bool_], kind: Any) -> KeyBytes:
    _, places, data = array.buffers()
    if places is None or len(array) == 0:
        return KeyBytes(kind, np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.int64), valid)
    dtype = np.int32 if array.type == kind else np.int64
    bounds = np.frombuffer(places, dtype)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    return KeyBytes(kind, np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8), bounds[:-1], bounds[1:], valid)


def _larger(slots: NDArray[Any]) -> NDArray[Any]:
    if slots.size >= 2 * MOST:
        raise SketchError("number", "argument", "keys", expected=f"up to {MOST:,} keys", got="more", todo="part them")
    return np.zeros(2 * slots.size if slots.size >= 1 << 20 else 4 * slots.size, slots.dtype)


def _longer(array: NDArray[Any], used: int, size: int) -> NDArray[Any]:
    larger = np.empty(size, array.dtype)
    larger[:used] = array[:used]
    return larger
