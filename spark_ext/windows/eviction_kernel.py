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
from spark_ext.windows.kept_rows import Kept, evicted, forgotten, silences
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
        given, kept = self._forget(self._read(state), over)
        rows, times, out = takes(self.layout, rows)
        if len(rows):
            kept, late = self._taken(kept, rows, times, moment.watermark_us, over)
            if late is not None:
                out[LATE] = late
        fired, kept, meta = self._fire(kept, state, moment)
        out |= windows_of(self.layout, [*given, *fired])
        return Step(self._written(kept) | meta, out, self._wake(kept, moment.watermark_us))

    @property
    def _needed(self) -> list[str]:
        return sorted({name for _, aggregate in self.layout.aggregates for name in aggregate.inputs})

    def _read(self, state: State) -> Kept:
        rows, needed = state["rows"], self._needed
        values = pa.table([column(rows, f"c_{name}") for name in needed], names=needed)
        fresh = column(rows, "fresh").to_numpy(zero_copy_only=False)
        counts = column_ints(state["counts"], "fresh")
        return Kept(state["keys"], counts, column_ints(rows, "key"), column_ints(rows, "time_us"), fresh, values)

    def _written(self, kept: Kept) -> dict[str, pa.Table]:
        """Leave out keys without rows."""
        keys, counts, key = kept.keys, kept.counts, kept.key
        used = np.zeros(len(counts), dtype=bool)
        used[key] = True
        if not used.all():
            keys = keys.filter(pa.array(used)).combine_chunks() if self.layout.keys else keys
            counts, key = counts[used], (np.cumsum(used) - 1)[key]
        columns = [pa.array(key.astype(np.int32)), pa.array(kept.time), pa.array(kept.fresh), *kept.columns]
        rows = pa.Table.from_arrays(columns, schema=self.state_schema["rows"])
        return {"keys": keys, "counts": pa.table([pa.array(counts)], schema=COUNTS), "rows": rows}

    def _forget(self, kept: Kept, over: int) -> tuple[list[pa.Table], Kept]:
        gone = forgotten(kept.key, kept.time, self.ttl_us, over)
        if not gone.any():
            return [], kept
        # A time to live may have passed more than once: rows between two silences are given out by themselves.
        leaving = kept.where(gone)
        life = np.cumsum(np.append(0, silences(leaving.key, leaving.time, self.ttl_us)))[:-1]
        some = np.bincount(life, leaving.fresh) > 0
        kept = kept.where(~gone)
        has_rows = np.bincount(kept.key, minlength=len(kept.counts)) > 0
        return self._windows(leaving, life, some, final=True), replace(kept, counts=np.where(has_rows, kept.counts, 0))

    def _windows(self, kept: Kept, group: NDArray[np.int64], some: NDArray[np.bool_], *, final: bool) -> list[pa.Table]:
        """Give out the rows of some groups, which are runs of rows."""
        given = np.flatnonzero(some[group])
        if not len(given):
            return []
        starts = np.flatnonzero(changes(group[given]))
        first, last = given[starts], given[np.append(starts[1:], len(given)) - 1]
        keys = kept.keys.take(pa.array(kept.key[first])) if self.layout.keys else kept.keys
        states = self.layout.of_rows(kept.values, kept.time, given, Segments(starts, len(given)))
        return [self.layout.windows(keys, kept.time[first], kept.time[last], states, final=final)]

    def _taken(self, kept: Kept, rows: pa.Table, times: NDArray[np.int64], watermark_us: int, over: int) -> tuple[Kept, pa.Table | None]:
        """Take rows and evict; return also those that are late."""
        keyed = self.layout.keyed(kept.keys, rows)
        index = keyed.index
        count = max(len(kept.counts), int(index.max()) + 1)
        late, first, last = self._judged(kept, index, times, count, over)
        found = None
        if late.any():
            behind = np.where(last < FOREVER_US, last, watermark_us) - times
            found = late_rows(self.layout, rows.filter(pa.array(late)), first[late], last[late], behind[late])
            index, (rows, times) = index[~late], accepted(rows, times, ~late)
        counts = np.append(kept.counts, np.zeros(count - len(kept.counts), np.int64)) + np.bincount(index, minlength=count)
        names = kept.values.column_names
        columns = [pa.concat_arrays([column(kept.values, name), *rows.column(name).chunks]) for name in names]
        fresh = np.append(kept.fresh, np.ones(len(times), dtype=bool))
        key, time = np.append(kept.key, index), np.append(kept.time, times)
        everything = Kept(keyed.keys, counts, key, time, fresh, pa.table(columns, names=names))
        return evicted(everything, self.keep_rows, self.keep_us), found

    def _judged(
        self, kept: Kept, index: NDArray[np.int64], times: NDArray[np.int64], keys: int, over: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
        """Return which rows are late, and the bounds of what their key keeps; beyond all time where it is not for these that they are."""
        late = np.full(len(times), over >= FOREVER_US)
        oldest, newest = np.full(keys, NEVER_US), np.full(keys, NEVER_US)
        if late.all():
            return late, oldest[index], np.full(len(times), FOREVER_US)
        starts = np.flatnonzero(changes(kept.key))
        oldest[kept.key[starts]] = kept.time[starts]
        newest[kept.key[starts]] = kept.time[np.append(starts, len(kept.key))[1:] - 1]
        if self.keep_rows is not None:
            full = np.bincount(kept.key, minlength=keys) >= self.keep_rows
            late |= full[index] & (times < oldest[index])
        if self.keep_us is not None:
            late |= times < newest[index] - self.keep_us
        first, last = np.where(late, oldest[index], NEVER_US), np.where(late, newest[index], FOREVER_US)
        if self.ttl_us is not None:
            late |= self._missed(kept, index, times, late, over)
        return late, first, last

    def _missed(
        self, kept: Kept, index: NDArray[np.int64], times: NDArray[np.int64], late: NDArray[np.bool_], over: int
    ) -> NDArray[np.bool_]:
        """Return which rows would be forgotten as soon as they are taken; none that was there before is."""
        taken = np.flatnonzero(~late)
        key, time = np.append(kept.key, index[taken]), np.append(kept.time, times[taken])
        order = total_order([key, time], [])
        gone = order[forgotten(key[order], time[order], self.ttl_us, over)]
        missed = np.zeros(len(times), dtype=bool)
        missed[taken[gone[gone >= len(kept.key)] - len(kept.key)]] = True
        return missed

    def _fire(self, kept: Kept, state: State, moment: Moment) -> tuple[list[pa.Table], Kept, dict[str, pa.Table]]:
        trigger = self.trigger
        interval, meta = interval_over(trigger, state, moment, wanted=len(kept.key) > 0)
        firing = np.full(len(kept.counts), interval or trigger.every_batch)
        if trigger.every_rows is not None:
            firing |= kept.counts >= trigger.every_rows
        firing &= kept.counts > 0
        if not firing.any():
            return [], kept, meta
        fired = self._windows(kept, kept.key, firing, final=False)
        return fired, replace(kept, counts=np.where(firing, 0, kept.counts), fresh=kept.fresh & ~firing[kept.key]), meta

    def _wake(self, kept: Kept, watermark_us: int) -> int | None:
        moments = []
        if self.ttl_us is not None and len(kept.key):
            last = kept.time[silences(kept.key, kept.time, self.ttl_us)]
            moments.append(int(last.min()) + self.ttl_us + self.grace_us)
        if self.trigger.every_us is not None and (kept.counts > 0).any():
            moments.append(watermark_us + 1)
        return first_of(moments)
