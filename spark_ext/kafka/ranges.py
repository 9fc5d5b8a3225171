"""Read one range in a worker: fetcher, decoder, Arrow batches with the place of each row, and the range's account.

No Spark here, and nothing that depends on a clock or on how the records were blocked: a replay gives the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.ingest.decoded import Decoded, Decoder
from spark_ext.ingest.records import Records
from spark_ext.ingest.tags import DEAD, RANGE, SOURCE, TAGS
from spark_ext.kafka.fetch.protocol import Fetcher, OffsetOutOfRangeError
from spark_ext.kafka.offsets import Range, lost_error

__all__ = ["Account", "DecodedRows", "RawRows", "Rows", "read_range"]


@dataclass(slots=True)
class Account:
    """What became of the offsets ``[start, end)``.

    Guarantee: ``end - start = read + absent + lost``, ``read = decoded + dead``, ``decoded = rows given out or
    added up + filtered``.

    Attributes
    ----------
    absent : int
        Offsets without a record: transaction markers, aborted records, what compaction removed.
    lost : int
        Offsets that the broker had dropped before they were read.
    drift : int
        Good records whose names are not the declared ones: one more, or one left out.
    bytes : int
        Of keys and values that were read.
    """

    start: int
    end: int
    read: int = 0
    decoded: int = 0
    filtered: int = 0
    dead: int = 0
    lost: int = 0
    absent: int = 0
    drift: int = 0
    bytes: int = 0


class Rows(Protocol):
    """Makes the rows of a block, and of a range's end."""

    def of_block(self, records: Records, at: Range, account: Account) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a block and add it to the account."""

    def of_account(self, at: Range, account: Account) -> Iterator[pa.RecordBatch]:
        """Yield what tells that the range has been read, if anything does."""


def read_range(fetcher: Fetcher, at: Range, rows: Rows, *, may_lose: bool, max_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a range, in offset order.

    Parameters
    ----------
    fetcher : Fetcher
        Of this partition; it may stand anywhere.
    at : Range
        What to read.
    rows : Rows
        How rows look.
    may_lose : bool
        Whether records that the broker drops meanwhile are counted as lost, or an error.
    max_rows : int
        Most rows of a block.

    Raises
    ------
    QueryError
        Records were lost that may not be.
    """
    account = Account(at.start, at.end, lost=at.first - at.start)
    fetcher.seek(at.first)
    while fetcher.position < at.end:
        try:
            records = fetcher.fetch(at.end, max_rows)
        except OffsetOutOfRangeError as error:
            since, until = fetcher.position, min(error.log_start or 0, at.end)
            if until <= since:
                raise  # beyond the end, or the broker could not say where its log begins
            if not may_lose:
                raise lost_error({(at.topic, at.partition): (since, until)}) from error
            account.lost += until - since
            fetcher.seek(until)
            continue
        if len(records):
            account.read += len(records)
            account.bytes += int(
                records.keys.offsets[-1] - records.keys.offsets[0] + records.values.offsets[-1] - records.values.offsets[0]
            )
            yield from rows.of_block(records, at, account)
    account.absent = at.end - at.start - account.read - account.lost
    yield from rows.of_account(at, account)


class RawRows:
    """Records as they came; nothing tells of the range.

    Parameters
    ----------
    schema : pa.Schema
        key, value, topic, partition, offset, timestamp, and headers if they are wanted.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema

    def of_block(self, records: Records, at: Range, account: Account) -> Iterator[pa.RecordBatch]:
        """Yield one row per record."""
        account.decoded += len(records)
        place = _place(records, at, None)
        columns = [records.keys.to_arrow(), records.values.to_arrow(), *place]
        if "headers" in self._schema.names:
            columns.append(_headers(records, self._schema.field("headers").type))
        yield pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def of_account(self, at: Range, account: Account) -> Iterator[pa.RecordBatch]:
        """Yield nothing."""
        del at, account
        return iter(())


class DecodedRows:
    """Good rows with their columns, dead ones with their bytes and the reason, one row for the account of the range.

    Parameters
    ----------
    schema : pa.Schema
        The declared columns, ``source``, ``dead``, ``range``.
    decoder : Decoder
        Judges and decodes records.
    place : bool
        Whether good rows carry their source.
    """

    def __init__(self, schema: pa.Schema, decoder: Decoder, *, place: bool) -> None:
        self._schema, self._decoder, self._place = schema, decoder, place

    def of_block(self, records: Records, at: Range, account: Account) -> Iterator[pa.RecordBatch]:
        """Yield the good rows of the block, then its dead ones."""
        decoded = self._decoder.decode(records)
        good, bad = len(decoded.good), len(decoded.bad)
        account.decoded += good + decoded.filtered
        account.filtered += decoded.filtered
        account.dead += bad
        account.drift += decoded.drift
        if good:
            yield from self._of_good(decoded, records, at)
        if bad:
            index = pa.array(decoded.bad)
            parts = [records.keys.to_arrow().take(index), records.values.to_arrow().take(index)]
            parts += [pa.array(decoded.reasons, pa.string()), pa.array(decoded.details, pa.string())]
            dead = pa.StructArray.from_arrays(parts, fields=list(self._schema.field(DEAD).type))
            yield self._batch(bad, {SOURCE: self._source(records, at, decoded.bad), DEAD: dead})

    def _of_good(self, decoded: Decoded, records: Records, at: Range) -> Iterator[pa.RecordBatch]:
        source = self._source(records, at, decoded.good) if self._place else None
        columns = {field.name: _plain(decoded.columns.column(field.name), field.type) for field in self._declared()}
        yield self._batch(len(decoded.good), {**columns, **({SOURCE: source} if source is not None else {})})

    def of_account(self, at: Range, account: Account) -> Iterator[pa.RecordBatch]:
        """Yield the row that tells that the range has been read to its end."""
        source = {"topic": at.topic, "partition": at.partition, "offset": at.end, "timestamp": None}
        rows = {SOURCE: [source], RANGE: [asdict(account)]}
        yield self._batch(1, {name: pa.array(values, self._schema.field(name).type) for name, values in rows.items()})

    def _declared(self) -> list[pa.Field]:
        return [field for field in self._schema if field.name not in TAGS]

    def _source(self, records: Records, at: Range, index: NDArray[np.int64]) -> pa.StructArray:
        return pa.StructArray.from_arrays(_place(records, at, index), fields=list(self._schema.field(SOURCE).type))

    def _batch(self, count: int, columns: dict[str, pa.Array]) -> pa.RecordBatch:
        arrays = [columns[field.name] if field.name in columns else pa.nulls(count, field.type) for field in self._schema]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def _place(records: Records, at: Range, index: NDArray[np.int64] | None) -> list[pa.Array]:
    """Return topic, partition, offset and timestamp of records."""
    offsets = records.offsets if index is None else records.offsets[index]
    stamps, known = records.times_us() if index is None else (part[index] for part in records.times_us())
    times = pa.array(stamps, pa.int64(), mask=None if known.all() else ~known).cast(pa.timestamp("us", tz="UTC"))
    return [
        pa.repeat(pa.scalar(at.topic, pa.string()), len(offsets)),
        pa.repeat(pa.scalar(at.partition, pa.int32()), len(offsets)),
        pa.array(offsets),
        times,
    ]


def _headers(records: Records, kind: pa.DataType) -> pa.Array:
    headers = records.headers
    if headers is None:
        return pa.nulls(len(records), kind)
    names = _texts(headers.names.to_arrow())
    pairs = pa.StructArray.from_arrays([names, headers.values.to_arrow()], fields=list(kind.value_type))
    counts = np.diff(headers.offsets)
    absent = np.packbits(counts > 0, bitorder="little")  # as Spark's own connector: none is null
    buffers = [pa.py_buffer(absent), pa.py_buffer(np.ascontiguousarray(headers.offsets, np.int32))]
    return pa.Array.from_buffers(kind, len(records), buffers, children=[pairs])


def _texts(names: pa.Array) -> pa.Array:
    """Return bytes as text; what is not UTF-8 is replaced, as Spark's own connector does."""
    try:
        return names.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([one.decode(errors="replace") for one in names.to_pylist()], pa.string())


def _plain(column: Any, kind: pa.DataType) -> pa.Array:
    """Return a column as one array of the type that Spark expects."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole if whole.type == kind else whole.cast(kind)
