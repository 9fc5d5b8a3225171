"""One stream at one batch time: an RDD of elements or of blocks, whichever is there, and steps that have not run yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from pyspark import RDD, SparkContext, StorageLevel

from spark_ext.dstream.columns.blocks import Block, decode, encode, packed, unpack
from spark_ext.dstream.columns.steps import Step, run_on_blocks, run_on_elements
from spark_ext.dstream.store import Store

__all__ = ["Rows", "of_blocks", "of_rdd", "stored", "union"]


class Rows:
    """The rows of a stream at one batch time; nothing runs until somebody asks an RDD for results.

    Attributes
    ----------
    base : RDD
        Of elements, or of encoded blocks.
    is_blocks : bool
        Which of the two.
    steps : tuple of Step
        What is to be done to `base`.
    """

    def __init__(self, base: RDD[Any], *, is_blocks: bool, steps: tuple[Step, ...] = (), keeps_places: bool = True) -> None:
        self.base = base
        self.is_blocks = is_blocks
        self.steps = steps
        self.keeps_places = keeps_places  # whether the steps leave keys in their partitions
        self._rdd: RDD[Any] | None = None

    @property
    def context(self) -> SparkContext:
        """Spark's context."""
        return self.base.ctx

    def then(self, step: Step, *, keeps_places: bool = False) -> Rows:
        """Return these rows after one more step."""
        return Rows(self.base, is_blocks=self.is_blocks, steps=(*self.steps, step), keeps_places=self.keeps_places and keeps_places)

    def rdd(self) -> RDD[Any]:
        """Return the rows as an RDD of Python objects, the same one each time."""
        if self._rdd is None:
            if self.is_blocks:
                self._rdd = self.base.mapPartitionsWithIndex(_elements_of_blocks(self.steps), self.keeps_places)
            elif self.steps:
                self._rdd = self.base.mapPartitionsWithIndex(_elements(self.steps), self.keeps_places)
            else:
                self._rdd = self.base
        return self._rdd

    def blocks(self) -> RDD[bytes]:
        """Return the rows as an RDD of encoded blocks."""
        if self.is_blocks and not self.steps:
            return self.base
        return self.over_blocks(lambda _, blocks: map(encode, blocks))

    def over_blocks(self, function: Callable[[int, Iterator[Block]], Iterable[Any]]) -> RDD[Any]:
        """Return what a function makes of each partition's number and blocks, in the same pass as the steps."""
        run = _over_blocks if self.is_blocks else _over_elements
        return self.base.mapPartitionsWithIndex(run(self.steps, function), self.keeps_places)

    def persisted(self, level: StorageLevel) -> Rows:
        """Return the same rows, kept by Spark as blocks once computed; the caller unpersists `base`."""
        return Rows(self.blocks().persist(level), is_blocks=True)


def of_rdd(rdd: RDD[Any]) -> Rows:
    """Rows of an RDD of Python objects."""
    return Rows(rdd, is_blocks=False)


def of_blocks(blocks: RDD[bytes]) -> Rows:
    """Rows of an RDD of encoded blocks."""
    return Rows(blocks, is_blocks=True)


def union(context: SparkContext, rows: Sequence[Rows]) -> Rows:
    """Rows of all of them, partitions one after the other; partitions that agree by key are laid together, as PySpark does."""
    if len(rows) == 1:
        return rows[0]
    if rows and all(one.is_blocks for one in rows):
        return of_blocks(context.union([one.blocks() for one in rows]))
    return of_rdd(context.union([one.rdd() for one in rows]) if rows else context.emptyRDD())


def stored(context: SparkContext, store: Store, stream: str, time_ms: int, partitions: int) -> Rows:
    """Rows that a stream left in the store at a batch time, one encoded block per partition."""

    def read(index: int, _: Iterable[Any]) -> Iterator[bytes]:
        content = store.read(stream, time_ms, index)
        return iter(() if content is None else (content,))

    return of_blocks(context.parallelize(range(partitions), partitions).mapPartitionsWithIndex(read))


def _elements(steps: tuple[Step, ...]) -> Callable[[int, Iterable[Any]], Iterable[Any]]:
    return lambda index, elements: run_on_elements(steps, index, elements)


def _elements_of_blocks(steps: tuple[Step, ...]) -> Callable[[int, Iterable[bytes]], Iterable[Any]]:
    def run(index: int, blocks: Iterable[bytes]) -> Iterable[Any]:
        return chain.from_iterable(map(unpack, run_on_blocks(steps, index, map(decode, blocks))))

    return run


def _over_blocks(
    steps: tuple[Step, ...], function: Callable[[int, Iterator[Block]], Iterable[Any]]
) -> Callable[[int, Iterable[bytes]], Iterable[Any]]:
    return lambda index, blocks: function(index, run_on_blocks(steps, index, map(decode, blocks)))


def _over_elements(
    steps: tuple[Step, ...], function: Callable[[int, Iterator[Block]], Iterable[Any]]
) -> Callable[[int, Iterable[Any]], Iterable[Any]]:
    return lambda index, elements: function(index, packed(run_on_elements(steps, index, elements)))
