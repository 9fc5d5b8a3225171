"""Sketch tables are made here. A row stands for values that were counted, wherever and whenever: rows of a key are added up.

create_sketch_table --> table --- epochs.Sketches, or delta.combine(..., with_=Combiner(...)) ---> one row per key
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
from deltalake import DeltaTable, Schema

from sketches.base import Sketch
from spark_ext.delta.types import stored_type
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.paths import absolute
from spark_ext.sketching.table_schema import Measure, SketchSchema, check_type, measure_of, sketch_schema

__all__ = ["MeasureLike", "TypeLike", "create_sketch_table", "described", "make_table"]

TypeLike = Any  # pyarrow.DataType, or a word of Spark
MeasureLike = Sketch | str | tuple[str, TypeLike]
WORDS: Final = {
    "boolean": pa.bool_(), "tinyint": pa.int8(), "smallint": pa.int16(), "int": pa.int32(), "bigint": pa.int64(), "float": pa.float32(),
    "double": pa.float64(), "string": pa.string(), "binary": pa.binary(), "date": pa.date32(), "timestamp": pa.timestamp("us", "UTC"),
}  # fmt: skip
DECIMAL: Final = re.compile(r"decimal\((\d+), *(\d+)\)")
KEY_TYPES: Final = "a boolean, an integer, a decimal, a string, a binary, a date or a timestamp"


def create_sketch_table(
    path: str, *, keys: Mapping[str, TypeLike], measures: Mapping[str, MeasureLike], partition_by: Sequence[str] = ()
) -> SketchSchema:
    """Make a table of sketches at `path`, empty; one that is there already stays, if it is the same.

    Needs no Spark.

    Parameters
    ----------
    path : str
        Local path or URI.
    keys : mapping of str to type
        Columns that identify a row, with their types: Arrow's, or words of Spark such as ``"string"``. A row for a time has
        ``window_start`` and ``window_end``, timestamps; only such tables can be compacted. A null is a key like another.
    measures : mapping of str to sketch, str or (str, type)
        What is added up: an empty sketch of the parameters that the column shall have, such as ``HyperLogLog(12)``; ``"sum"`` (of bigint),
        for counts too; or ``("sum", type)``, ``("min", type)``, ``("max", type)``.
    partition_by : sequence of str
        Keys by which its files lie in folders. An epoch and a compaction that write to different ones never meet.

    Returns
    -------
    SketchSchema
        What the table is.

    Raises
    ------
    SchemaError
        A type does not fit, or another table is there.
    SettingsError
        No key or no measure, or a partition that is no key.
    SketchError
        A sketch that is not empty, or has keys or a clock of its own.

    Examples
    --------
    >>> import tempfile
    >>> from sketches import HyperLogLog
    >>> create_sketch_table(
    ...     tempfile.mkdtemp() + "/visits",
    ...     keys={"window_start": "timestamp", "window_end": "timestamp", "page": "string"},
    ...     measures={"visitors": HyperLogLog(12), "views": "sum"},
    ... ).templates
    {'visitors': HyperLogLog(precision=12, hash='xxh64')}
    """
    path = absolute(path)
    found = [_measure(name, given) for name, given in measures.items()]
    types = {name: _type(name, given) for name, given in keys.items()}
    folded = [name.casefold() for name in (*types, *measures)]  # Delta does not look at case
    twice = sorted({name for name in (*types, *measures) if folded.count(name.casefold()) > 1})
    if not types or not found or twice:
        expected = "keys and measures, each under a name of its own"
        got = f"{', '.join(twice)} twice" if twice else f"{len(types)} keys and {len(found)} measures"
        raise SettingsError("make", "sketch table", path, expected=expected, got=got, todo="name both")
    wrong = [name for name, kind in types.items() if pa.types.is_floating(kind) or pa.types.is_nested(kind)]
    if wrong:
        raise SchemaError("use", "key", wrong[0], expected=KEY_TYPES, got=str(types[wrong[0]]), todo="cast it")
    if not set(partition_by) <= set(types):
        got = repr(list(partition_by))
        raise SettingsError("make", "sketch table", path, expected="partitions that are keys", got=got, todo="name keys")
    columns = pa.schema([*types.items(), *((name, kind) for name, kind, _ in found)])
    schema = SketchSchema(columns, tuple((name, measure) for name, _, measure in found), tuple(partition_by))
    return make_table(schema, path)


def make_table(schema: SketchSchema, path: str) -> SketchSchema:
    """Make a table that was described; one that is there already stays, if it is the same.

    Raises
    ------
    SchemaError
        Another table is there.
    """
    if not DeltaTable.is_deltatable(path):  # of two that make it at once one is first
        DeltaTable.create(path, schema=Schema.from_arrow(schema.fields), partition_by=list(schema.partitioned_by) or None, mode="ignore")
    found = sketch_schema(path)
    if found != schema:
        expected, got = described(schema), described(found)
        raise SchemaError("make", "sketch table", path, expected=expected, got=f"a table with {got}", todo="make it elsewhere")
    return found


def described(schema: SketchSchema) -> str:
    """Return keys and measures of a table in a line."""
    keys = ", ".join(f"{name} {schema.columns.field(name).type}" for name in schema.keys)
    return f"keys {keys}; measures {', '.join(f'{name} {measure}' for name, measure in schema.measures)}" + (
        f"; partitions {', '.join(schema.partitioned_by)}" if schema.partitioned_by else ""
    )


def _type(name: str, given: TypeLike) -> pa.DataType:
    if isinstance(given, pa.DataType):
        kind = stored_type(given)
        if kind is not None:
            return WORDS["timestamp"] if pa.types.is_timestamp(kind) else kind
    else:
        decimal = DECIMAL.fullmatch(given)
        if decimal:
            return pa.decimal128(int(decimal[1]), int(decimal[2]))
        if given in WORDS:
            return WORDS[given]
    expected = f"a type of Arrow that Delta has, or one of {', '.join(WORDS)}, decimal(p, s)"
    raise SchemaError("use", "column", name, expected=expected, got=str(given), todo="correct the type")


def _measure(name: str, given: MeasureLike) -> tuple[str, pa.DataType, Measure]:
    if isinstance(given, Sketch):
        return name, pa.binary(), measure_of(given)
    how, kind = given if isinstance(given, tuple) else (given, "bigint")
    if how not in ("sum", "min", "max"):
        expected = "an empty sketch, or sum, min or max, perhaps with a type"
        raise SchemaError("use", "measure", name, expected=expected, got=repr(given), todo="correct it")
    measure, found = Measure(how), _type(name, kind)  # type: ignore[arg-type]  # one of them
    check_type(name, found, measure)
    return name, found, measure
