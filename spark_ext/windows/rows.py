"""What every window kernel does with rows and keys, whatever its windows are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spark_ext.state.bounds import event_times
from spark_ext.state.kernel import FOREVER_US, NEVER_US
from spark_ext.state.keys import codes, normalised, whole
from spark_ext.state.segments import Segments
from spark_ext.windows.aggregates.aggregate import Aggregate

__all__ = ["EVENT", "FINAL", "INVALID", "LATE", "MISSED", "OUTSIDE_TAG", "WINDOW", "Keyed", "Layout", "bounds", "lateness"]

WINDOW: Final = "window"  # a tag, and the column with a window's bounds
LATE: Final = "late"
INVALID: Final = "invalid"
OUTSIDE_TAG: Final = "outside"
EVENT: Final = "event"
FINAL: Final = "is_final"
MISSED: Final = ("lateness_ms", "missed", "windows")  # what a late row has beside its event
STAMP: Final = pa.timestamp("us", "UTC")
BOUNDS: Final = pa.struct([("start", STAMP), ("end", STAMP)])


@dataclass(frozen=True, slots=True)
class Keyed:
    """Distinct keys, and which of them each row has.

    Attributes
    ----------
    keys : pa.Table (k,)
        Key columns; those that were known come first, in their order.
    index : ndarray (n,) int64
        Key of each row.
    """

    keys: pa.Table
    index: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns of a windowed aggregation: what comes in, what is kept, what goes out.

    Parameters
    ----------
    in_schema : pa.Schema
        Columns of the rows.
    keys : tuple of str
        Columns to group by; may be empty.
    time : str
        Column of event time, a time stamp in microseconds.
    aggregates : tuple of (str, Aggregate)
        Name of each result, and how it comes about.
    earliest_us, latest_us : int
        Event times outside of these bounds are absurd, and their rows invalid.

    Attributes
    ----------
    types : dict of str to pa.DataType
        Type of each column of the rows.
    key_schema : pa.Schema
        The key columns.
    """

    in_schema: pa.Schema
    keys: tuple[str, ...]
    time: str
    aggregates: tuple[tuple[str, Aggregate], ...]
    earliest_us: int
    latest_us: int
    # Asked for in every call of every bucket.
    types: dict[str, pa.DataType] = field(init=False, repr=False, compare=False)
    key_schema: pa.Schema = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        types = {column.name: column.type for column in self.in_schema}
        object.__setattr__(self, "types", types)
        object.__setattr__(self, "key_schema", pa.schema([pa.field(name, types[name]) for name in self.keys]))

    @property
    def state_fields(self) -> list[pa.Field]:
        """State columns of all aggregates, ``a<aggregate>_<column>``."""
        return [
            pa.field(f"a{at}_{column}", kind)
            for at, (_, aggregate) in enumerate(self.aggregates)
            for column, kind in enumerate(aggregate.state(self.types))
        ]

    @property
    def out_schema(self) -> dict[str, pa.Schema]:
        """Columns of each tag."""
        event = pa.field(EVENT, pa.struct(list(self.in_schema)))
        keys, bounds = list(self.key_schema), pa.field(WINDOW, BOUNDS)
        results = [pa.field(name, aggregate.result(self.types)) for name, aggregate in self.aggregates]
        missed = [pa.field(name, kind) for name, kind in zip(MISSED, (pa.int64(), pa.int32(), pa.int32()), strict=True)]
        return {
            WINDOW: pa.schema([*keys, bounds, *results, pa.field(FINAL, pa.bool_())]),
            LATE: pa.schema([*keys, bounds, event, *missed]),
            INVALID: pa.schema([*keys, event]),
            OUTSIDE_TAG: pa.schema([*keys, event]),
        }

    def times(self, rows: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return event times in microseconds, and which of them are there and not absurd."""
        return event_times(rows.column(self.time), self.earliest_us, self.latest_us)

    def keyed(self, known: pa.Table, rows: pa.Table) -> Keyed:
        """Find the key of each row among the known ones, or add it to them."""
        if not self.keys:
            return Keyed(pa.table({}), np.zeros(len(rows), np.int64))
        columns = [pa.concat_arrays([*known.column(name).chunks, *rows.column(name).chunks]) for name in self.keys]
        found = codes(columns)
        highest = np.maximum.accumulate(found) if len(found) else found
        first = np.flatnonzero(np.diff(highest, prepend=-1) > 0)
        keys = pa.table([normalised(column.take(pa.array(first))) for column in columns], schema=self.key_schema)
        return Keyed(keys, found[len(known) :])

    def of_rows(self, rows: pa.Table, times: NDArray[np.int64], order: NDArray[np.int64], segments: Segments) -> list[pa.Array]:
        """Return the state columns of groups of rows.

        Parameters
        ----------
        rows, times
            The rows and their event times, before ordering.
        order : ndarray (n,) int64
            Brings rows of a group together.
        segments : Segments
            The groups.
        """
        taken = pa.array(order)
        needed = {name for _, aggregate in self.aggregates for name in aggregate.inputs}
        columns = {name: whole(rows.column(name).take(taken)) for name in needed}
        ordered = pa.array(times[order])
        return [
            column
            for _, aggregate in self.aggregates
            for column in aggregate.of_rows({name: columns[name] for name in aggregate.inputs}, ordered, segments)
        ]

    def merge(self, states: Sequence[pa.Array], segments: Segments) -> list[pa.Array]:
        """Return the state columns of segments of states."""
        return [column for aggregate, part in self._parts(states) for column in aggregate.merge(part, segments)]

    def identity(self, groups: int) -> list[pa.Array]:
        """Return the state columns of groups without rows."""
        return [column for _, aggregate in self.aggregates for column in aggregate.identity(self.types, groups)]

    def results(self, states: Sequence[pa.Array]) -> dict[str, pa.Array]:
        """Return the results of groups by name."""
        names = [name for name, _ in self.aggregates]
        return {name: aggregate.finish(part, self.types) for name, (aggregate, part) in zip(names, self._parts(states), strict=True)}

    def windows(
        self, keys: pa.Table, starts: NDArray[np.int64], ends: NDArray[np.int64], states: Sequence[pa.Array], *, final: bool
    ) -> pa.Table:
        """Return output rows of windows: their keys, bounds and results."""
        columns = {
            **{name: keys.column(name) for name in self.keys},
            WINDOW: bounds(starts, ends),
            **self.results(states),
            FINAL: pa.repeat(pa.scalar(final), len(starts)),
        }
        return pa.table(columns, schema=self.out_schema[WINDOW])

    def rejected(self, rows: pa.Table, **more: pa.Array) -> pa.Table:
        """Return output rows for rows that are not accepted: their keys, the whole event, and `more`."""
        event = pa.StructArray.from_arrays([whole(column) for column in rows.columns], fields=list(self.in_schema))
        return pa.table({**{name: rows.column(name) for name in self.keys}, **more, EVENT: event})

    def _parts(self, states: Sequence[pa.Array]) -> list[tuple[Aggregate, Sequence[pa.Array]]]:
        parts, at = [], 0
        for _, aggregate in self.aggregates:
            size = len(aggregate.state(self.types))
            parts.append((aggregate, states[at : at + size]))
            at += size
        return parts


def bounds(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> pa.Array:
    """Return windows as structs; a bound that lies beyond all time is null."""
    return pa.StructArray.from_arrays([_stamp(starts, NEVER_US), _stamp(ends, FOREVER_US)], fields=list(BOUNDS))


def lateness(window_starts: NDArray[np.int64], window_ends: NDArray[np.int64], behind_us: NDArray[np.int64],
             missed: NDArray[np.int64], of: NDArray[np.int64]) -> Mapping[str, pa.Array]:  # fmt: skip
    """Return the columns that a late row has beside its event: the last window that it missed, by how much, how many of how many."""
    return {
        WINDOW: bounds(window_starts, window_ends),
        "lateness_ms": pa.array(behind_us // 1_000),
        "missed": pa.array(missed.astype(np.int32)),
        "windows": pa.array(of.astype(np.int32)),
    }


def _stamp(values: NDArray[np.int64], unbounded: int) -> pa.Array:
    return pc.if_else(pa.array(values == unbounded), pa.scalar(None, STAMP), pa.array(np.where(values == unbounded, 0, values)).view(STAMP))
