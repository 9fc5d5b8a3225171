"""Arrow arrays in the form that is hashed, straight from their buffers."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sketches.columns import FAR, MOST_DIGITS, Bytes, Column, Words, refused, words_of

__all__ = ["from_arrow", "to_arrow"]

OFFSETS: Final[dict[pa.DataType, Any]] = {
    pa.string(): np.int32,
    pa.binary(): np.int32,
    pa.large_string(): np.int64,
    pa.large_binary(): np.int64,
}
TODO: Final = "cast it, or hash it by Spark's xxhash64 and use update_hashes"
LARGE: Final = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def from_arrow(values: Any) -> Column:
    """Bring an Arrow array, or what can be made one without a copy, into the form that is hashed."""
    array = to_arrow(values)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
        if isinstance(array, pa.ChunkedArray):  # dictionaries of several chunks
            array = pa.concat_arrays([chunk.cast(array.type.value_type) for chunk in array.chunks])
    array = _simple(array)  # first of all, for a value of a dictionary may be null
    rows = None
    if array.null_count:
        rows = np.flatnonzero(np.asarray(array.is_valid()))
        array = array.drop_null()
    return _of(array, rows)


def to_arrow(values: Any) -> pa.Array | pa.ChunkedArray:
    """Return what can be given to Arrow as an Arrow array."""
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values
    try:
        return pa.chunked_array(values) if hasattr(values, "__arrow_c_stream__") else pa.array(values)
    except pa.ArrowException as error:  # a Series of objects of several types
        raise refused(
            f"a {type(values).__name__} of {getattr(values, 'dtype', 'several types')}", f"make it of one type; {error}"
        ) from error


def _of(array: pa.Array, rows: NDArray[np.int64] | None) -> Column:
    kind = array.type
    if kind in OFFSETS:
        return _bytes(array, OFFSETS[kind], "string" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else "binary", rows)
    if pa.types.is_null(kind):
        return Words(np.empty(0, np.uint64), "null", np.empty(0, np.int64))
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return words_of(array.to_numpy(zero_copy_only=False), rows)
    return _times_and_decimals(array, rows)


def _simple(array: pa.Array) -> pa.Array:
    """Return the same values without dictionary, extension type, views and fixed sizes."""
    if pa.types.is_dictionary(array.type):
        return _simple(array.dictionary_decode())
    if isinstance(array, pa.ExtensionArray):
        return _simple(array.storage)
    if pa.types.is_fixed_size_binary(array.type) and not pa.types.is_decimal(array.type):
        return array.cast(pa.binary())
    return array.cast(LARGE[array.type]) if array.type in LARGE else array


def _times_and_decimals(array: pa.Array, rows: NDArray[np.int64] | None) -> Words:
    kind = array.type
    if pa.types.is_date(kind):
        days = array.cast(pa.date32()).cast(pa.int32())
        return Words(days.to_numpy().view(np.uint32), "date", rows)
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return Words(_micros(array).view(np.uint64), "duration" if pa.types.is_duration(kind) else "timestamp", rows)
    if pa.types.is_decimal(kind):
        return Words(_unscaled(array).view(np.uint64), "decimal", rows)
    raise refused(f"an Arrow array of {kind}", TODO)


def _micros(array: pa.Array) -> NDArray[np.int64]:
    kind = array.type
    if kind.unit == "ns":
        nanos: NDArray[np.int64] = array.cast(pa.int64()).to_numpy()
        return nanos // 1000  # down also before 1970, as NumPy does; Arrow's own cast goes up there
    try:
        micros: NDArray[np.int64] = (
            array.cast(pa.duration("us") if pa.types.is_duration(kind) else pa.timestamp("us", kind.tz)).cast(pa.int64()).to_numpy()
        )
    except pa.ArrowInvalid as error:
        raise refused("times whose microseconds are beyond 64 bits", FAR) from error
    return micros


def _unscaled(array: pa.Array) -> NDArray[np.int64]:
    if array.type.precision > MOST_DIGITS:
        raise refused(f"decimals of {array.type.precision} digits, more than {MOST_DIGITS}", TODO)
    wide = array.cast(pa.decimal128(MOST_DIGITS, array.type.scale))
    words = np.frombuffer(wide.buffers()[1], np.int64)  # two for each, the low one first
    return np.ascontiguousarray(words[0::2][wide.offset : wide.offset + len(wide)])


def _bytes(array: pa.Array, offset: Any, kind: str, rows: NDArray[np.int64] | None) -> Bytes:
    _, places, data = array.buffers()
    if places is None or len(array) == 0:
        return Bytes(np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.int64), kind, rows)
    ends = np.frombuffer(places, offset)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    return Bytes(np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8), ends[:-1], ends[1:], kind, rows)
