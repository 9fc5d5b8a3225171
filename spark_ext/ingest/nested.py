"""Values of structs, arrays and maps, and of numbers that are too hard for the kernel: strict, from checked JSON text.

A whole column is read by pyarrow in one go where that is exact; where anything is suspicious, value by value in Python.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from spark_ext.ingest.number_kernel import BAD_TIME, FAR_YEAR, time_at

__all__ = ["FLOAT32_BEYOND", "BadValueError", "exact_decimal", "exact_float", "exact_value", "read_nested"]

FLOAT32_BEYOND: Final = 3.4028235677973366e38  # rounds to infinity, as does all above


class BadValueError(ValueError):
    """A value does not fit its type; its only argument is the reason."""


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def read_nested(texts: Sequence[bytes | None], kind: pa.DataType) -> tuple[pa.Array, dict[int, str]]:
    """Turn JSON texts into a column.

    Parameters
    ----------
    texts : sequence of bytes or None
        Each a checked JSON value whose outermost brackets fit `kind`; None is null.
    kind : pyarrow.DataType
        Struct, list or map.

    Returns
    -------
    pyarrow.Array
        One value per text, null where there is none or a bad one.
    dict of int to str
        The reason of each bad one by its place.
    """
    if _is_plain(kind) and texts:
        whole = _at_once(texts, kind)
        if whole is not None:
            return whole, {}
    values: list[Any] = [None] * len(texts)
    bad: dict[int, str] = {}
    for at, text in enumerate(texts):
        if text is not None:
            try:
                values[at] = exact_value(text, kind)
            except BadValueError as error:
                bad[at] = str(error)
    return pa.array(values, kind), bad


def exact_value(text: bytes, kind: pa.DataType) -> Any:
    """Return the value of one JSON text for `pyarrow.array`.

    Raises
    ------
    BadValueError
        With the reason ``type``, ``range`` or ``duplicate_key``.
    """
    found = json.loads(text, parse_int=_Number, parse_float=_Number, object_pairs_hook=_Pairs)
    return _convert(found, kind)


class _Pairs(list[tuple[str, Any]]):
    """An object as it was written."""


def _at_once(texts: Sequence[bytes | None], kind: pa.DataType) -> pa.Array | None:
    lines = b"\n".join(b'{"v":%s}' % (text.replace(b"\n", b" ").replace(b"\r", b" ") if text is not None else b"null") for text in texts)
    options = pj.ParseOptions(explicit_schema=pa.schema([("v", kind)]), unexpected_field_behavior="error")
    try:
        table = pj.read_json(io.BytesIO(lines), pj.ReadOptions(use_threads=False, block_size=len(lines) + 1), options)
    except pa.ArrowInvalid:
        return None
    column = table["v"].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0)
    return column if len(column) == len(texts) and _is_finite(column) else None


def _is_plain(kind: pa.DataType) -> bool:
    """Tell whether pyarrow reads this type exactly as we would."""
    if pa.types.is_struct(kind):
        return all(_is_plain(one.type) for one in kind)
    if pa.types.is_list(kind):
        return _is_plain(kind.value_type)
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_boolean, pa.types.is_integer, pa.types.is_float64))


def _is_finite(array: pa.Array) -> bool:
    if pa.types.is_struct(array.type):
        return all(_is_finite(array.field(at)) for at in range(array.type.num_fields))
    if pa.types.is_list(array.type):
        return _is_finite(array.values)
    if pa.types.is_floating(array.type):
        return pc.all(pc.is_finite(array)).as_py() is not False  # no value at all: null
    return True


def _convert(found: Any, kind: pa.DataType) -> Any:  # noqa: PLR0911, PLR0912 (one line per type)
    if found is None:
        return None
    if pa.types.is_struct(kind) or pa.types.is_map(kind):
        if not isinstance(found, _Pairs):
            raise BadValueError("type")
        names = [name for name, _ in found]
        if len(set(names)) != len(names):
            raise BadValueError("duplicate_key")
        if pa.types.is_map(kind):
            return [(name, _convert(value, kind.item_type)) for name, value in found]
        types = {one.name: one.type for one in kind}
        return {name: _convert(value, types[name]) for name, value in found if name in types}
    if pa.types.is_list(kind):
        if not isinstance(found, list) or isinstance(found, _Pairs):
            raise BadValueError("type")
        return [_convert(one, kind.value_type) for one in found]
    if pa.types.is_boolean(kind):
        return _of_type(found, bool)
    if isinstance(found, _Number):
        if pa.types.is_integer(kind):
            return _integer(found, kind)
        if pa.types.is_floating(kind):
            return exact_float(found, kind)
        if pa.types.is_decimal(kind):
            return exact_decimal(found, kind.precision, kind.scale)
        raise BadValueError("type")
    text = _of_type(found, str)
    if pa.types.is_string(kind):
        return text
    if not pa.types.is_timestamp(kind) and not pa.types.is_date(kind):
        raise BadValueError("type")
    raw = np.frombuffer(text.encode() + b"\0", np.uint8)
    time = time_at(raw, 0, len(raw) - 1, pa.types.is_date(kind))
    if time in {BAD_TIME, FAR_YEAR}:
        raise BadValueError("type" if time == BAD_TIME else "range")
    return pa.scalar(time, pa.int32() if pa.types.is_date(kind) else pa.int64()).cast(kind).as_py()


def _of_type(found: Any, wanted: type) -> Any:
    if not isinstance(found, wanted) or isinstance(found, _Number):
        raise BadValueError("type")
    return found


def _integer(text: str, kind: pa.DataType) -> int:
    if not text.lstrip("-").isdigit():
        raise BadValueError("type")
    limit = 1 << (kind.bit_width - 1)
    number = int(text)
    if not -limit <= number < limit:
        raise BadValueError("range")
    return number


def exact_float(text: str, kind: pa.DataType) -> float:
    """Return the nearest double or float.

    Raises
    ------
    BadValueError
        It would be infinite.
    """
    number = float(text)
    if math.isinf(number) or (pa.types.is_float32(kind) and abs(number) >= FLOAT32_BEYOND):
        raise BadValueError("range")
    return number


def exact_decimal(text: str, precision: int, scale: int) -> Decimal:
    """Return the decimal that is written.

    Raises
    ------
    BadValueError
        It has more digits before or behind the point than precision and scale allow; nothing is rounded.
    """
    # Not by Decimal(text), whose exponent has a limit.
    mantissa, _, power = text.lower().partition("e")
    whole, _, fraction = mantissa.removeprefix("-").partition(".")
    exponent = int(power or "0") - len(fraction)
    written = (whole + fraction).lstrip("0")
    if exponent < -scale or (written and len(written) + exponent > precision - scale):
        raise BadValueError("range")
    unscaled = written + "0" * (exponent + scale) if written else "0"
    negative = written != "" and text.startswith("-")
    return Decimal((int(negative), tuple(map(int, unscaled)), -scale))
