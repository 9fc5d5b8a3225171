"""The two stages of an aggregation in Python workers: partial states of a task's rows, then the states of each key merged.

    batches of rows --- Partial ---> few rows (label of a part, blob) --- shuffle --- Merged ---> one row per key
                        keys and states of a task,                       all blobs of a part
                        packed by the part that a key belongs to

No row is a Python object, no row is shuffled; which part a key belongs to follows from its hash alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sketches import Sketch, hashes
from sketches.base import StateSketch
from sketches.numbered import Numbered
from sketches.places import Places
from spark_ext.sketching.measure import SketchOf
from spark_ext.state.buckets import labels
from spark_ext.state.codec import to_ipc
from spark_ext.state.keys import flat, whole
from spark_ext.state.packing import BLOB, PACKED
from spark_ext.state.segments import group
from spark_ext.windows.aggregates.aggregate import Aggregate
from spark_ext.workers import settle

__all__ = ["Layout", "Merged", "Partial"]

BLOCK_ROWS: Final = 1 << 19  # rows that are grouped at once
BLOCK_BYTES: Final = 64 << 20
OUT_KEYS: Final = 1 << 13  # keys that are packed, or given out, at once
OUT_BYTES: Final = 1 << 28  # fewer keys, if their sketches may be more than this: an Arrow array of binary ends at 2 GiB
PRIME: Final = np.uint64(0x9E3779B185EBCA87)
NULL: Final = np.uint64(42)


@dataclass(frozen=True, slots=True)
class Layout:
    """What comes in, what is kept of each key, what goes out; columns go by place, as users' names may be anything.

    Attributes
    ----------
    keys : pa.Schema
        Key columns, ``k0``, ``k1``, ...
    rows : pa.Schema
        What the aggregates read, by the names that they read it by.
    aggregates : tuple of Aggregate
        What is computed.
    """

    keys: pa.Schema
    rows: pa.Schema
    aggregates: tuple[Aggregate, ...]
    types: dict[str, pa.DataType] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", {column.name: column.type for column in self.rows})

    @property
    def wire(self) -> pa.Schema:
        """Columns that cross to Python: keys, then ``c0``, ``c1``, ..."""
        return pa.schema([*self.keys, *(pa.field(f"c{at}", kind) for at, kind in enumerate(self.rows.types))])

    @property
    def states(self) -> pa.Schema:
        """Columns that cross between the stages: keys, then the states of all aggregates."""
        kinds = [kind for one in self.aggregates for kind in one.state(self.types)]
        return pa.schema([*self.keys, *(pa.field(f"s{at}", kind) for at, kind in enumerate(kinds))])

    @property
    def results(self) -> pa.Schema:
        """Columns that go out: keys, then ``r0``, ``r1``, ..."""
        kinds = [one.result(self.types) for one in self.aggregates]
        return pa.schema([*self.keys, *(pa.field(f"r{at}", kind) for at, kind in enumerate(kinds))])

    def begin(self, salt: int) -> Accumulated:
        """Return what is kept of no rows; sketches draw other random numbers for another `salt`."""
        return Accumulated(self, salt)


class Accumulated:
    """Keys, and a state of each aggregate for each of them; grows with rows, or with states of others."""

    def __init__(self, layout: Layout, salt: int) -> None:
        self._layout = layout
        self._places = Places() if len(layout.keys) else None
        self._distinct: list[pa.Array] = []
        self._kept: list[_Kept] = []
        for one in layout.aggregates:
            self._kept.append(_Sketches(one, salt) if isinstance(one, SketchOf) else _Columns(one, layout.types))
        self._count = 0
        if self._places is None:
            self._grow(1)  # one group, also without rows

    def __len__(self) -> int:
        return self._count

    def spans(self) -> Iterator[tuple[int, int]]:
        """Yield first key and end of those that are packed, or given out, at once."""
        templates = [one.template for one in self._layout.aggregates if isinstance(one, SketchOf)]
        most = sum(template.state.nbytes for template in templates if isinstance(template, StateSketch))
        step = max(1, min(OUT_KEYS, OUT_BYTES // max(1, most)))
        for start in range(0, self._count, step):
            yield start, min(start + step, self._count)

    def take(self, rows: pa.Table) -> None:
        """Take rows of `Layout.wire`."""
        numbers = self._numbers(rows)
        at = len(self._layout.keys)
        columns = {name: whole(rows.column(at + place)) for place, name in enumerate(self._layout.rows.names)}
        for kept in self._kept:
            kept.take(numbers, columns)

    def merge(self, states: pa.Table) -> None:
        """Take states of `Layout.states`."""
        numbers = self._numbers(states)
        at = len(self._layout.keys)
        for kept in self._kept:
            kept.merge(numbers, [whole(column) for column in states.columns[at : at + kept.width]])
            at += kept.width

    def keys(self, start: int, stop: int) -> list[pa.Array]:
        """Return the key columns of some keys."""
        if self._places is not None and not self._distinct:
            flat = iter(self._places.columns())
            self._distinct = [_rebuilt(kind, flat) for kind in self._layout.keys.types]
        return [column.slice(start, stop - start) for column in self._distinct]

    def states(self, start: int, stop: int) -> pa.Table:
        """Return some keys and their states."""
        columns = [*self.keys(start, stop), *(column for kept in self._kept for column in kept.states(start, stop))]
        return pa.Table.from_arrays(columns, schema=self._layout.states)

    def results(self, start: int, stop: int) -> pa.RecordBatch:
        """Return some keys and their results."""
        results = [kept.aggregate.finish(kept.states(start, stop), self._layout.types) for kept in self._kept]
        return pa.RecordBatch.from_arrays([*self.keys(start, stop), *results], schema=self._layout.results)

    def _numbers(self, rows: pa.Table) -> NDArray[np.int64]:
        """Return the number of each row's key; new keys get the next ones."""
        if self._places is None:
            return np.zeros(len(rows), np.int64)
        found = self._places.numbers(*(part for column in rows.columns[: len(self._layout.keys)] for part in flat(whole(column))))
        if len(self._places) > self._count:
            self._grow(len(self._places))
            self._distinct = []
        return found

    def _grow(self, count: int) -> None:
        self._count = count
        for kept in self._kept:
            kept.grow(count)


class _Sketches:
    """The sketches of one measure."""

    width: Final = 1

    def __init__(self, aggregate: SketchOf, salt: int) -> None:
        self.aggregate = aggregate
        self._made: Numbered[Sketch] = aggregate.numbered(salt, 0)

    def grow(self, count: int) -> None:
        self._made.grow(count)

    def take(self, numbers: NDArray[np.int64], columns: Mapping[str, pa.Array]) -> None:
        self.aggregate.take(self._made, numbers, columns)

    def merge(self, numbers: NDArray[np.int64], states: Sequence[pa.Array]) -> None:
        self.aggregate.merge_into(self._made, numbers, states[0])

    def states(self, start: int, stop: int) -> list[pa.Array]:
        return [self._made.to_stored(start, stop)]


class _Columns:
    """The states of an aggregate that keeps them as columns."""

    def __init__(self, aggregate: Aggregate, types: Mapping[str, pa.DataType]) -> None:
        self.aggregate, self._types = aggregate, types
        self._states = aggregate.identity(types, 0)
        self.width = len(self._states)

    def grow(self, count: int) -> None:
        more = self.aggregate.identity(self._types, count - len(self._states[0]))
        self._states = [pa.concat_arrays(list(pair)) for pair in zip(self._states, more, strict=True)]

    def take(self, numbers: NDArray[np.int64], columns: Mapping[str, pa.Array]) -> None:
        if len(numbers):
            order, segments = group(numbers)
            taken = pa.array(order)
            rows = {name: columns[name].take(taken) for name in self.aggregate.inputs}
            none = pa.array(np.zeros(len(order), np.int64))  # of no event time
            self.merge(numbers[order][segments.starts], self.aggregate.of_rows(rows, none, segments))

    def merge(self, numbers: NDArray[np.int64], states: Sequence[pa.Array]) -> None:
        order, segments = group(np.concatenate([np.arange(len(self._states[0])), numbers]))
        taken = pa.array(order)
        both = [pa.concat_arrays(list(pair)).take(taken) for pair in zip(self._states, states, strict=True)]
        self._states = self.aggregate.merge(both, segments)

    def states(self, start: int, stop: int) -> list[pa.Array]:
        return [column.slice(start, stop - start) for column in self._states]


_Kept = _Sketches | _Columns


@dataclass(frozen=True, slots=True)
class Partial:
    """The first stage: a task's rows become states of its keys. Sent to workers."""

    layout: Layout
    parts: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield (label, blob); holds a block of rows and the states of the task's keys."""
        kept: Accumulated | None = None
        for rows in _blocks(batches, self.layout.wire):
            if kept is None:  # other random numbers in each task, and for other keys: those of the next minute may have equal values
                salt = np.add.reduce(_hashes(self._keys(rows), len(rows)), initial=np.uint64(_task()))
                kept = self.layout.begin(int(salt))
            kept.take(rows)
        kept = self.layout.begin(_task()) if kept is None else kept
        for start, stop in kept.spans():
            yield self._packed(kept.states(start, stop))
        settle()

    def _keys(self, rows: pa.Table) -> list[pa.Array]:
        return [whole(column) for column in rows.columns[: len(self.layout.keys)]]

    def _packed(self, states: pa.Table) -> pa.RecordBatch:
        parts = (_hashes(self._keys(states), len(states)) >> np.uint64(32)).astype(np.int64) % self.parts  # the same in every task
        order, segments = group(parts)
        if len(segments) > 1:
            states = states.take(pa.array(order))
        numbers = parts[order][segments.starts]
        blobs = [bytes(to_ipc(states.slice(start, size))) for start, size in zip(segments.starts, segments.sizes, strict=True)]
        return pa.record_batch([pa.array(labels(self.parts)[numbers]), pa.array(blobs, pa.binary())], schema=PACKED)


@dataclass(frozen=True, slots=True)
class Merged:
    """The second stage: all states of the keys of some parts become results. Sent to workers."""

    layout: Layout

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield `Layout.results`, each key once; without keys one row, also where no task has sent anything."""
        kept = self.layout.begin(0)
        for batch in batches:
            for blob in batch.column(BLOB):
                kept.merge(pa.ipc.open_stream(blob.as_buffer()).read_all())
        for start, stop in kept.spans():
            yield kept.results(start, stop)
        settle()


def _blocks(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        held.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= BLOCK_ROWS or size >= BLOCK_BYTES:
            yield _as(pa.Table.from_batches(held), schema)
            held, rows, size = [], 0, 0
    if rows:
        yield _as(pa.Table.from_batches(held), schema)


def _as(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return rows in our types: the session's time zone is not ours."""
    return rows if rows.schema.types == schema.types else rows.cast(schema)


def _hashes(keys: Sequence[pa.Array], count: int) -> NDArray[np.uint64]:
    """Return a hash of each key, the same in every task."""
    found = np.zeros(count, np.uint64)
    for column in (part for key in keys for part in flat(key)):
        mixed = np.full(count, NULL, np.uint64)
        present = column.is_valid().to_numpy(zero_copy_only=False)
        if present.any():
            values = column.drop_null()
            mixed[present] = hashes(_plain(values))
        found = (found ^ mixed) * PRIME
    return found


def _plain(values: pa.Array) -> pa.Array:
    """Return values of a type that has hashes."""
    if pa.types.is_decimal(values.type):
        return values.cast(pa.string())
    return values.cast(pa.int64()) if pa.types.is_time64(values.type) else values


def _rebuilt(kind: pa.DataType, columns: Iterator[pa.Array]) -> pa.Array:
    """Return the column that `flat` took apart."""
    column = next(columns)
    if not pa.types.is_struct(kind):
        return column
    return pa.StructArray.from_arrays([_rebuilt(field.type, columns) for field in kind], fields=list(kind), mask=pc.invert(column))


def _task() -> int:
    from pyspark import TaskContext  # noqa: PLC0415 (there is one in workers only)

    context = TaskContext.get()
    return 0 if context is None else context.partitionId() + 1
