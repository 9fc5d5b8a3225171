"""Kafka's sliding windows: bounds that follow the records, not the clock."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, State, Step
from spark_ext.state.keys import codes, ints
from spark_ext.state.segments import Segments
from spark_ext.windows.rows import INVALID, LATE, WINDOW, Layout, lateness

__all__ = ["RecordWindows"]

ROWS: Final = "kept"
CLOSED: Final = "closed"
CLOSED_SCHEMA: Final = pa.schema([("closed_us", pa.int64())])
MS: Final = 1_000

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class RecordWindows:
    """For each record at `t` (milliseconds) the windows ``[t - difference, t]`` and, if it holds a record, ``[t + 1, t + 1 + difference]``.

    Guarantee: each window comes out once, when the watermark is above its end and grace, with all records in it that are not late. A record
    is late if its time is below the watermark less the grace, in whole milliseconds: whatever window such a one is in, may have come out.
    So results do not depend on how records were cut into batches.

    Parameters
    ----------
    layout : Layout
        Key, time and aggregates.
    difference_us, grace_us : int >= 0
        Microseconds, whole milliseconds of them count.

    State: the records of the last ``difference + grace`` before the watermark and all behind it, columns of keys, time and aggregates; how
    far windows have come out.
    """

    layout: Layout
    difference_us: int
    grace_us: int
    operator: str = field(default="record_windows_v1", init=False)

    @property
    def settings(self) -> str:
        """What the state depends on, as JSON."""
        layout = self.layout
        return json.dumps({
            "columns": {one.name: str(one.type) for one in self._kept_schema}, "keys": list(layout.keys), "time": layout.time,
            "aggregates": {name: repr(one) for name, one in layout.aggregates},
            "difference_us": self.difference_us, "grace_us": self.grace_us,
        })  # fmt: skip

    @property
    def in_schema(self) -> pa.Schema:
        """Columns of the records."""
        return self.layout.in_schema

    @cached_property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        """The records, and up to where windows have come out."""
        return {ROWS: self._kept_schema, CLOSED: CLOSED_SCHEMA}

    @cached_property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        """As that of all windows."""
        return {tag: schema for tag, schema in self.layout.out_schema.items() if tag in {WINDOW, LATE, INVALID}}

    @cached_property
    def _kept_schema(self) -> pa.Schema:
        layout = self.layout
        names = dict.fromkeys([*layout.keys, layout.time, *(name for _, one in layout.aggregates for name in one.inputs)])
        return pa.schema([layout.in_schema.field(name) for name in names])

    def step(self, state: State, rows: pa.Table, moment: Moment) -> Step:
        """Fold one micro-batch into the bucket; see `spark_ext.state.kernel.Kernel.step`."""
        # Records are put into milliseconds: one is late or not as a whole.
        edge = (moment.watermark_us - self.grace_us) // MS * MS if NEVER_US < moment.watermark_us < FOREVER_US else moment.watermark_us
        times, is_valid = self.layout.times(rows)
        is_late = is_valid & (times < edge)
        out = {}
        if not is_valid.all():
            out[INVALID] = self.layout.rejected(rows.filter(pa.array(~is_valid)))
        if is_late.any():
            at = times[is_late]
            one = np.ones(len(at), np.int64)
            more = lateness(at - self.difference_us, at, moment.watermark_us - at, one, one)
            out[LATE] = self.layout.rejected(rows.filter(pa.array(is_late)), **more)
        fresh = rows.filter(pa.array(is_valid & ~is_late)).select(self._kept_schema.names)
        held = pa.concat_tables([state[ROWS], fresh.cast(self._kept_schema)]).combine_chunks()
        if not held.num_rows:
            return Step({ROWS: held, CLOSED: CLOSED_SCHEMA.empty_table()}, out, None)
        closed = state[CLOSED].column(0)[0].as_py() if state[CLOSED].num_rows else NEVER_US
        ranges = _Ranges.of(held, self.layout, self.difference_us // MS)
        key, end = ranges.windows()
        ends_us = end * MS
        due = (ends_us >= closed) & (ends_us < edge)
        if due.any():
            out[WINDOW] = self._results(held, ranges, key[due], end[due])
        keeps = pa.array(ints(held.column(self.layout.time)) >= edge - self.difference_us - MS)
        kept = held.filter(keeps).combine_chunks()
        later = ends_us[ends_us >= max(edge, closed)]
        # The edge has passed the millisecond of a window's end, or that of the last record by so much that nobody needs it.
        last_us = int(later.min()) if len(later) else int(end.max()) * MS + self.difference_us + 2 * MS
        wake = last_us + MS + self.grace_us if len(later) or kept.num_rows else None
        marks = pa.table({"closed_us": pa.array([max(edge, closed)] if kept.num_rows else [], pa.int64())})
        return Step({ROWS: kept, CLOSED: marks}, out, wake)

    def _results(self, held: pa.Table, ranges: _Ranges, key: Numbers, end: Numbers) -> pa.Table:
        starts, stops = ranges.rows(key, end)
        sizes = stops - starts
        first = np.cumsum(sizes) - sizes
        rows = ranges.order[np.arange(sizes.sum()) - np.repeat(first - starts, sizes)]
        segments = Segments(first, int(sizes.sum()))
        states = self.layout.of_rows(held, ints(held.column(self.layout.time)), rows, segments)
        keys = held.select(list(self.layout.keys)).take(pa.array(ranges.order[starts]))
        return self.layout.windows(keys, (end - self.difference_us // MS) * MS, end * MS, states, final=True)


@dataclass(frozen=True)
class _Ranges:
    """Records in order of key and time, so that a window is a range of them."""

    order: Numbers
    place: Numbers  # of key and time in one number, in that order
    key: Numbers
    time: Numbers  # milliseconds
    origin: int
    span: int
    difference: int

    @classmethod
    def of(cls, held: pa.Table, layout: Layout, difference: int) -> _Ranges:
        key = codes([held.column(name) for name in layout.keys])
        time = ints(held.column(layout.time)) // MS
        origin = int(time.min()) - difference - 1
        span = int(time.max()) - origin + difference + 3
        place = key * span + (time - origin)
        order = np.argsort(place, kind="stable")
        return cls(order, place[order], key[order], time[order], origin, span, difference)

    def windows(self) -> tuple[Numbers, Numbers]:
        """Return key and end of each window, once."""
        right_end = self.time + 1 + self.difference
        starts, stops = self.rows(self.key, right_end)
        holds = stops > starts
        keys, ends = np.append(self.key, self.key[holds]), np.append(self.time, right_end[holds])
        _, first = np.unique(keys * self.span + (ends - self.origin), return_index=True)
        return keys[first], ends[first]

    def rows(self, key: Numbers, end: Numbers) -> tuple[Numbers, Numbers]:
        """Return where the records of windows begin and end, in this order."""
        base = key * self.span - self.origin
        return np.searchsorted(self.place, base + end - self.difference), np.searchsorted(self.place, base + end, side="right")
