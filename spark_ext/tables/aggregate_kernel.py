"""The aggregation of a table that changes: rows with a sign in, changes of the groups' results out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa

from spark_ext.errors import SettingsError
from spark_ext.joins.layout import HASH
from spark_ext.joins.sides import Mask, Numbers, taken
from spark_ext.state.kernel import Moment, State, Step
from spark_ext.state.keys import check_key, codes, ints, normalised, whole
from spark_ext.state.segments import group
from spark_ext.state.signed import SIGN, difference, keep, numbered, signed, signs_of, surplus
from spark_ext.tables import retraction
from spark_ext.tables.layout import CHANGED, UNKNOWN, check_names, nullable
from spark_ext.tables.retraction import Running
from spark_ext.tables.versions import near
from spark_ext.windows.aggregates.aggregate import Aggregate

__all__ = ["TableAggregate"]

KEYS: Final = "keys"
COUNTS: Final = "counts"
ROWS: Final = "rows"
KEY: Final = "key"
VALUE: Final = "value"
COUNT: Final = "count"
VALUES: Final = "values"


@dataclass(frozen=True)
class TableAggregate:
    """Aggregates of groups of rows that come and go.

    Guarantee: the rows tagged ``changed``, summed by sign up to any batch, are the aggregation of the rows that are there, a group for each
    distinct `by` (a null is a group); a group without rows has no result. It does not depend on how rows were cut into batches, but for the
    last bits of sums of floats. Within a batch rows that come are counted before rows that go.

    A row that goes but was never there is ``unknown``, and changes nothing: its group has no row left, or none with a value (without one)
    in a column that is aggregated, or of a minimum or maximum not this value. So is one whose sign is not +1 or -1. What a sum was made of
    is not kept: a retraction of 3 where 4 had come is not noticed by it.

    Parameters
    ----------
    schema : pa.Schema
        Columns of `by` and the aggregates' inputs.
    by : tuple of str
        What makes a group.
    aggregates : tuple of (str, Aggregate)
        Name of the result, and what it is: count, sum, mean, min or max of `spark_ext.windows.aggregates`.

    Raises
    ------
    SettingsError
        No group or no aggregate, or one that no row can be taken out of.
    SchemaError
        Columns do not fit.

    State: tables ``keys``, the groups, and ``counts``: rows of the group and states of counts, sums and means (`Running`); for each column
    of a minimum or maximum a table ``values<i>``: each distinct value of a group with its number, 16 bytes and the value. A batch costs
    the distinct values of the groups it touches.
    """

    schema: pa.Schema
    by: tuple[str, ...]
    aggregates: tuple[tuple[str, Aggregate], ...]

    def __post_init__(self) -> None:
        check_names(self.schema, [*self.by, *(name for _, one in self.aggregates for name in one.inputs)])
        for name in self.by:
            check_key(name, self.schema.field(name).type)
        if not self.by or not self.aggregates:
            got, todo = f"by {self.by!r}, aggregates {self.aggregates!r}", "name them; for one group of all rows add a column F.lit(0)"
            raise SettingsError("aggregate", "changes", "", expected="a column to group by and an aggregate", got=got, todo=todo)
        check_names(pa.schema([(name, pa.null()) for name in (*self.by, *dict(self.aggregates))]), ())
        _ = self.running, self.valued

    @property
    def operator(self) -> str:
        """Name and version of the state's layout."""
        return "table_aggregate_v1"

    @property
    def settings(self) -> str:
        """What the state depends on, as JSON."""
        columns = {field.name: str(field.type) for field in self.schema}
        return json.dumps({"keys": self.by, "columns": columns, "aggregates": {name: repr(one) for name, one in self.aggregates}})

    @cached_property
    def in_schema(self) -> pa.Schema:
        """Columns of the changes, ``sign`` and ``_key_hash`` of the group."""
        return pa.schema([*self.schema, pa.field(SIGN, pa.int8()), pa.field(HASH, pa.int64())])

    @cached_property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        """Tables of the state."""
        columns = [pa.field(f"a{at}_{j}", kind) for at, one in self.running.items() for j, kind in enumerate(one.state)]
        found = {
            KEYS: nullable(pa.schema([self.schema.field(name) for name in self.by])),
            COUNTS: pa.schema([pa.field(HASH, pa.int64()), pa.field(ROWS, pa.int64()), *columns]),
        }
        for at, name in enumerate(self.valued):
            found[f"{VALUES}{at}"] = pa.schema([(KEY, pa.int64()), (VALUE, self.schema.field(name).type), (COUNT, pa.int64())])
        return found

    @cached_property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        """Of results: `by`, the aggregates, ``sign``; of rows that are not taken the columns they came in."""
        results = [pa.field(name, one.result(self._types)) for name, one in self.aggregates]
        return {CHANGED: signed(pa.schema([*self.state_schema[KEYS], *results])), UNKNOWN: signed(nullable(self.schema))}

    def step(self, state: State, rows: pa.Table, moment: Moment) -> Step:
        """Fold one micro-batch into the bucket; see `spark_ext.state.kernel.Kernel.step`."""
        if not rows.num_rows:
            return Step(state, {}, None)
        rows = rows.select(self.in_schema.names)
        touched = near(state[COUNTS], ints(rows.column(HASH)))
        old_keys, old = state[KEYS].filter(pa.array(touched)), state[COUNTS].filter(pa.array(touched))
        of_old, groups = numbered([(old_keys, self.by), (rows, self.by)])  # old groups are distinct: they keep their place as number
        size = int(max(of_old.max(initial=-1), groups.max(initial=-1))) + 1
        before = self._before(state, touched, size)
        good = before.takes(rows, groups)
        unknown = rows.filter(pa.array(~good)).select(self.out_schema[UNKNOWN].names)
        after = before.plus(keep(rows, good), groups[good])
        keys = self._keys(old_keys, rows, of_old, groups, size)
        shown_before, shown_after = before.rows > 0, after.rows > 0
        changed = difference(self._results(keys, before, shown_before), self._results(keys, after, shown_after))
        out = {CHANGED: changed.cast(self.out_schema[CHANGED]), UNKNOWN: unknown.cast(self.out_schema[UNKNOWN])}
        hashes = np.zeros(size, np.int64)
        hashes[groups] = ints(rows.column(HASH))
        hashes[of_old] = ints(old.column(HASH))
        return Step(self._next(state, touched, keys, hashes, after), out, None)

    @cached_property
    def _types(self) -> Mapping[str, pa.DataType]:
        return {field.name: field.type for field in self.schema}

    @cached_property
    def running(self) -> Mapping[int, Running]:
        """Aggregates that are kept as sums, by place."""
        found = {at: retraction.running(name, one, self._types) for at, (name, one) in enumerate(self.aggregates)}
        return {at: one for at, one in found.items() if one is not None}

    @cached_property
    def valued(self) -> tuple[str, ...]:
        """Columns of which all values are kept."""
        extremes = [one for at, (_, one) in enumerate(self.aggregates) if at not in self.running]
        return tuple(dict.fromkeys(name for one in extremes for name in one.inputs))

    def _before(self, state: State, touched: Mask, size: int) -> _Groups:
        """Return what is known of the groups of a batch; those that are new have no rows."""
        old = state[COUNTS].filter(pa.array(touched))
        counts = np.append(ints(old.column(ROWS)), np.zeros(size - old.num_rows, np.int64))
        states = {}
        for at, one in self.running.items():
            own = [whole(old.column(f"a{at}_{j}")) for j in range(len(one.state))]
            states[at] = [pa.concat_arrays(both) for both in zip(own, one.nothing(size - old.num_rows), strict=True)]
        place = np.full(len(touched), -1)
        place[touched] = np.arange(old.num_rows)
        return _Groups(self, counts, states, [self._near_values(state, at, place) for at in range(len(self.valued))])

    def _near_values(self, state: State, at: int, place: Numbers) -> _Values:
        table = state[f"{VALUES}{at}"]
        owners = ints(table.column(KEY))
        is_near = place[owners] >= 0
        return _Values(place[owners[is_near]], whole(table.column(VALUE).filter(pa.array(is_near))), ints(table.column(COUNT))[is_near])

    def _keys(self, old: pa.Table, rows: pa.Table, of_old: Numbers, groups: Numbers, size: int) -> pa.Table:
        """Return the columns of each group by its number."""
        first = np.empty(size, np.int64)
        first[groups[::-1]] = old.num_rows + np.arange(len(groups) - 1, -1, -1)
        first[of_old] = np.arange(len(of_old))
        return taken(pa.concat_tables([old, rows.select(list(self.by)).cast(old.schema)]), first)

    def _results(self, keys: pa.Table, groups: _Groups, shown: Mask) -> pa.Table:
        columns = [keys.column(name).filter(pa.array(shown)) for name in self.by]
        places = pa.array(np.flatnonzero(shown))
        for at, (_, aggregate) in enumerate(self.aggregates):
            one = self.running.get(at)
            if one is None:
                values = groups.values[self.valued.index(aggregate.inputs[0])]
                columns.append(values.extremes(aggregate, len(groups.rows)).take(places))
            else:
                columns.append(one.finish([part.take(places) for part in groups.states[at]], groups.rows[shown]))
        return pa.table(columns, schema=pa.schema(list(self.out_schema[CHANGED])[:-1]))

    def _next(self, state: State, touched: Mask, keys: pa.Table, hashes: Numbers, after: _Groups) -> dict[str, pa.Table]:
        """Return the state, sorted by hash, with the places of groups as they are then."""
        alive = after.rows > 0
        stay = pa.array(~touched)
        columns = [hashes[alive], after.rows[alive], *(part.filter(pa.array(alive)) for at in self.running for part in after.states[at])]
        counts = pa.concat_tables([state[COUNTS].filter(stay), pa.table(columns, schema=self.state_schema[COUNTS])])
        all_keys = pa.concat_tables([state[KEYS].filter(stay), keys.filter(pa.array(alive))])
        order = np.argsort(ints(counts.column(HASH)), kind="stable")
        places = np.empty(len(order), np.int64)
        places[order] = np.arange(len(order))
        found = {KEYS: taken(all_keys, order).combine_chunks(), COUNTS: taken(counts, order).combine_chunks()}
        still = int((~touched).sum())
        of_old = np.full(len(touched), -1)
        of_old[~touched] = places[:still]
        of_groups = np.full(len(alive), -1)
        of_groups[alive] = places[still:]
        for at, values in enumerate(after.values):
            name = f"{VALUES}{at}"
            moved = of_old[ints(state[name].column(KEY))] if state[name].num_rows else np.empty(0, np.int64)
            kept = state[name].filter(pa.array(moved >= 0))
            owners = pa.chunked_array([pa.array(moved[moved >= 0]), pa.array(of_groups[values.owners])])
            both = pa.chunked_array([*kept.column(VALUE).chunks, values.values], values.values.type)
            numbers = pa.chunked_array([*kept.column(COUNT).chunks, pa.array(values.counts)], pa.int64())
            found[name] = pa.table([owners, both, numbers], schema=self.state_schema[name]).combine_chunks()
        return found


@dataclass(frozen=True)
class _Values:
    """Distinct values of groups, and how often each is there."""

    owners: Numbers
    values: pa.Array
    counts: Numbers

    def extremes(self, aggregate: Aggregate, size: int) -> pa.Array:
        """Return the least or greatest value of each group, null where there is none."""
        order, segments = group(self.owners)
        own = self.values.take(pa.array(order))
        found = aggregate.of_rows({aggregate.inputs[0]: own}, pa.array([], pa.int64()), segments)[0]
        places = np.full(size, len(found))
        places[self.owners[order][segments.starts]] = np.arange(len(found))
        return pa.concat_arrays([found, pa.nulls(1, found.type)]).take(pa.array(places))

    def units(self, owners: Numbers, values: pa.Array) -> tuple[Numbers, Numbers, Numbers]:
        """Return a number for each own value and each of others, equal for equal ones of one group, and how often each is there."""
        whose = pa.array(np.append(self.owners, owners))
        found = codes([whose, pa.concat_arrays([self.values, values])]) if len(whose) else np.empty(0, np.int64)
        own, others = found[: len(self.counts)], found[len(self.counts) :]
        known = np.zeros(int(found.max(initial=-1)) + 1, np.int64)
        known[own] = self.counts
        return own, others, known

    def plus(self, owners: Numbers, values: pa.Array, signs: Numbers) -> _Values:
        """Return what is there with more values, or fewer."""
        own, others, known = self.units(owners, values)
        known = known + np.bincount(others, signs, len(known)).astype(np.int64)
        first = np.empty(len(known), np.int64)
        both = np.append(own, others)
        first[both[::-1]] = np.arange(len(both) - 1, -1, -1)
        left = first[known > 0]
        everything = pa.concat_arrays([self.values, values])
        return _Values(np.append(self.owners, owners)[left], normalised(everything.take(pa.array(left))), known[known > 0])


@dataclass(frozen=True)
class _Groups:
    """The groups that a batch touches, by number: how many rows each has, the states of sums by aggregate, the values by column."""

    kernel: TableAggregate
    rows: Numbers
    states: Mapping[int, list[pa.Array]]
    values: list[_Values]

    def takes(self, rows: pa.Table, groups: Numbers) -> Mask:
        """Tell which rows can be taken: those that come, and those that go and were there."""
        signs = signs_of(rows)
        good: Mask = np.abs(signs) == 1
        if (signs > 0).all():
            return good
        for at, name in enumerate(self.kernel.valued):
            _, units, known = self.values[at].units(groups, whole(rows.column(name)))
            good &= ~surplus(np.where(good, units, -1), signs, known, rows)
        for at, one in self.kernel.running.items():
            if one.column is not None:
                present = whole(rows.column(one.column)).is_valid().to_numpy(zero_copy_only=False)
                values = one.counts(self.states[at])
                known = np.stack([self.rows - values, values], axis=1).ravel()  # rows without a value, and with one
                good &= ~surplus(np.where(good, 2 * groups + present, -1), signs, known, rows)
        good &= ~surplus(np.where(good, groups, -1), signs, self.rows, rows)
        return good

    def plus(self, rows: pa.Table, groups: Numbers) -> _Groups:
        """Return the groups with rows that come and go."""
        order, segments = group(groups)
        ordered, signs = taken(rows, order), signs_of(rows)[order]
        columns = {name: whole(ordered.column(name)) for name in self.kernel.schema.names}
        places = np.full(len(self.rows), len(segments))
        places[groups[order][segments.starts]] = np.arange(len(segments))
        states = {}
        for at, one in self.kernel.running.items():
            more = zip(one.of_rows(columns, signs, segments), one.nothing(1), strict=True)
            states[at] = one.added(self.states[at], [pa.concat_arrays(both).take(pa.array(places)) for both in more])
        values = []
        for old, name in zip(self.values, self.kernel.valued, strict=True):
            values.append(old.plus(groups[order], columns[name], signs))
        counts = self.rows + np.bincount(groups, signs_of(rows), len(self.rows)).astype(np.int64)
        return _Groups(self.kernel, counts, states, values)
