"""Blocks: many elements as one Arrow array if each has exactly a simple type, else as a list.

int -> int64, float -> float64, str -> string, bool -> bool, bytes -> binary, tuple -> struct with fields "0", "1", ...
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

import pyarrow as pa

__all__ = ["BLOCK_ROWS", "Block", "decode", "encode", "pack", "packed", "unpack"]

Block: TypeAlias = pa.Array | list[Any]
BLOCK_ROWS: Final = 100_000
COLUMN: Final = b"a"
OBJECTS: Final = b"p"


def pack(elements: Sequence[Any]) -> Block:
    """Return the elements as an Arrow array if that keeps each of them exactly, else as a list."""
    return list(elements)


def packed(elements: Iterable[Any], rows: int = BLOCK_ROWS) -> Iterator[Block]:
    """Cut elements into blocks; none for no elements."""
    there = iter(elements)
    while some := list(islice(there, rows)):
        yield pack(some)


def unpack(block: Block) -> list[Any]:
    """Return the elements as Python objects, with the types they had."""
    return block if isinstance(block, list) else block.to_pylist()


def encode(block: Block) -> bytes:
    """Return the block as bytes, to travel or to be stored."""
    if isinstance(block, list):
        return OBJECTS + pickle.dumps(block, protocol=5)
    batch = pa.record_batch([block], names=["0"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return COLUMN + sink.getvalue().to_pybytes()


def decode(content: bytes) -> Block:
    """Return the block of `encode`."""
    if content[:1] == OBJECTS:
        return list(pickle.loads(memoryview(content)[1:]))  # noqa: S301 (written by this program's own workers)
    table = pa.ipc.open_stream(pa.py_buffer(content).slice(1)).read_all()
    return table.column(0).combine_chunks()
