"""Arrow's types as Delta stores them, and which of them go into which without a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import pyarrow as pa
from pyarrow import types as kinds

__all__ = ["is_safe", "stored_type"]

SIGNED: Final = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}
DIGITS: Final = {8: 3, 16: 5, 32: 10, 64: 19}  # of the longest integer
MOST_DIGITS: Final = 38
EXACT_BITS: Final = {32: 16, 64: 32}  # integers of so many bits are exact in a float of so many


def stored_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type in which a table holds values of `kind`, None if it cannot.

    Examples
    --------
    >>> stored_type(pa.large_string()), stored_type(pa.uint16()), stored_type(pa.timestamp("ns", "Europe/Berlin"))
    (DataType(string), DataType(int32), TimestampType(timestamp[us, tz=UTC]))
    >>> stored_type(pa.duration("s")) is None
    True
    """
    if kinds.is_dictionary(kind):
        return stored_type(kind.value_type)
    return next((stored(kind) for is_kind, stored in STORED.items() if is_kind(kind)), None)


def _stored_struct(kind: pa.DataType) -> pa.DataType | None:
    parts = [(field.name, stored_type(field.type)) for field in kind]
    return pa.struct(parts) if parts and all(part is not None for _, part in parts) else None


def _stored_map(kind: pa.DataType) -> pa.DataType | None:
    key, item = stored_type(kind.key_type), stored_type(kind.item_type)
    return pa.map_(key, item) if key is not None and item is not None else None


def _stored_list(kind: pa.DataType) -> pa.DataType | None:
    value = stored_type(kind.value_type)
    return pa.list_(value) if value is not None else None


def _stored_decimal(kind: pa.DataType) -> pa.DataType | None:
    return pa.decimal128(kind.precision, kind.scale) if kind.precision <= MOST_DIGITS and kind.scale >= 0 else None


STORED: Final[Mapping[Callable[[pa.DataType], bool], Callable[[pa.DataType], pa.DataType | None]]] = {
    kinds.is_boolean: lambda kind: kind,
    kinds.is_signed_integer: lambda kind: kind,
    kinds.is_unsigned_integer: lambda kind: SIGNED.get(kind.bit_width * 2),
    kinds.is_float16: lambda _: pa.float32(),
    kinds.is_floating: lambda kind: kind,
    kinds.is_decimal: _stored_decimal,
    kinds.is_string: lambda _: pa.string(),
    kinds.is_large_string: lambda _: pa.string(),
    kinds.is_string_view: lambda _: pa.string(),
    kinds.is_binary: lambda _: pa.binary(),
    kinds.is_large_binary: lambda _: pa.binary(),
    kinds.is_binary_view: lambda _: pa.binary(),
    kinds.is_fixed_size_binary: lambda _: pa.binary(),
    kinds.is_date: lambda _: pa.date32(),
    kinds.is_timestamp: lambda kind: pa.timestamp("us", None if kind.tz is None else "UTC"),
    kinds.is_struct: _stored_struct,
    kinds.is_map: _stored_map,
    kinds.is_list: _stored_list,
    kinds.is_large_list: _stored_list,
    kinds.is_fixed_size_list: _stored_list,
}


def is_safe(kind: pa.DataType, into: pa.DataType) -> bool:
    """Tell whether every value of `kind` has an equal one in `into`, the stored type of a column.

    A timestamp without a zone goes into one with a zone, as UTC; finer units are left to the values. Structs need the same fields in
    the same order.

    Examples
    --------
    >>> is_safe(pa.int32(), pa.int64()), is_safe(pa.int64(), pa.int32()), is_safe(pa.int64(), pa.float64())
    (True, False, False)
    """
    if kinds.is_null(kind):
        return True
    stored = stored_type(kind)
    if stored is None or stored.equals(into):
        return stored is not None
    if kinds.is_struct(stored) and kinds.is_struct(into):
        same = [field.name for field in stored] == [field.name for field in into]
        return same and all(is_safe(ours.type, theirs.type) for ours, theirs in zip(stored, into, strict=True))
    if kinds.is_map(stored) and kinds.is_map(into):
        return is_safe(stored.key_type, into.key_type) and is_safe(stored.item_type, into.item_type)
    if kinds.is_list(stored) and kinds.is_list(into):
        return is_safe(stored.value_type, into.value_type)
    return any(is_from(stored) and is_into(into) and is_wider(stored, into) for is_from, is_into, is_wider in WIDER)


WIDER: Final[Sequence[tuple[Callable[..., bool], Callable[..., bool], Callable[[pa.DataType, pa.DataType], bool]]]] = (
    (kinds.is_timestamp, kinds.is_timestamp, lambda ours, _: ours.tz is None),  # the other way would drop the zone
    (kinds.is_integer, kinds.is_integer, lambda ours, into: ours.bit_width <= into.bit_width),
    (kinds.is_integer, kinds.is_floating, lambda ours, into: ours.bit_width <= EXACT_BITS[into.bit_width]),
    (kinds.is_integer, kinds.is_decimal, lambda ours, into: DIGITS[ours.bit_width] <= into.precision - into.scale),
    (kinds.is_floating, kinds.is_floating, lambda ours, into: ours.bit_width <= into.bit_width),
    (
        kinds.is_decimal,
        kinds.is_decimal,
        lambda ours, into: ours.scale <= into.scale and ours.precision - ours.scale <= into.precision - into.scale,
    ),
)
