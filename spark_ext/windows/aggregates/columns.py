"""Arrow columns as NumPy sees them, without copies, and back; which types can be added and which can be ordered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.windows.aggregates.aggregate import Types

__all__ = ["arrow", "canonical", "column_name", "is_fixed", "ordered_type", "positive", "sort_key", "type_of", "valid", "view", "words"]

INT64_DIGITS = 18  # decimals of up to so many digits fit one int64


def column_name(value: object, aggregate: str) -> str:
    """Return `value` if it can name a column.

    Raises
    ------
    SettingsError
        It is not a string, or empty.
    """
    if not isinstance(value, str) or not value:
        raise SettingsError("build", "aggregate", aggregate, expected="the name of a column", got=repr(value), todo="name a column")
    return value


def positive(value: object, aggregate: str, what: str) -> None:
    """Check that `value` is a number of rows of at least one.

    Raises
    ------
    SettingsError
        It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        expected, got = f"{what} to be a whole number >= 1", repr(value)
        why = "state is bounded by it"
        raise SettingsError("build", "aggregate", aggregate, expected=expected, got=got, why=why, todo=f"give {what} as a number of rows")


def type_of(types: Types, column: str, aggregate: str) -> pa.DataType:
    """Return the type of `column`.

    Raises
    ------
    SchemaError
        There is no such column.
    """
    if column not in types:
        expected, got = f"a column {column!r} for {aggregate}", f"columns {sorted(types)!r}"
        raise SchemaError("aggregate", "column", column, expected=expected, got=got, todo="correct the name or add the column")
    return types[column]


def ordered_type(types: Types, column: str, aggregate: str) -> pa.DataType:
    """Return the type of `column`, which `sort_key` can order.

    Raises
    ------
    SchemaError
        No such column, or its values have no order here.
    """
    found = type_of(types, column, aggregate)
    if is_fixed(found) or _is_ranked(found) or pa.types.is_boolean(found):
        return found
    raise SchemaError(
        "aggregate",
        "column",
        column,
        expected="numbers, booleans, strings, binary, dates or timestamps",
        got=str(found),
        why=f"{aggregate} has to order values",
        todo="select the field to use, or cast it to one of these types",
    )


def is_fixed(data_type: pa.DataType) -> bool:
    """Whether `view` gives values of this type as NumPy numbers of the same order: integers, floats, dates, times."""
    is_integer = pa.types.is_signed_integer(data_type)
    is_float = pa.types.is_float32(data_type) or pa.types.is_float64(data_type)
    is_time = pa.types.is_date(data_type) or pa.types.is_timestamp(data_type) or pa.types.is_time(data_type)
    return bool(is_integer or is_float or is_time or pa.types.is_duration(data_type))


def _is_ranked(data_type: pa.DataType) -> bool:
    is_text = pa.types.is_string(data_type) or pa.types.is_large_string(data_type)
    is_bytes = pa.types.is_binary(data_type) or pa.types.is_large_binary(data_type)
    return bool(is_text or is_bytes or pa.types.is_decimal128(data_type))


def view(array: pa.Array) -> NDArray[Any]:
    """Return the values of a type for which `is_fixed` holds: ndarray (n,), read-only, not copied.

    Dates and times are integers in the unit of their type. What stands in place of a null is undefined.
    """
    kind = "f" if pa.types.is_floating(array.type) else "i"
    dtype = np.dtype(f"{kind}{array.type.bit_width // 8}")
    if not len(array):
        return np.empty(0, dtype)
    values = np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)
    values.flags.writeable = False
    return values


def words(array: pa.Array) -> NDArray[np.int64]:
    """Return decimals as their 64-bit words, low first: ndarray (n, 2) int64, not copied."""
    if not len(array):
        return np.empty((0, 2), np.int64)
    return np.frombuffer(array.buffers()[1], np.int64, 2 * len(array), 16 * array.offset).reshape(-1, 2)


def valid(array: pa.Array) -> NDArray[np.bool_] | None:
    """Return which values are not null, ndarray (n,) bool; None when all are."""
    if not array.null_count:
        return None
    mask: NDArray[np.bool_] = array.is_valid().to_numpy(zero_copy_only=False)
    return mask


def arrow(values: NDArray[Any], data_type: pa.DataType, present: NDArray[np.bool_] | None = None) -> pa.Array:
    """Return NumPy values as an Arrow array of a type of the same width, not copied; null where not `present`."""
    bitmap = None if present is None or present.all() else pa.array(present).buffers()[1]
    return pa.Array.from_buffers(data_type, len(values), [bitmap, pa.py_buffer(np.ascontiguousarray(values))])


def canonical(array: pa.Array) -> pa.Array:
    """Return floats with one zero and one NaN, other types as they are: equal values have equal bytes."""
    if not pa.types.is_floating(array.type):
        return array
    values = view(array) + 0.0  # -0.0 + 0.0 is 0.0
    values[np.isnan(values)] = np.nan
    return arrow(values.astype(view(array).dtype, copy=False), array.type, valid(array))


def sort_key(array: pa.Array) -> NDArray[np.int64]:
    """Return numbers that are ordered and equal as the values are in Spark: NaN is largest, -0.0 equals 0.0, text by bytes.

    Comparable within this array only. What stands for a null is undefined.

    Parameters
    ----------
    array : pa.Array (n,)
        Of a type that `ordered_type` lets pass.

    Returns
    -------
    ndarray (n,) int64
    """
    if pa.types.is_floating(array.type):
        # IEEE 754 bits are ordered like sign and magnitude; flip the magnitude of negatives.
        bits = view(canonical(array)).astype(np.float64).view(np.int64)
        return bits ^ ((bits >> 63) & np.int64(2**63 - 1))
    if is_fixed(array.type):
        return view(array).astype(np.int64, copy=False)
    if pa.types.is_boolean(array.type):
        flags: NDArray[Any] = array.fill_null(False).to_numpy(zero_copy_only=False)
        return flags.astype(np.int64)
    if pa.types.is_decimal128(array.type) and array.type.precision <= INT64_DIGITS:
        return words(array)[:, 0]
    return _ranks(array)


def _ranks(array: pa.Array) -> NDArray[np.int64]:
    coded = array.dictionary_encode()
    by_value = pc.sort_indices(coded.dictionary).to_numpy()
    rank = np.empty(len(by_value) + 1, np.int64)
    rank[by_value] = np.arange(len(by_value))
    rank[-1] = 0  # nulls; keeps an all-null array in range
    indices: NDArray[Any] = coded.indices.fill_null(len(by_value)).to_numpy()
    ranks: NDArray[np.int64] = rank[indices]
    return ranks
