"""Native loops over librdkafka's message pointers: no Python object per record.

Functions of the C library come as addresses in int64 arguments, because a kernel that had them as
constants could not be cached for another process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from sketches.jit import njit

__all__ = ["destroy", "gather", "gather_headers", "measure", "measure_headers", "outdated"]

# where the fields of rd_kafka_message_t are where pointers have 64 bits; the bindings check it
ERROR: Final = 0
VALUE: Final = 24
VALUE_SIZE: Final = 32
KEY: Final = 40
KEY_SIZE: Final = 48
OFFSET: Final = 56
NO_TIMESTAMP: Final = 0  # RD_KAFKA_TIMESTAMP_NOT_AVAILABLE

I64: Final = ir.IntType(64)
I32: Final = ir.IntType(32)


def _load(kind: Any) -> Any:
    """Return code that reads a number at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(builder.inttoptr(arguments[0], kind.as_pointer()), align=1)
        return value if kind is I64 else builder.sext(value, I64)

    return generate


def _call(result: Any) -> Any:
    """Return code that calls the function at an address; all its arguments are 64 bits wide."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        shape = ir.FunctionType(result or ir.VoidType(), [I64] * (len(arguments) - 1))
        value = builder.call(builder.inttoptr(arguments[0], shape.as_pointer()), arguments[1:])
        if result is None:
            return context.get_dummy_value()
        return value if result is I64 else builder.sext(value, I64)

    return generate


def _native(function: Callable[..., Any]) -> Any:
    """Make an intrinsic, which kernels call without the context that it is declared with."""
    return intrinsic(function)


@_native
def _load_i64(context: Any, address: Any) -> Any:
    return types.int64(types.int64), _load(I64)


@_native
def _load_i32(context: Any, address: Any) -> Any:
    return types.int64(types.int64), _load(I32)


@_native
def _load_byte(context: Any, address: Any) -> Any:
    return types.int64(types.int64), _load(ir.IntType(8))


@_native
def _call_1(context: Any, function: Any, first: Any) -> Any:
    return types.void(types.int64, types.int64), _call(None)


@_native
def _call_1_i64(context: Any, function: Any, first: Any) -> Any:
    return types.int64(types.int64, types.int64), _call(I64)


@_native
def _call_2_i32(context: Any, function: Any, first: Any, second: Any) -> Any:
    return types.int64(types.int64, types.int64, types.int64), _call(I32)


@_native
def _call_2_i64(context: Any, function: Any, first: Any, second: Any) -> Any:
    return types.int64(types.int64, types.int64, types.int64), _call(I64)


@_native
def _call_5_i32(context: Any, function: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
    return types.int64(*[types.int64] * 6), _call(I32)


@_native
def _copy(context: Any, to: Any, source: Any, size: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        cgutils.raw_memcpy(  # type: ignore[no-untyped-call]
            builder, builder.inttoptr(arguments[0], byte), builder.inttoptr(arguments[1], byte), arguments[2], 1
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@njit()
def measure(pointers: Any, begin: Any, held: Any, position: Any, end: Any, sums: Any) -> tuple[int, int]:
    """Count the messages from `begin` on that can be delivered, and add their bytes to `sums`.

    Returns where it stopped, `held` or the first message that is an error, is not before `end` or is before
    `position`, and the position behind what it counted.

    Parameters
    ----------
    pointers : ndarray int64
        Addresses of messages.
    sums : ndarray (2,) int64
        Bytes of values and of keys.
    """
    for i in range(begin, held):
        message = pointers[i]
        offset = _load_i64(message + OFFSET)
        if _load_i32(message + ERROR) != 0 or offset >= end or offset < position:
            return i, position
        position = offset + 1
        sums[0] += _load_i64(message + VALUE_SIZE)
        sums[1] += _load_i64(message + KEY_SIZE)
    return held, position


@njit()
def outdated(pointers: Any, begin: int, held: int, position: int) -> int:
    """Return the first message from `begin` on that is an error, or is not before `position`."""
    while begin < held and _load_i32(pointers[begin] + ERROR) == 0 and _load_i64(pointers[begin] + OFFSET) < position:
        begin += 1
    return begin


@njit(inline="always")
def _put(message: Any, field: Any, field_size: Any, i: Any, data: Any, offsets: Any, valid: Any) -> None:
    start = _load_i64(message + field)
    size = _load_i64(message + field_size)
    valid[i] = start != 0
    if size > 0:
        _copy(data.ctypes.data + offsets[i], start, size)
    offsets[i + 1] = offsets[i] + size


@njit()
def gather(
    pointers: Any,
    count: Any,
    timestamp: Any,
    kind: Any,
    offsets: Any,
    timestamps: Any,
    data: Any,
    places: Any,
    valid: Any,
    want_keys: Any,
    key_data: Any,
    key_places: Any,
    key_valid: Any,
) -> None:
    """Copy `count` messages into columns of exactly their size.

    Parameters
    ----------
    timestamp : int
        Address of ``rd_kafka_message_timestamp``.
    kind : int
        Address of an int that it may write to.
    """
    places[0] = 0
    key_places[0] = 0
    for i in range(count):
        message = pointers[i]
        offsets[i] = _load_i64(message + OFFSET)
        at = _call_2_i64(timestamp, message, kind)
        timestamps[i] = at if _load_i32(kind) != NO_TIMESTAMP else -1
        _put(message, VALUE, VALUE_SIZE, i, data, places, valid)
        if want_keys:
            _put(message, KEY, KEY_SIZE, i, key_data, key_places, key_valid)


@njit()
def _length(text: Any) -> int:
    size = 0
    while _load_byte(text + size) != 0:
        size += 1
    return size


@njit()
def measure_headers(pointers: Any, count: Any, headers: Any, header_count: Any, header_get: Any, cell: Any, places: Any, sums: Any) -> None:
    """Count headers into `places` (one more than messages), and the bytes of their names and values into `sums`.

    Parameters
    ----------
    headers, header_count, header_get : int
        Addresses of ``rd_kafka_message_headers``, ``rd_kafka_header_cnt`` and ``rd_kafka_header_get_all``.
    cell : int
        Address of four 64-bit numbers that they may write to: list, name, value, size.
    """
    places[0] = 0
    for i in range(count):
        found = 0
        if _call_2_i32(headers, pointers[i], cell) == 0:
            found = _call_1_i64(header_count, _load_i64(cell))
            for j in range(found):
                _call_5_i32(header_get, _load_i64(cell), j, cell + 8, cell + 16, cell + 24)
                sums[0] += _length(_load_i64(cell + 8))
                sums[1] += _load_i64(cell + 24)
        places[i + 1] = places[i] + found


@njit()
def gather_headers(
    pointers: Any,
    count: Any,
    headers: Any,
    header_get: Any,
    cell: Any,
    places: Any,
    names: Any,
    name_places: Any,
    values: Any,
    value_places: Any,
    valid: Any,
) -> None:
    """Copy the headers that `measure_headers` counted."""
    name_places[0] = 0
    value_places[0] = 0
    for i in range(count):
        if places[i + 1] == places[i]:
            continue
        _call_2_i32(headers, pointers[i], cell)
        for j in range(places[i + 1] - places[i]):
            _call_5_i32(header_get, _load_i64(cell), j, cell + 8, cell + 16, cell + 24)
            k = places[i] + j
            size = _length(_load_i64(cell + 8))
            _copy(names.ctypes.data + name_places[k], _load_i64(cell + 8), size)
            name_places[k + 1] = name_places[k] + size
            valid[k] = _load_i64(cell + 16) != 0
            size = _load_i64(cell + 24) if valid[k] else 0
            _copy(values.ctypes.data + value_places[k], _load_i64(cell + 16), size)
            value_places[k + 1] = value_places[k] + size


@njit()
def destroy(pointers: Any, begin: Any, end: Any, function: Any) -> None:
    """Give messages back to the library; `function` is the address of ``rd_kafka_message_destroy``."""
    for i in range(begin, end):
        _call_1(function, pointers[i])
