"""Which schemas can be parsed without changing a value in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, ByteType, DataType, DateType, DoubleType, FloatType, MapType, StructType, TimestampType

from spark_ext.errors import SchemaError
from spark_ext.ingest.tags import DEAD, SOURCE

__all__ = ["FLOATS", "TIMES", "check_schema", "column"]

TIMES: Final = (TimestampType, DateType)
FLOATS: Final = (FloatType, DoubleType)
UNCHECKED_INSIDE: Final = (*TIMES, *FLOATS)  # their checks look at top-level columns only


def column(name: str) -> Column:
    """Return the column of exactly this name, dots and backticks included."""
    return F.col("`" + name.replace("`", "``") + "`")


def check_schema(schema: StructType, event_time: str, earliest: datetime) -> None:
    """Refuse a schema that `JsonFormat` could not keep its promise for.

    Raises
    ------
    SchemaError
        With the field and what to do.
    """
    names = Counter(name.lower() for name in schema.fieldNames())
    taken = sorted(
        name for name in schema.fieldNames() if name.lower() in {SOURCE, DEAD} or name.startswith("__") or names[name.lower()] > 1
    )
    if taken:
        raise SchemaError(
            "parse",
            "schema",
            ",".join(schema.fieldNames()),
            expected=f"names that differ in more than case, other than {SOURCE!r}, {DEAD!r} and those with '__'",
            got=repr(taken),
            todo="rename them",
        )
    for path, problem, todo in _problems(schema, ""):
        raise SchemaError("parse", "field", path, expected="a type whose values can be checked", got=problem, todo=todo)
    wanted = (
        event_time in schema.fieldNames() and isinstance(schema[event_time].dataType, TimestampType) and not schema[event_time].nullable
    )
    if not wanted or earliest.tzinfo is None:
        raise SchemaError(
            "parse",
            "event time",
            event_time,
            expected="a field of type timestamp with nullable=False, and earliest with a time zone",
            got=f"{schema[event_time] if event_time in schema.fieldNames() else 'no such field'}, {earliest!r}",
            todo="declare it so",
        )


def _problems(kind: DataType, path: str) -> Iterator[tuple[str, str, str]]:
    """Yield every place of a schema that Spark would read otherwise than it says: path, problem, what to do."""
    if isinstance(kind, StructType):
        for field in kind.fields:
            below = f"{path}.{field.name}" if path else field.name
            if path and not field.nullable:
                yield below, "a required field inside another", "make it nullable and check it with `refuse`"
            yield from _problems(field.dataType, below)
    elif isinstance(kind, ArrayType):
        yield from _problems(kind.elementType, f"{path}.element")
    elif isinstance(kind, MapType):
        yield from _problems(kind.valueType, f"{path}.value")
    elif isinstance(kind, ByteType):
        yield path, "tinyint, in which 128 becomes -128", "declare it as smallint"
    elif "." in path and isinstance(kind, UNCHECKED_INSIDE):
        yield path, f"{kind.simpleString()} inside another field", "declare it as string there and cast it later"
