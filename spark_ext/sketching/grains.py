"""For which stretches of time a sketch table has rows, and how many; read without Spark, column by column and batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from numpy.typing import NDArray

from spark_ext.delta.arrow import arrow_dataset, rows_where
from spark_ext.paths import absolute
from spark_ext.sketching.table_schema import TIME, WINDOW, SketchSchema, sketch_schema
from spark_ext.windows.shapes import TimeShape

__all__ = ["Grain", "Periods", "batches", "fitting", "grains", "periods_before", "sketch_bytes"]

Array = NDArray[np.int64]
Progress = Callable[[int, int], None]
START, END = WINDOW
BATCH_ROWS: Final = 1 << 16
MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Grain:
    """Rows of a table whose windows have one length.

    Attributes
    ----------
    length : timedelta or None
        Of the windows; None for rows without one.
    rows : int
        How many.
    sketch_bytes : int
        Of their stored sketches, as they are before files compress them.
    first, last : datetime or None
        Start of the first window and end of the last one.
    """

    length: timedelta | None
    rows: int
    sketch_bytes: int
    first: datetime | None = None
    last: datetime | None = None


def grains(path: str, *, progress: Progress | None = None) -> list[Grain]:
    """Return how much of a sketch table is for which length of time, the shortest first; reads all of its sketches.

    Parameters
    ----------
    path : str
        A sketch table.
    progress : callable, optional
        Called with rows done and rows in all.
    """
    path = absolute(path)
    schema, table = sketch_schema(path), DeltaTable(path)
    windows = list(WINDOW) if schema.has_windows else []
    rows = arrow_dataset(table)
    total, done = rows.count_rows(), 0
    parts = []
    for batch in batches(rows, columns=[*windows, *schema.templates]):
        size = pa.array(_lengths(batch, schema), pa.int64())
        start, end = (batch.column(name).cast(pa.int64()) if windows else pa.nulls(batch.num_rows, pa.int64()) for name in WINDOW)
        parts.append(pa.table({"length": pc.subtract(end, start), "start": start, "end": end, "size": size}))
        done += batch.num_rows
        if progress is not None:
            progress(done, total)
    if not parts:
        return []
    how = [("start", "min"), ("end", "max"), ("size", "sum"), ([], "count_all")]
    found = pa.concat_tables(parts).group_by("length").aggregate(how).sort_by([("length", "ascending")])
    return [
        Grain(
            None if row["length"] is None else row["length"] * MICROSECOND,
            row["count_all"],
            row["size_sum"],
            *(
                None if row[name] is None else datetime(1970, 1, 1, tzinfo=UTC) + row[name] * MICROSECOND
                for name in ("start_min", "end_max")
            ),
        )
        for row in found.to_pylist()
    ]


@dataclass(frozen=True, slots=True)
class Periods:
    """Periods that have rows for shorter times.

    Attributes
    ----------
    starts, ends, rows : ndarray (k,) int64
        Each period, microseconds since 1970, ascending; and how many rows lie in it.
    astride : int
        Rows of the table, before the cutoff, that lie in two periods.
    """

    starts: Array
    ends: Array
    rows: Array
    astride: int


def periods_before(table: DeltaTable, shape: TimeShape, cutoff: datetime) -> Periods:
    """Return the periods that end at or before a time and have rows for shorter times."""
    rows = rows_where(table, lambda field: (field(START) <= cutoff) & (field(END) <= cutoff))
    parts = [_distinct(pa.Table.from_batches([batch]), [([], "count_all")]) for batch in batches(rows, columns=list(WINDOW))]
    if not parts:
        return Periods(*(np.empty(0, np.int64),) * 3, 0)
    windows = _distinct(pa.concat_tables(parts), [("count_all", "sum")])
    starts, ends, count = (windows.column(at).cast(pa.int64()).to_numpy() for at in range(3))
    index, period_starts, period_ends = fitting(starts, ends, shape)
    inside = index >= 0
    first, last = period_starts[index], period_ends[index]
    is_over = inside & (last <= (cutoff - datetime(1970, 1, 1, tzinfo=UTC)) // MICROSECOND)
    is_shorter = is_over & ((starts > first) | (ends < last))
    wanted = np.zeros(len(period_starts), np.bool_)
    wanted[index[is_shorter]] = True
    in_period = np.bincount(index[inside], count[inside], len(period_starts)).astype(np.int64)
    return Periods(period_starts[wanted], period_ends[wanted], in_period[wanted], _astride(starts, ends, count, shape))


def fitting(starts: Array, ends: Array, shape: TimeShape) -> tuple[Array, Array, Array]:
    """Return the period that each window lies in, -1 if in no single one; and the periods' starts and ends."""
    panes = shape.assigner().panes(starts)
    if not len(panes.starts):
        return panes.index, np.zeros(1, np.int64), np.zeros(1, np.int64)  # a period that nothing lies in, so that there is one
    index = panes.index.copy()
    index[(ends <= starts) | (ends > panes.ends[index])] = -1  # of the last one where there is none, which stays none
    return np.where(panes.index < 0, -1, index), panes.starts, panes.ends


def batches(rows: ds.Dataset, *, columns: Sequence[str] | None = None, size: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Read rows a few at a time; not many more are held in memory."""
    for batch in rows.to_batches(columns=columns, batch_size=size, batch_readahead=2, fragment_readahead=1):
        if batch.num_rows:
            yield batch


def sketch_bytes(rows: pa.Table | pa.RecordBatch, schema: SketchSchema) -> int:
    """Return how many bytes the stored sketches of some rows have."""
    return int(_lengths(rows, schema).sum())


def _lengths(rows: pa.Table | pa.RecordBatch, schema: SketchSchema) -> Array:
    total = np.zeros(rows.num_rows, np.int64)
    for name in schema.templates:
        total += pc.fill_null(pc.binary_length(rows.column(name)), 0).to_numpy()
    return total


def _distinct(windows: pa.Table, how: Any) -> pa.Table:
    found = windows.group_by(list(WINDOW)).aggregate(how)
    return (
        found.rename_columns([*WINDOW, "count_all"])
        .set_column(0, START, found.column(0).cast(TIME))
        .set_column(1, END, found.column(1).cast(TIME))
    )


def _astride(starts: Array, ends: Array, count: Array, shape: TimeShape) -> int:
    """Return how many rows are no longer than the period that they begin in, and end behind it."""
    panes = shape.assigner().panes(starts)
    if not len(panes.starts):
        return 0
    first, last = panes.starts[panes.index], panes.ends[panes.index]
    return int(count[(panes.index >= 0) & (ends > last) & (ends - starts <= last - first)].sum())
