"""Old rows of a sketch table for short times become rows for longer ones: minutes to hours, hours to days.

    rows of minutes, older than the cutoff --- periods of `to` --- blocks of some periods --- merged --- one commit a block
         and rows of the period that are there already                                        per key    replaces just their range

A row stands for what was counted, not for a time that is over: a late minute makes a row beside that of its hour, and the next compaction
merges the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import partial, reduce
from operator import or_
from typing import Any, Final, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, write_deltalake

from sketches.errors import SketchBytesError
from spark_ext.delta.arrow import rows_where
from spark_ext.delta.conflicts import settle
from spark_ext.delta.txn import Stamp, Written
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.paths import absolute
from spark_ext.sketching.checks import wrong_rows
from spark_ext.sketching.combiner import Combiner
from spark_ext.sketching.grains import MICROSECOND, Periods, batches, fitting, periods_before, sketch_bytes
from spark_ext.sketching.table_schema import TIME, WINDOW, SketchSchema, sketch_schema
from spark_ext.state.keys import codes
from spark_ext.windows.shapes import Global, Sliding, TimeShape, calendar

__all__ = ["Compacted", "OnDamage", "compact"]

OnDamage = Literal["fail", "keep"]
Progress = Callable[[int, int], None]
Runs = Sequence[tuple[int, int]]
BLOCK_BYTES: Final = 256 << 20  # of rows that one commit replaces, if their periods are that small
STEP_BYTES: Final = 32 << 20  # of rows that are merged at once
MOST_RUNS: Final = 100  # stretches of time in one commit
SAMPLE: Final = 100  # rows

START, END = WINDOW


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction did, or would do.

    Attributes
    ----------
    periods : int
        Periods that had rows for shorter times.
    rows_before, rows_after : int
        Rows of those periods.
    bytes_before, bytes_after : int or None
        Of their sketches; None if nothing was done. Files that hold them leave the disk with the table's next vacuum.
    commits : int
        Versions of the table that were made.
    rows_astride : int
        Rows before the cutoff that lie in two periods, and stay.
    rows_damaged : int
        Rows that stay as they are because a sketch of their key is damaged.
    """

    periods: int
    rows_before: int
    rows_after: int
    bytes_before: int | None = None
    bytes_after: int | None = None
    commits: int = 0
    rows_astride: int = 0
    rows_damaged: int = 0

    def __add__(self, other: Compacted) -> Compacted:
        """Return both together."""
        return Compacted(**{one.name: _plus(getattr(self, one.name), getattr(other, one.name)) for one in fields(self)})


def compact(
    path: str,
    *,
    to: TimeShape | str,
    older_than: datetime,
    zone: str = "UTC",
    on_damage: OnDamage = "fail",
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Compacted:
    """Merge rows of a sketch table for short times into rows for the periods that they lie in. Needs no Spark.

    Guarantee: each commit replaces all rows of its periods at once, so no reader sees a value twice or not at all; totals are the same
    before and after, and sketches that are equal byte for byte by their class are those of one pass over all values. A writer that adds to
    one of these periods meanwhile is a conflict: the rows are read and merged again, or, after five times, the compaction is refused with
    that block as it was. A second call changes nothing; after a crash it goes on where the first one ended.

    1. Look which periods that end at or before the cutoff have rows for shorter times; if none has, that is all.
    2. Take as many periods as fit into memory, read their rows from one snapshot, merge those of a key and period.
    3. Commit: their range is replaced, checked against that snapshot. Then the next ones.

    Parameters
    ----------
    path : str
        A sketch table with ``window_start`` and ``window_end``.
    to : TimeShape or str
        Periods: ``"hour"``, ``"day"``, ``"week"``, ``"month"``, ``"quarter"`` or ``"year"`` of `zone`, as long as its clocks make them;
        or a shape such as ``tumbling(timedelta(minutes=15))``. Rows that lie in no single period stay.
    older_than : datetime
        The cutoff, with its zone. A period is merged when its end is there, so that it is merged as a whole.
    zone : str
        For a calendar period.
    on_damage : {"fail", "keep"}
        Whether a damaged sketch stops the compaction, or all rows of its key and period stay as they are.
    dry_run : bool
        Say what it would do.
    progress : callable, optional
        Called with rows done and rows in all.

    Raises
    ------
    SettingsError
        An argument is none of these.
    SchemaError
        No sketch table, or one without windows; or a sum does not fit its column.
    SketchBytesError
        A damaged sketch, with its column and key.
    EpochError
        Others wrote to the same periods five times in a row.

    State: the rows of a commit, some 256 MiB; of a single period that is larger, three times what it is merged into.

    Not supported: tables with deletion vectors. Rows of one key for the same window, which others appended, are merged where they lie in
    a period with rows for shorter times, and stay elsewhere.
    """
    path, shape, cutoff = absolute(path), _shape(to, zone), _checked(older_than, on_damage)
    schema = sketch_schema(path)
    if not schema.has_windows:
        expected, got = f"keys {START} and {END}, timestamps", f"keys {', '.join(schema.keys)}"
        raise SchemaError("compact", "sketch table", path, expected=expected, got=got, todo="make a table whose rows have windows")
    table = DeltaTable(path)
    found = periods_before(table, shape, cutoff)
    done = Compacted(len(found.rows), 0, 0, rows_astride=found.astride)
    total = int(found.rows.sum())
    if not done.periods:
        return done
    sample = rows_where(table, lambda field: field(END) <= cutoff).head(SAMPLE)
    work = _Work(path, schema, shape, on_damage, max(1, sample.nbytes // max(1, sample.num_rows)))
    if dry_run:
        return replace(done, rows_before=total, rows_after=work.rows_after(table, found))
    seen = 0
    for runs in work.blocks(found):
        part = work.replaced(runs, partial(_tell, progress, seen, total))
        seen += part.rows_before
        done = done + part
    return done


@dataclass(frozen=True, slots=True)
class _Work:
    """Merges the rows of some periods at a time."""

    path: str
    schema: SketchSchema
    shape: TimeShape
    on_damage: OnDamage
    row_bytes: int

    def blocks(self, found: Periods) -> Iterator[Runs]:
        """Yield stretches of time, together of about `BLOCK_BYTES`; neighbouring periods are one stretch."""
        runs: list[tuple[int, int]] = []
        held = 0
        for start, end, rows in zip(found.starts.tolist(), found.ends.tolist(), found.rows.tolist(), strict=True):
            if runs and (held + rows * self.row_bytes > BLOCK_BYTES or len(runs) == MOST_RUNS):
                yield runs
                runs, held = [], 0
            if runs and runs[-1][1] == start:
                runs[-1] = (runs[-1][0], end)
            else:
                runs.append((start, end))
            held += rows * self.row_bytes
        if runs:
            yield runs

    def replaced(self, runs: Runs, progress: Callable[[int], None]) -> Compacted:
        """Replace the rows of some stretches of time, in one commit; again from the begin if others have written there meanwhile."""
        parts: list[Compacted] = []

        def attempt() -> Written:
            table = DeltaTable(self.path)
            merged, others, part, is_due = self._merged(table, runs, progress)
            parts.append(replace(part, commits=int(is_due)))
            if not is_due:  # somebody else has done it
                return Written(int(table.version()), 0, True, "driver")
            whole = pa.concat_tables([merged, *others])
            properties = CommitProperties(custom_metadata={"userMetadata": Stamp.of(None).text})
            write_deltalake(table, whole, mode="overwrite", predicate=_sql(runs), commit_properties=properties)
            return Written(int(table.version()), merged.num_rows, False, "driver")

        settle(attempt, path=self.path, txn=None, writer="driver")
        return parts[-1]

    def rows_after(self, table: DeltaTable, found: Periods) -> int:
        """Return how many keys and periods there are."""
        count = 0
        for runs in self.blocks(found):
            keys = self.schema.columns.empty_table().select(list(self.schema.keys))
            for batch in batches(rows_where(table, partial(_within, runs)), columns=list(self.schema.keys)):
                rows, fits = self._placed(batch)
                keys = pa.concat_tables([keys, rows.filter(fits)]).group_by(list(self.schema.keys)).aggregate([]).cast(keys.schema)
            count += keys.num_rows
        return count

    def _merged(self, table: DeltaTable, runs: Runs, progress: Callable[[int], None]) -> tuple[pa.Table, list[pa.Table], Compacted, bool]:
        """Return merged rows, rows that stay as they are, how many, and whether any was for a shorter time."""
        rows = rows_where(table, partial(_within, runs))
        size = max(1, STEP_BYTES // self.row_bytes)
        damaged = self._damaged(batches(rows, size=size)) if self.on_damage == "keep" else self.schema.columns.empty_table()
        merged, held, others = self.schema.columns.empty_table(), [], []
        before = size_before = kept = size_kept = 0
        is_due = False
        for batch in batches(rows, size=size):
            placed, fits = self._placed(batch)
            whole = pa.Table.from_batches([batch]).select(placed.column_names).cast(placed.schema)
            stays = pc.and_(fits, self._is_one_of(placed, damaged)) if damaged.num_rows else pa.array(np.zeros(len(fits), np.bool_))
            some = placed.filter(pc.and_not(fits, stays))
            others += [one for one in (whole.filter(pc.invert(fits)), whole.filter(stays)) if one.num_rows]
            is_due |= not some.select(list(WINDOW)).equals(whole.filter(pc.and_not(fits, stays)).select(list(WINDOW)))
            before, size_before = before + fits.true_count, size_before + sketch_bytes(whole.filter(fits), self.schema)
            kept, size_kept = kept + stays.true_count, size_kept + sketch_bytes(whole.filter(stays), self.schema)
            held.append(some)
            if sum(one.nbytes for one in held) >= max(STEP_BYTES, merged.nbytes):  # so that what is merged is not read over and over
                merged, held = self._united([merged, *held]), []
            progress(before)
        merged = self._united([merged, *held])
        size_after = sketch_bytes(merged, self.schema) + size_kept
        return merged, others, Compacted(0, before, merged.num_rows + kept, size_before, size_after, rows_damaged=kept), is_due

    def _placed(self, batch: pa.RecordBatch) -> tuple[pa.Table, pa.BooleanArray]:
        """Return the rows with the windows of their periods, and which of them lie in one."""
        starts, ends = (batch.column(name).cast(pa.int64()).to_numpy(zero_copy_only=False) for name in WINDOW)
        index, period_starts, period_ends = fitting(starts, ends, self.shape)
        columns = {name: batch.column(name) for name in self.schema.columns.names if name in batch.schema.names}
        for name, bounds in ((START, period_starts), (END, period_ends)):
            columns[name] = pa.array(bounds[index], pa.int64()).cast(TIME)
        schema = pa.schema([self.schema.columns.field(name) for name in columns])
        return pa.table(columns).cast(schema), pa.array(index >= 0)

    def _united(self, parts: Sequence[pa.Table]) -> pa.Table:
        rows = pa.concat_tables(parts)
        try:
            return Combiner(self.schema, self.path)(rows, rows.slice(0, 0))
        except SketchBytesError as error:
            raise SketchBytesError(
                "compact",
                "sketch table",
                self.path,
                expected=error.expected,
                got=error.got,
                why="they are damaged in the table; these periods stay as they were",
                todo="restore the table to a version in which they are whole, or leave rows of that key alone: on_damage='keep'",
            ) from error

    def _damaged(self, found: Iterator[pa.RecordBatch]) -> pa.Table:
        """Return the keys, with their periods, of which a sketch is damaged."""
        keys = [self.schema.columns.empty_table().select(list(self.schema.keys))]
        for batch in found:
            placed, fits = self._placed(batch)
            placed = placed.filter(fits)
            wrong = {
                row for name, measure in self.schema.measures if measure.how == "sketch" for row, _ in wrong_rows(measure, placed[name])
            }
            if wrong:
                keys.append(placed.select(list(self.schema.keys)).take(sorted(wrong)))
        return pa.concat_tables(keys).group_by(list(self.schema.keys)).aggregate([])

    def _is_one_of(self, rows: pa.Table, keys: pa.Table) -> pa.BooleanArray:
        both = [pa.chunked_array([*keys[name].chunks, *rows[name].chunks], rows[name].type) for name in self.schema.keys]
        return pa.array(codes(both)[keys.num_rows :] < keys.num_rows)  # `keys` are distinct: the first numbers


def _tell(progress: Progress | None, seen: int, total: int, rows: int) -> None:
    if progress is not None:
        progress(seen + rows, total)


def _plus(one: int | None, other: int | None) -> Any:
    return other if one is None else one if other is None else one + other


def _within(runs: Runs, field: Callable[[str], Any]) -> Any:
    return reduce(or_, ((field(START) >= pa.scalar(start).cast(TIME)) & (field(END) <= pa.scalar(end).cast(TIME)) for start, end in runs))


def _sql(runs: Runs) -> str:
    return " OR ".join(f"({START} >= '{_text(start)}' AND {END} <= '{_text(end)}')" for start, end in runs)


def _text(moment: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + moment * MICROSECOND).isoformat()


def _shape(to: TimeShape | str, zone: str) -> TimeShape:
    if isinstance(to, str):
        return calendar(to, zone=zone)
    if not isinstance(to, TimeShape) or isinstance(to, Sliding | Global):
        got = getattr(to, "kind", type(to).__name__)
        expected = "periods that follow each other: a unit of the calendar, or a shape such as tumbling(...)"
        raise SettingsError("compact", "sketches", "to", expected=expected, got=got, todo="choose one")
    return to


def _checked(older_than: datetime, on_damage: str) -> datetime:
    if older_than.tzinfo is None:
        expected, got = "a time with its zone", repr(older_than)
        raise SettingsError("compact", "sketches", "older_than", expected=expected, got=got, todo="add tzinfo, datetime.UTC for one")
    if on_damage not in get_args(OnDamage):
        expected, got = f"one of {', '.join(get_args(OnDamage))}", repr(on_damage)
        raise SettingsError("compact", "sketches", "on_damage", expected=expected, got=got, todo="correct it")
    return older_than.astimezone(UTC)
