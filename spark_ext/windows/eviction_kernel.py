"""The last rows of a key: a window without end, from which old rows are evicted.

Flows in: the rows that a bucket's keys keep, and new rows. Flows out: aggregates over what is kept, whenever the trigger fires, and
rows older than all that could be kept. A step first forgets what is over, with the state alone, then takes new rows, evicts, fires.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.errors import SettingsError
from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, State, Step
from spark_ext.state.segments import Segments
from spark_ext.windows.rows import LATE, OUTSIDE_TAG, Layout
from spark_ext.windows.states import (
    FIRED,
    accepted,
    changes,
    checked,
    column,
    column_ints,
    first_of,
    interval_over,
    late_rows,
    reached,
    takes,
    windows_of,
)
from spark_ext.windows.total_order import total_order
from spark_ext.windows.triggers import Trigger

__all__ = ["EvictingWindows"]

COUNTS = pa.schema([("fresh", pa.int64())])
KEPT = [pa.field("key", pa.int32()), pa.field("time_us", pa.int64()), pa.field("fresh", pa.bool_())]


@dataclass(frozen=True, slots=True)
class EvictingWindows:
    """Aggregates per key over its last rows: at most `keep_rows`, and none more than `keep_us` behind the newest.

    Last is by event time, among rows of the same time by the values that are aggregated. A firing gives one row for each key that took
    rows since it last fired; its bounds are the event times of the oldest and the newest row that is kept, both included.

    Guarantee: what a key keeps does not depend on the order in which rows came, nor on batches; when it fires does. A row that could not be
    kept is repeated under the tag ``late``: when it comes, its key has `keep_rows` rows, all newer, or one that is newer by more than
    `keep_us`. The last firing of a key is ``is_final``: at the end of time, or when the key is forgotten; there is none when all of
    its rows were given out before.

    Parameters
    ----------
    layout : Layout
        Columns, keys, aggregates.
    keep_rows : int > 0, optional
        Rows that a key keeps.
    keep_us : int >= 0, optional
        How far behind the key's newest row rows are kept, in microseconds. One of the two is needed; with both, both hold.
    ttl_us : int > 0, optional
        Rows of a key that are followed by so much event time without rows, in microseconds, are forgotten when the watermark has reached
        the end of that and its grace. Rows that come later still are late, with null bounds. None: keys stay for ever.
    grace_us : int >= 0
        How far the watermark must be behind before rows are forgotten, in microseconds; matters with `ttl_us` alone.
    trigger : Trigger
        `each_batch`, `each_rows`, which counts rows that were taken, or ``early(every=...)``, which looks once per interval of processing
        time for the whole bucket; `on_close`: final firings alone.
    fingerprint : str
        What the state depends on, as JSON.

    Raises
    ------
    SettingsError
        A number is out of range, nothing is evicted, or the trigger discards.

    State: per row that is kept 12 bytes and the columns that are aggregated; 8 bytes per key, and the key.

    References
    ----------
    Gedik, "Generic windowing support for extensible stream processing systems", Software: Practice and Experience 44(9), 2014, section 3
    (eviction and trigger policies).
    """

    layout: Layout
    keep_rows: int | None
    keep_us: int | None
    ttl_us: int | None
    grace_us: int
    trigger: Trigger
    fingerprint: str
    operator: str = field(default="evicting_windows_v1", init=False)

    def __post_init__(self) -> None:
        checked("evicting", "keep_rows", self.keep_rows, optional=True)
        checked("evicting", "keep_us", self.keep_us, least=0, optional=True)
        checked("evicting", "ttl_us", self.ttl_us, optional=True)
        checked("evicting", "grace_us", self.grace_us, least=0)
        if self.keep_rows is None and self.keep_us is None:
            expected, todo = "keep_rows or keep_us", "say how many rows to keep or for how long, or use a global window"
            raise SettingsError("build", "window", "evicting", expected=expected, got="neither", todo=todo)
        if not self.trigger.accumulating:
            expected, why = "a trigger that accumulates", "what is given out is what is kept, new or not"
            todo = "leave out discarding()"
            raise SettingsError("build", "window", "evicting", expected=expected, got=repr(self.trigger), why=why, todo=todo)

    @property
    def settings(self) -> str:  # noqa: D102
        return self.fingerprint

    @property
    def in_schema(self) -> pa.Schema:  # noqa: D102
        return self.layout.in_schema

    @property
    def out_schema(self) -> Mapping[str, pa.Schema]:  # noqa: D102
        return {tag: schema for tag, schema in self.layout.out_schema.items() if tag != OUTSIDE_TAG}

    @property
    def state_schema(self) -> Mapping[str, pa.Schema]:  # noqa: D102
        rows = pa.schema([*KEPT, *(pa.field(f"c_{name}", self.layout.types[name]) for name in self._needed)])
        tables = {"keys": self.layout.key_schema, "counts": COUNTS, "rows": rows}
        return tables if self.trigger.every_us is None else {**tables, "meta": FIRED}

    def step(self, state: State, rows: pa.Table, moment: Moment) -> Step:  # noqa: D102
        over = reached(moment.watermark_us, self.grace_us)
        forgotten, kept = self._forget(self._read(state), over)
        rows, times, out = takes(self.layout, rows)
        touched = np.zeros(len(kept.counts), np.int64)
        if len(rows):
            kept, touched, late = self._taken(kept, rows, times, moment.watermark_us, over)
            if late is not None:
                out[LATE] = late
        fired, kept, meta = self._fire(kept, touched, state, moment)
        out |= windows_of(self.layout, [*forgotten, *fired])
        return Step(self._written(kept) | meta, out, self._wake(kept, moment.watermark_us))

    @property
    def _needed(self) -> list[str]:
        return sorted({name for _, aggregate in self.layout.aggregates for name in aggregate.inputs})

    def _read(self, state: State) -> _Kept:
        rows, needed = state["rows"], self._needed
        values = pa.table([column(rows, f"c_{name}") for name in needed], names=needed)
        fresh = column(rows, "fresh").to_numpy(zero_copy_only=False)
        counts = column_ints(state["counts"], "fresh")
        return _Kept(state["keys"], counts, column_ints(rows, "key"), column_ints(rows, "time_us"), fresh, values)

    def _written(self, kept: _Kept) -> dict[str, pa.Table]:
        """Leave out keys without rows."""
        keys, counts, key = kept.keys, kept.counts, kept.key
        used = np.zeros(len(counts), dtype=bool)
        used[key] = True
        if not used.all():
            keys = keys.filter(pa.array(used)).combine_chunks() if self.layout.keys else keys
            counts, key = counts[used], (np.cumsum(used) - 1)[key]
        columns = [pa.array(key.astype(np.int32)), pa.array(kept.time), pa.array(kept.fresh), *_columns(kept.values)]
        rows = pa.Table.from_arrays(columns, schema=self.state_schema["rows"])
        return {"keys": keys, "counts": pa.table([pa.array(counts)], schema=COUNTS), "rows": rows}

    def _silent(self, key: NDArray[np.int64], time: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return behind which rows, ascending by key and time, their key has none, or none for the time to live."""
        silent = np.append(changes(key)[1:], True)
        if self.ttl_us is not None:
            silent[:-1] |= np.diff(time) >= self.ttl_us
        return silent

    def _over(self, key: NDArray[np.int64], time: NDArray[np.int64], over: int) -> NDArray[np.bool_]:
        """Return which rows, ascending by key and time, are forgotten: those up to a silence that nothing can break any more."""
        if over >= FOREVER_US or self.ttl_us is None or not len(key):
            return np.full(len(key), over >= FOREVER_US)
        surely = self._silent(key, time) & (time + self.ttl_us <= over)
        # The next such row at or after each; it is of another key where this one has none.
        place = np.where(surely, np.arange(len(key)), len(key))
        following = np.minimum.accumulate(place[::-1])[::-1]
        gone: NDArray[np.bool_] = np.append(key, -1)[following] == key
        return gone

    def _forget(self, kept: _Kept, over: int) -> tuple[list[pa.Table], _Kept]:
        gone = self._over(kept.key, kept.time, over)
        if not gone.any():
            return [], kept
        # A time to live may have passed more than once: rows between two silences are given out by themselves.
        leaving = kept.where(gone)
        life = np.cumsum(np.append(0, self._silent(leaving.key, leaving.time)))[:-1]
        some = np.bincount(life, leaving.fresh) > 0
        kept = kept.where(~gone)
        has_rows = np.bincount(kept.key, minlength=len(kept.counts)) > 0
        return self._windows(leaving, life, some, final=True), replace(kept, counts=np.where(has_rows, kept.counts, 0))

    def _windows(self, kept: _Kept, group: NDArray[np.int64], some: NDArray[np.bool_], *, final: bool) -> list[pa.Table]:
        """Give out the rows of some groups, which are runs of rows."""
        given = np.flatnonzero(some[group])
        if not len(given):
            return []
        starts = np.flatnonzero(changes(group[given]))
        first, last = given[starts], given[np.append(starts[1:], len(given)) - 1]
        keys = kept.keys.take(pa.array(kept.key[first])) if self.layout.keys else kept.keys
        states = self.layout.of_rows(kept.values, kept.time, given, Segments(starts, len(given)))
        return [self.layout.windows(keys, kept.time[first], kept.time[last], states, final=final)]

    def _taken(
        self, kept: _Kept, rows: pa.Table, times: NDArray[np.int64], watermark_us: int, over: int
    ) -> tuple[_Kept, NDArray[np.int64], pa.Table | None]:
        """Take rows and evict; return also how many each key took, and those that are late."""
        keyed = self.layout.keyed(kept.keys, rows)
        index = keyed.index
        known, count = len(kept.counts), max(len(kept.counts), int(index.max()) + 1)
        newest, oldest = np.full(count, NEVER_US), np.full(count, NEVER_US)
        starts = np.flatnonzero(changes(kept.key))
        oldest[kept.key[starts]] = kept.time[starts]
        newest[kept.key[starts]] = kept.time[np.append(starts[1:], len(kept.key))[: len(starts)] - 1]
        late = np.full(len(times), over >= FOREVER_US)
        bound = np.zeros(len(times), dtype=bool)
        if known and over < FOREVER_US:
            if self.keep_rows is not None:
                full = np.bincount(kept.key, minlength=count) >= self.keep_rows
                bound |= full[index] & (times < oldest[index])
            if self.keep_us is not None:
                bound |= times < newest[index] - self.keep_us
            late |= bound
        if self.ttl_us is not None and not late.all():
            late |= self._missed(kept, index, times, late, over)
        found = None
        if late.any():
            starts_us = np.where(bound, oldest[index], NEVER_US)[late]
            ends_us = np.where(bound, newest[index], FOREVER_US)[late]
            behind = np.where(bound, newest[index], watermark_us)[late] - times[late]
            found = late_rows(self.layout, rows.filter(pa.array(late)), starts_us, ends_us, behind)
            index, (rows, times) = index[~late], accepted(rows, times, ~late)
        touched = np.bincount(index, minlength=count)
        counts = np.append(kept.counts, np.zeros(count - known, np.int64)) + touched
        names = kept.values.column_names
        columns = [pa.concat_arrays([column(kept.values, name), *rows.column(name).chunks]) for name in names]
        fresh = np.append(kept.fresh, np.ones(len(times), dtype=bool))
        key, time = np.append(kept.key, index), np.append(kept.time, times)
        everything = _Kept(keyed.keys, counts, key, time, fresh, pa.table(columns, names=names))
        return self._evicted(everything), touched, found

    def _missed(
        self, kept: _Kept, index: NDArray[np.int64], times: NDArray[np.int64], late: NDArray[np.bool_], over: int
    ) -> NDArray[np.bool_]:
        """Return which rows would be forgotten as soon as they are taken; none that was there before is."""
        taken = np.flatnonzero(~late)
        key, time = np.append(kept.key, index[taken]), np.append(kept.time, times[taken])
        order = total_order([key, time], [])
        gone = order[self._over(key[order], time[order], over)]
        missed = np.zeros(len(times), dtype=bool)
        missed[taken[gone[gone >= len(kept.key)] - len(kept.key)]] = True
        return missed

    def _evicted(self, kept: _Kept) -> _Kept:
        """Bring rows in order and keep the last ones."""
        order = total_order([kept.key, kept.time], _columns(kept.values) if self.keep_rows is not None else [])
        key, time = kept.key[order], kept.time[order]
        starts = np.flatnonzero(changes(key))
        sizes = np.diff(starts, append=len(key))
        ends = np.repeat(starts + sizes, sizes)
        stays = np.ones(len(key), dtype=bool)
        if self.keep_rows is not None:
            stays &= ends - np.arange(len(key)) <= self.keep_rows
        if self.keep_us is not None:
            stays &= time >= time[ends - 1] - self.keep_us
        return kept.at(order[stays])

    def _fire(
        self, kept: _Kept, touched: NDArray[np.int64], state: State, moment: Moment
    ) -> tuple[list[pa.Table], _Kept, dict[str, pa.Table]]:
        trigger = self.trigger
        interval, meta = interval_over(trigger, state, moment, wanted=len(kept.key) > 0)
        firing = np.full(len(kept.counts), interval)
        if trigger.every_batch:
            firing |= touched > 0
        if trigger.every_rows is not None:
            firing |= kept.counts >= trigger.every_rows
        firing &= kept.counts > 0
        if not firing.any():
            return [], kept, meta
        fired = self._windows(kept, kept.key, firing, final=False)
        return fired, replace(kept, counts=np.where(firing, 0, kept.counts), fresh=kept.fresh & ~firing[kept.key]), meta

    def _wake(self, kept: _Kept, watermark_us: int) -> int | None:
        moments = []
        if self.ttl_us is not None and len(kept.key):
            last = kept.time[self._silent(kept.key, kept.time)]
            moments.append(int(last.min()) + self.ttl_us + self.grace_us)
        if self.trigger.every_us is not None and (kept.counts > 0).any():
            moments.append(watermark_us + 1)
        return first_of(moments)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Rows that are kept, ascending by key and time; per key, how many it took since it last fired."""

    keys: pa.Table
    counts: NDArray[np.int64]
    key: NDArray[np.int64]
    time: NDArray[np.int64]
    fresh: NDArray[np.bool_]
    values: pa.Table

    def at(self, rows: NDArray[np.int64]) -> _Kept:
        values = self.values.take(pa.array(rows)) if self.values.num_columns else self.values
        return replace(self, key=self.key[rows], time=self.time[rows], fresh=self.fresh[rows], values=values)

    def where(self, mask: NDArray[np.bool_]) -> _Kept:
        return self if mask.all() else self.at(np.flatnonzero(mask))


def _columns(values: pa.Table) -> list[pa.Array]:
    return [column(values, name) for name in values.column_names]
