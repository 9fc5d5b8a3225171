"""`reduceByKeyAndWindow`: one job per batch reduces its rows, keeps them, and turns the last result into the next.

Picture: one partition, keys by ``portable_hash(key) % partitions``, so nothing moves but the batch's own rows.

    <name>/t-w-s+1 ... t-w     left       --+
    <name>.result/t-s          last result  +--> <name>.result/t     read by whoever asks for it
    <name>/t-s+1 ... t         entered    --+

The last result is used as `pyspark.streaming` uses it: with an inverse function, and when the window is at least five slides
long. Else all that is in the window is put together anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from spark_ext.dstream.batch import Batch
from spark_ext.dstream.columns.blocks import Block, decode, encode
from spark_ext.dstream.columns.combine import reduced
from spark_ext.dstream.graph import Node
from spark_ext.dstream.rows import Rows, of_blocks
from spark_ext.dstream.state.notes import Note, Notes, hashed_by, laid, left_content
from spark_ext.dstream.state.window_kernel import Function, KeepIf, filtered, folded, joined, turned
from spark_ext.dstream.store import Store

__all__ = ["ReducedWindowNode"]

RESULT: Final = ".result"  # no stream has such a name
INVERSE_FROM: Final = 5  # slides in a window; below, Spark reduces once rather than twice


class ReducedWindowNode(Node):
    """One pair per key that is in the window.

    Parameters
    ----------
    parent : Node
        Pairs.
    function, inverse : callable
        As in `reduceByKeyAndWindow`; without `inverse` each result is made anew.
    keep_if : callable or None
        The filter of pairs; used with an inverse function only, as in Spark.
    partitions : int or None
        None: what the checkpoint has, else `default_partitions`.

    State: the reduced rows of each batch for the length of the window and a slide, and the last results. Blocks, as columns
    where keys and values are simple.
    """

    kind = "reduceByKeyAndWindow"
    keeps = True
    needs_shared_store = True

    def __init__(
        self,
        parent: Node,
        function: Function,
        inverse: Function | None,
        keep_if: KeepIf | None,
        *,
        window_ms: int,
        slide_ms: int,
        partitions: int | None,
        default_partitions: int,
    ) -> None:
        super().__init__((parent,), slide_ms)
        self.needs_checkpoint = inverse is not None  # type: ignore[misc]  # of this object
        self._function = function
        self._inverse = inverse
        self._keep_if = keep_if if inverse is not None else None
        self._window_ms = window_ms
        self._is_given = partitions is not None
        self.partitions = default_partitions if partitions is None else partitions
        self._rows = Notes()
        self._results = Notes()

    def shape(self) -> dict[str, Any]:  # noqa: D102 (Node's)
        kept = {"window_ms": self._window_ms, "parent_slide_ms": self.parents[0].slide_ms}
        return {**kept, "partitions": self.partitions, "hash": hashed_by()}

    def restore(self, shape: dict[str, Any]) -> None:  # noqa: D102 (Node's)
        if not self._is_given:
            self.partitions = int(shape["partitions"])

    def needed_from(self, time_ms: int) -> int:  # noqa: D102 (Node's)
        return time_ms - self._window_ms - self.slide_ms

    def stores(self, time_ms: int) -> dict[str, int]:  # noqa: D102 (Node's)
        return {**super().stores(time_ms), self.name + RESULT: time_ms - max(self.slide_ms, self.remember_ms)}

    def keep(self, batch: Batch) -> None:  # noqa: D102 (Node's)
        if not batch.is_due(self.parents[0]):
            return
        rows = batch.rows(self.parents[0])
        is_known_empty = rows is not None and rows.is_nothing
        turn = self._turn(batch, has_rows=rows is not None) if batch.is_due(self) else None
        counts: list[tuple[int, int]] = []
        if turn is not None or not (rows is None or is_known_empty):
            work = _Work(batch.store, self.name, batch.time_ms, turn)
            counts = self._reduced(batch, None if is_known_empty else rows).over_blocks(work.run).collect()
        entered = None if rows is None else tuple(count for count, _ in counts) or (0,) * self.partitions
        self._note(batch, self._rows, self.name, Note(entered))
        if batch.is_due(self):
            result = None if turn is None else tuple(count for _, count in counts)
            self._note(batch, self._results, self.name + RESULT, Note(result, is_filtered=turn is None or turn.is_filtered))

    def compute(self, batch: Batch) -> Rows | None:  # noqa: D102 (Node's)
        note = self._results.read(batch.store, self.name + RESULT, batch.time_ms)
        if note is None or note.rows is None:
            return None
        files = [[(batch.time_ms, partition)] if rows else [] for partition, rows in enumerate(note.rows)]
        return laid(batch.context, batch.store, self.name + RESULT, files, hashed_by())

    def _reduced(self, batch: Batch, rows: Rows | None) -> Rows:
        if rows is not None:
            return reduced(rows, self._function, self.partitions)
        return of_blocks(batch.context.parallelize(range(self.partitions), self.partitions).filter(lambda _: False))

    def _note(self, batch: Batch, notes: Notes, stream: str, note: Note) -> None:
        notes.write(batch.store, stream, batch.time_ms, note, needed_from_ms=self.needed_from(batch.time_ms))

    def _turn(self, batch: Batch, *, has_rows: bool) -> _Turn | None:
        """Return what makes the result of this batch; None: there is none, as in Spark when no batch had an RDD."""
        now_ms, window_ms, slide_ms = batch.time_ms, self._window_ms, self.slide_ms
        inverse, keep_if, previous = self._inverse, self._keep_if, None
        if inverse is not None and window_ms >= INVERSE_FROM * slide_ms:
            previous = self._results.read(batch.store, self.name + RESULT, now_ms - slide_ms)
        if previous is None or previous.rows is None:
            entered = self._files(batch, now_ms - window_ms)
            if not entered and not has_rows and inverse is not None:
                return None
            return _Turn(self._function, None, keep_if, entered=tuple(entered))
        entered = self._files(batch, now_ms - slide_ms)
        return _Turn(
            self._function,
            inverse,
            keep_if,
            entered=tuple(entered),
            left=tuple(self._files(batch, now_ms - slide_ms - window_ms, now_ms - window_ms)),
            previous=(self.name + RESULT, now_ms - slide_ms, previous.rows),
            previous_is_filtered=previous.is_filtered,
            is_filtered=has_rows or bool(entered),
        )

    def _files(self, batch: Batch, after_ms: int, until_ms: int | None = None) -> list[_Files]:
        """Return what is there of the batches after one time until another, or until the batch before this."""
        step_ms = self.parents[0].slide_ms
        end_ms = batch.time_ms - step_ms if until_ms is None else until_ms
        times = range(after_ms + step_ms, end_ms + 1, step_ms)
        return [(self.name, time_ms, rows) for time_ms, rows, _ in self._rows.between(batch.store, self.name, times)]


_Files = tuple[str, int, tuple[int, ...]]  # stream, batch time, rows by partition


@dataclass(frozen=True, slots=True)
class _Turn:
    """How one result is made: from the last one, or, without, from all that entered."""

    function: Function
    inverse: Function | None
    keep_if: KeepIf | None
    entered: tuple[_Files, ...]
    left: tuple[_Files, ...] = ()
    previous: _Files | None = None
    previous_is_filtered: bool = True
    is_filtered: bool = True

    def result(self, read: Callable[[Iterable[_Files]], list[Block]], mine: Block) -> Block:
        """Return the result of one partition; `mine` are this batch's rows."""
        entered = folded([*read(self.entered), mine], self.function)
        keep_if = self.keep_if if self.is_filtered else None
        if self.previous is None or self.inverse is None:
            return entered if keep_if is None else filtered(entered, keep_if)
        previous = joined(read([self.previous]))
        after = turned(previous, folded(read(self.left), self.function), entered, self.function, self.inverse, keep_if)
        return after if keep_if is None or self.previous_is_filtered else filtered(after, keep_if)


@dataclass(frozen=True, slots=True)
class _Work:
    """What the task of a partition does in the one job of a batch."""

    store: Store
    stream: str
    time_ms: int
    turn: _Turn | None

    def run(self, index: int, blocks: Iterable[Block]) -> Iterator[tuple[int, int]]:
        """Write the batch's rows, and the result if one is due; give how many rows each has."""
        mine = joined(blocks)
        if len(mine):
            self.store.write(self.stream, self.time_ms, index, encode(mine))
        result: Block = []
        if self.turn is not None:
            result = self.turn.result(lambda files: list(self._read(index, files)), mine)
            if len(result):
                self.store.write(self.stream + RESULT, self.time_ms, index, encode(result))
        yield len(mine), len(result)

    def _read(self, index: int, files: Iterable[_Files]) -> Iterator[Block]:
        return (decode(left_content(self.store, stream, time_ms, index)) for stream, time_ms, rows in files if rows[index])
