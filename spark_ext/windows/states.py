"""What the kernels share whose windows depend on the rows themselves: checked input, columns of the state, keys that are in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.errors import SettingsError
from spark_ext.state.kernel import FOREVER_US, Moment, State
from spark_ext.state.keys import ints
from spark_ext.windows.rows import INVALID, LATE, WINDOW, Layout, lateness
from spark_ext.windows.triggers import Trigger

__all__ = [
    "FIRED",
    "LONGEST_US",
    "accepted",
    "changes",
    "checked",
    "column",
    "column_ints",
    "compacted",
    "first_of",
    "interval_over",
    "join",
    "late_rows",
    "pick",
    "reached",
    "takes",
    "windows_of",
]

LONGEST_US: Final = 2**60  # sums with event times stay below FOREVER_US
FIRED: Final = pa.schema([("fired_us", pa.int64())])


def checked(kind: str, what: str, value: object, *, least: int = 1, most: int = LONGEST_US, optional: bool = False) -> None:
    """Check a whole number.

    Raises
    ------
    SettingsError
        It is none, or out of range.
    """
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise SettingsError("build", "window", kind, expected=f"{what} from {least} to {most}", got=repr(value), todo="correct it")


def takes(layout: Layout, rows: pa.Table) -> tuple[pa.Table, NDArray[np.int64], dict[str, pa.Table]]:
    """Set aside rows whose event time is null or absurd.

    Returns
    -------
    rows : pa.Table (n,)
        The others, columns in the order of the layout.
    times : ndarray (n,) int64
        Their event times.
    out : dict
        The invalid ones by tag; nothing if there are none.
    """
    rows = rows.select(layout.in_schema.names)
    times, valid = layout.times(rows)
    if valid.all():
        return rows, times, {}
    invalid = layout.rejected(rows.filter(pa.array(~valid)))
    return rows.filter(pa.array(valid)), times[valid], {INVALID: invalid.select(layout.out_schema[INVALID].names)}


def accepted(rows: pa.Table, times: NDArray[np.int64], keep: NDArray[np.bool_]) -> tuple[pa.Table, NDArray[np.int64]]:
    """Return the rows of a mask and their times."""
    return (rows, times) if keep.all() else (rows.filter(pa.array(keep)), times[keep])


def late_rows(layout: Layout, rows: pa.Table, starts: NDArray[np.int64], ends: NDArray[np.int64], behind_us: NDArray[np.int64]) -> pa.Table:
    """Return output rows for rows that missed the one window they are in."""
    ones = np.ones(len(rows), np.int64)
    late = layout.rejected(rows, **lateness(starts, ends, behind_us, ones, ones))
    return late.select(layout.out_schema[LATE].names)


def windows_of(layout: Layout, tables: Sequence[pa.Table]) -> dict[str, pa.Table]:
    """Return all output rows of windows under their tag; nothing if there are none."""
    found = [table for table in tables if len(table)]
    return {WINDOW: pa.concat_tables(found)} if found else {}


def reached(watermark_us: int, grace_us: int) -> int:
    """Return the event time up to which everything is over; at the end of time that is all."""
    return FOREVER_US if watermark_us >= FOREVER_US else watermark_us - grace_us


def first_of(moments: Sequence[int]) -> int | None:
    """Return the first of the moments at which a call is wanted, None without any."""
    return min((moment for moment in moments if moment < FOREVER_US), default=None)


def interval_over(trigger: Trigger, state: State, moment: Moment, *, wanted: bool) -> tuple[bool, dict[str, pa.Table]]:
    """Return whether a bucket's interval of processing time is over, and what to keep of it.

    Intervals are the multiples of ``trigger.every_us``. The first rows of a bucket wait for the next one. What is kept is the time of
    the last look, in a table ``meta`` of one row; of none unless it is `wanted`.
    """
    if trigger.every_us is None:
        return False, {}
    fired = column_ints(state["meta"], "fired_us")
    before = int(fired[0]) if len(fired) else moment.batch_us
    over = moment.batch_us // trigger.every_us > before // trigger.every_us
    last = moment.batch_us if over else before
    return over, {"meta": pa.table([pa.array([last][: int(wanted)], pa.int64())], schema=FIRED)}


def column(table: pa.Table, name: str) -> pa.Array:
    """Return a column without chunks."""
    found = table.column(name)
    return found.chunk(0) if found.num_chunks == 1 else pa.concat_arrays([pa.array([], found.type), *found.chunks])


def column_ints(table: pa.Table, name: str) -> NDArray[np.int64]:
    """Return a column of int32 or int64."""
    found = column(table, name)
    return ints(found.cast(pa.int64()) if pa.types.is_int32(found.type) else found)


def pick(arrays: Sequence[pa.Array], at: NDArray[np.int64]) -> list[pa.Array]:
    """Return these rows of each column."""
    taken = pa.array(at)
    return [array.take(taken) for array in arrays]


def join(first: Sequence[pa.Array], second: Sequence[pa.Array]) -> list[pa.Array]:
    """Return each column of both, one after the other."""
    return [pa.concat_arrays([one, other]) for one, other in zip(first, second, strict=True)]


def changes(*columns: NDArray[np.int64] | NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows differ from the one before; the first does."""
    found = np.zeros(len(columns[0]), dtype=bool)
    found[:1] = True
    for each in columns:
        found[1:] |= each[1:] != each[:-1]
    return found


def compacted(keys: pa.Table, used: NDArray[np.int64]) -> tuple[pa.Table, NDArray[np.int64]]:
    """Return the keys that are in use, and the new places of `used` among them.

    Parameters
    ----------
    keys : pa.Table
        One row per key; without columns there is one key, which has no row.
    used : ndarray (n,) int64
        Places in it.
    """
    if not keys.num_columns:
        return keys, used
    marks = np.zeros(len(keys), dtype=bool)
    marks[used] = True
    if marks.all():
        return keys, used
    return keys.filter(pa.array(marks)).combine_chunks(), (np.cumsum(marks) - 1)[used]
