"""What the commit asks of sinks of sketches: which table it is, and whether rows can be merged into it, before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql import DataFrame

from spark_ext.delta import Txn, Written, combine
from spark_ext.delta.commits import open_table
from spark_ext.epochs.sinks import Sink, Sketches
from spark_ext.errors import SchemaError
from spark_ext.sketching.checks import check_fields, check_frame, check_rows, fields_of_frame
from spark_ext.sketching.combiner import Combiner
from spark_ext.sketching.table_schema import MEASURE, SKETCH, SketchSchema, schema_of_fields, sketch_schema
from spark_ext.sketching.tables import make_table

__all__ = ["check_sketch_frame", "check_sketch_rows", "check_sketch_tables", "merge_sketches"]


def check_sketch_tables(sinks: Mapping[str, Sink]) -> None:
    """Refuse sinks whose tables, as far as they are there, are no sketch tables with the sinks' keys.

    Raises
    ------
    SchemaError
        One is not.
    """
    for sink in sinks.values():
        if isinstance(sink, Sketches) and DeltaTable.is_deltatable(sink.path):
            found = sketch_schema(sink.path)
            check_fields(pa.schema([]), found, sink.keys, path=sink.path)


def check_sketch_frame(name: str, sink: Sketches, frame: DataFrame) -> None:
    """Refuse rows by what their columns say of themselves; makes the table if it is not there and they say enough.

    Raises
    ------
    SchemaError
        The keys or the parameters are not the table's; or there is no table, and rows that do not say how they are added up.
    """
    fields = fields_of_frame(frame)
    table = open_table(sink.path)
    if table is None:
        _check_told(name, sink, fields)
        make_table(schema_of_fields(fields, name=sink.path), sink.path)
    else:
        check_fields(fields, _schema(table, sink.path), sink.keys, path=sink.path)


def check_sketch_rows(sink: Sketches, rows: pa.Table | DataFrame) -> None:
    """Refuse rows with a sketch that cannot be merged into the table; a frame should be persisted.

    Raises
    ------
    SchemaError, SketchBytesError
        With column, key, and both sides.
    """
    schema = sketch_schema(sink.path)
    if isinstance(rows, pa.Table):
        check_rows(rows, schema, path=sink.path)
    else:
        check_frame(rows, schema, path=sink.path)


def merge_sketches(sink: Sketches, rows: pa.Table | DataFrame, txn: Txn | None) -> Written:
    """Merge rows that were checked into the table."""
    with_ = Combiner(sketch_schema(sink.path), sink.path, sink.on_damage)
    return combine(rows, sink.path, keys=sink.keys, with_=with_, txn=txn)


def _schema(table: DeltaTable, path: str) -> SketchSchema:
    fields: Any = pa.schema(table.schema())
    return schema_of_fields(fields, name=path)


def _check_told(name: str, sink: Sketches, fields: pa.Schema) -> None:
    known = {key.casefold() for key in sink.keys}
    marks = {SKETCH.encode(), MEASURE.encode()}
    silent = [field.name for field in fields if field.name.casefold() not in known and not marks & set(field.metadata or {})]
    missing = known - {field.name.casefold() for field in fields}
    if silent or missing or len(fields) == len(known):
        raise SchemaError(
            "write to",
            "sink",
            name,
            expected=f"a sketch table in {sink.path}",
            got="none",
            why=f"the rows do not say how it adds up {', '.join(silent) or 'anything'}; nothing was written",
            todo="make it first: spark_ext.sketching.tables.create_sketch_table(path, keys=..., measures=...)",
        )
