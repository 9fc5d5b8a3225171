"""Count windows: so many rows of a key, in order of event time.

Flows in: a bucket's waiting rows, what its keys have so far, and new rows. Flows out: windows that are full, and rows that came when
their place in the order was given out. A row waits until the watermark has passed it: only then is it known which rows come before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.errors import SettingsError
from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, State, Step
from spark_ext.state.segments import Segments
from spark_ext.windows.aggregates.reduce import order_of
from spark_ext.windows.rows import LATE, OUTSIDE_TAG, Layout
from spark_ext.windows.spans import merged_spans, within
from spark_ext.windows.states import (
    accepted,
    changes,
    checked,
    column,
    column_ints,
    first_of,
    join,
    late_rows,
    pick,
    reached,
    takes,
    windows_of,
)
from spark_ext.windows.total_order import total_order
from spark_ext.windows.triggers import Trigger

__all__ = ["CountWindows"]

COUNTS: Final = pa.schema([("rows", pa.int64()), ("last_us", pa.int64())])
PANES: Final = [
    pa.field("key", pa.int32()),
    pa.field("pane", pa.int32()),
    pa.field("first_us", pa.int64()),
    pa.field("last_us", pa.int64()),
]
MOST_ROWS: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class CountWindows:
    """Aggregates per key over `rows` rows, one window every `every` rows.

    Window ``k`` of a key has its rows ``k * every`` to ``k * every + rows - 1``.
    Rows of a key are counted in order of event time, those of the same time in order of their values, column by column. So a window
    does not depend on how rows arrived. Its bounds are the event times of its first and last row, both included.

    Guarantee: a row that comes while ``event time + grace`` is above the watermark of its batch is in each window that its place says.
    One that comes later is repeated under the tag ``late``, with null bounds: other rows have its place. Windows are given out once,
    when full; at the end of time, or when their key is forgotten, also those that have begun, as they are.

    Parameters
    ----------
    layout : Layout
        Columns, keys, aggregates.
    rows : int > 0
        Rows of a window.
    every : int
        Rows from one window to the next, from 1 to `rows`; `rows` for windows that do not overlap.
    ttl_us : int > 0, optional
        A key without rows for so long of event time, in microseconds, is forgotten, and counted anew from its next row on. None: a
        window that has begun waits for its rows for ever.
    grace_us : int >= 0
        How far the watermark must be behind a row before it is counted, in microseconds.
    trigger : Trigger
        `on_close`.
    fingerprint : str
        What the state depends on, as JSON.

    Raises
    ------
    SettingsError
        A number is out of range, or the trigger fires early.

    State: rows that the watermark has not passed, whole; per key with a window that has begun 16 bytes and the key, and for each
    ``gcd(rows, every)`` rows of it 24 bytes and the aggregates' states.

    References
    ----------
    Li et al., "Semantics and Evaluation Techniques for Window Aggregates in Data Streams", SIGMOD 2005, section 3 (row-based windows);
    Li et al., "No Pane, No Gain", SIGMOD Record 34(1), 2005.
    """

    layout: Layout
    rows: int
    every: int
    ttl_us: int | None
    grace_us: int
    trigger: Trigger
    fingerprint: str
    operator: str = field(default="count_windows_v1", init=False)

    def __post_init__(self) -> None:
        checked("count", "rows", self.rows, most=MOST_ROWS)
        checked("count", "every", self.every, most=self.rows)
        checked("count", "ttl_us", self.ttl_us, optional=True)
        checked("count", "grace_us", self.grace_us, least=0)
        if not self.trigger.only_on_close:
            raise SettingsError(
                "build",
                "window",
                "count",
                expected="the trigger on_close()",
                got=repr(self.trigger),
                why="before the watermark has passed a row, which window it is in is not known",
                todo="use on_close(), or an evicting window for the last rows so far",
            )

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
        panes = pa.schema([*PANES, *self.layout.state_fields])
        return {"waiting": self.layout.in_schema, "keys": self.layout.key_schema, "counts": COUNTS, "panes": panes}

    def step(self, state: State, rows: pa.Table, moment: Moment) -> Step:  # noqa: D102
        over = reached(moment.watermark_us, self.grace_us)
        waiting, waiting_since = state["waiting"], self.layout.times(state["waiting"])[0]
        ready = waiting_since <= over
        begun = self._read(state)
        windows: list[pa.Table] = []
        if ready.any() or self._ends(begun.last, over).any():
            begun = self._counted(begun, *accepted(waiting, waiting_since, ready))
            windows, begun = self._given(begun, over)
            waiting, waiting_since = accepted(waiting, waiting_since, ~ready)
        rows, times, out = takes(self.layout, rows)
        late = times <= over
        if late.any():
            missed = np.full(int(late.sum()), NEVER_US), np.full(int(late.sum()), FOREVER_US)
            out[LATE] = late_rows(self.layout, rows.filter(pa.array(late)), *missed, moment.watermark_us - times[late])
            rows, times = accepted(rows, times, ~late)
        if len(rows):
            waiting = pa.concat_tables([waiting, rows]).combine_chunks()
        out |= windows_of(self.layout, windows)
        moments = [int(each.min()) for each in (waiting_since, times) if len(each)]
        if self.ttl_us is not None and len(begun.last):
            moments.append(int(begun.last.min()) + self.ttl_us)
        return Step(self._written(begun, waiting), out, first_of([moment + self.grace_us for moment in moments]))

    @property
    def _pane(self) -> int:
        return gcd(self.rows, self.every)

    def _read(self, state: State) -> _Begun:
        counts, panes = state["counts"], state["panes"]
        key, number, first, last = (column_ints(panes, each.name) for each in PANES)
        states = [column(panes, each.name) for each in self.layout.state_fields]
        rows = column_ints(counts, "rows")
        return _Begun(state["keys"], np.arange(len(rows)), rows, column_ints(counts, "last_us"), _Panes(key, number, first, last, states))

    def _written(self, begun: _Begun, waiting: pa.Table) -> State:
        """Lives are one per key here, and in its place."""
        panes = begun.panes
        numbers = [
            pa.array(panes.life.astype(np.int32)),
            pa.array(panes.number.astype(np.int32)),
            pa.array(panes.first),
            pa.array(panes.last),
        ]
        return {
            "waiting": waiting,
            "keys": begun.keys,
            "counts": pa.table([pa.array(begun.rows), pa.array(begun.last)], schema=COUNTS),
            "panes": pa.Table.from_arrays([*numbers, *panes.states], schema=self.state_schema["panes"]),
        }

    def _ends(self, last: NDArray[np.int64], over: int) -> NDArray[np.bool_]:
        """Return which keys are forgotten, by the times of their last rows."""
        if over >= FOREVER_US or self.ttl_us is None:
            return np.full(len(last), over >= FOREVER_US)
        return last + self.ttl_us <= over

    def _counted(self, begun: _Begun, rows: pa.Table, times: NDArray[np.int64]) -> _Begun:
        """Count rows that come behind all that were counted before."""
        if not len(rows):
            return begun
        known = len(begun.rows)
        keyed = self.layout.keyed(begun.keys, rows)
        values = [rows.column(name) for name in self.in_schema.names if name not in {*self.layout.keys, self.layout.time}]
        order = total_order([keyed.index, times], values)
        key, time = keyed.index[order], times[order]
        first_of_key = changes(key)
        anew = first_of_key & (key >= known)
        if self.ttl_us is not None:
            before = np.append(0, time[:-1])
            continued = first_of_key & ~anew
            before[continued] = begun.last[key[continued]]
            anew |= time - before >= self.ttl_us
        # A life is a key between two times of being forgotten: the one that is known has the key's number, others follow.
        begins = np.cumsum(anew)
        key_starts = np.flatnonzero(first_of_key)
        earlier: NDArray[np.int64] = np.repeat((begins - anew)[key_starts], np.diff(key_starts, append=len(key)))
        life = np.where(begins > earlier, known + begins - 1, key)
        starts = np.flatnonzero(changes(life))
        sizes, lives = np.diff(starts, append=len(life)), life[starts]
        counts = np.append(begun.rows, np.zeros(int(begins[-1]), np.int64))
        last = np.append(begun.last, np.zeros(int(begins[-1]), np.int64))
        number = (np.repeat(counts[lives] - starts, sizes) + np.arange(len(life))) // self._pane
        counts[lives] += sizes
        last[lives] = time[starts + sizes - 1]
        pane_starts = np.flatnonzero(changes(life, number))
        pane_ends = np.append(pane_starts[1:], len(life)) - 1
        states = self.layout.of_rows(rows, times, order, Segments(pane_starts, len(life)))
        new = _Panes(life[pane_starts], number[pane_starts], time[pane_starts], time[pane_ends], states)
        return _Begun(keyed.keys, np.append(begun.key, key[anew]), counts, last, _merged(self.layout, begun.panes, new))

    def _given(self, begun: _Begun, over: int) -> tuple[list[pa.Table], _Begun]:
        """Give out windows that are full, or whose key is forgotten; count on from the first that is not."""
        ended = self._ends(begun.last, over)
        full = np.maximum((begun.rows - self.rows) // self.every + 1, 0)
        given = np.where(ended, -(-begun.rows // self.every), full)
        panes, per_window = begun.panes, self.every // self._pane
        life = np.repeat(np.arange(len(given)), given)
        from_row = within(given) * self.every
        to_row = np.minimum(from_row + self.rows, begun.rows[life])
        # A life's panes are neighbours, and the first has number 0.
        firsts = np.searchsorted(panes.life, life) + from_row // self._pane
        lengths = -(-to_row // self._pane) - from_row // self._pane
        windows = []
        if len(life):
            keys = begun.keys.take(pa.array(begun.key[life])) if self.layout.keys else begun.keys
            states = merged_spans(self.layout, panes.states, firsts, lengths)
            windows = [self.layout.windows(keys, panes.first[firsts], panes.last[firsts + lengths - 1], states, final=True)]
        rows = begun.rows - full * self.every
        stays = ~ended & (rows > 0)
        kept = panes.where(stays[panes.life] & (panes.number >= (full * per_window)[panes.life]))
        place = np.cumsum(stays) - 1
        kept = _Panes(place[kept.life], kept.number - (full * per_window)[kept.life], kept.first, kept.last, kept.states)
        keys = begun.keys.take(pa.array(begun.key[stays])).combine_chunks() if self.layout.keys else begun.keys
        return windows, _Begun(keys, np.arange(int(stays.sum())), rows[stays], begun.last[stays], kept)


@dataclass(frozen=True, slots=True)
class _Panes:
    """Neighbouring rows of a life, ascending by life and number: times of the first and last row, states of the aggregates."""

    life: NDArray[np.int64]
    number: NDArray[np.int64]
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    states: Sequence[pa.Array]

    def where(self, mask: NDArray[np.bool_]) -> _Panes:
        rows = np.flatnonzero(mask)
        return _Panes(self.life[rows], self.number[rows], self.first[rows], self.last[rows], pick(self.states, rows))


@dataclass(frozen=True, slots=True)
class _Begun:
    """What has been counted: keys; per life its key, its rows since the first window that is not full, the time of its last; panes."""

    keys: pa.Table
    key: NDArray[np.int64]
    rows: NDArray[np.int64]
    last: NDArray[np.int64]
    panes: _Panes


def _merged(layout: Layout, old: _Panes, new: _Panes) -> _Panes:
    if not len(old.life):
        return _sorted(new)
    life, number = np.append(old.life, new.life), np.append(old.number, new.number)
    order = order_of([life, number])
    starts = np.flatnonzero(changes(life[order], number[order]))
    first = np.minimum.reduceat(np.append(old.first, new.first)[order], starts)
    last = np.maximum.reduceat(np.append(old.last, new.last)[order], starts)
    states = layout.merge(pick(join(old.states, new.states), order), Segments(starts, len(order)))
    return _Panes(life[order][starts], number[order][starts], first, last, states)


def _sorted(panes: _Panes) -> _Panes:
    """Lives that begin anew have higher numbers than those of keys behind them."""
    order = order_of([panes.life, panes.number])
    return _Panes(panes.life[order], panes.number[order], panes.first[order], panes.last[order], pick(panes.states, order))
