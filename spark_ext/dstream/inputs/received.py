"""What a receiver has received, written down before a batch is planned with it."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from pyspark import SparkContext

from spark_ext.dstream.columns.blocks import Block, decode, encode, pack
from spark_ext.dstream.graph import InputNode
from spark_ext.dstream.rows import Rows, nothing, of_blocks
from spark_ext.dstream.store import Store
from spark_ext.errors import StateError

__all__ = ["ReceivingInput", "Segments", "segment_rows"]

SEGMENTS: Final = "segments"


class ReceivingInput(InputNode):
    """A stream whose rows are written down before they are planned: ``{"from": i, "to": j, "rows": n, ...}``, i and j numbers.

    Parameters
    ----------
    remembered_ms : callable
        How long the context remembers the rows of a batch.
    """

    needs_shared_store = True

    def __init__(self, slide_ms: int, *, remembered_ms: Callable[[], int]) -> None:
        super().__init__(slide_ms)
        self._remembered_ms = remembered_ms
        self._kept: deque[int] = deque()  # where the batches begin that are remembered

    def row_count(self, planned: Any) -> int:  # noqa: D102 (InputNode's)
        return int(planned["rows"])

    def finished(self, planned: Any) -> None:
        """Remove what no batch that is remembered, and none that may be tried again, reads."""
        self._kept.append(planned["from"])
        remembered = -(-max(self.remember_ms, self._remembered_ms()) // self.slide_ms)
        while len(self._kept) > remembered:
            self._kept.popleft()
        self.drop(self._kept[0])

    @abstractmethod
    def drop(self, before: int) -> None:
        """Remove what has a lower number."""


class Segments:
    """Numbered files, each a block of rows; safe from several threads.

    Guarantee: what `flush` has written is there after the process has been killed, and is in exactly one plan. After a
    failure of the machine it is there if the file system has kept it.

    Parameters
    ----------
    folder : str
        Absolute folder or URI that tasks reach as well.
    planned : dict or None
        The last plan that is done.
    """

    def __init__(self, folder: str, planned: dict[str, int] | None) -> None:
        self._store = Store(folder)
        self._lock = threading.Lock()
        self._open: list[Any] = []
        there = self._store.times(SEGMENTS)
        done = planned["to"] if planned else 0
        self._next = max([done, *(number + 1 for number in there)])
        self._first = done if planned else min(there, default=self._next)
        self._rows = {number: len(self._block(number)) for number in there if number >= self._first}

    def add(self, rows: Iterable[Any]) -> int:
        """Take in rows; return how many are not written down."""
        with self._lock:
            self._open.extend(rows)
            return len(self._open)

    def flush(self) -> None:
        """Write down what has been taken in; rows stay where they are if that fails."""
        with self._lock:
            if self._open:
                self._store.write(SEGMENTS, self._next, 0, encode(pack(self._open)))
                self._rows[self._next] = len(self._open)
                self._next += 1
                self._open = []

    def plan(self, planned: dict[str, int] | None) -> dict[str, int]:
        """Return ``{"from", "to", "rows"}``: all segments after those of the plan before, also what was taken in just now."""
        self.flush()
        with self._lock:
            first = planned["to"] if planned else self._first
            for number in [old for old in self._rows if old < first]:
                del self._rows[number]
            return {"from": first, "to": self._next, "rows": sum(self._rows.values())}

    def has_more(self, planned: dict[str, int] | None) -> bool:
        """Tell whether a plan made now would have rows."""
        with self._lock:
            return bool(self._open) or self._next > (planned["to"] if planned else self._first)

    def drop(self, before: int) -> None:
        """Remove the segments with lower numbers."""
        self._store.drop(SEGMENTS, before_ms=before)

    def _block(self, number: int) -> Block:
        return _segment(self._store, number)


def segment_rows(context: SparkContext, folder: str, planned: dict[str, int]) -> Rows:
    """Return the rows of a plan, in the order in which they came; segments share as many partitions as there are cores."""
    numbers = range(planned["from"], planned["to"])
    if not numbers:
        return nothing(context, 0)
    return of_blocks(context.parallelize(numbers, min(len(numbers), context.defaultParallelism)), _reader(Store(folder)))


def _reader(store: Store) -> Callable[[int, Iterable[int]], Iterator[Block]]:
    return lambda _, numbers: (_segment(store, number) for number in numbers)


def _segment(store: Store, number: int) -> Block:
    content = store.read(SEGMENTS, number, 0)
    if content is None:
        raise StateError(
            "read",
            "segment",
            f"{store.path}/{SEGMENTS}/{number}",
            expected="the file that was received",
            got="no file",
            why="a batch was planned with it",
            todo="restore it from a copy, or start with another checkpoint",
        )
    return decode(content)
