"""State by key in the store: one file per batch and partition, each made from that of the batch before.

Picture: time, for one stream.

    initial -> state 1 -> state 2 -> state 3 ...     each written by the tasks of its batch, before outputs run
                  ^          ^          ^
               rows 1     rows 2     rows 3

A batch that is tried again reads the state before it, which is still there, and writes its own anew.
"""

from __future__ import annotations

import gc
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

from pyspark import RDD
from pyspark.core.rdd import Partitioner, portable_hash

from spark_ext.dstream.batch import Batch
from spark_ext.dstream.columns.blocks import Block, decode
from spark_ext.dstream.columns.exchange import placed
from spark_ext.dstream.errors import StreamArgumentError
from spark_ext.dstream.graph import Node
from spark_ext.dstream.rows import Rows, of_blocks, of_rdd
from spark_ext.dstream.state.notes import begins, check_begins, hashed_by, left_content
from spark_ext.dstream.store import Store

__all__ = ["Files", "KeyedNode", "Task", "checked_partitions"]

Task: TypeAlias = Callable[[bytes, list[Block]], bytes]
INITIAL: Final = ".initial"
MANY: Final = 200_000  # objects


@dataclass(frozen=True, slots=True)
class Files:
    """What one stream left at one batch time."""

    store: Store
    stream: str
    time_ms: int

    def read(self, partition: int) -> bytes:
        """Return the file of one partition; a StateError if it is not there."""
        return left_content(self.store, self.stream, self.time_ms, partition)

    def write(self, partition: int, content: bytes) -> None:
        """Write the file of one partition."""
        self.store.write(self.stream, self.time_ms, partition, content)


class KeyedNode(Node):
    """A stream with state by key.

    Parameters
    ----------
    parent : Node
        Pairs.
    partitions : int or None
        Of the state; None: what the checkpoint has, else `default_partitions`.
    initial : RDD of pairs or None
        State before the first batch.

    State: in the store under the stream's name, see the subclasses.
    """

    keeps = True
    needs_checkpoint = True
    goes_on_without_rows: ClassVar[bool] = False

    def __init__(self, parent: Node, partitions: int | None, default_partitions: int, initial: RDD[tuple[Any, Any]] | None) -> None:
        super().__init__((parent,), parent.slide_ms)
        self._is_given = partitions is not None
        self.partitions = default_partitions if partitions is None else partitions
        self._initial = initial

    def shape(self) -> dict[str, Any]:  # noqa: D102 (Node's)
        return {"partitions": self.partitions, "hash": hashed_by()}  # where keys are depends on both

    def restore(self, shape: dict[str, Any]) -> None:  # noqa: D102 (Node's)
        if not self._is_given:
            self.partitions = int(shape.get("partitions", self.partitions))  # another kind may have had the name

    def needed_from(self, time_ms: int) -> int:  # noqa: D102 (Node's)
        return time_ms - max(self.slide_ms, self.remember_ms)

    def stores(self, time_ms: int) -> dict[str, int]:  # noqa: D102 (Node's)
        return {self.name: self.needed_from(time_ms), self.name + INITIAL: time_ms}

    def keep(self, batch: Batch) -> None:  # noqa: D102 (Node's)
        if not batch.is_due(self):
            return
        rows = batch.rows(self.parents[0])
        before = self._before(batch)
        if rows is None and not self.goes_on_without_rows:
            if before is not None:
                self._run(batch, None, before, lambda state, _: state)
            return
        if before is None:
            begins(batch.store, self.name, batch.time_ms)
        self._run(batch, rows, before or self._begun(batch), self.task(batch))

    @abstractmethod
    def task(self, batch: Batch) -> Task:
        """Return what makes of a partition's file before, empty at first, and its blocks of pairs the file of this batch."""

    @abstractmethod
    def begin(self, batch: Batch) -> Task:
        """Return what makes a file of nothing and the blocks of the initial pairs."""

    def files(self, batch: Batch) -> Files:
        """Return where this batch's state is."""
        return Files(batch.store, self.name, batch.time_ms)

    def is_kept(self, batch: Batch) -> bool:
        """Tell whether there is a state of this batch."""
        return batch.time_ms in batch.store.times(self.name)

    def read(self, batch: Batch, pick: Callable[[bytes], Block], *, by_key: bool) -> Rows:
        """Return as rows what `pick` finds in each partition's file; `by_key`: pairs, where their keys belong."""
        files = self.files(batch)

        def run(index: int, there: Iterable[Any]) -> Iterator[Block]:
            for _ in there:  # one number; PySpark gives up a worker that has not read all of its input
                block = pick(files.read(index))
                yield from [block] if len(block) else []

        numbers = batch.context.parallelize(range(self.partitions), self.partitions)
        if by_key:
            numbers.partitioner = Partitioner(self.partitions, portable_hash)
        return of_blocks(numbers, run)

    def _before(self, batch: Batch) -> Files | None:
        time_ms = batch.time_ms - self.slide_ms
        if time_ms in batch.store.times(self.name):
            return Files(batch.store, self.name, time_ms)
        check_begins(batch.store, self.name, time_ms)
        return None

    def _begun(self, batch: Batch) -> Files | None:
        """Write the initial pairs down as a state, anew at each try."""
        if self._initial is None:
            return None
        stream = Files(batch.store, self.name + INITIAL, batch.time_ms)
        _write(placed(of_rdd(self._initial), self.partitions), None, stream, self.begin(batch))
        return stream

    def _run(self, batch: Batch, rows: Rows | None, before: Files | None, task: Task) -> None:
        if rows is None:
            numbers = batch.context.parallelize(range(self.partitions), self.partitions)
            blocks: RDD[Any] = numbers.filter(lambda _: False)
        else:
            blocks = placed(rows, self.partitions)
        _write(blocks, before, self.files(batch), task)


def _write(blocks: RDD[bytes], before: Files | None, after: Files, task: Task) -> None:
    def run(index: int, there: Iterable[bytes]) -> Iterator[None]:
        with _seldom_collected():
            after.write(index, task(b"" if before is None else before.read(index), list(map(decode, there))))
        return iter(())

    blocks.mapPartitionsWithIndex(run).collect()


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Look for garbage in cycles less often: a million states that are no cycles cost more to look at than to make."""
    before = gc.get_threshold()
    gc.set_threshold(MANY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def checked_partitions(partitions: int | None, kind: str) -> int | None:
    """Return a number of partitions that can be."""
    if partitions is None or (isinstance(partitions, int) and partitions > 0):
        return partitions
    raise StreamArgumentError(
        "define", "stream", kind, expected="one partition or more", got=repr(partitions), todo="leave numPartitions out, or give a number"
    )
