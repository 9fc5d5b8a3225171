"""Which schemas can be parsed without changing a value in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    ShortType,
    StringType,
    StructType,
    TimestampType,
)

from spark_ext.errors import SchemaError
from spark_ext.ingest.tags import TAGS

__all__ = ["EPOCH", "EPOCH_UNITS", "FLOATS", "TIMES", "check_flat", "check_for_spark", "check_schema"]

TIMES: Final = (TimestampType, DateType)
FLOATS: Final = (FloatType, DoubleType)
READABLE: Final = (
    *TIMES, *FLOATS, StringType, BooleanType, ByteType, ShortType, IntegerType, LongType, DecimalType, StructType, ArrayType, MapType,
)  # fmt: skip
NESTED: Final = (StructType, ArrayType, MapType)
EPOCH: Final = "epoch"  # metadata of a timestamp that is a number: of which unit since 1970
EPOCH_UNITS: Final = {"s": 1_000_000, "ms": 1_000, "us": 1}
UNCHECKED_INSIDE: Final = (*TIMES, *FLOATS)  # their checks look at top-level columns only


def check_schema(schema: StructType, event_time: str | None, earliest: datetime | None) -> None:
    """Refuse a schema that no format could keep its promise for.

    Raises
    ------
    SchemaError
        With the field and what to do.
    """
    names = Counter(name.lower() for name in schema.fieldNames())
    taken = sorted(name for name in schema.fieldNames() if name.lower() in TAGS or name.startswith("__") or names[name.lower()] > 1)
    if taken or not names:
        raise SchemaError(
            "parse",
            "schema",
            ",".join(schema.fieldNames()),
            expected=f"names that differ in more than case, other than {', '.join(TAGS)} and those with '__'",
            got=repr(taken),
            todo="rename them",
        )
    _refuse(_problems(schema, ""))
    if event_time is None:
        return
    wanted = (
        event_time in schema.fieldNames() and isinstance(schema[event_time].dataType, TimestampType) and not schema[event_time].nullable
    )
    if not wanted or earliest is None or earliest.tzinfo is None:
        raise SchemaError(
            "parse",
            "event time",
            event_time,
            expected="a field of type timestamp with nullable=False, and earliest with a time zone",
            got=f"{schema[event_time] if event_time in schema.fieldNames() else 'no such field'}, {earliest!r}",
            todo="declare it so",
        )


def check_for_spark(schema: StructType) -> None:
    """Refuse a schema of which Spark's own ``from_json`` would change values in silence.

    Raises
    ------
    SchemaError
        With the field and what to do.
    """
    _refuse(_changed_by_spark(schema, ""))


def check_flat(schema: StructType) -> None:
    """Refuse nested fields.

    Raises
    ------
    SchemaError
        With the field and what to do.
    """
    nested = (one for one in schema.fields if isinstance(one.dataType, NESTED))
    _refuse((one.name, f"type {one.dataType.simpleString()}, which has no form in a line", "declare it as string") for one in nested)


def _refuse(problems: Iterator[tuple[str, str, str]]) -> None:
    for path, problem, todo in problems:
        raise SchemaError("parse", "field", path, expected="a type whose values can be checked", got=problem, todo=todo)


def _below(kind: DataType, path: str) -> Iterator[tuple[str, DataType]]:
    """Yield what is right inside a type, with its path."""
    if isinstance(kind, StructType):
        yield from ((f"{path}.{field.name}" if path else field.name, field.dataType) for field in kind.fields)
    elif isinstance(kind, ArrayType):
        yield f"{path}.element", kind.elementType
    elif isinstance(kind, MapType):
        yield f"{path}.value", kind.valueType


def _problems(kind: DataType, path: str) -> Iterator[tuple[str, str, str]]:
    """Yield every place of a schema that cannot be read: path, problem, what to do."""
    if isinstance(kind, StructType):
        for field in kind.fields:
            unit = field.metadata.get(EPOCH)
            if unit is not None and (path or not isinstance(field.dataType, TimestampType) or unit not in tuple(EPOCH_UNITS)):
                todo = f"use one of {', '.join(EPOCH_UNITS)}, for a timestamp that is no part of another field"
                yield f"{path}.{field.name}" if path else field.name, f"metadata {EPOCH!r}: {unit!r}", todo
            if path and not field.nullable:
                yield f"{path}.{field.name}", "a required field inside another", "make it nullable and check it behind the source"
    if (isinstance(kind, ArrayType) and not kind.containsNull) or (isinstance(kind, MapType) and not kind.valueContainsNull):
        yield (
            path,
            f"{kind.typeName()} without nulls, a required value inside a field",
            "let it contain nulls and check it behind the source",
        )
    if isinstance(kind, MapType) and not isinstance(kind.keyType, StringType):
        yield path, f"a map with keys of type {kind.keyType.simpleString()}", "use string keys, as JSON does"
    if not isinstance(kind, READABLE):
        yield path, f"type {kind.simpleString()}", "declare it as string and cast it later"
    for name, inner in _below(kind, path):
        yield from _problems(inner, name)


def _changed_by_spark(kind: DataType, path: str) -> Iterator[tuple[str, str, str]]:
    """Yield every place of a schema that Spark would read otherwise than it says: path, problem, what to do."""
    if isinstance(kind, StructType) and not path:
        for field in kind.fields:
            if field.metadata.get(EPOCH) is not None:
                yield field.name, f"metadata {EPOCH!r}, which from_json ignores", "declare it as bigint or string and convert it later"
    if isinstance(kind, ByteType):
        yield path, "tinyint, in which 128 becomes -128", "declare it as smallint"
    elif "." in path and isinstance(kind, UNCHECKED_INSIDE):
        yield path, f"{kind.simpleString()} inside another field", "declare it as string there and cast it later"
    for name, inner in _below(kind, path):
        yield from _changed_by_spark(inner, name)
