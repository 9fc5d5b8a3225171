"""What a sketch table is, as its schema says it: keys, and measures that can be added up.

Written into the metadata of the Delta table's fields, which both writers keep: ``millrace.sketch`` has kind and parameters of a sketch as
JSON, ``millrace.measure`` the way in which numbers are added up. A column without either is a key. Read without Spark, or from a frame.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import pyarrow as pa
from deltalake import DeltaTable

from sketches.base import Sketch
from sketches.errors import EngineError
from sketches.numbered import numbered
from sketches.templates import template_of
from spark_ext.delta.types import stored_type
from spark_ext.errors import SchemaError
from spark_ext.paths import absolute

__all__ = ["MEASURE", "SKETCH", "WINDOW", "How", "Measure", "SketchSchema", "measure_of", "schema_of_fields", "sketch_schema"]

SKETCH: Final = "millrace.sketch"
MEASURE: Final = "millrace.measure"
WINDOW: Final = ("window_start", "window_end")
TIME: Final = pa.timestamp("us", "UTC")

How = Literal["sketch", "sum", "min", "max"]


@dataclass(frozen=True, slots=True)
class Measure:
    """How two values of a column make one; compares by value and can be sent to workers.

    Attributes
    ----------
    how : str
        ``sketch``: merged. ``sum``, ``min``, ``max``: as in SQL, nulls left out. A count is a sum.
    text : str
        Kind and parameters of a sketch, as the schema has them; empty for numbers.
    """

    how: How
    text: str = ""

    @property
    def template(self) -> Sketch:
        """The empty sketch of the column."""
        found = json.loads(self.text)
        return template_of(found["kind"], found["parameters"])

    @property
    def metadata(self) -> dict[str, str]:
        """What stands in the field of the table."""
        return {SKETCH: self.text} if self.how == "sketch" else {MEASURE: self.how}

    def __str__(self) -> str:
        return repr(self.template) if self.how == "sketch" else self.how


@dataclass(frozen=True, slots=True)
class SketchSchema:
    """What a sketch table is.

    Attributes
    ----------
    columns : pyarrow.Schema
        All columns in their order, as the table stores them, without metadata.
    measures : tuple of (str, Measure)
        Those that are added up, by name.
    partitioned_by : tuple of str
        Keys by which the files lie in folders.
    """

    columns: pa.Schema
    measures: tuple[tuple[str, Measure], ...]
    partitioned_by: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Columns that identify a row."""
        measures = dict(self.measures)
        return tuple(name for name in self.columns.names if name not in measures)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Keys beside the window."""
        return tuple(name for name in self.keys if name not in WINDOW)

    @property
    def templates(self) -> dict[str, Sketch]:
        """The empty sketch of each sketch column."""
        return {name: measure.template for name, measure in self.measures if measure.how == "sketch"}

    @property
    def has_windows(self) -> bool:
        """Tell whether a row stands for a time: it has ``window_start`` and ``window_end``, timestamps."""
        return all(name in self.keys and self.columns.field(name).type == TIME for name in WINDOW)

    @property
    def fields(self) -> pa.Schema:
        """The columns with their metadata, as a table is made of them."""
        measures = dict(self.measures)
        return pa.schema([one.with_metadata(measures[one.name].metadata) if one.name in measures else one for one in self.columns])


def measure_of(template: Sketch) -> Measure:
    """Return the measure of a sketch column.

    Raises
    ------
    SketchError
        The sketch is not empty, or one that has keys or a clock of its own.
    """
    numbered(template)
    return Measure("sketch", json.dumps({"kind": template.KIND, "parameters": template.parameters}))


def sketch_schema(path: str) -> SketchSchema:
    """Return what the sketch table at `path` is; needs no Spark.

    Raises
    ------
    SchemaError
        There is no Delta table, or none with measures, or a field says what this release does not know.
    """
    path = absolute(path)
    if not DeltaTable.is_deltatable(path):
        raise SchemaError("read", "sketch table", path, expected="a Delta table", got="none", todo="correct the path, or make the table")
    table = DeltaTable(path)
    fields: Any = pa.schema(table.schema())
    return schema_of_fields(fields, name=path, partitioned_by=tuple(table.metadata().partition_columns))


def schema_of_fields(fields: pa.Schema, *, name: str, partitioned_by: tuple[str, ...] = ()) -> SketchSchema:
    """Return what a table of these fields is, by their metadata.

    Parameters
    ----------
    fields : pyarrow.Schema
        Of a Delta table by delta-rs, or of a frame by `spark_ext.delta.fit.schema_of_frame`.
    name : str
        For messages.
    partitioned_by : tuple of str
        As for `SketchSchema`.
    """
    measures = tuple((field.name, found) for field in fields if (found := _measure(field, name)) is not None)
    columns = pa.schema([pa.field(field.name, stored_type(field.type) or field.type) for field in fields])
    if not measures or len(measures) == len(columns):
        raise SchemaError(
            "read",
            "sketch table",
            name,
            expected=f"measures, fields with the metadata {SKETCH} or {MEASURE}, and at least one key, a field without",
            got=", ".join(f"{field.name} {field.type}" for field in fields) or "no column",
            todo="make the table with spark_ext.sketching.tables.create_sketch_table",
        )
    return SketchSchema(columns, measures, partitioned_by)


def metadata_of(field: pa.Field) -> dict[str, str]:
    """Return the metadata of a field as text."""
    return {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}


def _measure(field: pa.Field, table: str) -> Measure | None:
    said = metadata_of(field)
    if SKETCH not in said and MEASURE not in said:
        return None
    try:
        found = _sketch(said[SKETCH]) if SKETCH in said else Measure(said[MEASURE])  # type: ignore[arg-type]  # looked at below
    except (EngineError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unknown(field, table, "kind and parameters of a sketch", said.get(SKETCH, ""), str(error)) from error
    if found.how not in get_args(How) or (SKETCH not in said and found.how == "sketch"):
        raise _unknown(field, table, "sum, min or max", found.how, "")
    check_type(field.name, field.type, found)
    return found


def _sketch(text: str) -> Measure:
    said: Mapping[str, Any] = json.loads(text)
    return measure_of(template_of(said["kind"], said["parameters"]))


def check_type(name: str, kind: pa.DataType, measure: Measure) -> None:
    """Refuse a column of a type that cannot be added up in this way.

    Raises
    ------
    SchemaError
        It is none.
    """
    types = pa.types
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    fits = {
        "sketch": types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind),
        "sum": is_number,
        "min": is_number or types.is_date(kind) or types.is_timestamp(kind),
        "max": is_number or types.is_date(kind) or types.is_timestamp(kind),
    }
    if not fits[measure.how]:
        expected = {"sketch": "binary", "sum": "a number"}.get(measure.how, "a number, a date or a timestamp")
        raise SchemaError("use", "measure", name, expected=f"{expected} for {measure}", got=str(kind), todo="correct its type")


def _unknown(field: pa.Field, table: str, expected: str, got: str, why: str) -> SchemaError:
    todo = "read it with the release that made the table, or a newer one"
    return SchemaError("read", "field", f"{field.name} of {table}", expected=expected, got=repr(got), why=why, todo=todo)
