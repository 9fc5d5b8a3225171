"""Windows that depend on event time alone: tumbling, calendar, global, a user's own, and sliding ones made of shared panes.

Flows in: a bucket's panes with one state per pane and key, and new rows. Flows out: the rows of windows that close or fire, and
rows that came too late. A step closes first, with the state alone, then takes the new rows, then fires what its trigger asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, State, Step
from spark_ext.state.keys import ints
from spark_ext.state.segments import group
from spark_ext.windows.cover import Cover, assemble
from spark_ext.windows.groups import Groups, merged
from spark_ext.windows.panes import OUTSIDE, PaneAssigner, Panes
from spark_ext.windows.rows import INVALID, LATE, OUTSIDE_TAG, WINDOW, Layout, lateness
from spark_ext.windows.triggers import Trigger

__all__ = ["TimeWindows"]

PANES: Final = pa.schema([("start", pa.int64()), ("end", pa.int64())])
META: Final = pa.schema([("closed_us", pa.int64()), ("fired_us", pa.int64())])
UNUSED: Final = 4  # keys are thrown out when more than one in so many has no pane


@dataclass(frozen=True, slots=True)
class TimeWindows:
    """Aggregates per key and window, where a row's windows follow from its event time.

    Guarantee: a row is counted in each of its windows that has not closed at the watermark of its batch, and is repeated under the tag
    ``late`` with the number of windows that had. A window closes once, when the watermark reaches its end and its grace. Whatever the
    batches, a window's final result is that of all rows that it counts.

    Parameters
    ----------
    layout : Layout
        Columns, keys, aggregates.
    assigner : PaneAssigner
        Gives rows their panes.
    grace_us : int >= 0
        How long a window stays open behind its end, by the watermark, in microseconds.
    trigger : Trigger
        When windows fire before they close. ``each_rows`` and discarding ones only without a cover.
    fingerprint : str
        What the state depends on, as JSON.
    cover : Cover, optional
        Windows made of several panes; None: each pane is a window.

    State: per open pane and key 8 bytes and the aggregates' states, 8 more with a trigger; each key and each pane once. A pane goes with
    the last window that covers it.

    References
    ----------
    Akidau et al., "The Dataflow Model", VLDB 2015, sections 2.2 and 2.3; Li et al., "No Pane, No Gain", SIGMOD Record 34(1), 2005.
    """

    layout: Layout
    assigner: PaneAssigner
    grace_us: int
    trigger: Trigger
    fingerprint: str
    cover: Cover | None = None
    operator: str = field(default="time_windows_v1", init=False)

    @property
    def settings(self) -> str:  # noqa: D102
        return self.fingerprint

    @property
    def in_schema(self) -> pa.Schema:  # noqa: D102
        return self.layout.in_schema

    @property
    def out_schema(self) -> Mapping[str, pa.Schema]:  # noqa: D102
        return self.layout.out_schema

    @property
    def state_schema(self) -> Mapping[str, pa.Schema]:  # noqa: D102
        fresh = [] if self.trigger.only_on_close else [pa.field("fresh", pa.int64())]
        groups = [pa.field("pane", pa.int32()), pa.field("key", pa.int32()), *fresh, *self.layout.state_fields]
        return {"panes": PANES, "keys": self.layout.key_schema, "groups": pa.schema(groups), "meta": META}

    def step(self, state: State, rows: pa.Table, moment: Moment) -> Step:  # noqa: D102
        book = self._read(state)
        before_us = book.closed_us
        closed, book = self._close(book, moment.watermark_us)
        rejected, rows, times, panes = self._judge(rows, moment.watermark_us)
        book, added = self._add(book, rows, times, panes)
        fired, book = self._fire(book, added, moment, before_us)
        out = {**rejected, WINDOW: pa.concat_tables([self.out_schema[WINDOW].empty_table(), *closed, *fired])}
        book = _tidy(book)
        return Step(self._write(book), out, self._wake(book, moment.watermark_us))

    def _read(self, state: State) -> _Book:
        panes, groups, meta = state["panes"], state["groups"], state["meta"]
        triggered = "fresh" in groups.column_names
        columns = groups.columns[2 + triggered :]
        held = Groups(
            ints(groups.column("pane").cast(pa.int64())),
            ints(groups.column("key").cast(pa.int64())),
            ints(groups.column("fresh")) if triggered else np.zeros(len(groups), np.int64),
            [column.combine_chunks() for column in columns],
        )
        closed, fired = (meta.column(name)[0].as_py() if len(meta) else NEVER_US for name in META.names)
        return _Book(ints(panes.column("start")), ints(panes.column("end")), state["keys"], held, closed, fired)

    def _write(self, book: _Book) -> State:
        groups = book.groups
        fresh = [] if self.trigger.only_on_close else [pa.array(groups.fresh)]
        columns = [pa.array(groups.pane.astype(np.int32)), pa.array(groups.key.astype(np.int32)), *fresh, *groups.states]
        needs_meta = len(groups) and (self.cover is not None or self.trigger.every_us is not None)
        meta = pa.table([[book.closed_us], [book.fired_us]], schema=META) if needs_meta else META.empty_table()
        panes = pa.table([pa.array(book.starts), pa.array(book.ends)], schema=PANES)
        return {
            "panes": panes,
            "keys": book.keys,
            "groups": pa.Table.from_arrays(columns, schema=self.state_schema["groups"]),
            "meta": meta,
        }

    def _close(self, book: _Book, now: int) -> tuple[list[pa.Table], _Book]:
        """Give out the windows whose time is over, and forget what no other needs."""
        if not len(book.groups):
            return [], replace(book, closed_us=max(book.closed_us, now))
        until, after = now - self.grace_us, max(book.closed_us - self.grace_us, NEVER_US)
        if now == FOREVER_US:
            until = FOREVER_US
        _, last = self._ends(book.starts, book.ends)
        over = last <= until
        if self.cover is None:
            due = over[book.groups.pane]
            given = due if self.trigger.accumulating else due & (book.groups.fresh > 0)
            out = [self._windows(book, book.groups.where(given), final=True)] if given.any() else []
        else:
            ends = self.cover.closing(book.starts, after_us=after, until_us=until)
            out = self._covered(book, ends, final=True)
            due = over[book.groups.pane]
        kept = book.groups.where(~due) if due.any() else book.groups
        return out, replace(book, groups=kept, closed_us=max(book.closed_us, now))

    def _ends(self, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return (ends, ends) if self.cover is None else self.cover.ends(starts)

    def _windows(self, book: _Book, groups: Groups, *, final: bool) -> pa.Table:
        keys = book.keys.take(pa.array(groups.key)) if self.layout.keys else book.keys
        return self.layout.windows(keys, book.starts[groups.pane], book.ends[groups.pane], groups.states, final=final)

    def _covered(self, book: _Book, ends: NDArray[np.int64], *, final: bool) -> list[pa.Table]:
        assert self.cover is not None, "asked for windows that are no panes"  # noqa: S101
        out = []
        for some, groups in assemble(self.layout, self.cover, book.starts, book.groups, ends):
            wanted = groups if final else groups.where(groups.fresh > 0)
            whole = replace(book, starts=some - self.cover.length_us, ends=some)
            out.append(self._windows(whole, wanted, final=final))
        return out

    def _judge(self, rows: pa.Table, now: int) -> tuple[dict[str, pa.Table], pa.Table, NDArray[np.int64], Panes]:
        """Set aside what cannot be counted; of what is late for some windows only, give a copy."""
        out: dict[str, pa.Table] = {}
        times, valid = self.layout.times(rows)
        if not valid.all():
            out[INVALID] = self.layout.rejected(rows.filter(pa.array(~valid)))
            rows, times = rows.filter(pa.array(valid)), times[valid]
        panes = self.assigner.panes(times)
        first, last = self._ends(panes.starts, panes.ends)
        until = now - self.grace_us
        fine = panes.index != OUTSIDE
        if not fine.all():
            out[OUTSIDE_TAG] = self.layout.rejected(rows.filter(pa.array(~fine)))
        if (first <= until).any():
            behind = fine & np.append(first <= until, False)[panes.index]
            picked = np.flatnonzero(behind)
            if len(picked):
                out[LATE] = self._late(rows.take(pa.array(picked)), times[picked], panes, panes.index[picked], now)
            fine &= ~np.append(last <= until, False)[panes.index]
        if not fine.all():
            rows, times, panes = rows.filter(pa.array(fine)), times[fine], replace(panes, index=panes.index[fine])
        return out, rows, times, panes

    def _late(self, rows: pa.Table, times: NDArray[np.int64], panes: Panes, index: NDArray[np.int64], now: int) -> pa.Table:
        starts, ends = panes.starts[index], panes.ends[index]
        missed = windows = np.ones(len(index), np.int64)
        if self.cover is not None:
            missed, windows, ends = self.cover.missed(starts, now - self.grace_us)
            starts = ends - self.cover.length_us
        return self.layout.rejected(rows, **lateness(starts, ends, now - times, missed, windows))

    def _add(self, book: _Book, rows: pa.Table, times: NDArray[np.int64], panes: Panes) -> tuple[_Book, Groups]:
        """Return the book with the rows in it, and the groups that they make by themselves."""
        if not len(rows):
            return book, book.groups.where(np.zeros(len(book.groups), dtype=bool))
        keyed = self.layout.keyed(book.keys, rows)
        count = max(1, keyed.keys.num_rows)
        starts, ends, old_place, new_place = _unified(book, panes)
        codes = new_place[panes.index] * count + keyed.index
        order, segments = group(codes)
        found = codes[order][segments.starts]
        states = self.layout.of_rows(rows, times, order, segments)
        new = Groups(found // count, found % count, segments.sizes, states)
        old = replace(book.groups, pane=old_place[book.groups.pane])
        return replace(book, starts=starts, ends=ends, keys=keyed.keys, groups=merged(self.layout, old, new, count)), new

    def _fire(self, book: _Book, added: Groups, moment: Moment, before_us: int) -> tuple[list[pa.Table], _Book]:
        """Give out windows that are still open, as the trigger says."""
        trigger, fresh = self.trigger, book.groups.fresh
        if trigger.only_on_close or not len(fresh):
            return [], book
        every = trigger.every_us
        due = every is not None and book.fired_us != NEVER_US and moment.batch_us // every > book.fired_us // every
        if every is not None and (due or book.fired_us == NEVER_US):
            book = replace(book, fired_us=moment.batch_us)  # the first rows wait for the next interval
        all_due = due or trigger.every_batch
        if self.cover is not None:
            if all_due:
                out = self._fire_panes(book, book.groups, after_us=moment.watermark_us - self.grace_us, until_us=FOREVER_US)
                return out, replace(book, groups=replace(book.groups, fresh=np.zeros(len(fresh), np.int64)))
            return self._fire_ended(book, added, moment.watermark_us, before_us), book
        ended = book.ends[book.groups.pane] <= moment.watermark_us
        firing = (fresh > 0) & (all_due | (trigger.at_end & ended) | (fresh >= (trigger.every_rows or FOREVER_US)))
        if not firing.any():
            return [], book
        out = self._windows(book, book.groups.where(firing), final=False)
        states = book.groups.states
        if not trigger.accumulating:
            kept, empty = pa.array(np.where(firing, len(fresh), np.arange(len(fresh)))), self.layout.identity(1)
            states = [pa.concat_arrays([state, nothing]).take(kept) for state, nothing in zip(states, empty, strict=True)]
        return [out], replace(book, groups=replace(book.groups, fresh=np.where(firing, 0, fresh), states=states))

    def _fire_panes(self, book: _Book, touched: Groups, *, after_us: int, until_us: int) -> list[pa.Table]:
        """Give out the windows that end in ``(after_us, until_us]``, for the keys that have fresh rows among `touched`."""
        assert self.cover is not None, "called for windows made of panes"  # noqa: S101
        starts = book.starts[np.unique(touched.pane[touched.fresh > 0])]
        ends = self.cover.closing(starts, after_us=after_us, until_us=until_us)
        fresh = np.zeros(len(book.groups), np.int64)
        keys = max(1, book.keys.num_rows)
        fresh[np.searchsorted(book.groups.pane * keys + book.groups.key, touched.pane * keys + touched.key)] = touched.fresh
        return self._covered(replace(book, groups=replace(book.groups, fresh=fresh)), ends, final=False)

    def _fire_ended(self, book: _Book, added: Groups, now: int, before_us: int) -> list[pa.Table]:
        """Give out windows when they end and stay open, and those that ended before and got rows in their grace."""
        assert self.cover is not None, "called for windows made of panes"  # noqa: S101
        if not self.trigger.at_end or not self.grace_us:
            return []
        ended = max(before_us, now - self.grace_us)
        crossing = self.cover.closing(book.starts, after_us=ended, until_us=now)
        everything = replace(book, groups=replace(book.groups, fresh=np.ones(len(book.groups), np.int64)))
        out = self._covered(everything, crossing, final=False)
        return out + self._fire_panes(book, added, after_us=now - self.grace_us, until_us=min(ended, now))

    def _wake(self, book: _Book, now: int) -> int | None:
        if not len(book.groups):
            return None
        if self.cover is None:
            due = book.ends
        else:
            first, _ = self.cover.ends(book.starts)
            behind = now - self.grace_us - first
            due = np.where(behind < 0, first, first + (behind // self.cover.interval_us + 1) * self.cover.interval_us)
        moments = [np.minimum(due, FOREVER_US - self.grace_us) + self.grace_us]
        if self.trigger.at_end and self.grace_us:
            moments.append(book.ends[book.ends > now])
        if self.trigger.every_us is not None and book.groups.fresh.any():
            moments.append(np.array([now + 1]))
        earliest = int(np.concatenate(moments).min())
        return None if earliest >= FOREVER_US else earliest


@dataclass(frozen=True, slots=True)
class _Book:
    """A bucket's state as arrays."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    keys: pa.Table
    groups: Groups
    closed_us: int
    fired_us: int


def _unified(book: _Book, panes: Panes) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the panes of both, and the new places of the old ones and of the new ones."""
    starts, ends = np.concatenate([book.starts, panes.starts]), np.concatenate([book.ends, panes.ends])
    order = np.lexsort((ends, starts))
    starts, ends = starts[order], ends[order]
    distinct = np.append(True, (starts[1:] != starts[:-1]) | (ends[1:] != ends[:-1]))
    place = np.empty(len(order), np.int64)
    place[order] = np.cumsum(distinct) - 1
    return starts[distinct], ends[distinct], place[: len(book.starts)], place[len(book.starts) :]


def _tidy(book: _Book) -> _Book:
    """Forget panes that nothing is in, and keys once many are in no pane."""
    groups = book.groups
    panes = np.bincount(groups.pane, minlength=len(book.starts)) > 0
    if not panes.all():
        groups = replace(groups, pane=(np.cumsum(panes) - 1)[groups.pane])
        book = replace(book, starts=book.starts[panes], ends=book.ends[panes], groups=groups)
    used = np.zeros(book.keys.num_rows, dtype=bool)
    if len(used):
        used[groups.key] = True
    unused = len(used) - int(used.sum())
    if unused * UNUSED <= len(used) and (unused == 0 or len(groups)):
        return book
    keys = book.keys.filter(pa.array(used)).combine_chunks()
    return replace(book, keys=keys, groups=replace(groups, key=(np.cumsum(used) - 1)[groups.key]))
