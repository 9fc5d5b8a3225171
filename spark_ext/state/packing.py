"""Columns across Spark's borders as they are: rows of one bucket travel as one Arrow blob.

Flows in: batches of rows with their bucket. Flows out: few rows (label of a bucket, blob), which Spark shuffles, sorts and hands to Python
without looking inside; and back again: blobs of output rows, spread out as columns. No value becomes a Python object.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from spark_ext.state.buckets import labels
from spark_ext.state.codec import to_ipc
from spark_ext.workers import settle

__all__ = ["BLOB", "BUCKET", "CONTROL", "FLOOR", "MARKED", "ONLY", "TAG", "Packer", "Received", "receive", "spread", "to_blobs"]

BUCKET: Final = "_bucket"
FLOOR: Final = "_floor_us"  # a column of plans with a control; null but in control rows
BLOB: Final = "blob"
TAG: Final = "tag"
PACKED: Final = pa.schema([(BUCKET, pa.int32()), (BLOB, pa.binary())])
FLOOR_MARK: Final = b"floor"  # an Arrow stream begins with 0xff
MARK: Final = b"mark"  # no rows: the bucket is to look whose its state is
MARKED: Final = 0  # a label that every number of buckets has, as it is the smallest
ONLY: Final = ""  # name of the input of an operator that has one
INPUT: Final = b"input"  # in the metadata of a blob: whose rows they are
CONTROL: Final = -1  # the bucket of a control row: it goes to all of them
HELD_ROWS: Final = 262_144
HELD_BYTES: Final = 32 << 20
OUT_ROWS: Final = 65_536
SKEW: Final = 0.5  # of a block's rows in one bucket of many: worth a warning
SKEW_ROWS: Final = 10_000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Packer:
    """Packs the rows of one task by bucket. Sent to workers.

    Parameters
    ----------
    buckets : int
        Number of buckets.
    operator : str
        Name for warnings.
    name : str
        Which of the operator's inputs the rows are.
    """

    buckets: int
    operator: str
    name: str = ONLY

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield packed rows; holds at most some 262,144 rows or 32 MB of input.

        The bucket with the label `MARKED` is called in each batch that has rows, so that state of another number of buckets is found
        before any bucket that is new by this number has been kept.

        Parameters
        ----------
        batches : iterator of pa.RecordBatch
            `BUCKET` int32, the columns of the rows, and `FLOOR` int64 if control rows may come.
        """
        held: list[pa.RecordBatch] = []
        rows = size = 0
        for batch in batches:
            held.append(batch)
            rows, size = rows + batch.num_rows, size + batch.nbytes
            if rows >= HELD_ROWS or size >= HELD_BYTES:
                yield self._pack(held)
                held, rows, size = [], 0, 0
        if rows:
            yield self._pack(held)
        settle()

    def _pack(self, held: list[pa.RecordBatch]) -> pa.RecordBatch:
        table = pa.Table.from_batches(held).combine_chunks()
        found = table.column(BUCKET).to_numpy()
        order = np.argsort(found.astype(np.int16), kind="stable")  # 16 bits: NumPy sorts them in one pass
        ordered = found[order]
        starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
        ends = np.append(starts[1:], len(ordered))
        numbers: list[int] = []
        blobs: list[bytes] = []
        rows = table.drop_columns([BUCKET, *([FLOOR] if FLOOR in table.column_names else [])]).take(pa.array(order))
        rows = rows.replace_schema_metadata({INPUT: self.name} if self.name else None)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            if ordered[start] == CONTROL:
                floor = max(table.column(FLOOR).take(pa.array(order[start:end])).to_pylist())
                numbers += range(self.buckets)
                blobs += [FLOOR_MARK + struct.pack("<q", floor)] * self.buckets
            else:
                numbers.append(int(ordered[start]))
                blobs.append(bytes(to_ipc(rows.slice(start, end - start))))
        if (marked := int(np.flatnonzero(labels(self.buckets) == MARKED)[0])) not in numbers:
            numbers.append(marked)
            blobs.append(MARK)
        self._warn_of_skew(int((ends - starts).max()), len(ordered))
        return pa.record_batch([pa.array(labels(self.buckets)[numbers]), pa.array(blobs, pa.binary())], schema=PACKED)

    def _warn_of_skew(self, largest: int, rows: int) -> None:
        if self.buckets > 1 and rows >= SKEW_ROWS and largest > SKEW * rows:
            log.warning(
                "%s: one bucket of %d has %d of %d rows: one key, or few, dominate, and one core does most of the work; "
                "see `millrace state show`, and aggregate such a key in parts first",
                self.operator,
                self.buckets,
                largest,
                rows,
            )


@dataclass(frozen=True, slots=True)
class Received:
    """What came for one bucket.

    Attributes
    ----------
    rows : mapping of str to pa.Table
        By input; one chunk per column.
    floor_us : int or None
        The highest watermark that a control row asks for.
    """

    rows: Mapping[str, pa.Table]
    floor_us: int | None


def receive(blobs: Iterable[bytes], schemas: Mapping[str, pa.Schema]) -> Received:
    """Read what `Packer` packed for each input, columns by place; without rows a table is empty."""
    tables: dict[str, list[pa.Table]] = {name: [] for name in schemas}
    floor_us = None
    for blob in blobs:
        if blob.startswith(FLOOR_MARK):
            (asked,) = struct.unpack("<q", blob[len(FLOOR_MARK) :])
            floor_us = asked if floor_us is None else max(asked, floor_us)
        elif blob != MARK:
            table = pa.ipc.open_stream(pa.py_buffer(blob)).read_all()
            name = (table.schema.metadata or {}).get(INPUT, b"").decode()
            tables[name].append(table.replace_schema_metadata(None))
    return Received({name: _united(tables[name], schema) for name, schema in schemas.items()}, floor_us)


def _united(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    rows = pa.concat_tables(tables) if tables else schema.empty_table()
    rows = rows.rename_columns(schema.names)
    if rows.schema.types != schema.types:  # the session's time zone, not ours
        rows = rows.cast(schema)
    return rows.combine_chunks()


def to_blobs(out: Mapping[str, pa.Table], schema: pa.Schema) -> Iterator[bytes]:
    """Pack output rows by tag into blobs of at most 65,536 rows, in one schema.

    Parameters
    ----------
    out : mapping of str to pa.Table
        Rows by tag; columns that a tag lacks become null.
    schema : pa.Schema
        `TAG` first, then the columns of all tags.
    """
    for tag, table in out.items():
        for start in range(0, table.num_rows, OUT_ROWS):
            part = table.slice(start, OUT_ROWS)
            columns = [_column(part, tag, field) for field in schema]
            yield bytes(to_ipc(pa.Table.from_arrays(columns, schema=schema)))


def spread(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of blobs; the last step of the plan, in a worker."""
    for batch in batches:
        for blob in batch.column(0):
            yield from pa.ipc.open_stream(blob.as_buffer())
    settle()


def _column(part: pa.Table, tag: str, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    if field.name == TAG:
        return pa.repeat(pa.scalar(tag, pa.string()), part.num_rows)
    if field.name not in part.column_names:
        return pa.nulls(part.num_rows, field.type)
    column = part.column(field.name)
    return column if column.type == field.type else column.cast(field.type)
