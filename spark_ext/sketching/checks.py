"""Rows on their way into a sketch table: columns and bytes are looked at before anything is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame

from sketches.base import Sketch, StateSketch
from sketches.envelope import kind_of
from sketches.errors import EngineError, SketchBytesError, SketchError
from sketches.numbered import numbered
from spark_ext.delta.fit import schema_of_frame
from spark_ext.errors import SchemaError
from spark_ext.names import column
from spark_ext.sketching.table_schema import MEASURE, SKETCH, Measure, SketchSchema, metadata_of

__all__ = ["check_fields", "check_frame", "check_rows", "fields_of_frame", "key_of", "refused", "wrong_rows"]

PLACE: Final = "c{}"  # `mapInArrow` does not take every name


def fields_of_frame(frame: DataFrame) -> pa.Schema:
    """Return the columns of a frame in Arrow's types, with their metadata."""
    told = {field.name: {key: text for key, text in field.metadata.items() if isinstance(text, str)} for field in frame.schema}
    return pa.schema([field.with_metadata(told[field.name] or None) for field in schema_of_frame(frame)])


def check_fields(fields: pa.Schema, schema: SketchSchema, keys: Sequence[str], *, path: str) -> None:
    """Refuse rows by what their columns say of themselves, before any of them is read.

    Parameters
    ----------
    fields : pyarrow.Schema
        Of the rows, with the metadata that `spark_ext.sketching.aggregate` gives its sketches, or without.
    schema : SketchSchema
        What the table is.
    keys : sequence of str
        The sink's.
    path : str
        For messages.

    Raises
    ------
    SchemaError
        The keys are not the table's, or a column says that it holds other sketches than the table's, or is added up in another way.
    """
    if {name.casefold() for name in keys} != {name.casefold() for name in schema.keys}:
        expected, got = f"keys {', '.join(schema.keys)}, as the table has them", ", ".join(keys)
        todo = "name all of them, or write to a table with these keys"
        raise SchemaError("write to", "sketch table", path, expected=expected, got=got, why="nothing was written", todo=todo)
    measures = {name.casefold(): (name, measure) for name, measure in schema.measures}
    for field in fields:
        said = metadata_of(field)
        name, measure = measures.get(field.name.casefold(), (field.name, None))
        if MEASURE in said and measure is not None and said[MEASURE] != measure.how:
            why, todo = "each would be added up with what it is not; nothing was written", "write it to a column or a table of its own"
            expected, got = f"{measure}, as the table says", said[MEASURE]
            raise SchemaError("write", "column", name, expected=expected, got=got, why=why, todo=todo)
        if SKETCH not in said or (measure is not None and _is_same(said[SKETCH], measure)):
            continue
        found = json.loads(said[SKETCH])
        got = f"{found.get('kind')} with {found.get('parameters')}"
        expected = f"{measure}, as the table says" if measure is not None else "a key, as the table has it"
        raise _other(name, expected, got)


def _is_same(said: str, measure: Measure) -> bool:
    return measure.how == "sketch" and bool(json.loads(said) == json.loads(measure.text))


def check_rows(rows: pa.Table, schema: SketchSchema, *, path: str) -> None:
    """Refuse rows with a sketch that cannot be merged into the table.

    Raises
    ------
    SchemaError
        A sketch of another kind or other parameters, with column, key, and both sides.
    SketchBytesError
        Bytes that are damaged, or no sketch.
    """
    folded = {name.casefold(): name for name in rows.column_names}
    for name, measure in schema.measures:
        if measure.how == "sketch" and name.casefold() in folded:
            stored = rows.column(folded[name.casefold()])
            found = next(wrong_rows(measure, stored), None)
            if found is not None:
                row, error = found
                keys = [folded[key.casefold()] for key in schema.keys if key.casefold() in folded]
                raise refused(name, measure, error, stored[row].as_buffer(), key=key_of(rows.slice(row, 1), keys))


def check_frame(frame: DataFrame, schema: SketchSchema, *, path: str) -> None:
    """Do what `check_rows` does, in the workers; a frame that is gone through again should be persisted before."""
    names = {name.casefold(): name for name in frame.columns}
    wanted = [names[one.casefold()] for one in schema.columns.names if one.casefold() in names]
    placed = frame.select(*(column(name).alias(PLACE.format(at)) for at, name in enumerate(wanted)))
    found = placed.mapInArrow(_Checked(tuple(wanted), schema, path), "name string, parts string").limit(1).toArrow().to_pylist()
    if found:
        kind = next(one for one in (SchemaError, SketchBytesError) if one.__name__ == found[0]["name"])
        raise kind(**json.loads(found[0]["parts"]))


@dataclass(frozen=True, slots=True)
class _Checked:
    """Gives out the parts of the first error of a task; goes to the workers."""

    names: tuple[str, ...]
    schema: SketchSchema
    path: str

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for one in batches:
            try:
                check_rows(pa.Table.from_arrays(one.columns, names=list(self.names)), self.schema, path=self.path)
            except (SchemaError, SketchBytesError) as error:
                parts = {name: getattr(error, name) for name in ("action", "kind", "name", "expected", "got", "why", "todo")}
                yield pa.RecordBatch.from_pydict({"name": [type(error).__name__], "parts": [json.dumps(parts)]})
                return


def refused(name: str, measure: Measure, error: EngineError, data: Any, *, key: str) -> SchemaError | SketchBytesError:
    """Return the error of a new row whose sketch cannot be merged into a column."""
    template = measure.template
    try:
        kind = kind_of(data)
    except SketchBytesError:
        kind = ""
    if kind and kind != template.KIND:
        return _other(name, f"{measure}, as the table says", f"a {kind} in the row with {key}")
    if kind and not isinstance(error, SketchBytesError):
        return _other(name, f"{measure}, as the table says", f"{error.got} instead of {error.expected} in the row with {key}")
    return SketchBytesError(
        "write",
        "column",
        name,
        expected=f"stored sketches of {measure}",
        got=f"{error.got} instead of {error.expected} in the row with {key}",
        why="the bytes are damaged, or no sketch; nothing was written",
        todo="correct the rows, or send those to the dead letters",
    )


def key_of(row: pa.Table, keys: Sequence[str]) -> str:
    """Return the key of the only row of a table, as text."""
    (found,) = row.select(list(keys)).to_pylist()
    return ", ".join(f"{name} {value.isoformat() if hasattr(value, 'isoformat') else repr(value)}" for name, value in found.items())


def _other(name: str, expected: str, got: str) -> SchemaError:
    return SchemaError(
        "write",
        "column",
        name,
        expected=expected,
        got=got,
        why="sketches merge only with equal parameters; nothing was written",
        todo="make the sketches with the table's parameters, or write them to a column or a table of their own",
    )


def wrong_rows(measure: Measure, stored: pa.ChunkedArray) -> Iterator[tuple[int, EngineError]]:
    """Yield the rows, in order, whose bytes are no sketch of these parameters."""
    template: Sketch = measure.template
    at = 0
    for chunk in stored.chunks:
        if isinstance(template, StateSketch):  # whatever goes into one of them goes into another, if not beside all the others
            for row in sorted(numbered(template, 1).merge_stored(np.zeros(len(chunk), np.int64), chunk)):
                for error in numbered(template, 1).merge_stored(np.zeros(1, np.int64), chunk.slice(row, 1)).values():
                    yield at + row, error
        else:
            for row, data in enumerate(chunk):
                try:
                    if data.is_valid and (found := type(template).from_bytes(data.as_buffer())).parameters != template.parameters:
                        template.copy().merge(found)  # says what differs
                except (SketchError, SketchBytesError) as error:
                    yield at + row, error
        at += len(chunk)
