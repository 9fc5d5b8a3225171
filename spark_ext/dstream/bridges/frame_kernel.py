"""Blocks of elements as Arrow record batches of a schema, and which schema elements have.

A tuple, list, Row or dict is a row, as for `createDataFrame`; any other element is the value of the only column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, Final

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql.conversion import LocalDataToArrowConversion
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import (
    BooleanType,
    ByteType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    NullType,
    ShortType,
    StringType,
    StructField,
    StructType,
    _infer_schema,
    _make_type_verifier,
    _merge_type,
)

from spark_ext.dstream.columns.blocks import Block, unpack
from spark_ext.errors import SchemaError

__all__ = ["arrow_schema", "infer", "record_batch", "typed"]

SAMPLE: Final = 1_000  # elements whose types are looked at
NONE: Final = type(None)
NUMBERS: Final = frozenset({int, float})
EXACT: Final[Mapping[type[DataType], frozenset[type]]] = {
    BooleanType: frozenset({bool}),
    ByteType: frozenset({int}),
    ShortType: frozenset({int}),
    IntegerType: frozenset({int}),
    LongType: frozenset({int}),
    FloatType: NUMBERS,
    DoubleType: NUMBERS,
    StringType: frozenset({str}),
}
"""Types of Python whose values go into a column as they are, if they are in its range."""


def arrow_schema(schema: StructType) -> pa.Schema:
    """Return the schema in Arrow's types, as the JVM reads them."""
    return to_arrow_schema(schema, timezone="UTC")


def record_batch(block: Block, schema: StructType, *, where: str) -> pa.RecordBatch:
    """Return a block as columns of a schema.

    Guarantee: values are as `createDataFrame` makes them, but nothing is changed to fit: no number to a string, no decimal beyond its
    column to null; an integer may become a float that is equal to it.

    Parameters
    ----------
    block : Block
        Elements.
    schema : StructType
        Of the columns.
    where : str
        The batch, for messages.

    Raises
    ------
    SchemaError
        An element does not fit; names batch, column and value.
    """
    arrow = arrow_schema(schema)
    columns = _columns(block, schema, where)
    made = [_column(column, field, kind, where) for column, field, kind in zip(columns, schema.fields, arrow.types, strict=True)]
    return pa.RecordBatch.from_arrays(made, schema=arrow)


def infer(block: Block, names: Sequence[str] | None) -> StructType:
    """Return the schema of the first elements of a block, as `createDataFrame` infers it.

    Parameters
    ----------
    block : Block
        At least one element.
    names : sequence of str or None
        Of the columns; None: those of a Row or dict, else ``_1``, ``_2`` ..., and ``value`` for elements that are no rows.

    Raises
    ------
    SchemaError
        The elements have no type in Spark, or another number of columns than there are names.
    """
    some = block[:SAMPLE] if isinstance(block, list) else unpack(block.slice(0, SAMPLE))
    rows = [_row(one) for one in some]
    wanted = None if names is None else list(names)
    if wanted is None and not _is_row(some[0]):
        wanted = ["value"]
    try:
        found = reduce(_merge_type, [_infer_schema(row, wanted and list(wanted)) for row in rows])
    except (PySparkException, TypeError, ValueError) as error:
        raise _undetermined(f"elements such as {some[0]!r}", str(error)) from error
    unknown = [field.name for field in found.fields if isinstance(field.dataType, NullType)]
    if unknown:
        raise _undetermined(f"only None in {', '.join(map(repr, unknown))}", "its type cannot be seen")
    if names is not None and len(found) != len(names):
        raise _undetermined(f"{some[0]!r} for columns {', '.join(map(repr, names))}", "each element needs a value for each column")
    return found


def typed(names: Sequence[str] | None) -> StructType:
    """Return the schema of columns of which no element has been seen."""
    return StructType([StructField(name, NullType()) for name in names or ()])


def _columns(block: Block, schema: StructType, where: str) -> Sequence[Any]:
    """Return the columns as arrays or lists."""
    width = len(schema)
    if not isinstance(block, list):
        columns = [block.field(place) for place in range(block.type.num_fields)] if pa.types.is_struct(block.type) else [block]
        if len(columns) != width:
            raise _width(unpack(block.slice(0, 1))[0], schema, where)
        return columns
    names = schema.names
    rows = [tuple(map(one.get, names)) if isinstance(one, dict) else _row(one) for one in block]
    if set(map(len, rows)) != {width}:
        raise _width(next(one for one, row in zip(block, rows, strict=True) if len(row) != width), schema, where)
    return [[row[place] for row in rows] for place in range(width)]


def _is_row(element: Any) -> bool:
    return isinstance(element, tuple | list | dict)


def _row(element: Any) -> Any:
    return element if _is_row(element) else (element,)


def _column(values: Any, field: StructField, kind: pa.DataType, where: str) -> pa.Array:
    if isinstance(values, pa.Array):
        as_is = _widened(values, kind)
        if as_is is not None and (field.nullable or not as_is.null_count):
            return as_is
        values = unpack(values)
    try:
        return _converted(values, field, kind)
    except Exception:  # noqa: BLE001 (whatever Spark and Arrow raise)
        raise _wrong(values, field, kind, where) from None  # its text has what there is to know


def _widened(values: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Return a column as another type if each value stays what it is by a plain cast."""
    if values.type.equals(kind):
        return values
    is_integer = pa.types.is_integer(values.type)
    if pa.types.is_null(values.type) or (is_integer and (pa.types.is_integer(kind) or pa.types.is_floating(kind))):
        try:
            return values.cast(kind)
        except pa.ArrowException:
            return None  # said with the value in it
    return None


def _converted(values: Sequence[Any], field: StructField, kind: pa.DataType) -> pa.Array:
    """Return values as a column; raises what says what is wrong with one."""
    if not field.nullable and any(value is None for value in values):
        raise ValueError
    exact = EXACT.get(type(field.dataType))
    if exact is not None:
        found = set(map(type, values)) - {NONE} - exact
        if found:
            raise TypeError(found)
        return pa.array(values, kind)
    verify = _make_type_verifier(field.dataType, True, field.name)
    for value in values:
        verify(value)
    convert = LocalDataToArrowConversion._create_converter(field.dataType)  # noqa: SLF001 (Spark's own rules for values of each type)
    return pa.array(list(map(convert, values)), kind)


def _wrong(values: Sequence[Any], field: StructField, kind: pa.DataType, where: str) -> SchemaError:
    """Return the error that names the first value that does not fit."""
    for value in values:
        try:
            _converted([value], field, kind)
        except Exception as error:  # noqa: BLE001 (whatever Spark and Arrow raise)
            exact = type(field.dataType) in EXACT or value is None
            why = "it is not of that type, or not in its range" if exact else str(error)
            return _unfit(field, f"{value!r} ({type(value).__name__})", why, where)
    return _unfit(field, f"{len(values):,} values", "together they are no column", where)


def _unfit(field: StructField, got: str, why: str, where: str) -> SchemaError:
    kind = field.dataType.simpleString() + ("" if field.nullable else " not null")
    return SchemaError(
        "make",
        "data frame of",
        where,
        expected=f"values for column {field.name!r} {kind}",
        got=got,
        why=why,
        todo="give the column a type that holds it, or map the elements first",
    )


def _width(element: Any, schema: StructType, where: str) -> SchemaError:
    return SchemaError(
        "make",
        "data frame of",
        where,
        expected=f"elements for {schema.simpleString()}",
        got=repr(element),
        why=f"an element needs {len(schema)} values, one for each column",
        todo="map each element to a tuple of the columns",
    )


def _undetermined(got: str, why: str) -> SchemaError:
    return SchemaError(
        "infer",
        "schema",
        "of elements",
        expected="values that tell their types",
        got=got,
        why=why,
        todo="give the schema with types, such as toDF('word string, n bigint')",
    )
