"""Values as sketches take them: NumPy and Arrow arrays, brought to the byte forms that are hashed.

The hash of a value is XXH64 with seed 42 over its byte form, little-endian, as Spark SQL's ``xxhash64`` computes it for one column:

- boolean, int8, int16, int32, uint8, uint16, date (days): 4 bytes of the int32;
- int64, uint32, timestamp and duration (microseconds), decimal up to 18 digits (unscaled): 8 bytes of the int64; uint64: its 8 bytes;
- float32: 4 bytes, float64: 8 bytes of IEEE 754, -0.0 as 0.0, each NaN as the one Java calls canonical; float16 as float32;
- string: its UTF-8 bytes; binary: its bytes. NumPy's types of one width (``U``, ``S``) cut zeros off the end of a value; others do not.

Decimals of two scales are not compared: 1.5 and 15 at scale 0 and 1 have the same bytes.

So 5 as int32 and 5 as int64 are two values, as in Spark. Nulls (also NaT) are no values: they are left out. NaN is a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sketches import hash_kernel, hash_plain
from sketches.errors import SketchTypeError
from sketches.jit import pick

__all__ = ["SEED", "Bytes", "Column", "Words", "column", "hash_blocks", "hashes"]

SEED: Final = np.uint64(42)
BLOCK: Final = 8192  # hashes of a block stay in the first two caches
CANONICAL_NAN: Final[dict[Any, Any]] = {np.dtype(np.float32): np.uint32(0x7FC00000), np.dtype(np.float64): np.uint64(0x7FF8000000000000)}
MOST_DIGITS: Final = 18
FINER: Final = ("us", "ns", "ps", "fs", "as")
FAR: Final = "leave them out, or hash them as integers"
ARROW: Final = ("__arrow_c_array__", "__arrow_c_stream__", "__arrow_array__")

_hash_words4 = pick(hash_kernel.hash_words4, hash_plain.hash_words4)
_hash_words8 = pick(hash_kernel.hash_words8, hash_plain.hash_words8)
_hash_bytes = pick(hash_kernel.hash_bytes, hash_plain.hash_bytes)


@dataclass(frozen=True, slots=True)
class Words:
    """Values of 4 or 8 bytes each.

    Attributes
    ----------
    words : ndarray (n,) uint32 or uint64
        Their byte forms.
    kind : str
        ``bool``, ``int`` (32 bits), ``long``, ``ulong``, ``float``, ``double``, ``date``, ``timestamp``, ``duration``,
        ``decimal`` or ``null``.
    rows : ndarray (n,) int64, or None
        Which of the rows given these are; None if all of them.
    """

    words: NDArray[Any]
    kind: str
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return int(self.words.size)

    def hash_into(self, start: int, stop: int, out: NDArray[np.uint64]) -> None:
        """Hash the values from `start` up to `stop` into `out`."""
        part = self.words[start:stop]
        (_hash_words4 if part.dtype == np.uint32 else _hash_words8)(part, SEED, out)

    def take(self, places: NDArray[np.int64]) -> Words:
        """Return the values at some places, in the order asked for."""
        return Words(self.words[places], self.kind, None if self.rows is None else self.rows[places])


@dataclass(frozen=True, slots=True)
class Bytes:
    """Strings or binary values in one buffer: value i is ``data[starts[i]:ends[i]]``.

    Attributes
    ----------
    data : ndarray (bytes,) uint8
    starts, ends : ndarray (n,) int64
    kind : str
        ``string`` or ``binary``.
    rows : ndarray (n,) int64, or None
        As in `Words`.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    kind: str
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return int(self.starts.size)

    def hash_into(self, start: int, stop: int, out: NDArray[np.uint64]) -> None:
        """Hash the values from `start` up to `stop` into `out`."""
        _hash_bytes(self.data, self.starts[start:stop], self.ends[start:stop], SEED, out)

    def take(self, places: NDArray[np.int64]) -> Bytes:
        """Return the values at some places, in the order asked for; the buffer is the same."""
        return Bytes(self.data, self.starts[places], self.ends[places], self.kind, None if self.rows is None else self.rows[places])


Column = Words | Bytes


def hashes(values: Any) -> NDArray[np.uint64]:
    """Return the hash of each value that is not null.

    Parameters
    ----------
    values : array
        As for `column`.

    Returns
    -------
    ndarray (n,) uint64
        In their order. As int64 they are what Spark SQL's ``xxhash64`` gives.

    Examples
    --------
    >>> hashes(np.array([1, 2], np.int64)).view(np.int64)
    array([-7001672635703045582, -3341702809300393011])
    """
    found = column(values)
    out = np.empty(len(found), np.uint64)
    found.hash_into(0, len(found), out)
    return out


def hash_blocks(found: Column) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """Yield the hashes block by block, each with the place where it begins; a block is overwritten by the next one."""
    buffer = np.empty(min(BLOCK, len(found)), np.uint64)
    for start in range(0, len(found), BLOCK):
        stop = min(start + BLOCK, len(found))
        part = buffer[: stop - start]
        found.hash_into(start, stop, part)
        yield start, part


def column(values: Any) -> Column:
    """Bring an array into the form that is hashed; nothing is copied that is in that form.

    Parameters
    ----------
    values : ndarray (n,), pyarrow.Array, pyarrow.ChunkedArray, pandas.Series, or what gives out Arrow (``__arrow_c_array__`` and the like)
        Of a type in the text of this module; dictionaries are taken as their values. Lists are not taken: they have no type. NaN in a
        Series is a null.

    Raises
    ------
    SketchTypeError
        Another type, objects, several dimensions.
    """
    if isinstance(values, np.ndarray):
        return _from_numpy(values)
    if is_arrow(values):
        from sketches import arrow_columns  # noqa: PLC0415 (Arrow is not needed for NumPy data)

        return arrow_columns.from_arrow(values)
    raise refused(f"values of type {type(values).__name__}", "give a NumPy or Arrow array, such as numpy.asarray(values, numpy.int64)")


def is_arrow(values: Any) -> bool:
    """Tell whether values are Arrow's, or can be given to it as they are."""
    return any(hasattr(values, name) for name in ARROW) or type(values).__module__.startswith("pandas.")


def one(value: Any) -> Column:
    """Bring a single value into the form that is hashed: int as int64, float as float64, None as no value."""
    if value is None:
        return Words(np.empty(0, np.uint64), "null")
    if isinstance(value, bytes | bytearray | memoryview):
        return _single(bytes(value), "binary")
    if isinstance(value, str):
        return _single(_encoded(value), "string")
    if isinstance(value, int) and not isinstance(value, bool):
        if not -(1 << 63) <= value < 1 << 64:
            raise refused(f"the integer {value}", "give one of 64 bits")
        return _from_numpy(np.array([value], np.int64 if value < 1 << 63 else np.uint64))
    if isinstance(value, np.generic | bool | float):
        return _from_numpy(np.array([value]))
    if isinstance(value, date | timedelta):
        return _from_numpy(np.array([_numpy_time(value)]))
    raise refused(f"a value of type {type(value).__name__}", "give one of a type that has a byte form; for decimals an Arrow array")


def _numpy_time(value: date | timedelta) -> np.datetime64 | np.timedelta64:
    if isinstance(value, datetime):
        return np.datetime64(value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value, "us")
    return np.timedelta64(value, "us") if isinstance(value, timedelta) else np.datetime64(value, "D")


def refused(got: str, todo: str) -> SketchTypeError:
    """Return the error of values that cannot be hashed."""
    expected = "booleans, integers, floats, strings, binary, dates, timestamps, durations or decimals"
    return SketchTypeError("hash", "argument", "values", expected=expected, got=got, todo=todo)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise refused("text that is not Unicode", f"{error}; hash its bytes") from error


def _single(value: bytes, kind: str) -> Bytes:
    return Bytes(np.frombuffer(value, np.uint8), np.zeros(1, np.int64), np.array([len(value)], np.int64), kind)


def _from_numpy(values: NDArray[Any]) -> Column:
    if values.ndim != 1:
        raise refused(f"an array of {values.ndim} dimensions", "give a flat one: values.ravel()")
    if isinstance(values, np.ma.MaskedArray):
        return _without(values.data, np.ma.getmaskarray(values))
    kind = values.dtype.kind
    if kind in "biuf":
        return words_of(values)
    if kind in "mM":
        return _times(values)
    if kind == "S":
        return _fixed(np.ascontiguousarray(values), "binary")
    if kind in "UT":
        return _texts(values)
    raise refused(f"an array of {values.dtype}", "give it a type: numpy.asarray(values, numpy.int64), or pyarrow.array(values, type)")


def _without(values: NDArray[Any], missing: NDArray[np.bool_]) -> Column:
    """Take those values that are not missing."""
    rows = np.flatnonzero(~missing)
    found = _from_numpy(values[rows])
    return replace(found, rows=rows if found.rows is None else rows[found.rows])


def _texts(values: NDArray[Any]) -> Column:
    if values.dtype.kind == "T":
        if hasattr(values.dtype, "na_object"):
            items = values.astype(object)
            missing = (items == None) | (items != items)  # noqa: E711, PLR0124 (each item; what stands for null is None or NaN)
            if missing.any():
                return _without(values, missing)
        return _joined(values)
    try:
        return _fixed(np.char.encode(values, "utf-8"), "string")
    except UnicodeEncodeError as error:
        raise refused("text that is not Unicode", f"{error}; hash its bytes") from error


def _joined(values: NDArray[Any]) -> Bytes:
    """Take variable strings: joined, as a fixed width would cut zeros off their ends, and take the longest one's room for each."""
    try:
        texts = values.tolist()
        data = np.frombuffer("".join(texts).encode(), np.uint8)
    except UnicodeEncodeError as error:
        raise refused("text that is not Unicode", f"{error}; hash its bytes") from error
    begins = np.append(np.flatnonzero((data & 0xC0) != 0x80), data.size)  # of each character
    ends = begins[np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)))]  # NumPy's own lengths end before the last zeros
    return Bytes(data, np.concatenate((np.zeros(min(1, ends.size), np.int64), ends[:-1])), ends, "string")


def words_of(values: NDArray[Any], rows: NDArray[np.int64] | None = None) -> Words:
    """Return numbers or booleans in the form that is hashed."""
    if values.dtype.kind == "f":
        return _floats(values, rows)
    if values.dtype.kind == "b":
        return Words(values.astype(np.uint32), "bool", rows)
    if values.dtype.itemsize < 4 or (values.dtype.kind == "i" and values.dtype.itemsize == 4):
        return Words(np.ascontiguousarray(values.astype(np.int32, copy=False)).view(np.uint32), "int", rows)
    if values.dtype.kind == "u" and values.dtype.itemsize == 8:
        return Words(np.ascontiguousarray(values.astype(np.uint64, copy=False)), "ulong", rows)
    return Words(np.ascontiguousarray(values.astype(np.int64, copy=False)).view(np.uint64), "long", rows)


def _floats(values: NDArray[Any], rows: NDArray[np.int64] | None) -> Words:
    wide = values.dtype.itemsize >= 8
    if values.dtype.itemsize > 8:
        raise refused(f"an array of {values.dtype}", "make it float64")
    numbers = np.ascontiguousarray(values.astype(np.float64 if wide else np.float32, copy=False))
    bits = numbers.view(np.uint64 if wide else np.uint32)
    odd = (numbers != numbers) | (numbers == 0)  # noqa: PLR0124 (NaN)
    if odd.any():
        bits = bits.copy()
        bits[numbers == 0] = 0
        bits[np.isnan(numbers)] = CANONICAL_NAN[numbers.dtype]
    return Words(bits, "double" if wide else "float", rows)


def _times(values: NDArray[Any]) -> Words:
    present = ~np.isnat(values)
    rows = None if present.all() else np.flatnonzero(present)
    some = values if rows is None else values[rows]
    if values.dtype == np.dtype("M8[D]"):
        days = some.astype(np.int64)
        if (days != days.astype(np.int32)).any():
            raise refused("days beyond 32 bits", FAR)
        return Words(days.astype(np.int32).view(np.uint32), "date", rows)
    is_duration = values.dtype.kind == "m"
    unit = np.datetime_data(values.dtype)[0]
    if unit == "generic" or (is_duration and unit in "YM"):
        raise refused(f"an array of {values.dtype}", "give it a unit that has a length, such as us")
    micros = some.astype("m8[us]" if is_duration else "M8[us]")
    if unit not in FINER and (micros.astype(values.dtype) != some).any():  # NumPy lets them overflow
        raise refused("times whose microseconds are beyond 64 bits", FAR)
    numbers = micros.astype(np.int64)
    return Words(numbers.view(np.uint64), "duration" if is_duration else "timestamp", rows)


def _fixed(values: NDArray[Any], kind: str) -> Bytes:
    """Take an array of byte strings of one length; as NumPy has it, they end before their last zeros."""
    width = values.dtype.itemsize
    starts = np.arange(values.size, dtype=np.int64) * width
    return Bytes(values.view(np.uint8).reshape(-1), starts, starts + np.char.str_len(values), kind)
