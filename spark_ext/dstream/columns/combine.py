"""By key and as a whole: reduce, combine, group, count.

Each is one pass before, one shuffle of few large elements, one pass after. The functions are looked at where they run.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import pyarrow as pa
from pyspark.resultiterable import ResultIterable

from spark_ext.dstream.columns.blocks import Block, decode, encode, pack, pair_of, unpack
from spark_ext.dstream.columns.exchange import moved, pieces, placed_pieces
from spark_ext.dstream.columns.folds import Combining, Fold, Grouping, Reducing, folded
from spark_ext.dstream.rows import Reader, Rows, nothing, of_blocks, of_rdd

__all__ = ["combined", "counted", "counted_by_value", "grouped", "read_placed", "reduced", "reduced_to_one"]

ONE_CODE: Final = 0


def reduced(rows: Rows, function: Callable[[Any, Any], Any], partitions: int) -> Rows:
    """Return one pair per key, its values put together by `function`, as `RDD.reduceByKey` does."""
    return _by_key(rows, lambda: Reducing(function), lambda: Reducing(function), partitions)


def combined(
    rows: Rows,
    create: Callable[[Any], Any],
    merge_value: Callable[[Any, Any], Any],
    merge_combiners: Callable[[Any, Any], Any],
    partitions: int,
) -> Rows:
    """Return one pair per key, its values combined as `RDD.combineByKey` does."""
    return _by_key(rows, lambda: Combining(create, merge_value), lambda: Reducing(merge_combiners), partitions)


def counted_by_value(rows: Rows, partitions: int) -> Rows:
    """Return ``(element, how often it is there)``."""
    return _by_key(rows, lambda: Reducing(operator.add), lambda: Reducing(operator.add), partitions, before=_with_counts)


def grouped(rows: Rows, partitions: int) -> Rows:
    """Return ``(key, iterable of its values)``, as `RDD.groupByKey` does."""

    def groups(blocks: Iterable[Block]) -> Iterator[Block]:
        for block in folded(blocks, Grouping(), sends_on=False):
            yield [(key, ResultIterable(values)) for key, values in unpack(block)]

    return read_placed(rows, partitions, groups)


def counted(rows: Rows) -> Rows:
    """Return the number of elements, in one partition; nothing if there are no partitions."""
    if rows.is_nothing:
        return of_rdd(rows.context.parallelize([0], 1)) if rows.base.getNumPartitions() else nothing(rows.context, 1)

    def count(_: int, blocks: Iterator[Block]) -> Iterator[tuple[int, bytes]]:
        yield 0, encode([sum(map(len, blocks))])

    def total(_: int, numbered: Iterable[tuple[int, bytes]]) -> Iterator[Block]:
        counts = [count for _, content in numbered for count in decode(content)]
        if counts:
            yield [sum(counts)]

    return of_blocks(moved(rows.over_blocks(count, packs=False), 1), total)


def reduced_to_one(rows: Rows, function: Callable[[Any, Any], Any]) -> Rows:
    """Return one element, all of them put together by `function`, in one partition; nothing for nothing."""
    if rows.is_nothing:
        return nothing(rows.context, 1)

    def reduce(blocks: Iterable[Block]) -> Iterator[Block]:
        for block in folded(map(_with_one_key, blocks), Reducing(function), sends_on=False):
            yield [value for _, value in unpack(block)]

    def before(_: int, blocks: Iterator[Block]) -> Iterator[tuple[int, bytes]]:
        return ((0, encode(block)) for block in reduce(blocks))

    return of_blocks(moved(rows.over_blocks(before, packs=False), 1), lambda _, numbered: reduce(_contents(numbered)))


def read_placed(rows: Rows, partitions: int, function: Callable[[Iterable[Block]], Iterator[Block]]) -> Rows:
    """Return what a function makes of the blocks of pairs of each partition, once each pair is in that of its key; nothing of nothing."""
    if rows.is_nothing:
        return nothing(rows.context, partitions)
    if rows.is_placed(partitions):
        made = rows.over_blocks(lambda _, blocks: map(encode, map(pack, function(blocks))), packs=False, keeps_places=True)
        return of_blocks(made)
    return of_blocks(placed_pieces(rows, partitions), lambda _, numbered: function(_contents(numbered)))


def _by_key(
    rows: Rows,
    first: Callable[[], Fold],
    second: Callable[[], Fold],
    partitions: int,
    *,
    before: Callable[[Iterable[Block]], Iterable[Block]] = iter,
) -> Rows:
    if rows.is_nothing:
        return nothing(rows.context, partitions)
    if rows.is_placed(partitions) and before is iter:

        def at_once(_: int, blocks: Iterator[Block]) -> Iterator[bytes]:
            return (encode(block) for block in folded(blocks, first(), sends_on=False))

        return of_blocks(rows.over_blocks(at_once, packs=False, keeps_places=True))

    def send(_: int, blocks: Iterator[Block]) -> Iterator[tuple[int, bytes]]:
        for block in folded(before(blocks), first(), sends_on=True):
            yield from pieces(block, partitions, is_distinct=True)

    return of_blocks(moved(rows.over_blocks(send, packs=False), partitions), _reader(second))


def _reader(fold: Callable[[], Fold]) -> Reader:
    return lambda _, numbered: folded(_contents(numbered), fold(), sends_on=False)


def _contents(numbered: Iterable[tuple[int, bytes]]) -> Iterator[Block]:
    return (decode(content) for _, content in numbered)


def _with_counts(blocks: Iterable[Block]) -> Iterator[Block]:
    for block in blocks:
        column = pack(block)
        if isinstance(column, pa.Array):
            yield pair_of(column, pa.repeat(pa.scalar(1, pa.int64()), len(column)))
        else:
            yield list(Counter(column).items())


def _with_one_key(block: Block) -> Block:
    block = pack(block)
    if isinstance(block, pa.Array):
        return pair_of(pa.repeat(pa.scalar(ONE_CODE, pa.int64()), len(block)), block)
    return [(ONE_CODE, element) for element in block]
