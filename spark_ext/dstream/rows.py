"""One stream at one batch time: an RDD of elements or of blocks, whichever is there, and steps that have not run yet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeAlias

from pyspark import RDD, SparkContext, StorageLevel
from pyspark.core.rdd import Partitioner, portable_hash

from spark_ext.dstream.columns.blocks import BLOCK_ROWS, OBJECT_ROWS, Block, cut, decode, encode, pack, unpack
from spark_ext.dstream.columns.steps import Step, knows_first, run_on_blocks, run_on_elements

__all__ = ["Rows", "nothing", "of_blocks", "of_rdd", "union"]


Reader: TypeAlias = Callable[[int, Iterable[Any]], Iterator[Block]]


class Rows:
    """The rows of a stream at one batch time; nothing runs until somebody asks an RDD for results.

    Attributes
    ----------
    base : RDD
        Of elements, or of blocks: encoded, or whatever `read` makes blocks of.
    is_blocks : bool
        Which of the two.
    steps : tuple of Step
        What is to be done to `base`.
    keeps_places : bool
        Whether the steps leave keys in their partitions.
    read : callable, optional
        Makes blocks of a partition of `base`; default decodes them one by one.
    is_nothing : bool
        Whether it is known without a job that there are no rows; what it costs to have none is then saved.
    """

    def __init__(
        self,
        base: RDD[Any],
        *,
        is_blocks: bool,
        steps: tuple[Step, ...] = (),
        keeps_places: bool = True,
        read: Reader | None = None,
        is_nothing: bool = False,
    ) -> None:
        self.base = base
        self.is_blocks = is_blocks
        self.steps = steps
        self.keeps_places = keeps_places
        self.read = read
        self.is_nothing = is_nothing
        self._rdd: RDD[Any] | None = None

    @property
    def context(self) -> SparkContext:
        """Spark's context."""
        return self.base.ctx

    def then(self, step: Step, *, keeps_places: bool = False) -> Rows:
        """Return these rows after one more step."""
        keeps = self.keeps_places and keeps_places
        is_nothing = self.is_nothing and not step.takes_partition
        steps = (*self.steps, step)
        return Rows(self.base, is_blocks=self.is_blocks, steps=steps, keeps_places=keeps, read=self.read, is_nothing=is_nothing)

    def rdd(self) -> RDD[Any]:
        """Return the rows as an RDD of Python objects, the same one each time."""
        if self._rdd is None:
            if self.is_blocks:
                self._rdd = self.over_blocks(_elements_of, packs=False, keeps_places=True)
            elif self.steps:
                self._rdd = self.base.mapPartitionsWithIndex(_elements(self.steps), self.keeps_places)
            else:
                self._rdd = self.base
        return self._rdd

    def blocks(self) -> RDD[bytes]:
        """Return the rows as an RDD of encoded blocks."""
        if self.is_blocks and not self.steps and self.read is None:
            return self.base
        return self.over_blocks(_encoded, keeps_places=True)

    def over_blocks(
        self, function: Callable[[int, Iterator[Block]], Iterable[Any]], *, packs: bool = True, keeps_places: bool = False
    ) -> RDD[Any]:
        """Return what a function makes of each partition's number and blocks, in the same pass as the steps.

        Parameters
        ----------
        function : callable
            Gets the number of the partition and an iterator of its blocks.
        packs : bool
            Whether each block that can be a column is one; else lists may be among them that could be.
        keeps_places : bool
            Whether the function leaves keys in their partitions.
        """
        after = _packed_before(function) if packs else function
        if self.is_blocks:
            run = _over_blocks(self.steps, self.read or _decoded, after)
        else:
            run = _over_elements(self.steps, BLOCK_ROWS if packs else OBJECT_ROWS, after)
        return self.base.mapPartitionsWithIndex(run, self.keeps_places and keeps_places)

    def is_placed(self, partitions: int) -> bool:
        """Tell whether each pair is in the partition of its key already, of so many."""
        return self.keeps_places and self.base.partitioner == Partitioner(partitions, portable_hash)

    def persisted(self, level: StorageLevel) -> Rows:
        """Return the same rows, kept by Spark as blocks once computed; the caller unpersists `base`."""
        if self.is_nothing:
            return self
        return Rows(self.blocks().persist(level), is_blocks=True)


def of_rdd(rdd: RDD[Any]) -> Rows:
    """Rows of an RDD of Python objects."""
    return Rows(rdd, is_blocks=False)


def of_blocks(blocks: RDD[Any], read: Reader | None = None) -> Rows:
    """Rows of an RDD of encoded blocks, or of what `read` makes blocks of."""
    return Rows(blocks, is_blocks=True, read=read)


def nothing(context: SparkContext, partitions: int) -> Rows:
    """No rows in so many partitions."""
    none: RDD[Any] = context.parallelize([], partitions) if partitions else context.emptyRDD()
    return Rows(none, is_blocks=False, is_nothing=True)


def union(context: SparkContext, rows: Sequence[Rows]) -> Rows:
    """Rows of all of them, partitions one after the other; partitions that agree by key are laid together, as PySpark does."""
    if len(rows) == 1:
        return rows[0]
    if all(one.is_nothing for one in rows):
        return nothing(context, sum(one.base.getNumPartitions() for one in rows))
    if rows and all(one.is_blocks for one in rows):
        return of_blocks(context.union([one.blocks() for one in rows]))
    return of_rdd(context.union([one.rdd() for one in rows]))


def _elements(steps: tuple[Step, ...]) -> Callable[[int, Iterable[Any]], Iterable[Any]]:
    return lambda index, elements: run_on_elements(steps, index, elements)


def _over_blocks(
    steps: tuple[Step, ...], read: Reader, function: Callable[[int, Iterator[Block]], Iterable[Any]]
) -> Callable[[int, Iterable[Any]], Iterable[Any]]:
    return lambda index, content: function(index, run_on_blocks(steps, index, read(index, content)))


def _over_elements(
    steps: tuple[Step, ...], rows: int, function: Callable[[int, Iterator[Block]], Iterable[Any]]
) -> Callable[[int, Iterable[Any]], Iterable[Any]]:
    def run(index: int, elements: Iterable[Any]) -> Iterable[Any]:
        if knows_first(steps):
            return function(index, run_on_blocks(steps, index, cut(elements)))
        return function(index, cut(run_on_elements(steps, index, elements), rows))

    return run


def _packed_before(function: Callable[[int, Iterator[Block]], Iterable[Any]]) -> Callable[[int, Iterator[Block]], Iterable[Any]]:
    return lambda index, blocks: function(index, map(pack, blocks))


def _decoded(_: int, blocks: Iterable[bytes]) -> Iterator[Block]:
    return map(decode, blocks)


def _encoded(_: int, blocks: Iterator[Block]) -> Iterable[bytes]:
    return map(encode, blocks)


def _elements_of(_: int, blocks: Iterator[Block]) -> Iterable[Any]:
    return chain.from_iterable(map(unpack, blocks))
