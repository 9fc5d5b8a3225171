"""Sessions: windows that last as long as rows of a key follow each other closely.

Flows in: a bucket's open sessions, and new rows. Flows out: sessions that close or fire, and rows that came too late. A step first
closes, with the state alone, then merges new rows with what is open, then fires what its trigger asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.state.kernel import FOREVER_US, Moment, State, Step
from spark_ext.state.segments import Segments, group
from spark_ext.windows.aggregates.reduce import order_of
from spark_ext.windows.rows import LATE, OUTSIDE_TAG, Layout
from spark_ext.windows.states import (
    FIRED,
    checked,
    column,
    column_ints,
    compacted,
    first_of,
    interval_over,
    join,
    late_rows,
    pick,
    reached,
    takes,
    windows_of,
)
from spark_ext.windows.triggers import Trigger

__all__ = ["SessionWindows"]


@dataclass(frozen=True, slots=True)
class SessionWindows:
    """Aggregates per key and session.

    A row at ``t`` makes the session ``[t, t + gap)``; sessions of a key that overlap are one. Rows exactly `gap_us` apart are in two.

    Guarantee: each row is counted in one session, or repeated under the tag ``late``: that is when the session it makes, together with
    the rows of its batch and what is open, is over by the watermark of its batch. A session is over when the watermark has reached its
    end and its grace; it then gives out its result and is gone. Where no row is late, sessions are those of all rows at once,
    whatever the batches.

    An early firing gives a session as it is known so far. Later rows may move its bounds, or join two that have fired into one: with
    accumulating output the row that ends last then stands for all that overlap it; only the one with ``is_final`` is not superseded.

    Parameters
    ----------
    layout : Layout
        Columns, keys, aggregates.
    gap_us : int > 0
        Silence of a key that ends its session, in microseconds.
    maximum_us : int > 0, optional
        No session spans a multiple of this, counted from 1970: rows on both sides never meet, and a session ends there at the latest. So
        where a session is cut does not depend on when it began. None: a key that is never silent has a session that never closes.
    grace_us : int >= 0
        How long a session stays open behind its end, by the watermark, in microseconds.
    trigger : Trigger
        When sessions fire before they close. ``early(every=...)`` looks once per interval of processing time for the whole bucket, at
        multiples of `every`; the first rows wait for the next one.
    fingerprint : str
        What the state depends on, as JSON.

    State: per open session 20 bytes and the aggregates' states, 8 more with a trigger; each key with an open session once.

    References
    ----------
    Akidau et al., "The Dataflow Model", VLDB 2015, section 2.2.1 (merging of session windows). Azure Stream Analytics, "Session window"
    (a maximum duration that is checked at its multiples).
    """

    layout: Layout
    gap_us: int
    maximum_us: int | None
    grace_us: int
    trigger: Trigger
    fingerprint: str
    operator: str = field(default="session_windows_v1", init=False)

    def __post_init__(self) -> None:
        checked("session", "gap_us", self.gap_us)
        checked("session", "maximum_us", self.maximum_us, optional=True)
        checked("session", "grace_us", self.grace_us, least=0)

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
        fresh = [] if self.trigger.only_on_close else [pa.field("fresh", pa.int64())]
        bounds = [pa.field("key", pa.int32()), pa.field("first_us", pa.int64()), pa.field("last_us", pa.int64())]
        tables = {"keys": self.layout.key_schema, "sessions": pa.schema([*bounds, *fresh, *self.layout.state_fields])}
        return tables if self.trigger.every_us is None else {**tables, "meta": FIRED}

    def step(self, state: State, rows: pa.Table, moment: Moment) -> Step:  # noqa: D102
        over = reached(moment.watermark_us, self.grace_us)
        sessions, keys = self._read(state["sessions"]), state["keys"]
        closed, sessions = self._close(sessions, keys, over)
        rows, times, out = takes(self.layout, rows)
        if len(rows):
            keyed = self.layout.keyed(keys, rows)
            keys, found = keyed.keys, self._found(sessions, keyed.index, times)
            ends = self._ends(found.first, found.last)
            if (ends <= over).any():
                missed = ends[found.of_rows] <= over
                picked, missed_of = found.rows[missed], found.of_rows[missed]
                behind = moment.watermark_us - times[picked]
                out[LATE] = late_rows(self.layout, rows.take(pa.array(picked)), found.first[missed_of], ends[missed_of], behind)
            sessions = self._merged(sessions, found, rows, times, ends > over)
        fired, sessions, meta = self._fire(sessions, keys, state, moment)
        out |= windows_of(self.layout, [*closed, *fired])
        return Step(self._written(sessions, keys) | meta, out, self._wake(sessions, moment.watermark_us))

    def _read(self, table: pa.Table) -> _Sessions:
        fresh = np.zeros(len(table), np.int64) if self.trigger.only_on_close else column_ints(table, "fresh")
        states = [column(table, each.name) for each in self.layout.state_fields]
        return _Sessions(column_ints(table, "key"), column_ints(table, "first_us"), column_ints(table, "last_us"), fresh, states)

    def _written(self, sessions: _Sessions, keys: pa.Table) -> dict[str, pa.Table]:
        keys, key = compacted(keys, sessions.key)
        fresh = [] if self.trigger.only_on_close else [pa.array(sessions.fresh)]
        columns = [pa.array(key.astype(np.int32)), pa.array(sessions.first), pa.array(sessions.last), *fresh, *sessions.states]
        return {"keys": keys, "sessions": pa.Table.from_arrays(columns, schema=self.state_schema["sessions"])}

    def _ends(self, first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
        ends = last + self.gap_us
        return ends if self.maximum_us is None else np.minimum(ends, (first // self.maximum_us + 1) * self.maximum_us)

    def _close(self, sessions: _Sessions, keys: pa.Table, over: int) -> tuple[list[pa.Table], _Sessions]:
        due = self._ends(sessions.first, sessions.last) <= over
        if not due.any():
            return [], sessions
        given = due if self.trigger.accumulating or self.trigger.only_on_close else due & (sessions.fresh > 0)
        return [self._windows(sessions.where(given), keys, final=True)], sessions.where(~due)

    def _windows(self, sessions: _Sessions, keys: pa.Table, *, final: bool) -> pa.Table:
        named = keys.take(pa.array(sessions.key)) if self.layout.keys else keys
        ends = self._ends(sessions.first, sessions.last)
        return self.layout.windows(named, sessions.first, ends, sessions.states, final=final)

    def _found(self, sessions: _Sessions, index: NDArray[np.int64], times: NDArray[np.int64]) -> _Found:
        """Bring together open sessions and rows that overlap, directly or by others."""
        count = len(sessions)
        order = order_of([np.concatenate([sessions.key, index]), np.concatenate([sessions.first, times])])
        is_open = order < count
        rows = order[~is_open] - count
        key, first = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
        key[is_open], first[is_open] = sessions.key[order[is_open]], sessions.first[order[is_open]]
        key[~is_open], first[~is_open] = index[rows], times[rows]
        other_key = np.append(True, key[1:] != key[:-1])
        # Up to where the key reaches: open sessions of a key are apart, so the last one to start before is all that can reach further.
        reach = first.copy()
        if count:
            places = np.arange(len(order))
            session = np.maximum.accumulate(np.where(is_open, places, -1))
            same_key = session >= np.maximum.accumulate(np.where(other_key, places, 0))
            reach[same_key] = np.maximum(first[same_key], sessions.last[order[session[same_key]]])
        begins = other_key
        begins[1:] |= first[1:] - reach[:-1] >= self.gap_us
        if self.maximum_us is not None:
            cell = first // self.maximum_us
            begins[1:] |= cell[1:] != cell[:-1]
        starts = np.flatnonzero(begins)
        ids = np.cumsum(begins) - 1
        return _Found(
            key[starts], first[starts], reach[np.append(starts[1:], len(order)) - 1], order[is_open], ids[is_open], rows, ids[~is_open]
        )

    def _merged(self, sessions: _Sessions, found: _Found, rows: pa.Table, times: NDArray[np.int64], alive: NDArray[np.bool_]) -> _Sessions:
        """Return the sessions that are found and alive."""
        taken, owners = (found.rows, found.of_rows) if alive.all() else (part[alive[found.of_rows]] for part in (found.rows, found.of_rows))
        fresh = np.bincount(owners, minlength=len(alive)) + np.bincount(found.of_open, sessions.fresh[found.open], len(alive)).astype(
            np.int64
        )
        states, owner = pick(sessions.states, found.open), found.of_open
        if len(taken):
            starts = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
            states = join(states, self.layout.of_rows(rows, times, taken, Segments(starts, len(taken))))
            owner = np.append(owner, owners[starts])
        if len(found.open):
            order, segments = group(owner)
            states = self.layout.merge(pick(states, order), segments)
        kept = np.flatnonzero(alive)
        return _Sessions(found.key[kept], found.first[kept], found.last[kept], fresh[kept], states)

    def _fire(
        self, sessions: _Sessions, keys: pa.Table, state: State, moment: Moment
    ) -> tuple[list[pa.Table], _Sessions, dict[str, pa.Table]]:
        """Give out sessions that are still open, as the trigger says."""
        trigger, fresh = self.trigger, sessions.fresh
        if trigger.only_on_close:
            return [], sessions, {}
        interval, meta = interval_over(trigger, state, moment, wanted=len(sessions) > 0)
        firing = np.full(len(sessions), interval or trigger.every_batch)
        if trigger.every_rows is not None:
            firing |= fresh >= trigger.every_rows
        if trigger.at_end:
            firing |= self._ends(sessions.first, sessions.last) <= moment.watermark_us
        firing &= fresh > 0
        if not firing.any():
            return [], sessions, meta
        fired = self._windows(sessions.where(firing), keys, final=False)
        states = sessions.states
        if not trigger.accumulating:
            at = np.where(firing, len(fresh), np.arange(len(fresh)))
            states = pick(join(states, self.layout.identity(1)), at)
        return [fired], replace(sessions, fresh=np.where(firing, 0, fresh), states=states), meta

    def _wake(self, sessions: _Sessions, watermark_us: int) -> int | None:
        if not len(sessions):
            return None
        ends, waiting = self._ends(sessions.first, sessions.last), sessions.fresh > 0
        moments = [int(ends.min()) + self.grace_us]
        if self.trigger.at_end:
            moments.append(int(ends[waiting & (ends > watermark_us)].min(initial=FOREVER_US)))
        if self.trigger.every_us is not None and waiting.any():
            moments.append(watermark_us + 1)
        return first_of(moments)


@dataclass(frozen=True, slots=True)
class _Sessions:
    """Open sessions, ascending by key and time: places of their keys, times of their first and last row, rows since they last fired."""

    key: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    fresh: NDArray[np.int64]
    states: Sequence[pa.Array]

    def __len__(self) -> int:
        return len(self.key)

    def where(self, mask: NDArray[np.bool_]) -> _Sessions:
        if mask.all():
            return self
        rows = np.flatnonzero(mask)
        return _Sessions(self.key[rows], self.first[rows], self.last[rows], self.fresh[rows], pick(self.states, rows))


@dataclass(frozen=True, slots=True)
class _Found:
    """Sessions ascending by key and time, and what they are made of: open sessions and rows, each with the place of its session."""

    key: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    open: NDArray[np.int64]
    of_open: NDArray[np.int64]
    rows: NDArray[np.int64]
    of_rows: NDArray[np.int64]
