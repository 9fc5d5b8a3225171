"""Two streams by key: joins and cogroup.

Both sides are placed by key and laid together, then each partition is worked on by itself. Keys that can be told as columns
are matched by numbers; any others by a dict.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark import RDD
from pyspark.resultiterable import ResultIterable

from spark_ext.dstream.columns.blocks import Block, cut, decode, encode, gathered, pair_columns, pair_objects, pair_of
from spark_ext.dstream.columns.exchange import moved, pieces
from spark_ext.dstream.columns.folds import Grouping
from spark_ext.dstream.columns.keys import coded
from spark_ext.dstream.rows import Rows, nothing, of_blocks

__all__ = ["How", "cogrouped", "joined", "matched"]

How: TypeAlias = Literal["inner", "left", "right", "full"]
KEEPS_LEFT: Final = {"left", "full"}
KEEPS_RIGHT: Final = {"right", "full"}
RESULT_ROWS: Final = 1 << 18
Sided: TypeAlias = tuple[int, tuple[int, bytes]]


def joined(left: Rows, right: Rows, partitions: int, how: How) -> Rows:
    """Return ``(key, (left value, right value))`` for each two pairs of a key; without a partner, where `how` keeps it, None."""
    if (left.is_nothing and how not in KEEPS_RIGHT) or (right.is_nothing and (left.is_nothing or how not in KEEPS_LEFT)):
        return nothing(left.context, partitions)
    return of_blocks(_together(left, right, partitions), lambda _, sided: matched(*_sides(sided), how))


def cogrouped(left: Rows, right: Rows, partitions: int) -> Rows:
    """Return ``(key, (iterable of left values, iterable of right values))`` of each key."""
    if left.is_nothing and right.is_nothing:
        return nothing(left.context, partitions)

    def groups(_: int, sided: Iterable[Sided]) -> Iterator[Block]:
        lefts, rights = map(_table, _sides(sided))
        keys = chain(lefts, (key for key in rights if key not in lefts))
        yield from cut((key, (ResultIterable(lefts.get(key, [])), ResultIterable(rights.get(key, [])))) for key in keys)

    return of_blocks(_together(left, right, partitions), groups)


def matched(left: Sequence[Block], right: Sequence[Block], how: How) -> Iterator[Block]:
    """Join the blocks of pairs of one partition.

    Yields
    ------
    Block
        Of ``(key, (left value, right value))``, about 262,144 elements each.
    """
    sides = [_columns(blocks) for blocks in (left, right)]
    if sides[0] is not None and sides[1] is not None and sides[0][0].type == sides[1][0].type:
        found = coded(pa.concat_arrays([sides[0][0], sides[1][0]]))
        if found is not None:
            yield from _by_codes(sides[0], sides[1], found.codes, len(found.keys), how)
            return
    yield from cut(_by_table(_table(left), _table(right), how))


def _together(left: Rows, right: Rows, partitions: int) -> RDD[Sided]:
    sides = [_placed_side(rows, side, partitions) for side, rows in enumerate((left, right))]
    both = sides[0].union(sides[1])  # lays partitions that agree by key together
    return both if both.getNumPartitions() == partitions else moved(both, partitions)


def _placed_side(rows: Rows, side: int, partitions: int) -> RDD[Sided]:
    def in_place(index: int, blocks: Iterator[Block]) -> Iterator[Sided]:
        return ((index, (side, encode(block))) for block in blocks)

    def cut_up(_: int, blocks: Iterator[Block]) -> Iterator[Sided]:
        for block in gathered(blocks):
            for partition, content in pieces(block, partitions):
                yield partition, (side, content)

    if rows.is_placed(partitions):
        return rows.over_blocks(in_place, keeps_places=True)
    return moved(rows.over_blocks(cut_up), partitions)


def _sides(sided: Iterable[Sided]) -> tuple[list[Block], list[Block]]:
    blocks: tuple[list[Block], list[Block]] = ([], [])
    for _, (side, content) in sided:
        blocks[side].append(decode(content))
    return blocks


def _columns(blocks: Sequence[Block]) -> tuple[pa.Array, pa.Array] | None:
    if not blocks or any(isinstance(block, list) for block in blocks) or len({block.type for block in blocks}) > 1:  # type: ignore[union-attr]
        return None
    return pair_columns(pa.concat_arrays(blocks))


def _table(blocks: Iterable[Block]) -> dict[Any, list[Any]]:
    table: dict[Any, list[Any]] = {}
    fold = Grouping()
    for block in blocks:
        fold.into_table(table, pair_objects(block))
    return table


def _by_table(left: dict[Any, list[Any]], right: dict[Any, list[Any]], how: How) -> Iterator[Any]:
    alone: list[Any] = [None]
    for key, values in left.items():
        partners = right.get(key, alone if how in KEEPS_LEFT else ())
        for value in values:
            for partner in partners:
                yield key, (value, partner)
    if how in KEEPS_RIGHT:
        for key, values in right.items():
            if key not in left:
                for value in values:
                    yield key, (None, value)


def _by_codes(
    left: tuple[pa.Array, pa.Array], right: tuple[pa.Array, pa.Array], codes: NDArray[np.int64], count: int, how: How
) -> Iterator[pa.Array]:
    left_codes, right_codes = codes[: len(left[0])], codes[len(left[0]) :]
    in_left, in_right = (np.bincount(some, minlength=count) for some in (left_codes, right_codes))
    order = np.argsort(right_codes, kind="stable")
    starts = np.cumsum(in_right) - in_right
    partners = in_right[left_codes]
    ends = np.cumsum(partners)
    for first, last in _spans(ends):
        some = partners[first:last]
        rows = np.repeat(np.arange(first, last), some)
        nth = np.arange(len(rows)) - np.repeat(np.cumsum(some) - some, some)
        others = order[starts[left_codes[rows]] + nth]
        yield pair_of(_at(left[0], rows), pair_of(_at(left[1], rows), _at(right[1], others)))
    if how in KEEPS_LEFT:
        rows = np.flatnonzero(partners == 0)
        if len(rows):
            yield pair_of(_at(left[0], rows), pair_of(_at(left[1], rows), pa.nulls(len(rows), right[1].type)))
    if how in KEEPS_RIGHT:
        rows = np.flatnonzero(in_left[right_codes] == 0)
        if len(rows):
            yield pair_of(_at(right[0], rows), pair_of(pa.nulls(len(rows), left[1].type), _at(right[1], rows)))


def _spans(ends: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Cut rows, each with so many results up to its end, so that a cut has about `RESULT_ROWS` results, more only in one row."""
    first = 0
    while first < len(ends) and ends[-1] > (done := int(ends[first - 1]) if first else 0):
        last = max(first + 1, int(np.searchsorted(ends, done + RESULT_ROWS, side="right")))
        yield first, last
        first = last


def _at(column: pa.Array, rows: NDArray[np.int64]) -> pa.Array:
    return column.take(pa.array(rows))
