"""Tag each row as unique, as a duplicate of a kept one, or as too late to tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

import numpy as np
import pyarrow as pa

from spark_ext.dedup.rows import (
    INVALID,
    MICROSECOND,
    STAMP,
    YEAR_1_US,
    YEAR_9999_US,
    Mask,
    Times,
    by_order,
    check_columns,
    tagged_rows,
    tagged_schemas,
    unusable,
)
from spark_ext.errors import SettingsError
from spark_ext.state.bounds import event_times
from spark_ext.state.kernel import NEVER_US, Moment, State, Step
from spark_ext.state.keys import check_key, codes, ints, normalised

__all__ = ["Dedup"]

KEPT: Final = "kept"
PENDING: Final = "pending"
ROOM: Final = 2**62


@dataclass(frozen=True, slots=True)
class Dedup:
    """One row per key within a bounded time; the others are tagged, not dropped.

    Guarantee: every row comes out once, under one tag. Of a key, a row within `horizon` of a kept row (both ends included, by event
    time) is a ``duplicate``; a ``unique`` row is kept. Event time is measured from the kept row, not from the last duplicate: a
    key that is repeated for ever is let through once per `horizon`. A row is behind when its event time is below the watermark.

    ``keep="first"``: rows that are not behind are judged in the order of event time, then of `order`; the result depends on nothing
    else, neither on batches nor on the order of arrival (of rows equal in key, time and `order`, any one may be the kept one). The price:
    a row is given out when the watermark has passed it; a repetition of a row that is already out, at once.

    ``keep="arrived"``: a row is given out in the batch it arrives with; within a batch the order is as above. Which row is kept
    depends on what arrived first. How many are does not, where the rows of a key come in bursts, each no longer than `horizon`
    and more than `horizon` from the next: one per burst, as with ``keep="first"``. Elsewhere two kept rows of a key are still
    more than `horizon` apart, and each duplicate is within `horizon` of a kept row.

    A row that is behind is never ``unique``: it is a ``duplicate`` if it is within `horizon` of a row still known as kept, else ``late``.
    A kept row is known until the watermark is more than `horizon` ahead of it.

    Parameters
    ----------
    in_schema : pa.Schema
        Columns of the rows.
    keys : tuple of str
        Columns that are equal in duplicates, as in ``GROUP BY``; one or more, not `time`.
    time : str
        Column of event time, ``timestamp[us, tz=UTC]``.
    horizon : timedelta >= 0
        How far two rows of a key may lie apart to count as one.
    keep : {"first", "arrived"}
        Which row is kept, and when rows come out.
    order : tuple of str
        Columns that decide between rows of the same key and event time, ascending, nulls last: an offset, a sequence number.
    earliest_us, latest_us : int
        Event times outside of these bounds are absurd: such rows, and those without one, come out as ``invalid``.

    Raises
    ------
    SchemaError
        A column is missing, of a type that cannot be used, or has the name of a column that is added.
    SettingsError
        No key, a negative `horizon`, or another word for `keep`.

    State: table ``kept``, keys and event time (8 bytes) of each kept row until the watermark is `horizon` ahead of it; with
    ``keep="first"`` also table ``pending``, whole rows that the watermark has not passed.

    References
    ----------
    Spark's ``dropDuplicatesWithinWatermark`` is ``keep="arrived"`` with the watermark's delay as `horizon`, but that it drops
    duplicates and late rows, and forgets a kept row not by event time but by what the watermark has reached.

    Examples
    --------
    >>> import pyarrow.compute as pc
    >>> from spark_ext.state.kernel import empty_state
    >>> schema = pa.schema([("user", pa.string()), ("at", pa.timestamp("us", "UTC"))])
    >>> dedup = Dedup(schema, ("user",), "at", timedelta(seconds=10), "arrived")
    >>> seconds = pa.array([0, 10, 11], pa.int64())
    >>> rows = pa.table({"user": ["a", "a", "a"], "at": pc.multiply(seconds, 1_000_000).cast(pa.timestamp("us", "UTC"))})
    >>> step = dedup.step(empty_state(dedup), rows, Moment(NEVER_US, 0))
    >>> [at.second for at in step.out["unique"]["at"].to_pylist()], [at.second for at in step.out["duplicate"]["at"].to_pylist()]
    ([0, 11], [10])
    """

    in_schema: pa.Schema
    keys: tuple[str, ...]
    time: str
    horizon: timedelta
    keep: Literal["first", "arrived"]
    order: tuple[str, ...] = ()
    earliest_us: int = YEAR_1_US
    latest_us: int = YEAR_9999_US

    def __post_init__(self) -> None:
        if not self.keys or self.horizon < timedelta(0) or self.keep not in {"first", "arrived"}:
            raise SettingsError(
                "use",
                "deduplication",
                ", ".join(self.keys),
                expected="one key or more, horizon >= 0 and keep 'first' or 'arrived'",
                got=f"keys {self.keys!r}, horizon {self.horizon!r}, keep {self.keep!r}",
                todo="correct it",
            )
        for name in self.keys:
            if name not in self.in_schema.names:
                raise unusable(name, f"one of {self.in_schema.names}", "no such column", "correct the name")
            if name == self.time:
                raise unusable(name, f"event time as {STAMP}, not among the keys", "a key", "cast it, or give it another name")
            check_key(name, self.in_schema.field(name).type)
        check_columns(self.in_schema, self.time, self.order)

    @property
    def operator(self) -> str:
        """Name and version of the state's layout."""
        return "dedup_v1"

    @property
    def settings(self) -> str:
        """What the state depends on, as JSON."""
        columns = {field.name: str(field.type) for field in self.in_schema}
        return json.dumps({
            "columns": columns if self.keep == "first" else {name: columns[name] for name in self.keys},
            "keys": self.keys,
            "time": self.time,
            "horizon_us": self._horizon_us,
            "keep": self.keep,
            "order": self.order,
        })  # fmt: skip

    @property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        """Tables of the state."""
        kept = pa.schema([self.in_schema.field(name) for name in (*self.keys, self.time)])
        return {KEPT: kept, PENDING: self.in_schema} if self.keep == "first" else {KEPT: kept}

    @property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        """Columns of each tag, see `tagged_schemas`."""
        return tagged_schemas(self.in_schema)

    def step(self, state: State, rows: pa.Table, moment: Moment) -> Step:
        """Judge one micro-batch of the bucket; see `spark_ext.state.kernel.Kernel.step`."""
        _, valid = event_times(rows.column(self.time), self.earliest_us, self.latest_us)
        good = rows if valid.all() else rows.filter(pa.array(valid))
        judge = self._first if self.keep == "first" else self._arrived
        done = judge(state, good, moment.watermark_us)
        return done if good is rows else Step(done.state, {**done.out, INVALID: rows.filter(pa.array(~valid))}, done.wake_us)

    @property
    def _horizon_us(self) -> int:
        return self.horizon // MICROSECOND

    def _first(self, state: State, rows: pa.Table, watermark_us: int) -> Step:
        kept, pending = state[KEPT], state[PENDING]
        rows = pa.concat_tables([pending, rows])
        known = len(kept)
        key, keys = self._keys(kept, rows)
        times = np.append(ints(kept.column(self.time)), ints(rows.column(self.time)))
        passed = times < watermark_us
        fresh = np.arange(len(times)) >= known + len(pending)
        # What the watermark has passed is complete: a kept row, the only one of its key, then all that waited.
        order = self._by_order(known, rows)
        due = order[(passed & ~fresh)[order]]
        chosen = np.zeros(len(times), bool)
        chosen[due] = _greedy(key[due], times[due], self._horizon_us)
        chosen[:known] = True
        until = np.full(len(keys), NEVER_US)
        np.maximum.at(until, key[chosen], times[chosen] + self._horizon_us)
        mine = until[key]
        # Whatever comes still, a row that a kept one reaches stays a duplicate: it need not wait.
        repeated = np.where(passed, ~fresh | ((mine >= watermark_us) & (times >= mine - 2 * self._horizon_us)), times <= mine) & ~chosen
        late = passed & fresh & ~repeated
        waiting = ~passed & ~repeated & ~chosen
        alive = np.flatnonzero((until >= watermark_us) & (until > NEVER_US))
        next_kept = keys.take(pa.array(alive)).append_column(self.in_schema.field(self.time), _stamps(until[alive] - self._horizon_us))
        wake = None
        if waiting.any():
            wake = int(times[waiting].min()) + 1
        elif len(alive):
            wake = int(until[alive].max()) + 1
        out = tagged_rows(rows, times[known:], chosen[known:], repeated[known:], late[known:], watermark_us)
        return Step({KEPT: next_kept, PENDING: rows.filter(pa.array(waiting[known:])).combine_chunks()}, out, wake)

    def _arrived(self, state: State, rows: pa.Table, watermark_us: int) -> Step:
        kept, known = state[KEPT], len(state[KEPT])
        key, keys = self._keys(kept, rows)
        times = np.append(ints(kept.column(self.time)), ints(rows.column(self.time)))
        passed = times < watermark_us
        chosen = np.arange(len(times)) < known
        order = self._by_order(known, rows)
        free = order[(~passed & ~chosen & ~_near(key, times, chosen, self._horizon_us))[order]]
        chosen[free] = _greedy(key[free], times[free], self._horizon_us)
        still = chosen & (times + self._horizon_us >= watermark_us)
        repeated = ~chosen & _near(key, times, still, self._horizon_us)
        late = ~chosen & ~repeated
        alive = np.flatnonzero(still)
        next_kept = keys.take(pa.array(key[alive])).append_column(self.in_schema.field(self.time), _stamps(times[alive]))
        wake = int(times[alive].max()) + self._horizon_us + 1 if len(alive) else None
        return Step({KEPT: next_kept}, tagged_rows(rows, times[known:], chosen[known:], repeated[known:], late[known:], watermark_us), wake)

    def _keys(self, kept: pa.Table, rows: pa.Table) -> tuple[Times, pa.Table]:
        """Return the number of each row's key, those of kept rows first, and the distinct keys by number."""
        columns = [pa.concat_arrays([*kept.column(name).chunks, *rows.column(name).chunks]) if len(kept) + len(rows)
                   else pa.array([], self.in_schema.field(name).type) for name in self.keys]  # fmt: skip
        found = codes(columns)
        first = np.flatnonzero(np.diff(np.maximum.accumulate(found), prepend=-1) > 0) if len(found) else found
        fields = pa.schema([self.in_schema.field(name) for name in self.keys])
        return found, pa.table([normalised(column.take(pa.array(first))) for column in columns], schema=fields)

    def _by_order(self, known: int, rows: pa.Table) -> Times:
        """Return kept rows, then rows as `order` has them."""
        return np.append(np.arange(known), known + by_order(rows, self.order))


def _greedy(key: Times, times: Times, horizon_us: int) -> Mask:
    """Tell which rows are kept if each key is gone through by time and whatever lies within the horizon of a kept row is not.

    Of rows equal in key and time the one that stands first counts. Near linear for any number of kept rows per key: the rows
    reached by 1, 2, 4, ... jumps from a key's first row.
    """
    rows = len(times)
    place, reach = _places(key, times, horizon_us)
    order = np.argsort(place, kind="stable")
    jump = np.append(np.searchsorted(place[order], reach[order], side="right"), rows)  # the first row beyond the horizon; none: `rows`
    on = np.zeros(rows + 1, bool)
    if rows:
        on[:rows] = np.diff(key[order], prepend=-1) != 0
    on[rows] = True
    while True:
        reached = jump[on]
        if on[reached].all():
            break
        on[reached] = True
        jump = jump[jump]
    kept = np.zeros(rows, bool)
    kept[order] = on[:rows]
    return kept


def _near(key: Times, times: Times, kept: Mask, horizon_us: int) -> Mask:
    """Tell which rows lie within the horizon of a kept row of their key, before or after it."""
    if not kept.any():
        return np.zeros(len(times), bool)
    place, _ = _places(key, times, horizon_us)
    at = np.flatnonzero(kept)
    at = at[np.argsort(place[at], kind="stable")]
    after = np.searchsorted(place[at], place, side="left")
    found = np.zeros(len(times), bool)
    for neighbour in (np.minimum(after, len(at) - 1), np.maximum(after - 1, 0)):
        other = at[neighbour]
        found |= (key[other] == key) & (np.abs(times[other] - times) <= horizon_us)
    return found


def _places(key: Times, times: Times, horizon_us: int) -> tuple[Times, Times]:
    """Return numbers that order rows by key, then time, and the number that stands for each row's time and the horizon."""
    if not len(times):
        return times, times
    low = int(times.min())
    span = int(times.max()) - low + horizon_us + 1
    at, reach = times - low, times - low + horizon_us
    if span * (int(key.max()) + 1) >= ROOM:
        distinct, ranks = np.unique(np.append(at, reach), return_inverse=True)
        at, reach, span = ranks[: len(times)], ranks[len(times) :], len(distinct)
    return key * span + at, key * span + reach


def _stamps(times: Times) -> pa.Array:
    return pa.array(times, pa.int64()).view(STAMP)
