"""Items that sketches give back, as Arrow arrays: texts, or a type that is asked for; one list of them for each sketch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sketches.columns import Bytes, Column, Words, column
from sketches.errors import EngineError, SketchError, SketchTypeError
from sketches.functions.rows import Rows
from sketches.items import Items

__all__ = ["in_lists", "items_of", "whole"]

NUMPY: Final[dict[str, Any]] = {
    "bool": np.bool_,
    "int": np.int32,
    "long": np.int64,
    "ulong": np.uint64,
    "float": np.float32,
    "double": np.float64,
    "date": "M8[D]",
    "timestamp": "M8[us]",
    "duration": "m8[us]",
}
MICROSECONDS: Final = 1_000_000


def items_of(values: Sequence[Any], kind: str | None) -> Items:
    """Return Python's values of a kind as items."""
    found = Items()
    if kind is not None:
        texts = {"string": pa.large_string(), "binary": pa.large_binary()}
        array = pa.array(values, texts[kind]) if kind in texts else np.array(values, NUMPY[kind])
        found.append(column(array), np.arange(len(values)))
    return found


def whole(parts: Sequence[Items | None], item_type: pa.DataType | None, rows: Rows) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Return the items of all forms one after the other, and for each form whether its items are there: None and refused ones are not.

    Parameters
    ----------
    item_type : pyarrow.DataType, optional
        None: texts. Strings as they are; numbers in decimal, those of decimals without their point, which a sketch does not know; binary in
        hexadecimal; dates, times (in UTC) and durations as ISO 8601 has them.
    """
    valid = np.fromiter((part is not None for part in parts), np.bool_, len(parts))
    found: list[pa.Array] = [pa.array([], pa.string() if item_type is None else item_type)]
    some = [part for part in parts if part is not None and len(part)]
    if len({part.kind for part in some}) == 1:
        try:
            return pa.concat_arrays([*found, _of_type(_joined(some), item_type)]), valid
        except EngineError:  # one of them does not fit the type: find out which
            pass
    for form, part in enumerate(parts):
        if part is None or not len(part):
            continue
        try:
            found.append(_of_type(part, item_type))
        except EngineError as error:
            rows.refuse(form, error)
            valid[form] = False
    return pa.concat_arrays(found), valid


def in_lists(rows: Rows, values: pa.Array, sizes: NDArray[np.int64], valid: NDArray[np.bool_]) -> pa.Array:
    """Return values that belong to forms, so many to each, as a list for each row; null for a form that is not valid."""
    offsets = np.concatenate(([0], np.cumsum(np.where(valid, sizes, 0))))
    marked = pa.array(offsets.astype(np.int32), mask=np.append(~valid, [False]))
    return rows.spread(pa.ListArray.from_arrays(marked, values))


def check_type(item_type: Any) -> None:
    """Refuse what is no type."""
    if item_type is not None and not isinstance(item_type, pa.DataType):
        got = repr(item_type)
        raise SketchError("use", "argument", "item_type", expected="a pyarrow.DataType, or None for texts", got=got, todo="give one")


def _joined(parts: Sequence[Items]) -> Items:
    """Return the items of several sketches, of one kind, as one list."""
    columns: list[Column] = [part.column() for part in parts]
    found = Items()
    if isinstance(columns[0], Words):
        words = np.concatenate([some.words for some in columns if isinstance(some, Words)])
        joined: Column = Words(words, columns[0].kind)
    else:
        texts = [some for some in columns if isinstance(some, Bytes)]
        begins = np.cumsum([0, *(some.data.size for some in texts[:-1])])
        starts = np.concatenate([some.starts + begin for some, begin in zip(texts, begins, strict=True)])
        ends = np.concatenate([some.ends + begin for some, begin in zip(texts, begins, strict=True)])
        joined = Bytes(np.concatenate([some.data for some in texts]), starts, ends, columns[0].kind)
    found.append(joined, np.arange(len(joined)))
    return found


def _of_type(items: Items, item_type: pa.DataType | None) -> pa.Array:
    if item_type is None:
        return _texts(items)
    try:
        if items.kind == "decimal" and pa.types.is_decimal(item_type):
            return _decimals(items.values(), item_type.scale).cast(item_type)
        return items.to_arrow().cast(item_type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        todo = "ask for another item_type, or for none, which gives texts"
        raise SketchTypeError(
            "give back", "items", items.kind, expected=str(item_type), got=repr(items.kind), why=str(error), todo=todo
        ) from error


def _decimals(unscaled: NDArray[np.int64], scale: int) -> pa.Array:
    pairs = np.stack((unscaled, unscaled >> 63), axis=1)  # 128 bits each, the low ones first
    return pa.Array.from_buffers(pa.decimal128(19, scale), unscaled.size, [None, pa.py_buffer(pairs.tobytes())])


def _texts(items: Items) -> pa.Array:
    values = items.values()
    texts: list[str]
    match items.kind:
        case "string":
            return items.to_arrow().cast(pa.string())
        case "binary":
            texts = [value.hex() for value in values.tolist()]
        case "bool":
            texts = np.where(values, "true", "false").tolist()
        case "date":
            texts = np.datetime_as_string(values).tolist()
        case "timestamp":
            texts = [f"{text}Z" for text in np.datetime_as_string(values).tolist()]
        case "duration":
            texts = [_duration(micros) for micros in values.astype(np.int64).tolist()]
        case _:
            texts = values.astype(np.dtypes.StringDType()).tolist()
    return pa.array(texts, pa.string())


def _duration(micros: int) -> str:
    seconds, rest = divmod(abs(micros), MICROSECONDS)
    return f"{'-' if micros < 0 else ''}PT{seconds}{f'.{rest:06}' if rest else ''}S"
