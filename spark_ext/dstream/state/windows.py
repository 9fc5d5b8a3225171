"""`window`: the rows of the last batches, from the store.

Picture: time, for a window of three batches.

    rows     1    2    3    4          written by the first job of their batch
    window   1    12   123  234        read by whoever asks for it
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from spark_ext.dstream.batch import Batch
from spark_ext.dstream.columns.blocks import Block, encode
from spark_ext.dstream.errors import StreamArgumentError
from spark_ext.dstream.graph import Node
from spark_ext.dstream.rows import Rows
from spark_ext.dstream.state.notes import Note, Notes, laid, placed_by
from spark_ext.dstream.state.window_kernel import joined
from spark_ext.dstream.store import Store

__all__ = ["WindowNode", "checked_window"]

MULTIPLE: Final = "Duration must be multiple of the parent dstream's slide (batch) duration"
NO_LENGTH: Final = "a window of no length has nothing in it, and one that does not move is never due"


class WindowNode(Node):
    """The union of the parent's rows since `window_ms` before, in the order of time.

    State: the parent's rows as blocks, one file per partition and batch, for the length of the window.
    """

    kind = "window"
    keeps = True
    needs_shared_store = True

    def __init__(self, parent: Node, window_ms: int, slide_ms: int) -> None:
        super().__init__((parent,), slide_ms)
        self._window_ms = window_ms
        self._notes = Notes()

    def shape(self) -> dict[str, Any]:  # noqa: D102 (Node's)
        return {"window_ms": self._window_ms, "parent_slide_ms": self.parents[0].slide_ms}

    def needed_from(self, time_ms: int) -> int:  # noqa: D102 (Node's)
        return time_ms - self._window_ms - max(self.slide_ms, self.remember_ms)

    def keep(self, batch: Batch) -> None:  # noqa: D102 (Node's)
        parent = self.parents[0]
        if not batch.is_due(parent):
            return
        note = self._left(batch, batch.rows(parent))
        self._notes.write(batch.store, self.name, batch.time_ms, note, needed_from_ms=self.needed_from(batch.time_ms))
        if note.rows and parent.storage_level is None:  # computed once, whoever else wants it
            files = [[(batch.time_ms, partition)] if rows else [] for partition, rows in enumerate(note.rows)]
            batch.replace(parent, laid(batch.context, batch.store, self.name, files, note.placed))

    def compute(self, batch: Batch) -> Rows:  # noqa: D102 (Node's)
        step_ms = self.parents[0].slide_ms
        times = range(batch.time_ms - self._window_ms + step_ms, batch.time_ms + 1, step_ms)
        there = [found for found in self._notes.between(batch.store, self.name, times) if found[1]]
        alike = {(len(rows), note.placed) for _, rows, note in there}
        placed = next(iter(alike))[1] if len(alike) == 1 else None
        if placed is None:
            files = [[(time_ms, partition)] if count else [] for time_ms, rows, _ in there for partition, count in enumerate(rows)]
        else:  # as Spark lays rows together that are placed by the same function
            files = [[(time_ms, partition) for time_ms, rows, _ in there if rows[partition]] for partition in range(len(there[0][1]))]
        return laid(batch.context, batch.store, self.name, files, placed)

    def _left(self, batch: Batch, rows: Rows | None) -> Note:
        if rows is None:
            return Note(None)
        if rows.is_nothing:
            return Note((0,) * rows.base.getNumPartitions())
        counts = rows.over_blocks(_writing(batch.store, self.name, batch.time_ms)).collect()
        return Note(tuple(counts), placed_by(rows))


def checked_window(window_s: float, slide_s: float | None, parent: Node, kind: str) -> tuple[int, int]:
    """Return window and slide in ms.

    Raises
    ------
    StreamArgumentError
        They are no multiples of the parent's slide, or not longer than nothing.
    """
    step_ms = parent.slide_ms
    slide_ms = step_ms if slide_s is None else int(slide_s * 1000)
    for word, given, ms in (("window", window_s, int(window_s * 1000)), ("slide", slide_s, slide_ms)):
        if ms > 0 and ms % step_ms == 0:
            continue
        raise StreamArgumentError(
            "define",
            "stream",
            kind,
            expected=f"{word}Duration as a multiple of {step_ms / 1000:g} s, at least one",
            got=f"{given!r} s",
            why=f"{word}{MULTIPLE} ({step_ms} ms)" if ms % step_ms else NO_LENGTH,
            todo=f"give {word}Duration in seconds, such as {step_ms / 1000:g}",
        )
    return int(window_s * 1000), slide_ms


def _writing(store: Store, stream: str, time_ms: int) -> Any:
    def run(index: int, blocks: Iterable[Block]) -> Iterator[int]:
        block = joined(blocks)
        if len(block):
            store.write(stream, time_ms, index, encode(block))
        yield len(block)

    return run
