"""Keys of any type as dense numbers, so that grouping is arithmetic.

Equality is that of Spark's ``GROUP BY``: null equals null, NaN equals NaN, -0.0 equals 0.0, a struct equals another field by field.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spark_ext.errors import SchemaError

__all__ = ["check_key", "check_text", "codes", "flat", "ints", "normalised", "whole"]

ROOM: Final = 2**62  # above it two codes are made dense before they are combined


def check_key(name: str, kind: pa.DataType) -> None:
    """Refuse a key of a type that has no equality here.

    Raises
    ------
    SchemaError
        The type is an array, a map, or a struct that holds one.
    """
    if pa.types.is_struct(kind):
        for field in kind:
            check_key(f"{name}.{field.name}", field.type)
    elif pa.types.is_nested(kind):
        raise SchemaError(
            "group by",
            "key",
            name,
            expected="a plain value or a struct of plain values",
            got=str(kind),
            why="arrays and maps are not compared",
            todo="group by a part of it, or by its text: to_json(...)",
        )


def check_text(name: str, kind: str) -> None:
    """Refuse a key whose text is equal by other rules than its bytes; `kind` is its type as Spark writes it.

    Raises
    ------
    SchemaError
        The type has a collation, or holds one that has.
    """
    if " collate " in kind:
        expected, why = "text that is equal when its bytes are", "columns reach a kernel without their collation"
        raise SchemaError("group by", "key", name, expected=expected, got=kind, why=why, todo="group by lower(...), or as it fits")


def codes(columns: Sequence[pa.Array | pa.ChunkedArray]) -> NDArray[np.int64]:
    """Return a number for each row by the values of its columns: equal rows get equal ones, counted up by first appearance.

    Parameters
    ----------
    columns : sequence of pa.Array or pa.ChunkedArray (n,)
        The parts of the key, one or more.

    Returns
    -------
    ndarray (n,) int64
        From 0 to the number of distinct rows, less one. Rows that are distinct and come first keep their place as number.

    Examples
    --------
    >>> codes([pa.array(["b", "a", None, "b", None])]).tolist()
    [0, 1, 2, 0, 2]
    >>> codes([pa.array([1, 1, 2, 1]), pa.array([0.0, 1.0, 0.0, -0.0])]).tolist()
    [0, 1, 2, 0]
    """
    parts = [part for column in columns for part in flat(whole(column))]
    found, size = _encoded(parts[0])
    for part in parts[1:]:
        more, count = _encoded(part)
        if size * count >= ROOM:
            found, size = _dense(found)
        found, size = found * count + more, size * count
    return found if len(parts) == 1 else _dense(found)[0]


def normalised(column: pa.Array) -> pa.Array:
    """Return floating-point values with one zero and one NaN; anything else as it is."""
    if pa.types.is_struct(column.type):
        children = [normalised(column.field(at)) for at in range(column.type.num_fields)]
        return pa.StructArray.from_arrays(children, fields=list(column.type), mask=column.is_null())
    if not pa.types.is_floating(column.type):
        return column
    zero, nan = (pa.scalar(value, column.type) for value in (0.0, float("nan")))
    positive = pc.if_else(pc.equal(column, zero), zero, column)
    return pc.if_else(pc.is_nan(positive), nan, positive)


def whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column without chunks."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def ints(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """Return int64 or time stamps as NumPy's int64; 0 for null."""
    found = whole(column)
    plain = found if pa.types.is_int64(found.type) else found.view(pa.int64())
    return np.asarray(plain.fill_null(0) if plain.null_count else plain)


def flat(column: pa.Array) -> list[pa.Array]:
    """Return a column of plain values, or of a struct whether it is there and its fields, so that equal parts are equal keys."""
    if not pa.types.is_struct(column.type):
        return [column]
    # Children below a null struct are null in `flatten`, so whether the struct is there is a part of its own.
    return [column.is_valid(), *(part for child in column.flatten() for part in flat(child))]


def _encoded(column: pa.Array) -> tuple[NDArray[np.int64], int]:
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.int64), 1
    encoded = normalised(column).dictionary_encode(null_encoding="encode")
    return encoded.indices.to_numpy().astype(np.int64), max(1, len(encoded.dictionary))


def _dense(found: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    numbers, distinct = pd.factorize(found)
    return numbers.astype(np.int64), max(1, len(distinct))
