"""Read the ranges of a batch in the workers: records in columns from the client's buffers, blocks out; nothing of it in the JVM.

Flows in: `Range`, one per partition of the RDD. Flows out: blocks, in the order of offsets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pyarrow as pa

from spark_ext.dstream.columns.blocks import BLOCK_ROWS, Block, packed
from spark_ext.dstream.inputs.kafka_words import DeadRecord, KafkaMessageAndMetadata, utf8_decoder
from spark_ext.errors import EngineError
from spark_ext.ingest.records import Records
from spark_ext.kafka.fetch import fetcher_for
from spark_ext.kafka.offsets import Range
from spark_ext.kafka.options import SourceOptions
from spark_ext.kafka.ranges import Account, read_range
from spark_ext.kafka.rows import decoder_of, fetch_settings
from spark_ext.workers import settle

__all__ = ["Decode", "Elements", "Messages", "Pairs", "Reading", "Typed", "UndecodableError"]

Decode = Callable[[bytes | None], Any]

WIDER: Final = {  # blocks have Python's types
    **dict.fromkeys((pa.int8(), pa.int16(), pa.int32(), pa.int64()), pa.int64()),
    **dict.fromkeys((pa.float32(), pa.float64()), pa.float64()),
    **{kind: kind for kind in (pa.string(), pa.bool_(), pa.binary())},
}


class UndecodableError(EngineError, UnicodeError):
    """Bytes of a record that its decoder, or the declared format, does not take."""


class Elements(Protocol):
    """What the elements of the stream are made of."""

    def of(self, records: Records, at: Range) -> Iterator[Block]:
        """Yield the elements of some records."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """(key, value), each decoded: UTF-8 (`utf8_decoder`) and bytes (None) as columns, by any other function one by one."""

    key: Decode | None = utf8_decoder
    value: Decode | None = utf8_decoder

    def of(self, records: Records, at: Range) -> Iterator[Block]:
        """Yield one pair per record."""
        raw = (records.keys.to_arrow(), records.values.to_arrow())
        if all(decode is None or decode is utf8_decoder for decode in (self.key, self.value)):
            columns = [
                column if decode is None else _texts(column, what, records, at)
                for what, column, decode in zip(("key", "value"), raw, (self.key, self.value), strict=True)
            ]
            yield struct_block(columns)
            return
        yield from packed(_pairs(*raw, self.key or _bytes, self.value or _bytes, records, at))


@dataclass(frozen=True, slots=True)
class Messages:
    """What a function makes of each message and its place."""

    handler: Callable[[KafkaMessageAndMetadata], Any]
    key: Decode | None = utf8_decoder
    value: Decode | None = utf8_decoder

    def of(self, records: Records, at: Range) -> Iterator[Block]:
        """Yield one element per record."""
        yield from packed(self._elements(records, at))

    def _elements(self, records: Records, at: Range) -> Iterator[Any]:
        keys, values = records.keys.to_arrow().to_pylist(), records.values.to_arrow().to_pylist()
        decoders = {"keyDecoder": self.key or _bytes, "valueDecoder": self.value or _bytes}
        offset = at.first
        try:
            for offset, key, value in zip(records.offsets.tolist(), keys, values, strict=True):
                yield self.handler(KafkaMessageAndMetadata(at.topic, at.partition, offset, key, value, **decoders))
        except Exception as error:
            error.add_note(f"at record {_named(at, offset)}")
            raise


@dataclass(frozen=True, slots=True)
class Typed:
    """Tuples of a format's columns; records that it does not take fail the batch, or are given out behind the good ones of their block.

    Attributes
    ----------
    format : str
        Text of the format.
    columns : tuple of str or None
        Its fields to give out, None: all.
    where : str
        JSON of conditions: good records that do not match are left out.
    gives_dead : bool
        Whether the others are given out, as `DeadRecord`.
    """

    format: str
    columns: tuple[str, ...] | None = None
    where: str = "[]"
    gives_dead: bool = False

    def of(self, records: Records, at: Range) -> Iterator[Block]:
        """Yield the good rows, then the dead records if they are wanted."""
        decoded = decoder_of(self.format, self.columns, self.where).decode(records)
        dead = decoded.bad.tolist()
        offsets = records.offsets.tolist() if dead else []
        if dead and not self.gives_dead:
            reason, detail = decoded.reasons[0], decoded.details[0]
            expected = f"what the format takes, in field {detail!r}" if detail else "what the format takes"
            todo = 'give them out beside the good ones by on_dead="give", or widen the format'
            raise UndecodableError("decode", "record", _named(at, offsets[dead[0]]), expected=expected, got=reason, todo=todo)
        if len(decoded.good):
            yield struct_block(decoded.columns.columns)
        if dead:
            index = pa.array(decoded.bad)
            keys, values = (one.to_arrow().take(index).to_pylist() for one in (records.keys, records.values))
            told = zip(dead, keys, values, decoded.reasons, decoded.details, strict=True)
            yield [DeadRecord(at.topic, at.partition, offsets[row], *rest) for row, *rest in told]


@dataclass(frozen=True)
class Reading:
    """How a task reads a range; travels to the workers.

    Attributes
    ----------
    options : SourceOptions
        Of the source, secrets as they were given.
    partitions : int
        Of the stream: any of them may come to a worker.
    elements : Elements
        What they are made of.
    """

    options: SourceOptions = field(repr=False)
    partitions: int
    elements: Elements

    def blocks(self, at: Range) -> Iterator[Block]:
        """Yield the elements of a range, in the order of their offsets.

        Raises
        ------
        UndecodableError
            A record cannot be decoded; topic, partition and offset are named.
        QueryError
            Records were lost that may not be.
        """
        if at.first < at.end:
            fetcher = fetcher_for(fetch_settings(self.options, self.partitions), at.topic, at.partition, at.first)
            may_lose = self.options.on_lost == "record"
            yield from read_range(fetcher, at, _Rows(self.elements), may_lose=may_lose, max_rows=BLOCK_ROWS)
        settle()


@dataclass(frozen=True, slots=True)
class _Rows:
    """Elements where `read_range` wants rows."""

    elements: Elements

    def of_block(self, records: Records, at: Range, account: Account) -> Iterator[Any]:
        del account
        return self.elements.of(records, at)

    def of_account(self, at: Range, account: Account) -> Iterator[Any]:
        del at, account
        return iter(())


def struct_block(columns: list[pa.Array]) -> Block:
    """Return columns as a block of tuples; as a list if one of them is of a type that blocks do not have."""
    if any(column.type not in WIDER for column in columns):
        return list(zip(*(column.to_pylist() for column in columns), strict=True))
    plain = [
        pa.nulls(len(column)) if column.null_count == len(column) and len(column) else column.cast(WIDER[column.type]) for column in columns
    ]
    return pa.StructArray.from_arrays(plain, names=[str(place) for place in range(len(plain))])


def _texts(column: pa.Array, what: str, records: Records, at: Range) -> pa.Array:
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        for offset, raw in zip(records.offsets.tolist(), column.to_pylist(), strict=True):
            try:
                utf8_decoder(raw)
            except UnicodeDecodeError as error:
                raise UndecodableError(
                    "decode", what, _named(at, offset), expected="UTF-8", got=str(error), todo=f"give a {what}Decoder that takes such bytes"
                ) from None
        raise


def _pairs(keys: pa.Array, values: pa.Array, key: Decode, value: Decode, records: Records, at: Range) -> Iterator[tuple[Any, Any]]:
    offset = at.first
    try:
        for offset, raw_key, raw_value in zip(records.offsets.tolist(), keys.to_pylist(), values.to_pylist(), strict=True):  # noqa: B007
            yield key(raw_key), value(raw_value)
    except Exception as error:
        error.add_note(f"at record {_named(at, offset)}")
        raise


def _bytes(raw: bytes | None) -> bytes | None:
    return raw


def _named(at: Range, offset: int) -> str:
    return f"{at.topic}[{at.partition}] at offset {offset}"
