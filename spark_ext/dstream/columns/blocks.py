"""Blocks: many elements as one Arrow array if each has exactly a simple type, else as a list.

int -> int64, float -> float64, str -> string, bool -> bool, bytes -> binary, tuple -> struct with fields "0", "1", ...
None is a null, inside tuples only.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
from pyspark import cloudpickle

__all__ = [
    "BLOCK_ROWS",
    "OBJECT_ROWS",
    "Block",
    "cut",
    "decode",
    "encode",
    "gathered",
    "pack",
    "pack_pairs",
    "packed",
    "pair_columns",
    "pair_objects",
    "pair_of",
    "unpack",
]

Block: TypeAlias = pa.Array | list[Any]
BLOCK_ROWS: Final = 100_000
FIRST_ROWS: Final = 16  # until the size of an element is known; who takes the first few elements waits for no more
OBJECT_ROWS: Final = 1_000  # of objects that pass by: few enough to stay in the processor's cache
BLOCK_BYTES: Final = 16 << 20
GATHERED_BYTES: Final = 64 << 20
PAIR: Final = 2
SAMPLE: Final = 8
COLUMN: Final = b"a\0\0\0\0\0\0\0"  # eight bytes, so that numbers behind it lie where numbers should
OBJECTS: Final = b"p"
SIMPLE: Final = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_(), bytes: pa.binary()}
NONE: Final = type(None)


def pack(elements: Sequence[Any] | Block) -> Block:
    """Return the elements as an Arrow array if that keeps each of them exactly, else as a list.

    Guarantee: ``unpack(pack(elements))`` has equal elements of the same types, floats to the bit. A list is returned for no
    elements, None among them, mixed types, subclasses, ints beyond 64 bits, lone surrogates, tuples that are empty or differ
    in length. An array stays as it is.
    """
    if isinstance(elements, pa.Array):
        return elements
    there = elements if isinstance(elements, list) else list(elements)
    made = _column(there, nullable=False) if there else None
    return there if made is None else made


def pack_pairs(keys: Block, values: Block) -> Block:
    """Return pairs of the same places as one block."""
    value_column = pack(values)
    key_column = pack(keys) if isinstance(value_column, pa.Array) else keys
    if isinstance(key_column, pa.Array) and isinstance(value_column, pa.Array):
        return pair_of(key_column, value_column)
    return list(zip(unpack(keys), unpack(values), strict=True))


def pair_of(keys: pa.Array, values: pa.Array) -> pa.StructArray:
    """Return pairs of two columns."""
    return pa.StructArray.from_arrays([keys, values], names=["0", "1"])


def pair_columns(block: Block) -> tuple[pa.Array, pa.Array] | None:
    """Return keys and values, if the block is a column of pairs."""
    if isinstance(block, list) or not pa.types.is_struct(block.type) or block.type.num_fields != PAIR or block.null_count:
        return None
    return block.field(0), block.field(1)


def pair_objects(block: Block) -> Iterable[Any]:
    """Return the elements; of a column of pairs without a tuple for each."""
    columns = pair_columns(block)
    return unpack(block) if columns is None else zip(unpack(columns[0]), unpack(columns[1]), strict=True)


def gathered(blocks: Iterable[Block], rows: int = 1 << 20) -> Iterator[Block]:
    """Lay columns of one type that follow each other together, up to about `rows` elements or 64 MiB; lists stay as they are."""
    held: list[pa.Array] = []
    there = size = 0
    for block in blocks:
        if held and (isinstance(block, list) or block.type != held[0].type or there >= rows or size >= GATHERED_BYTES):
            yield _one(held)
            held, there, size = [], 0, 0
        if isinstance(block, list):
            yield block
        else:
            held.append(block)
            there, size = there + len(block), size + block.nbytes
    if held:
        yield _one(held)


def _one(arrays: list[pa.Array]) -> pa.Array:
    return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays)


def packed(elements: Iterable[Any], rows: int = BLOCK_ROWS) -> Iterator[Block]:
    """Cut elements into blocks of at most `rows` elements and about 16 MiB; none for no elements."""
    return map(pack, cut(elements, rows))


def cut(elements: Iterable[Any], rows: int = BLOCK_ROWS) -> Iterator[list[Any]]:
    """Cut elements as `packed` does, but leave them objects."""
    there = iter(elements)
    wanted = min(rows, FIRST_ROWS)
    while some := list(islice(there, wanted)):
        yield some
        if wanted == FIRST_ROWS or rows > OBJECT_ROWS:  # of many small lists only the first is looked at
            wanted = max(1, min(rows, wanted * 100, BLOCK_BYTES // (_bytes_per_element(some) + 1)))


def unpack(block: Block) -> list[Any]:
    """Return the elements as Python objects, with the types they had."""
    return block if isinstance(block, list) else _objects(block)


def encode(block: Block) -> bytes:
    """Return the block as bytes, to travel or to be stored; of a slice only what it shows."""
    if isinstance(block, list):
        return OBJECTS + _pickled(block)
    batch = pa.record_batch([block], names=["0"])
    sink = pa.BufferOutputStream()
    sink.write(COLUMN)
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def decode(content: bytes) -> Block:
    """Return the block of `encode`; an array looks into `content`."""
    if content[:1] == OBJECTS:
        return list(pickle.loads(memoryview(content)[1:]))  # noqa: S301 (written by this program's own workers)
    batch = pa.ipc.open_stream(pa.py_buffer(content).slice(len(COLUMN))).read_next_batch()
    return batch.column(0)


def _column(there: Sequence[Any], *, nullable: bool) -> pa.Array | None:
    types = set(map(type, there))
    has_none = NONE in types
    if has_none and not nullable:
        return None
    types.discard(NONE)
    if not types:
        return pa.nulls(len(there))
    one = types.pop()
    if one is tuple and not types:
        return _struct(there, has_none=has_none)
    if types or one not in SIMPLE:
        return None
    try:
        made = pa.array(there, SIMPLE[one])
    except (OverflowError, UnicodeEncodeError, pa.ArrowInvalid):
        return None
    return made if isinstance(made, pa.Array) else None  # several chunks: beyond what one array of strings can hold


def _struct(there: Sequence[Any], *, has_none: bool) -> pa.Array | None:
    mask = None
    if has_none:
        mask = pa.array([one is None for one in there])
        width = len(next(one for one in there if one is not None))
        there = [(None,) * width if one is None else one for one in there]
    widths = set(map(len, there))
    if len(widths) != 1 or widths == {0}:
        return None
    children = []
    for place in range(widths.pop()):
        child = _column(list(map(itemgetter(place), there)), nullable=True)  # zip(*there) is an iterator per element
        if child is None:
            return None
        children.append(child)
    return pa.StructArray.from_arrays(children, names=[str(n) for n in range(len(children))], mask=mask)


def _objects(array: pa.Array) -> list[Any]:
    if not pa.types.is_struct(array.type):
        return list(array.to_pylist())
    children = array.flatten() if array.null_count else [array.field(place) for place in range(array.type.num_fields)]
    made: list[Any] = list(zip(*map(_objects, children), strict=True))  # to_pylist would make dicts
    if array.null_count:
        for place in np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist():
            made[place] = None
    return made


def _bytes_per_element(some: list[Any]) -> int:
    try:
        return len(_pickled(some[-SAMPLE:])) // min(SAMPLE, len(some))
    except Exception:  # noqa: BLE001 (what cannot be pickled need not travel; a step that follows may take it)
        return 0


def _pickled(elements: list[Any]) -> bytes:
    # As PySpark does: classes of the main program by value.
    content: bytes = cloudpickle.dumps(elements, protocol=5)  # type: ignore[no-untyped-call]
    return content
