"""`DStream.from_dataframe`: the rows of a streaming DataFrame, by a query of its own that writes them down."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal

import pyarrow as pa
from pyspark.sql import DataFrame

from spark_ext import queries
from spark_ext.dstream.batch import Batch
from spark_ext.dstream.columns.blocks import BLOCK_ROWS, Block, decode, encode
from spark_ext.dstream.inputs.arrow import tuple_rows
from spark_ext.dstream.inputs.received import ReceivingInput
from spark_ext.dstream.rows import Rows, nothing, of_blocks
from spark_ext.dstream.store import Store
from spark_ext.errors import QueryError, StateError
from spark_ext.queries import Checkpoint, Query

__all__ = ["FrameInput", "OutputMode"]

OutputMode = Literal["append", "update", "complete"]
ROWS: Final = "rows"
MADE: Final = "made"
LEAST_S: Final = 0.001  # Spark takes no 0


class FrameInput(ReceivingInput):
    """Plans: ``{"from": i, "to": j, "rows": n, "blocks": [[batch, number], ...]}``, batches of the query that Spark has noted as done.

    Guarantee: each row of the DataFrame is in exactly one batch, after any crash: the query has a checkpoint of its own in that of
    the program, and a batch of it that is replayed replaces its files, which nobody has read yet. So the DataFrame must come from a
    source that can be replayed, and its plan must be deterministic, as for any exactly-once sink.

    Parameters
    ----------
    frame : DataFrame
        A streaming one.
    output_mode : {"append", "update", "complete"}
        Of its query.
    """

    kind = "from_dataframe"

    def __init__(self, frame: DataFrame, slide_ms: int, *, output_mode: OutputMode, remembered_ms: Callable[[], int]) -> None:
        super().__init__(slide_ms, remembered_ms=remembered_ms)
        self._frame = frame
        self._output_mode: OutputMode = output_mode
        self._store = Store("")
        self._checkpoint: Checkpoint | None = None
        self._query: Query | None = None
        self._stopped = False

    def start(self, folder: str, planned: Any | None) -> None:  # noqa: D102 (InputNode's)
        self._store = Store(folder)
        if planned is not None:
            self.drop(planned["from"])
        self._checkpoint = Checkpoint.claim(f"{folder}/receiver", pipeline=f"dstream/{self.name}", sources=[])
        self._query = queries.start(self._frame, self._write, checkpoint=self._checkpoint, output_mode=self._output_mode, every="0 seconds")

    def plan(self, planned: Any | None, time_ms: int) -> dict[str, Any]:
        """Return what the query has finished; raises what ended it."""
        self._check()
        first, end = self._first(planned), self._end()
        made = [self._made(number) for number in range(first, end)]
        return {
            "from": first,
            "to": max(first, end),
            "rows": sum(one["rows"] for one in made),
            "blocks": [[number, block] for number, one in zip(range(first, end), made, strict=True) for block in one["blocks"]],
        }

    def has_news(self, planned: Any | None) -> bool:  # noqa: D102 (InputNode's)
        return self._end() > self._first(planned) or self._has_failed()

    def compute(self, batch: Batch) -> Rows:  # noqa: D102 (Node's)
        blocks = batch.plan.inputs[self.name]["blocks"]
        if not blocks:
            return nothing(batch.context, 0)
        shares = min(len(blocks), batch.context.defaultParallelism)
        return of_blocks(batch.context.parallelize(blocks, shares), _reader(self._store))

    def drop(self, before: int) -> None:  # noqa: D102 (ReceivingInput's)
        for name in (MADE, ROWS):
            self._store.drop(name, before_ms=before)

    def stop(self, *, graceful: bool) -> None:
        """Stop the query between two of its batches; what it has finished is in the next batch, if need be after a restart."""
        self._stopped = True
        if self._query is not None:
            self._query.stop()

    def _write(self, batch: queries.Batch) -> None:
        """Write a batch of the query: blocks by the tasks, then which of them count."""
        number = batch.batch_id
        rows = tuple_rows(batch.rows)
        write = _writer(self._store, number, rows.base.getNumPartitions())
        written = rows.over_blocks(write, packs=False).collect()
        told = {"rows": sum(count for _, count in written), "blocks": [block for block, _ in written]}
        self._store.write(MADE, number, 0, json.dumps(told).encode())

    def _check(self) -> None:
        if self._query is None or self._stopped:
            return
        if self._query.await_end(LEAST_S):
            raise QueryError(
                "read",
                "stream",
                self.site,
                expected="the query of its DataFrame to run",
                got="one that somebody has stopped",
                why="nothing would come any more",
                todo="start again from the checkpoint; only the context is to be stopped",
            )

    def _has_failed(self) -> bool:
        return self._query is not None and not self._stopped and not self._query.is_active()

    def _first(self, planned: Any | None) -> int:
        return int(planned["to"]) if planned else 0

    def _end(self) -> int:
        done = self._checkpoint.last_committed() if self._checkpoint else None
        return 0 if done is None else done + 1

    def _made(self, number: int) -> dict[str, Any]:
        content = self._store.read(MADE, number, 0)
        if content is None:
            raise _gone(self._store, f"{MADE}/{number}")
        made: dict[str, Any] = json.loads(content)
        return made


def _writer(store: Store, number: int, partitions: int) -> Callable[[int, Iterable[Block]], Iterator[tuple[int, int]]]:
    """Return what writes a partition's blocks, some put together, and gives number and rows of each: n, n + partitions, ..."""

    def write(index: int, blocks: Iterable[Block]) -> Iterator[tuple[int, int]]:
        place = index
        for block in _joined(blocks):
            store.write(ROWS, number, place, encode(block))
            yield place, len(block)
            place += partitions

    return write


def _joined(blocks: Iterable[Block]) -> Iterator[Block]:
    """Return the same rows in blocks of about `BLOCK_ROWS`; none without rows."""
    some: list[Block] = []
    for block in blocks:
        if len(block):
            some.append(block)
        if sum(map(len, some)) >= BLOCK_ROWS:
            yield _one(some)
            some = []
    if some:
        yield _one(some)


def _one(blocks: list[Block]) -> Block:
    """Return blocks of one partition, which are all columns or all lists, as one."""
    if isinstance(blocks[0], pa.Array):
        return pa.concat_arrays(blocks)
    return [row for block in blocks for row in block]


def _reader(store: Store) -> Callable[[int, Iterable[tuple[int, int]]], Iterator[Block]]:
    def read(_: int, blocks: Iterable[tuple[int, int]]) -> Iterator[Block]:
        for number, place in blocks:
            content = store.read(ROWS, number, place)
            if content is None:
                raise _gone(store, f"{ROWS}/{number}/{place}")
            yield decode(content)

    return read


def _gone(store: Store, name: str) -> StateError:
    return StateError(
        "read",
        "rows of a streaming DataFrame in",
        f"{store.path}/{name}",
        expected="the file that its query has written",
        got="no file",
        why="a batch needs it",
        todo="restore it from a copy, or start with another checkpoint",
    )
