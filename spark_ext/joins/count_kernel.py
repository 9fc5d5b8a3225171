"""Join each row with the last rows of its key on the other side."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa

from spark_ext.errors import SettingsError
from spark_ext.joins.layout import BOTH, JOINED, LEFT, MATCHED, RIGHT, SIDE, Layout, Side
from spark_ext.joins.places import key_codes, numbered, split
from spark_ext.joins.rejected import Rejected, sifted
from spark_ext.joins.shapes import Counts
from spark_ext.joins.sides import Mask, Numbers, Pairs, expanded, has_key, taken
from spark_ext.state.kernel import FOREVER_US, Moment, State, Step
from spark_ext.state.keys import ints
from spark_ext.windows.total_order import total_order

__all__ = ["CountJoin"]

WAITING: Final = "_waiting"  # left_waiting, right_waiting
OTHER: Final = {LEFT: RIGHT, RIGHT: LEFT}


@dataclass(frozen=True)
class CountJoin:
    """Each row with the last n rows of its key on the other side, as they were when event time had come to it.

    Guarantee: rows that are not ``late`` or ``invalid`` are gone through by event time, at one time left before right, those of one side by
    their values; so neither arrival nor batches matter. Each pair comes out once, with the later of its rows, when the watermark has passed
    that; an unmatched row, where `Layout.how` wants it, once it is proven: at its own turn if its side is not kept, else when newer rows of
    its key have pushed it out of the window, or at the end of a bounded run. A row without a key, at once.

    Parameters
    ----------
    layout : Layout
        Columns, keys, and what comes out.
    within : Counts
        How many rows of each side are kept by key; of a side with 0 rows trigger, and are not met.

    Raises
    ------
    SettingsError
        Neither side is kept, or more rows than `Layout.most_matches`: what a row meets is bounded by the window, so nothing is ``excess``.

    State: ``left`` and ``right``: the last n rows of each key, and whether they were matched, if it matters. A key stays for ever: rows
    leave for newer ones alone. ``left_waiting`` and ``right_waiting``: rows that the watermark has not passed.
    """

    layout: Layout
    within: Counts

    def __post_init__(self) -> None:
        most = max(self._rows.values())
        if not 1 <= most <= self.layout.most_matches or min(self._rows.values()) < 0:
            expected = f"0 to {self.layout.most_matches} rows (most_matches) of each side, not 0 of both"
            raise SettingsError("join by", "number of rows", "", expected=expected, got=repr(self.within), todo="correct one of them")

    @property
    def operator(self) -> str:
        """Name and version of the state's layout."""
        return "count_join_v1"

    @property
    def settings(self) -> str:
        """What the state depends on, as JSON."""
        how = {"how": self.layout.how, "left": self.layout.left.settings, "right": self.layout.right.settings}
        return json.dumps({**how, "rows": [self.within.left, self.within.right]})

    @property
    def in_schemas(self) -> Mapping[str, pa.Schema]:
        """Columns of both sides."""
        return {name: side.schema for name, side in self._sides.items()}

    @cached_property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        """Tables of the state."""
        kept = {
            name: side.schema.append(pa.field(MATCHED, pa.bool_())) if self._is_noted(name) else side.schema
            for name, side in self._sides.items()
        }
        return {**kept, **{name + WAITING: side.schema for name, side in self._sides.items()}}

    @property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        """Columns of each tag, see `Layout.out_schema`."""
        return self.layout.out_schema

    def step(self, state: State, rows: Mapping[str, pa.Table], moment: Moment) -> Step:
        """Go through the rows that the watermark has passed; see `spark_ext.state.kernel.Kernel.step`."""
        out, joined = Rejected(self.layout), []
        due: dict[str, pa.Table] = {}
        waiting: dict[str, pa.Table] = {}
        for name, side in self._sides.items():
            good = sifted(rows[name], name, self.layout, moment.watermark_us, out)
            keyed, keyless = split(good, has_key(good, side))
            if name in self._unmatched:
                joined.append(self._alone(name, keyless))
            # What came is not below the watermark: only rows of the state are due.
            held = state[name + WAITING]
            due[name], later = split(held, ints(held.column(side.time)) < moment.watermark_us)
            waiting[name + WAITING] = pa.concat_tables([later, keyed]).combine_chunks()
        is_end = moment.watermark_us >= FOREVER_US
        lines, at_rest = self._lines(state, due, everything=is_end)
        pairs = self._pairs(lines)
        if not self.layout.is_one_sided:
            lefts, rights = lines[LEFT].taken(pairs.left), lines[RIGHT].taken(pairs.right)
            joined.append(self.layout.pairs_of(lefts, rights))
        windows = {}
        for name, line in lines.items():
            matched = line.matched.copy()
            matched[pairs.left if name == LEFT else pairs.right] = True
            if name == LEFT and self.layout.how == "semi":
                first = line.taken(np.flatnonzero(matched & ~line.matched))
                joined.append(self._alone(LEFT, first, **{SIDE: pa.repeat(pa.scalar(BOTH), first.num_rows)}))
            stays = line.is_among_last(0 if is_end else self._rows[name])
            if name in self._unmatched:
                joined.append(self._alone(name, line.taken(np.flatnonzero(~stays & ~matched))))
            window = self._noted(name, line.taken(np.flatnonzero(stays)), matched[stays])
            windows[name] = pa.concat_tables([at_rest[name], window]).combine_chunks()
        times = [ints(waiting[name + WAITING].column(side.time)) for name, side in self._sides.items()]
        wakes = [int(each.min()) + 1 for each in times if len(each)]
        return Step({**windows, **waiting}, {JOINED: pa.concat_tables(joined), **out.tables()}, min(wakes, default=None))

    @property
    def _sides(self) -> Mapping[str, Side]:
        return {LEFT: self.layout.left, RIGHT: self.layout.right}

    @property
    def _rows(self) -> Mapping[str, int]:
        return {LEFT: self.within.left, RIGHT: self.within.right}

    @property
    def _unmatched(self) -> set[str]:
        """Sides whose unmatched rows come out."""
        return {"left": {LEFT}, "anti": {LEFT}, "right": {RIGHT}, "full": {LEFT, RIGHT}}.get(self.layout.how, set())

    def _is_noted(self, name: str) -> bool:
        """Tell whether it is noted of rows of that side that they were matched."""
        return name in self._unmatched or (name == LEFT and self.layout.how == "semi")

    def _noted(self, name: str, rows: pa.Table, matched: Mask) -> pa.Table:
        return rows.append_column(self.state_schema[name].field(MATCHED), pa.array(matched)) if self._is_noted(name) else rows

    def _alone(self, name: str, rows: pa.Table, **more: pa.Array) -> pa.Table:
        return self.layout.rows_of(name, rows, self.out_schema[JOINED], **more)

    def _lines(self, state: State, due: Mapping[str, pa.Table], *, everything: bool) -> tuple[dict[str, _Line], dict[str, pa.Table]]:
        """Line up the rows of both sides, those of the windows and those that are due; windows of keys without any are at rest."""
        tables = {name: pa.concat_tables([state[name].select(side.schema.names), due[name]]) for name, side in self._sides.items()}
        keys = dict(zip(tables, key_codes(tables[LEFT], tables[RIGHT], self.layout), strict=True))
        is_due = {name: np.arange(len(keys[name])) >= len(state[name]) for name in tables}
        concerned = np.full(1 + max(int(each.max(initial=-1)) for each in keys.values()), everything)
        for name in tables:
            concerned[keys[name][is_due[name]]] = True
        lines, at_rest = {}, {}
        times = {name: ints(tables[name].column(side.time)) for name, side in self._sides.items()}
        numbers = dict(zip(tables, numbered(list(keys.values()), list(times.values())), strict=True))
        for name, rows in tables.items():
            takes = np.flatnonzero(concerned[keys[name]])
            at_rest[name] = state[name].filter(pa.array(~concerned[keys[name][: len(state[name])]]))
            order = takes[total_order([numbers[name][takes]], [taken(rows, takes).column(one) for one in rows.column_names])]
            matched = np.zeros(len(rows), bool)
            if self._is_noted(name):
                matched[: len(state[name])] = state[name].column(MATCHED).to_numpy()
            lines[name] = _Line(rows.combine_chunks(), order, keys[name][order], numbers[name][order], is_due[name][order], matched[order])
        return lines, at_rest

    def _pairs(self, lines: Mapping[str, _Line]) -> Pairs:
        """Let each row that is due meet the last rows of the other side before it."""
        of_left = self._met(lines[LEFT], lines[RIGHT], self._rows[RIGHT], after=False)
        of_right = self._met(lines[RIGHT], lines[LEFT], self._rows[LEFT], after=True)
        return Pairs.united([of_left, Pairs(of_right.right, of_right.left)])

    def _met(self, line: _Line, other: _Line, rows: int, *, after: bool) -> Pairs:
        asking = np.flatnonzero(line.is_due)
        # At the same time left rows go first.
        ends = np.searchsorted(other.numbers, line.numbers[asking], "right" if after else "left")
        starts = np.maximum(np.searchsorted(other.keys, line.keys[asking], "left"), ends - rows)
        pairs = expanded(starts, ends - starts)
        return Pairs(asking[pairs.left], pairs.right)


@dataclass(frozen=True, slots=True)
class _Line:
    """Rows of one side in the order in which they are gone through, key by key.

    Attributes
    ----------
    rows : pa.Table
        As they came.
    order : ndarray (n,) int64
        Positions in `rows`; what follows is in this order.
    keys, numbers : ndarray (n,) int64
        Of the key; of key and event time.
    is_due, matched : ndarray (n,) bool
        Whether it is the row's turn now; whether it was matched before.
    """

    rows: pa.Table
    order: Numbers
    keys: Numbers
    numbers: Numbers
    is_due: Mask
    matched: Mask

    def taken(self, positions: Numbers) -> pa.Table:
        """Return rows by position in this order."""
        return taken(self.rows, self.order[positions])

    def is_among_last(self, rows: int) -> Mask:
        """Tell which rows are among the last so many of their key."""
        ends = np.searchsorted(self.keys, self.keys, "right")
        return np.arange(len(ends)) >= ends - rows
