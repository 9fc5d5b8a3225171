"""Rows and the table that they go to: which column becomes which, decided once for both writers and before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from deltalake import DeltaTable
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_type, to_arrow_schema

from spark_ext.delta.types import is_safe, stored_type
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.names import quoted

__all__ = ["Fit", "check_keys", "fit", "schema_of", "schema_of_frame"]

UTC: Final = pa.timestamp("us", "UTC")
FORBIDDEN: Final = " ,;{}()\n\t="  # Delta refuses them in names
ORDERED: Final = "integers, decimals, strings, booleans, binaries, dates and timestamps"


@dataclass(frozen=True, slots=True)
class Fit:
    """How rows become rows of a table.

    Attributes
    ----------
    schema : pyarrow.Schema
        Columns of the table after the write, all of them.
    sources : tuple of str or None
        For each the column of the rows, None where they have none.
    types : tuple of pyarrow.DataType or None
        What those columns are now.
    added : tuple of str
        Columns that the table does not have yet.
    """

    schema: pa.Schema
    sources: tuple[str | None, ...]
    types: tuple[pa.DataType | None, ...]
    added: tuple[str, ...]
    path: str

    def arrow(self, rows: pa.Table) -> pa.Table:
        """Return the rows with the table's columns.

        Raises
        ------
        SchemaError
            A value does not survive the cast: a timestamp with nanoseconds.
        """
        columns = []
        for field, source in zip(self.schema, self.sources, strict=True):
            if source is None:
                columns.append(pa.nulls(rows.num_rows, field.type))
                continue
            try:
                columns.append(rows.column(rows.schema.get_field_index(source)).cast(field.type))
            except pa.ArrowInvalid as error:
                raise SchemaError(
                    "write", "column", source, expected=str(field.type), got=str(error), todo="cast or round it before it is written"
                ) from error
        return pa.Table.from_arrays(columns, schema=pa.schema([pa.field(field.name, field.type) for field in self.schema]))

    def spark(self, frame: DataFrame) -> DataFrame:
        """Return the rows with the table's columns."""
        return frame.select(*map(self._column, self.schema, self.sources, self.types))

    def _column(self, field: pa.Field, source: str | None, now: pa.DataType | None) -> Column:
        kind = from_arrow_type(field.type)
        if source is None:
            return F.lit(None).cast(kind).alias(field.name)
        column = F.col(quoted(source))
        if now == field.type:
            return column.alias(field.name)
        if now is not None and pa.types.is_timestamp(now) and now.tz is None:
            column = F.concat(column.cast("string"), F.lit("Z"))  # a cast would take the session's zone
        return column.cast(kind).alias(field.name)


def fit(rows: pa.Schema, table: pa.Schema | None, *, path: str, evolve: bool, own: Collection[str] = ()) -> Fit:
    """Find the table's column for each column of the rows, by name without regard to case as Delta has it.

    Guarantee: columns that the rows do not have become null; a column changes its type only where no value can change, except that
    a timestamp without a zone is taken as UTC and one finer than a microsecond is refused if it needs to be.

    Parameters
    ----------
    rows : pyarrow.Schema
        Of the rows.
    table : pyarrow.Schema or None
        Of the table, None if it is to be made: then it gets the columns of the rows, all nullable.
    path : str
        For messages.
    evolve : bool
        Whether columns may be added.
    own : collection of str
        Columns of the table that the writer fills itself.

    Raises
    ------
    SchemaError
        With every column that does not fit, its type and the table's.
    """
    wrong: list[str] = []
    by_fold: dict[str, pa.Field] = {}
    for field in rows:
        if field.name.casefold() in by_fold:
            wrong.append(f"column {field.name!r} twice (case does not count)")
        by_fold[field.name.casefold()] = field
        if field.name.casefold() in own:
            wrong.append(f"column {field.name!r}, which the writer makes itself")
    fields: list[pa.Field] = []
    sources: list[pa.Field | None] = []
    for field in table or ():
        if field.name.casefold() in own:
            continue
        source = by_fold.pop(field.name.casefold(), None)
        fields.append(field)
        sources.append(source)
        if source is None and not field.nullable:
            wrong.append(f"no column {field.name!r}, which must not be null")
        elif source is not None and not is_safe(source.type, field.type):
            wrong.append(f"column {source.name!r} {source.type} where the table has {field.type}")
    added = [field for field in by_fold.values() if field.name.casefold() not in own]
    for field in added:
        kind = stored_type(field.type)
        if table is not None and not evolve:
            wrong.append(f"column {field.name!r} {field.type}, which the table lacks")
        elif kind is None:
            wrong.append(f"column {field.name!r} {field.type}, a type that Delta lacks")
        elif set(field.name) & set(FORBIDDEN):
            wrong.append(f"column {field.name!r}, a name that Delta refuses")
        fields.append(pa.field(field.name, UTC if pa.types.is_timestamp(kind) else kind))
        sources.append(field)
    if wrong:
        raise SchemaError(
            "write to",
            "table",
            path,
            expected="columns that fit the table's" if table is not None else "columns that a table can have",
            got="; ".join(wrong),
            why="nothing was written",
            todo="correct the rows, or allow new columns with evolve=True" if table is not None else "correct the rows",
        )
    names = tuple(source.name if source is not None else None for source in sources)
    types = tuple(source.type if source is not None else None for source in sources)
    return Fit(pa.schema(fields), names, types, tuple(field.name for field in added), path)


def check_keys(plan: Fit, keys: Sequence[str], sequence: str | None) -> tuple[list[str], str | None]:
    """Return the table's names of the key columns and the sequence column.

    Raises
    ------
    SettingsError
        No key.
    SchemaError
        A column that the rows do not have, or of a type whose order is not the same for both writers.
    """
    if isinstance(keys, str) or not keys:
        raise SettingsError(
            "upsert", "table", plan.path, expected="at least one key", got=repr(keys), todo="name the columns of the key in a sequence"
        )
    known = {field.name.casefold(): field for field, source in zip(plan.schema, plan.sources, strict=True) if source is not None}
    found: list[str] = []
    for name in [*keys, *([sequence] if sequence else [])]:
        field = known.get(name.casefold())
        if field is None:
            raise SchemaError(
                "use",
                "key",
                name,
                expected=f"one of {', '.join(sorted(field.name for field in known.values()))}",
                got="no such column in the rows",
                todo="correct the name",
            )
        if pa.types.is_floating(field.type) or pa.types.is_nested(field.type):
            raise SchemaError("use", "key", name, expected=ORDERED, got=str(field.type), todo="cast the column")
        found.append(field.name)
    return (found[:-1], found[-1]) if sequence else (found, None)


def schema_of(table: DeltaTable | None) -> pa.Schema | None:
    """Return a table's schema in Arrow's types, as this package uses them."""
    if table is None:
        return None
    schema: Any = pa.schema(table.schema())
    return pa.schema([pa.field(field.name, stored_type(field.type) or field.type, field.nullable) for field in schema])


def schema_of_frame(frame: DataFrame) -> pa.Schema:
    """Return the schema of a frame in Arrow's types."""
    try:
        return to_arrow_schema(frame.schema, timezone="UTC")
    except PySparkException as error:
        raise SchemaError(
            "write", "rows", frame.schema.simpleString(), expected="types that Arrow has", got=str(error), todo="cast the columns"
        ) from error
