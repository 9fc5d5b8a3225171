"""Where the rows of keys are in the files of a table: hashes of keys in memory, so that a file is read for one row, not for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from sketches.columns import hashes
from spark_ext.joins.sides import Numbers, expanded
from spark_ext.state.keys import flat, normalised, whole
from spark_ext.state.signed import numbered

__all__ = ["KeyedFile", "find", "index_file", "key_hashes"]

MIX: Final = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: parts of a key in another order are another key
WIDE: Final = 18  # digits that fit a word

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class KeyedFile:
    """One Parquet file, and where in it each key is.

    Attributes
    ----------
    path : str
        In its file system.
    metadata : pq.FileMetaData
        Its footer, read once.
    hashes : ndarray (n,) uint64
        Of the keys, ascending.
    places : ndarray (n,) int32
        Row of each.
    starts : ndarray (g,) int64
        First row of each row group.

    State: 12 bytes a row.
    """

    path: str
    metadata: pq.FileMetaData
    hashes: Hashes
    places: NDArray[np.int32]
    starts: Numbers


def key_hashes(columns: Sequence[pa.Array]) -> Hashes:
    """Return a hash of each key; a null is a value, floats have one zero and one NaN."""
    found = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        for part in flat(normalised(column)):
            kind = part.type
            if pa.types.is_decimal(kind) and kind.precision > WIDE:
                part = part.cast(pa.string())  # noqa: PLW2901
            own = np.zeros(len(part), np.uint64)
            valid = part.is_valid().to_numpy(zero_copy_only=False)
            own[valid] = hashes(part if valid.all() else part.drop_null())
            with np.errstate(over="ignore"):
                found = (found + np.uint64(1)) * MIX ^ own
    return found


def index_file(files: fs.FileSystem, path: str, keys: Sequence[str], schema: pa.Schema) -> KeyedFile:
    """Read the keys of a file, and nothing else of it."""
    with files.open_input_file(path) as opened:
        reader = pq.ParquetFile(opened)
        rows = reader.read(columns=list(keys), use_threads=False)
        columns = [whole(rows.column(name)).cast(schema.field(name).type) for name in keys]
        found = key_hashes(columns)
        order = np.argsort(found, kind="stable")
        groups = [reader.metadata.row_group(at).num_rows for at in range(reader.metadata.num_row_groups)]
        starts = np.cumsum([0, *groups])[:-1].astype(np.int64)
        return KeyedFile(path, reader.metadata, found[order], order.astype(np.int32), starts)


def find(files: fs.FileSystem, parts: Sequence[KeyedFile], asked: pa.Table, schema: pa.Schema) -> tuple[pa.Table, Numbers]:
    """Return the rows that have the keys, and which of the keys each has.

    Parameters
    ----------
    files : fs.FileSystem
        Where the files are.
    parts : sequence of KeyedFile
        All files of a version of the table.
    asked : pa.Table
        Keys, distinct, in the types of the table.
    schema : pa.Schema
        What to read, keys among it.
    """
    names = tuple(asked.column_names)
    wanted = key_hashes([whole(asked.column(name)) for name in names])
    rows = [schema.empty_table()]
    for part in parts:
        first = np.searchsorted(part.hashes, wanted, "left")
        counts = np.searchsorted(part.hashes, wanted, "right") - first
        if counts.any():
            rows.append(_rows(files, part, np.unique(part.places[expanded(first, counts).right]), schema))
    found = pa.concat_tables(rows)
    ours, theirs = numbered([(asked, names), (found, names)])
    place = np.full(int(max(ours.max(initial=-1), theirs.max(initial=-1))) + 1, -1)
    place[ours] = np.arange(len(ours))
    of_key = place[theirs]
    return found.filter(pa.array(of_key >= 0)), of_key[of_key >= 0]


def _rows(files: fs.FileSystem, part: KeyedFile, places: NDArray[Any], schema: pa.Schema) -> pa.Table:
    group = np.searchsorted(part.starts, places, "right") - 1
    found = []
    with files.open_input_file(part.path) as opened:
        reader = pq.ParquetFile(opened, metadata=part.metadata)
        for one in np.unique(group):
            rows = reader.read_row_group(int(one), columns=schema.names, use_threads=False)
            # What delta-rs rewrites is read as string_view, and Arrow takes no rows of that.
            own = pa.table([_column(rows, field) for field in schema], schema=schema)
            found.append(own.take(pa.array(places[group == one] - part.starts[one])))
    return pa.concat_tables(found)


def _column(rows: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    """Return a column; of nulls if it was added to the table after the file was written."""
    return rows.column(field.name).cast(field.type) if field.name in rows.column_names else pa.nulls(rows.num_rows, field.type)
