"""Records as rows: the columns that every stream here has, and changes of them one by one.

A stream or a batch of records has ``key``, ``value``, ``timestamp`` (event time) and ``sequence`` (bigint, which of a key's records is
newer). A table is a stream of its newest values; a null value says that the key is gone. Windowed tables have ``is_final`` as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Final, cast

import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import StructType

from spark_ext.errors import SchemaError
from spark_ext.names import column
from spark_ext.streams.ddl import spark_schema

if TYPE_CHECKING:
    from spark_ext.streams.nodes import Change

__all__ = ["FINAL", "KEY", "OURS", "RECORD", "SEQUENCE", "TIMESTAMP", "VALUE", "flat", "nested", "on_key_and_value", "value_fields"]

KEY: Final = "key"
VALUE: Final = "value"
TIMESTAMP: Final = "timestamp"
SEQUENCE: Final = "sequence"
FINAL: Final = "is_final"
RECORD: Final = (KEY, VALUE, TIMESTAMP, SEQUENCE)
OURS: Final = frozenset({KEY, TIMESTAMP, SEQUENCE})


def _column(value: Any) -> Column:
    return value if isinstance(value, Column) else F.lit(value)


def on_key_and_value(function: Callable[..., Any]) -> Callable[[Column, Column], Column]:
    """Return a function of key and value, of one that takes both or the value only."""
    try:
        arity = len([one for one in inspect.signature(function).parameters.values() if one.default is one.empty])
    except (TypeError, ValueError):
        arity = 1
    if arity == 1:
        return lambda _, value: _column(function(value))
    return lambda key, value: _column(function(key, value))


def where(predicate: Callable[..., Any], *, negated: bool = False) -> Change:
    """Keep records that a predicate is true of; negated: those that it is not true of, null included."""
    test = on_key_and_value(predicate)

    def change(rows: DataFrame) -> DataFrame:
        holds = F.coalesce(test(F.col(KEY), F.col(VALUE)), F.lit(False))
        return rows.where(~holds if negated else holds)

    return change


def branch(predicates: Sequence[Callable[..., Any]], at: int) -> Change:
    """Keep records that the predicate `at` is the first one to be true of; behind the last one: that none is true of."""
    tests = [on_key_and_value(one) for one in predicates]

    def change(rows: DataFrame) -> DataFrame:
        holds = [F.coalesce(test(F.col(KEY), F.col(VALUE)), F.lit(False)) for test in tests]
        before = reduce(lambda left, right: left & right, [~one for one in holds[:at]], F.lit(True))
        return rows.where(before & holds[at] if at < len(holds) else before)

    return change


def map_values(mapper: Callable[..., Any]) -> Change:
    """Give each record another value."""
    function = on_key_and_value(mapper)
    return lambda rows: rows.withColumn(VALUE, function(F.col(KEY), F.col(VALUE)))


def select_key(mapper: Callable[..., Any]) -> Change:
    """Give each record another key."""
    return lambda rows: rows.withColumn(KEY, _column(mapper(F.col(KEY), F.col(VALUE))))


def map_both(mapper: Callable[[Column, Column], tuple[Any, Any]]) -> Change:
    """Give each record another key and value."""

    def change(rows: DataFrame) -> DataFrame:
        key, value = mapper(F.col(KEY), F.col(VALUE))
        return rows.withColumns({KEY: _column(key), VALUE: _column(value)})

    return change


def flat_map_values(mapper: Callable[..., Any]) -> Change:
    """Make a record of each element of an array."""
    function = on_key_and_value(mapper)
    return lambda rows: rows.withColumn(VALUE, F.explode(function(F.col(KEY), F.col(VALUE))))


def flat_map(mapper: Callable[[Column, Column], Any]) -> Change:
    """Make a record of each pair of a list, or of each element of an array of structs: its first field the key, its second the value."""

    def change(rows: DataFrame) -> DataFrame:
        pairs = mapper(F.col(KEY), F.col(VALUE))
        if isinstance(pairs, list):
            pairs = F.array(*(F.struct(_column(key).alias(KEY), _column(value).alias(VALUE)) for key, value in pairs))
        made = rows.withColumn(VALUE, F.explode(pairs))
        kind = made.schema[VALUE].dataType
        if not isinstance(kind, StructType) or len(kind) != 2:  # noqa: PLR2004 (key and value)
            expected = "pairs (key, value), or an array of structs of these two"
            raise SchemaError("map", "records by", "flatMap", expected=expected, got=kind.simpleString(), todo="use F.struct(key, value)")
        key, value = (F.col(VALUE).getField(name) for name in kind.names)
        return made.withColumns({KEY: key, VALUE: value})

    return change


def table_where(predicate: Callable[..., Any], *, negated: bool = False) -> Change:
    """Keep the value where a predicate is true of it; elsewhere the key is gone."""
    test = on_key_and_value(predicate)

    def change(rows: DataFrame) -> DataFrame:
        holds = F.coalesce(test(F.col(KEY), F.col(VALUE)), F.lit(False))
        return rows.withColumn(VALUE, F.when(~holds if negated else holds, F.col(VALUE)))

    return change


def table_map_values(mapper: Callable[..., Any]) -> Change:
    """Give each key another value; a key that is gone stays gone."""
    function = on_key_and_value(mapper)
    return lambda rows: rows.withColumn(VALUE, F.when(F.col(VALUE).isNotNull(), function(F.col(KEY), F.col(VALUE))))


def regroup(mapper: Callable[[Column, Column], tuple[Any, Any]]) -> Change:
    """Give rows of a table that are there another key and value; columns beside those of records stay."""
    return map_both(mapper)


def only_final(rows: DataFrame) -> DataFrame:
    """Keep results of windows that have closed."""
    if FINAL not in rows.columns:
        todo = "call it on a windowed table, before toStream()"
        raise SchemaError("suppress", "table", "", expected="results of windows", got=f"columns {rows.columns}", todo=todo)
    return rows.where(FINAL)


def as_stream(rows: DataFrame) -> DataFrame:
    """Take a table's updates as events."""
    return rows.select(*RECORD)


def peek(action: Callable[[pa.Table], None]) -> Change:
    """Show records to a function in the workers, block by block."""

    def shown(blocks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in blocks:
            action(pa.Table.from_batches([block]))
            yield block

    def change(rows: DataFrame) -> DataFrame:
        found: DataFrame = rows.mapInArrow(shown, rows.schema)
        return found

    return change


def map_values_in_pandas(function: Callable[[pd.DataFrame], pd.DataFrame], schema: str) -> Change:
    """Let Python make values of values; see `KStream.mapValuesInPandas`. Key and timestamp stay in the JVM: pandas would round them."""

    def change(rows: DataFrame) -> DataFrame:
        made = spark_schema(schema)
        is_plain = made.names == [VALUE]

        def mapped(values: pd.Series) -> pd.Series:
            plain = values if isinstance(values, pd.DataFrame) else values.to_frame(VALUE)
            result = function(plain)
            if len(result) != len(plain):
                expected, todo = f"{len(plain)} rows", "use flatMapInPandas"
                raise SchemaError("map", "values", "in pandas", expected=expected, got=f"{len(result)}", todo=todo)
            return cast("pd.Series", result[VALUE] if is_plain else result[made.names])

        # Not deterministic for Spark, so that it is called once where several columns and filters come of it.
        made_by: Callable[..., Any] = pandas_udf  # its overloads know no struct
        called = made_by(mapped, made[VALUE].dataType if is_plain else made).asNondeterministic()
        return rows.withColumn(VALUE, called(F.col(VALUE)))

    return change


def flat_map_in_pandas(function: Callable[[pd.DataFrame], pd.DataFrame], schema: str) -> Change:
    """Let Python make records in flat form out of records in flat form; see `KStream.flatMapInPandas`."""

    def change(rows: DataFrame) -> DataFrame:
        made = spark_schema(schema)

        def mapped(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
            for frame in frames:
                yield function(frame.drop(columns=[SEQUENCE]))[made.names]

        found = nested(flat(rows.select(*RECORD)).mapInPandas(mapped, made))
        return found.withColumn(SEQUENCE, F.unix_micros(F.col(TIMESTAMP)))

    return change


def value_fields(rows: DataFrame) -> list[str]:
    """Return the fields of a value that is a struct; else ``value``."""
    kind = rows.schema[VALUE].dataType
    return list(kind.names) if isinstance(kind, StructType) else [VALUE]


def flat(rows: DataFrame) -> DataFrame:
    """Return records with the fields of the value as columns; a value that is no struct stays ``value``.

    Raises
    ------
    SchemaError
        A field has the name of one of the other columns.
    """
    kind = rows.schema[VALUE].dataType
    if not isinstance(kind, StructType):
        return rows
    others = [name for name in rows.columns if name != VALUE]
    clash = sorted({name for name in kind.names if name.lower() in {one.lower() for one in others}})
    if clash:
        raise SchemaError(
            "take apart", "value with fields", ", ".join(clash), expected=f"other names than {', '.join(others)}", got=repr(kind.names),
            todo="rename them with mapValues(lambda v: F.struct(...))",
        )  # fmt: skip
    return rows.select(*map(column, others), *(F.col(VALUE).getField(name).alias(name) for name in kind.names))


def nested(rows: DataFrame) -> DataFrame:
    """Return records of flat ones: all columns but ours are the fields of the value; one that is called ``value`` is the value."""
    fields = [name for name in rows.columns if name not in OURS]
    value = F.col(VALUE) if fields == [VALUE] else F.struct(*map(column, fields))
    return rows.select(*(column(name) for name in rows.columns if name in OURS), value.alias(VALUE))
