"""Join two sides whose event times are near each other: inner, outer, semi and anti."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from spark_ext.joins.layout import BOTH, EXCESS, JOINED, LEFT, MATCHED, RIGHT, SIDE, Layout, Side
from spark_ext.joins.rejected import Rejected, sifted
from spark_ext.joins.shapes import Interval
from spark_ext.joins.sides import Mask, Numbers, Pairs, Sorted, expanded, has_key, sorted_rows, taken
from spark_ext.state.kernel import Moment, State, Step

__all__ = ["IntervalJoin"]


@dataclass(frozen=True)
class IntervalJoin:
    """The join of two sides on equal keys and ``left.time + lower <= right.time <= left.time + upper``.

    Guarantee: what comes out tagged ``joined`` is, over all batches, the join of all rows that came out under no other tag, as a batch join
    has it: each pair once; an unmatched row, where `Layout.how` wants it, once. It does not depend on how rows were cut into batches.
    A pair comes out with the later of its two rows; an unmatched row with the first batch whose watermark is above the last event time
    that could match it. A row is ``late`` if its event time is below the watermark.

    A row that has more than `Layout.most_matches` partners when it comes is ``excess``: not joined, not kept. Within a batch rows of
    the right side come first.

    Parameters
    ----------
    layout : Layout
        Columns, keys, and what comes out.
    within : Interval
        How far apart event times may be.

    State: tables ``left`` and ``right``: rows of that side, the hash of their key and, if it matters, whether they were matched, until the
    watermark has passed the last event time that could match them. Of ``semi`` and ``anti`` the left rows that were matched are gone.
    """

    layout: Layout
    within: Interval

    @property
    def operator(self) -> str:
        """Name and version of the state's layout."""
        return "interval_join_v1"

    @property
    def settings(self) -> str:
        """What the state depends on, as JSON."""
        bounds = {"lower_us": self.within.lower_us, "upper_us": self.within.upper_us}
        how = {"how": self.layout.how, "left": self.layout.left.settings, "right": self.layout.right.settings}
        return json.dumps({**how, **bounds})

    @property
    def in_schemas(self) -> Mapping[str, pa.Schema]:
        """Columns of both sides."""
        return self.layout.in_schemas

    @cached_property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        """Tables of the state."""
        found = {}
        for name, side in self._sides.items():
            notes = [pa.field(MATCHED, pa.bool_())] if self._is_noted(name) else []
            found[name] = pa.schema([*side.in_schema, *notes])
        return found

    @property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        """Columns of each tag, see `Layout.out_schema`."""
        return self.layout.out_schema

    def step(self, state: State, rows: Mapping[str, pa.Table], moment: Moment) -> Step:
        """Join one micro-batch of the bucket; see `spark_ext.state.kernel.Kernel.step`."""
        out = Rejected(self.layout)
        old = {name: Sorted.of(state[name], side.time) for name, side in self._sides.items()}
        new: dict[str, Sorted] = {}
        keyless: dict[str, pa.Table] = {}
        for name, side in self._sides.items():
            good = sifted(rows[name], name, self.layout, moment.watermark_us, out)
            keyed = has_key(good, side)
            if not keyed.all():
                keyless[name] = good.filter(pa.array(~keyed))
                good = good.filter(pa.array(keyed))
            new[name] = sorted_rows(good, side.time)
        # Right rows first: they meet the left rows that were there. Then left rows: they meet all right rows.
        of_right, new[RIGHT] = self._met(RIGHT, new[RIGHT], [old[LEFT]], out)
        of_left, new[LEFT] = self._met(LEFT, new[LEFT], [old[RIGHT], new[RIGHT]], out)
        known = {name: len(old[name]) for name in old}
        pairs = Pairs.united([
            Pairs(of_right.right, of_right.left + known[RIGHT]),
            Pairs(of_left.left + known[LEFT], of_left.right),
        ])  # fmt: skip
        tables = {name: self._all_rows(name, old[name], new[name]) for name in self._sides}
        pairs = pairs.with_equal_keys(tables[LEFT], tables[RIGHT], self.layout)
        return self._finished(tables, old, new, pairs, keyless, moment.watermark_us, out)

    @property
    def _sides(self) -> Mapping[str, Side]:
        return {LEFT: self.layout.left, RIGHT: self.layout.right}

    @property
    def _unmatched(self) -> set[str]:
        """Sides whose unmatched rows come out."""
        return {"left": {LEFT}, "anti": {LEFT}, "right": {RIGHT}, "full": {LEFT, RIGHT}}.get(self.layout.how, set())

    def _is_noted(self, name: str) -> bool:
        """Tell whether it is noted of rows of that side that they were matched."""
        return name in self._unmatched and not self.layout.is_one_sided

    def _reach(self, name: str) -> tuple[int, int]:
        """Return how far before and behind a row of that side its partners are, in microseconds."""
        within = self.within
        return (within.lower_us, within.upper_us) if name == LEFT else (-within.upper_us, -within.lower_us)

    def _met(self, name: str, new: Sorted, others: list[Sorted], out: Rejected) -> tuple[Pairs, Sorted]:
        """Return new rows of a side with their partners among the others, one behind the other, and the rows that are not too many."""
        before, behind = self._reach(name)
        found = [other.range_of(new.hashes, new.times + before, new.times + behind) for other in others]
        counts = np.asarray(sum(count for _, count in found), np.int64)
        if (counts > self.layout.most_matches).any():
            found, new = self._without_excess(name, new, found, counts, out)
        pairs, offset = [], 0
        for other, (starts, count) in zip(others, found, strict=True):
            pair = expanded(starts, count)
            pairs.append(Pairs(pair.left, pair.right + offset))
            offset += len(other)
        return Pairs.united(pairs), new

    def _without_excess(
        self, name: str, new: Sorted, found: list[tuple[Numbers, Numbers]], counts: Numbers, out: Rejected
    ) -> tuple[list[tuple[Numbers, Numbers]], Sorted]:
        kept = counts <= self.layout.most_matches
        out.add(EXCESS, name, new.rows.filter(pa.array(~kept)))
        return [(starts[kept], count[kept]) for starts, count in found], Sorted(
            new.rows.filter(pa.array(kept)), new.hashes[kept], new.times[kept]
        )

    def _all_rows(self, name: str, old: Sorted, new: Sorted) -> pa.Table:
        notes = [pa.repeat(pa.scalar(False), len(new))] if self._is_noted(name) else []
        fresh = pa.table([*new.rows.columns, *notes], schema=self.state_schema[name])
        return pa.concat_tables([old.rows, fresh]).combine_chunks()

    def _finished(
        self,
        tables: Mapping[str, pa.Table],
        old: Mapping[str, Sorted],
        new: Mapping[str, Sorted],
        pairs: Pairs,
        keyless: Mapping[str, pa.Table],
        watermark_us: int,
        out: Rejected,
    ) -> Step:
        """Give out pairs and what is proven unmatched, and keep what can still be matched."""
        joined = []
        if not self.layout.is_one_sided:
            joined.append(self.layout.pairs_of(taken(tables[LEFT], pairs.left), taken(tables[RIGHT], pairs.right)))
        state, wakes = {}, []
        for name in self._sides:
            times = np.append(old[name].times, new[name].times)
            matched = self._matched(name, tables[name], pairs)
            last_us = times + self._reach(name)[1]
            alive = last_us >= watermark_us
            if name == LEFT and self.layout.is_one_sided:
                alive &= ~matched
            if name in self._unmatched:
                gone = ~alive & ~matched
                joined += [self._alone(name, one) for one in (tables[name].filter(pa.array(gone)), keyless.get(name)) if one is not None]
                if (waiting := alive & ~matched).any():
                    wakes.append(int(last_us[waiting].min()) + 1)
            if alive.any():
                wakes.append(int(last_us[alive].max()) + 1)
            order = old[name].merged_order(new[name])
            state[name] = self._noted(name, taken(tables[name], order[alive[order]]), matched[order[alive[order]]])
        if self.layout.how == "semi":
            first = np.zeros(tables[LEFT].num_rows, bool)
            first[pairs.left] = True
            both = {SIDE: pa.repeat(pa.scalar(BOTH), int(first.sum()))}
            joined.append(self.layout.rows_of(LEFT, tables[LEFT].filter(pa.array(first)), self.out_schema[JOINED], **both))
        given = {JOINED: pa.concat_tables(joined)} if joined else {}
        return Step(state, {**given, **out.tables()}, min(wakes, default=None))

    def _matched(self, name: str, rows: pa.Table, pairs: Pairs) -> Mask:
        found = np.zeros(rows.num_rows, bool)
        if self._is_noted(name):
            found = np.array(rows.column(MATCHED).to_numpy())
        found[pairs.left if name == LEFT else pairs.right] = True
        return found

    def _noted(self, name: str, rows: pa.Table, matched: Mask) -> pa.Table:
        if not self._is_noted(name):
            return rows
        return rows.set_column(rows.schema.get_field_index(MATCHED), MATCHED, pa.array(matched))

    def _alone(self, name: str, rows: pa.Table) -> pa.Table:
        return self.layout.rows_of(name, rows, self.out_schema[JOINED])
