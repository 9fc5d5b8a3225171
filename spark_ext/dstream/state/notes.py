"""What a stream left at a batch time: a file per partition, and a note that says how many rows each has."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pyspark import SparkContext
from pyspark.core.rdd import Partitioner, portable_hash

from spark_ext.dstream.columns.blocks import Block, decode
from spark_ext.dstream.rows import Rows, of_blocks, of_rdd
from spark_ext.dstream.store import Store
from spark_ext.errors import StateError

__all__ = ["Note", "Notes", "begins", "check_begins", "hashed_by", "laid", "left_content", "placed_by"]

SINCE: Final = ".since"  # no stream has such a name
NOTE: Final = -1  # where the note is, beside partitions 0, 1, ...


@dataclass(frozen=True, slots=True)
class Note:
    """About one stream at one batch time.

    Attributes
    ----------
    rows : tuple of int or None
        By partition; None: the stream had no RDD.
    placed : str or None
        What says in which partition a key is: `hashed_by` for `portable_hash`, else the name of the function.
    is_filtered : bool
        Whether each row has passed the filter of its window.
    """

    rows: tuple[int, ...] | None
    placed: str | None = None
    is_filtered: bool = True


class Notes:
    """The notes of one stream; each is written once and read once, then known."""

    def __init__(self) -> None:
        self._known: dict[int, Note | None] = {}
        self._begins = False

    def write(self, store: Store, stream: str, time_ms: int, note: Note, *, needed_from_ms: int) -> None:
        """Write a note, after the files that it is about; forget those before `needed_from_ms`."""
        if not self._begins:
            begins(store, stream, time_ms)
            self._begins = True
        content = {"rows": note.rows, "placed": note.placed, "is_filtered": note.is_filtered}
        store.write(stream, time_ms, NOTE, json.dumps(content).encode())
        self._known[time_ms] = note
        for old_ms in [old_ms for old_ms in self._known if old_ms < needed_from_ms]:
            del self._known[old_ms]

    def read(self, store: Store, stream: str, time_ms: int) -> Note | None:
        """Return the note of a batch time; None before the first. A StateError if it is gone."""
        if time_ms not in self._known:
            content = store.read(stream, time_ms, NOTE)
            if content is None:
                check_begins(store, stream, time_ms)
            self._known[time_ms] = None if content is None else _note(json.loads(content))
        return self._known[time_ms]

    def between(self, store: Store, stream: str, times: Iterable[int]) -> list[tuple[int, tuple[int, ...], Note]]:
        """Return time, rows and note of those times at which there was an RDD."""
        found = ((time_ms, self.read(store, stream, time_ms)) for time_ms in times)
        return [(time_ms, note.rows, note) for time_ms, note in found if note is not None and note.rows is not None]


def begins(store: Store, stream: str, time_ms: int) -> None:
    """Write down, unless it is, that a stream leaves something at each of its batch times from this one on."""
    if not store.times(stream + SINCE):
        store.write(stream + SINCE, time_ms, 0, b"")


def check_begins(store: Store, stream: str, time_ms: int) -> None:
    """Refuse that a stream has left nothing at a batch time, unless it is before its first.

    Raises
    ------
    StateError
        Somebody has removed it.
    """
    if all(since_ms > time_ms for since_ms in store.times(stream + SINCE)):
        return
    raise StateError(
        "continue",
        "stream",
        stream,
        expected=f"what the batch at {time_ms} ms left in the checkpoint",
        got="nothing",
        why="somebody removed it, or another program runs with this checkpoint and is ahead",
        todo="let one program run at a time; if it was removed, restore the checkpoint from a copy, or start with another one",
    )


def hashed_by() -> str:
    """Say what a key's `portable_hash` depends on: another Python, or another seed, has other partitions for the same keys."""
    return f"{sys.hash_info.algorithm} {os.environ.get('PYTHONHASHSEED', '0')}"


def placed_by(rows: Rows) -> str | None:
    """Return what placed keys in their partitions, as in a note; None if nothing did."""
    if rows.base.partitioner is None or not rows.keeps_places:
        return None
    function = rows.base.partitioner.partitionFunc
    if function is portable_hash:
        return hashed_by()
    return f"{function.__module__}.{getattr(function, '__qualname__', function)}"


def left_content(store: Store, stream: str, time_ms: int, partition: int) -> bytes:
    """Return the file of one partition: one encoded block.

    Raises
    ------
    StateError
        The file is not there.
    """
    content = store.read(stream, time_ms, partition)
    if content is not None:
        return content
    raise StateError(
        "read",
        "rows of stream",
        stream,
        expected=f"partition {partition} of the batch at {time_ms} ms",
        got="no file",
        why="rows are kept for the windows that they are in, and as long as the stream remembers",
        todo="use an RDD within its batch, or let remember() keep it longer; if nobody did, restore the checkpoint",
    )


def laid(context: SparkContext, store: Store, stream: str, parts: Sequence[Sequence[tuple[int, int]]], placed: str | None) -> Rows:
    """Return what is in the store as rows, lazily.

    Parameters
    ----------
    parts : sequence of sequences of (int, int)
        For each partition of the rows, batch time and partition of each file that is in it.
    placed : str or None
        What placed the keys, as in a note.
    """
    if not parts:
        return of_rdd(context.emptyRDD())

    def read(_: int, there: Iterable[Sequence[tuple[int, int]]]) -> Iterator[Block]:
        for files in there:  # one list; PySpark gives up a worker that has not read all of its input
            for time_ms, partition in files:
                yield decode(left_content(store, stream, time_ms, partition))

    base = context.parallelize(parts, len(parts))
    if placed == hashed_by():
        base.partitioner = Partitioner(len(parts), portable_hash)
    return of_blocks(base, read)


def _note(content: dict[str, Any]) -> Note:
    rows = content["rows"]
    return Note(None if rows is None else tuple(rows), content["placed"], content["is_filtered"])
