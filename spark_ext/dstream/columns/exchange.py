"""Move pairs to the partition of their key: ``portable_hash(key) % partitions``, as PySpark does.

What moves is few large elements, ``(partition, encoded block)``: Spark's shuffle sees the number only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import RDD

from spark_ext.dstream.columns.blocks import Block, encode, gathered, pack, pair_columns, unpack
from spark_ext.dstream.columns.keys import coded, partitions_of, partitions_of_objects
from spark_ext.dstream.rows import Rows

__all__ = ["moved", "pieces", "placed", "placed_pieces", "split"]


def placed(rows: Rows, partitions: int) -> RDD[bytes]:
    """Return pairs as encoded blocks, each pair in the partition of its key; nothing moves if it is there already.

    Pairs of one key keep their order within a partition of `rows`.
    """
    if rows.is_placed(partitions):
        return rows.blocks()
    return placed_pieces(rows, partitions).mapPartitions(_without_number, True)


def placed_pieces(rows: Rows, partitions: int) -> RDD[tuple[int, bytes]]:
    """Return pairs as ``(partition, encoded block)``, each in that partition; may be read straight by a `Reader`."""

    def cut_up(_: int, blocks: Iterator[Block]) -> Iterator[tuple[int, bytes]]:
        for block in gathered(blocks):
            yield from pieces(block, partitions)

    return moved(rows.over_blocks(cut_up), partitions)


def moved(numbered: RDD[tuple[int, Any]], partitions: int) -> RDD[tuple[int, Any]]:
    """Return the elements, each in the partition of its number.

    The hash of a partition's number is the number itself, so the result counts as placed by key, to PySpark too.
    """
    return numbered.partitionBy(partitions)


def pieces(block: Block, partitions: int, *, is_distinct: bool = False) -> Iterator[tuple[int, bytes]]:
    """Cut a block of pairs by the partitions of its keys; `is_distinct`: no key is there twice."""
    block = pack(block)
    columns = pair_columns(block)
    if columns is None:
        pairs = [(key, value) for key, value in unpack(block)]
        sorted_out: dict[int, list[Any]] = defaultdict(list)
        for pair, partition in zip(pairs, partitions_of_objects((key for key, _ in pairs), partitions), strict=True):
            sorted_out[partition].append(pair)
        for partition, some in sorted_out.items():
            yield partition, encode(pack(some))
        return
    if partitions == 1:
        yield 0, encode(block)
        return
    for partition, part in split(block, _partitions(columns[0], partitions, is_distinct=is_distinct), partitions):
        yield partition, encode(part)


def split(column: pa.Array, numbers: NDArray[np.int64], count: int) -> Iterator[tuple[int, pa.Array]]:
    """Cut a column by a number below `count` for each element; elements of one number keep their order."""
    small = numbers.astype(np.uint16) if count <= np.iinfo(np.uint16).max else numbers  # sorted by radix
    ordered = column.take(pa.array(np.argsort(small, kind="stable")))
    ends = np.cumsum(np.bincount(numbers, minlength=count))
    for number in np.unique(numbers).tolist():
        start = int(ends[number - 1]) if number else 0
        yield number, ordered.slice(start, int(ends[number]) - start)


def _partitions(keys: pa.Array, partitions: int, *, is_distinct: bool) -> NDArray[np.int64]:
    found = None if is_distinct else coded(keys)
    return partitions_of(keys, partitions) if found is None else partitions_of(found.keys, partitions)[found.codes]


def _without_number(numbered: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    return (content for _, content in numbered)
