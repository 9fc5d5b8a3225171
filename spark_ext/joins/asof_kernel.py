"""Join each left row with the one right row of its key that is nearest in event time: behind it, before it, or either."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.joins.layout import BOTH, INVALID, JOINED, LATE, LEFT, RIGHT, SEEN, Layout, Side
from spark_ext.joins.places import key_codes, last_of_each, numbered, split
from spark_ext.joins.rejected import Rejected, sifted
from spark_ext.joins.sides import Mask, Numbers, has_key
from spark_ext.state.kernel import Moment, State, Step
from spark_ext.state.keys import ints, whole
from spark_ext.windows.total_order import total_order

__all__ = ["AsOfJoin", "Direction"]

Direction = Literal["backward", "forward", "nearest"]

UNBOUNDED_US: Final = 2**61  # beyond any distance of event times; with one of them still below FOREVER_US
NOBODY: Final = -1


@dataclass(frozen=True)
class AsOfJoin:
    """Each left row with at most one right row of its key: the last known quote before each trade.

    Guarantee: over all batches each left row that came out under no other tag comes out once (how inner: if it has a partner), joined with
    the row that a join of all accepted rows at once would find; how rows were cut into batches makes no difference. It comes out as soon
    as the watermark proves its partner: ``backward``, when it has passed the row; ``forward``, when it has passed the partner, or the time
    by which one would have come; ``nearest``, when nothing nearer can come.

    Parameters
    ----------
    layout : Layout
        Columns and keys; how left or inner. A null in the key matches nothing.
    direction : {"backward", "forward", "nearest"}
        The last right row at or before the left one, the first at or behind it, or the nearer of the two; if both are as near, the former.
    tolerance_us : int >= 0, optional
        How far away it may be, included.
    allow_exact_matches : bool
        Whether a right row of the same time counts.
    order : tuple of str
        Columns of the right side: of rows of a key at one time the one wins that is last by these, then by its other columns.
    ttl_us : int >= 0, optional
        Of ``backward`` without tolerance: a right row is forgotten once its key has been silent, on both sides, for longer than this.
        Decided by event times alone: a left row has no partner if between the two there is such a silence.

    Raises
    ------
    SchemaError
        A column in `order` is missing.
    SettingsError
        Another `how`, a negative bound, or `ttl_us` where it has no meaning.

    State: table ``left``: rows not answered yet. Table ``right``: rows that the watermark has not passed; of ``backward`` and ``nearest``
    also the last one of each key that it has passed, until the tolerance or `ttl_us` rules it out, and of ``nearest`` the candidate of each
    left row that waits. ``_seen_us``, with `ttl_us`: when the key was last heard of.
    """

    layout: Layout
    direction: Direction = "backward"
    tolerance_us: int | None = None
    allow_exact_matches: bool = True
    order: tuple[str, ...] = ()
    ttl_us: int | None = None

    def __post_init__(self) -> None:
        if self.layout.how not in {"left", "inner"}:
            raise _refused("how", "left or inner", repr(self.layout.how))
        if self.direction not in get_args(Direction):
            raise _refused("direction", ", ".join(get_args(Direction)), repr(self.direction))
        for name, bound in (("tolerance", self.tolerance_us), ("ttl", self.ttl_us)):
            if bound is not None and not 0 <= bound < UNBOUNDED_US:
                raise _refused(name, "a time from 0 on", repr(bound))
        if self.ttl_us is not None and (self.direction != "backward" or self.tolerance_us is not None):
            got = f"direction {self.direction!r}, tolerance of {self.tolerance_us!r} us"
            raise _refused("ttl", "direction 'backward' without tolerance", got, "drop it: a tolerance bounds the state by itself")
        for name in self.order:
            if name not in self.layout.right.schema.names:
                expected = f"one of {self.layout.right.schema.names}"
                raise SchemaError("order by", "column of the right side", name, expected=expected, got="no such column", todo="correct it")

    @property
    def operator(self) -> str:
        """Name and version of the state's layout."""
        return "asof_join_v1"

    @property
    def settings(self) -> str:
        """What the state depends on, as JSON."""
        names = ("direction", "tolerance_us", "allow_exact_matches", "order", "ttl_us")
        sides = {"left": self.layout.left.settings, "right": self.layout.right.settings}
        return json.dumps({"how": self.layout.how, **sides, **{name: getattr(self, name) for name in names}})

    @cached_property
    def in_schemas(self) -> Mapping[str, pa.Schema]:
        """Columns of both sides."""
        return {LEFT: self.layout.left.schema, RIGHT: self.layout.right.schema}

    @cached_property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        """Tables of the state."""
        seen = [] if self.ttl_us is None else [pa.field(SEEN, pa.int64())]
        return {LEFT: self.layout.left.schema, RIGHT: pa.schema([*self.layout.right.schema, *seen])}

    @cached_property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        """Columns of each tag, see `Layout.out_schema`."""
        return {tag: self.layout.out_schema[tag] for tag in (JOINED, LATE, INVALID)}

    def step(self, state: State, rows: Mapping[str, pa.Table], moment: Moment) -> Step:
        """Answer what the watermark has passed, and keep what came; see `spark_ext.state.kernel.Kernel.step`."""
        watermark_us = moment.watermark_us
        out = Rejected(self.layout)
        new, joined = {}, []
        for name, side in self._sides.items():
            good, keyless = _keyed(sifted(rows[name], name, self.layout, watermark_us, out), side)
            new[name] = good
            if name == LEFT and self.layout.how == "left" and keyless.num_rows:
                joined.append(self.layout.rows_of(LEFT, keyless, self.out_schema[JOINED]))
        # What came is not below the watermark: only rows of the state are behind it.
        asking, later_left = split(state[LEFT], ints(state[LEFT].column(self.layout.left.time)) < watermark_us)
        known, later_right = split(state[RIGHT], ints(state[RIGHT].column(self.layout.right.time)) < watermark_us)
        search = _Search(self, asking, known, watermark_us)
        answered, waiting = split(asking, search.is_proven)
        if answered.num_rows:
            joined.append(self._joined(answered, known, search.partners[search.is_proven]))
        kept = search.kept()
        later = {LEFT: _united([later_left, new[LEFT]]), RIGHT: _united([later_right, self._noted(new[RIGHT])])}
        given = {JOINED: pa.concat_tables(joined)} if joined else {}
        wake_us = self._wake_us(later, kept, search)
        return Step({LEFT: _united([waiting, later[LEFT]]), RIGHT: _united([kept, later[RIGHT]])}, {**given, **out.tables()}, wake_us)

    @property
    def _sides(self) -> Mapping[str, Side]:
        return {LEFT: self.layout.left, RIGHT: self.layout.right}

    @property
    def reach_us(self) -> int:
        """How far away a partner may be."""
        return UNBOUNDED_US if self.tolerance_us is None else self.tolerance_us

    def _noted(self, rows: pa.Table) -> pa.Table:
        if self.ttl_us is None:
            return rows
        return rows.append_column(SEEN, pa.array(ints(rows.column(self.layout.right.time))))

    def _joined(self, rows: pa.Table, known: pa.Table, partners: Numbers) -> pa.Table:
        """Return left rows with the columns of their partners, or with nulls."""
        found = partners != NOBODY
        if self.layout.how == "inner" and not found.all():
            rows, partners, found = rows.filter(pa.array(found)), partners[found], found[found]
        at = pa.array(partners, mask=~found)
        others = [whole(known.column(name)).take(at) for name in self.layout.right.schema.names if name not in self.layout.right.keys]
        side = pc.if_else(pa.array(found), BOTH, LEFT)
        return pa.table([*rows.columns, *others, side], schema=self.out_schema[JOINED])

    def _wake_us(self, later: Mapping[str, pa.Table], kept: pa.Table, search: _Search) -> int | None:
        """Return when the next left row may be proven, or else when all right rows have lost their use."""
        lefts, rights = (ints(later[name].column(side.time)) for name, side in self._sides.items())
        wakes = [int(lefts.min()) + 1] if len(lefts) else []
        waits = search.waits_until_us()
        wakes += [int(waits.min())] if len(waits) and waits.min() < UNBOUNDED_US else []
        if self.direction != "backward" and len(rights) and len(waits):
            wakes.append(int(rights.min()) + 1)
        heard = np.append(ints(kept.column(self._heard)), ints(later[RIGHT].column(self._heard)))
        useful_us = 0 if self.direction == "forward" else self.reach_us if self.ttl_us is None else self.ttl_us
        if len(heard) and search.watermark_us <= (ends_us := int(heard.max()) + useful_us) < UNBOUNDED_US:
            wakes.append(ends_us + 1)
        return min(wakes, default=None)

    @property
    def _heard(self) -> str:
        return self.layout.right.time if self.ttl_us is None else SEEN


class _Search:
    """Partners of left rows among right rows, all of which the watermark has passed.

    Attributes
    ----------
    partners : ndarray (n,) int64
        For each left row the position of its partner, or `NOBODY`.
    is_proven : ndarray (n,) bool
        Whether nothing better can come.
    watermark_us : int
        Below it no row can come any more.
    """

    def __init__(self, kernel: AsOfJoin, asking: pa.Table, known: pa.Table, watermark_us: int) -> None:
        self._kernel, self._known, self.watermark_us = kernel, known, watermark_us
        layout = kernel.layout
        self._our_keys, their_keys = key_codes(asking, known, layout)
        self._our_times, their_times = ints(asking.column(layout.left.time)), ints(known.column(layout.right.time))
        ours, theirs = numbered([self._our_keys, their_keys], [self._our_times, their_times])
        ties = [*kernel.order, *(name for name in layout.right.schema.names if name not in kernel.order)]
        order = total_order([theirs], [known.column(name) for name in ties])
        # Of one key and time the last.
        self._at = order[last_of_each(theirs[order])]
        self._theirs, self._their_keys, self._their_times = theirs[self._at], their_keys[self._at], their_times[self._at]
        self._segments: _Segments | None = None
        if kernel.ttl_us is not None:
            ours_at, theirs_at = (self._our_keys, self._our_times), (self._their_keys, self._their_times)
            self._segments = _Segments(kernel.ttl_us, ours_at, theirs_at, ints(known.column(SEEN))[self._at])
        self._back = self._fore = np.full(len(ours), NOBODY)
        by_number = np.argsort(ours)  # a search for ascending numbers is many times as fast
        if kernel.direction != "forward":
            found = np.searchsorted(self._theirs, ours[by_number], "right" if kernel.allow_exact_matches else "left") - 1
            self._back = self._checked(_unsorted(found, by_number))
        if kernel.direction != "backward":
            found = np.searchsorted(self._theirs, ours[by_number], "left" if kernel.allow_exact_matches else "right")
            self._fore = self._checked(_unsorted(found, by_number))
        is_fore = self._distance(self._fore) < self._distance(self._back)
        self.is_proven = self._proven()
        chosen = np.where(is_fore, self._fore, self._back)
        self.partners = np.where(chosen == NOBODY, NOBODY, self._at[chosen] if len(self._at) else chosen)

    def kept(self) -> pa.Table:
        """Return the right rows that left rows may still need, of those that were passed."""
        kernel = self._kernel
        if kernel.direction == "forward":
            return self._known.slice(0, 0)
        alive = last_of_each(self._their_keys) & (self._their_times + kernel.reach_us >= self.watermark_us)
        needed = self._back[~self.is_proven]
        alive[needed[needed != NOBODY]] = True
        if self._segments is None:
            return self._known.take(pa.array(self._at[alive]))
        seen_us, is_heard = self._segments.heard()
        alive &= is_heard & (seen_us + self._segments.ttl_us >= self.watermark_us)
        rows = self._known.take(pa.array(self._at[alive]))
        return rows.set_column(rows.schema.get_field_index(SEEN), SEEN, pa.array(seen_us[alive]))

    def waits_until_us(self) -> Numbers:
        """Return for each row that waits the watermark that will prove it, whatever comes."""
        times, back = self._our_times[~self.is_proven], self._distance(self._back)[~self.is_proven]
        return times + np.minimum(back, self._kernel.reach_us + 1)

    def _checked(self, found: Numbers) -> Numbers:
        """Return what was found where it is of the same key and near enough."""
        inside = (found >= 0) & (found < len(self._at))
        if not len(self._at):
            return np.full(len(found), NOBODY)
        at = np.where(inside, found, 0)
        good = inside & (self._their_keys[at] == self._our_keys)
        good &= np.abs(self._their_times[at] - self._our_times) <= self._kernel.reach_us
        if self._segments is not None:
            good &= self._segments.theirs[at] == self._segments.ours
        return np.where(good, found, NOBODY)

    def _distance(self, found: Numbers) -> Numbers:
        if not len(self._at):
            return np.full(len(found), UNBOUNDED_US)
        return np.where(found == NOBODY, UNBOUNDED_US, np.abs(self._their_times[found] - self._our_times))

    def _proven(self) -> Mask:
        if self._kernel.direction == "backward":
            return np.ones(len(self._our_times), bool)
        expired = self.watermark_us > self._our_times + self._kernel.reach_us
        nothing_nearer = self.watermark_us >= self._our_times + self._distance(self._back)
        found: Mask = (self._fore != NOBODY) | expired | nothing_nearer
        return found


class _Segments:
    """Times in which a key is not silent for longer than `ttl_us`, numbered.

    Attributes
    ----------
    ours : ndarray (n,) int64
        The one that a left row is in.
    theirs : ndarray (m,) int64
        The one in which the key of a right row was heard of last, before rows that were passed just now.
    """

    def __init__(self, ttl_us: int, ours: tuple[Numbers, Numbers], theirs: tuple[Numbers, Numbers], seen_us: Numbers) -> None:
        self.ttl_us = ttl_us
        keys, times = np.concatenate([ours[0], theirs[0], theirs[0]]), np.concatenate([ours[1], theirs[1], seen_us])
        order = np.argsort(numbered([keys], [times])[0])
        keys, times = keys[order], times[order]
        begins = np.ones(len(keys), bool)
        begins[1:] = (keys[1:] != keys[:-1]) | (times[1:] - times[:-1] > ttl_us)
        numbers = np.cumsum(begins)
        found = _unsorted(numbers, order)
        self.ours, self.theirs = found[: len(ours[0])], found[len(found) - len(seen_us) :]
        ends = last_of_each(keys)
        at = np.searchsorted(keys[ends], theirs[0])
        self._last_us, self._last = times[ends][at], numbers[ends][at]

    def heard(self) -> tuple[Numbers, Mask]:
        """Return for each right row when its key was last heard of, and whether without a silence since."""
        return self._last_us, self._last == self.theirs


def _keyed(rows: pa.Table, side: Side) -> tuple[pa.Table, pa.Table]:
    return split(rows, has_key(rows, side))


def _united(parts: Sequence[pa.Table]) -> pa.Table:
    full = [part for part in parts if part.num_rows] or [parts[0]]
    return full[0] if len(full) == 1 else pa.concat_tables(full).combine_chunks()


def _unsorted(values: Numbers, order: Numbers) -> Numbers:
    found = np.empty_like(values)
    found[order] = values
    return found


def _refused(name: str, expected: str, got: str, todo: str = "correct it") -> SettingsError:
    return SettingsError("join as of", "setting", name, expected=expected, got=got, todo=todo)
