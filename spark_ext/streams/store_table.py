"""The table of a store: the newest value of each key, its key taken apart into plain columns so that a row is found by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any, Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StructType

from spark_ext.errors import SchemaError
from spark_ext.streams.records import KEY, SEQUENCE, TIMESTAMP, VALUE

__all__ = ["key_columns", "key_parts", "key_values", "to_rows"]

JOINER: Final = "_"


def key_columns(kind: DataType) -> list[str]:
    """Return the columns of a key: ``key``, or one for each field of a struct, ``key_window_start``.

    Raises
    ------
    SchemaError
        Two fields would have one column.
    """
    found = [JOINER.join((KEY, *path)) for path in _paths(kind)]
    if len({name.lower() for name in found}) != len(found):
        expected, todo = "fields that make columns of their own", "rename a field"
        raise SchemaError("keep", "key", kind.simpleString(), expected=expected, got=", ".join(found), todo=todo)
    return found


def key_values(key: Any, kind: DataType) -> dict[str, Any]:
    """Return the columns of a key that is given as a value, or as a mapping for a struct."""
    found = {}
    for path in _paths(kind):
        value = key
        for name in path:
            value = value[name]
        found[JOINER.join((KEY, *path))] = value
    return found


def key_parts(kind: DataType) -> list[Callable[[Column], Column]]:
    """Return for each column of a key how it is got out of the key."""
    return [partial(_part, path) for path in _paths(kind)]


def to_rows(records: DataFrame) -> DataFrame:
    """Return records as rows of the table."""
    kind = records.schema[KEY].dataType
    parts = [part(F.col(KEY)).alias(name) for part, name in zip(key_parts(kind), key_columns(kind), strict=True)]
    return records.select(*parts, VALUE, TIMESTAMP, SEQUENCE)


def _part(path: tuple[str, ...], key: Column) -> Column:
    return reduce(Column.getField, path, key)


def _paths(kind: DataType, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if not isinstance(kind, StructType):
        yield path
        return
    for field in kind:
        yield from _paths(field.dataType, (*path, field.name))
