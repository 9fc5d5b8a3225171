"""The join of two tables by a foreign key: a row of the left one names, in a column, the key of a right one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa

from spark_ext.errors import SettingsError
from spark_ext.joins.layout import LEFT, RIGHT
from spark_ext.joins.sides import Mask, Numbers, taken
from spark_ext.state.kernel import Moment, State, Step
from spark_ext.state.keys import check_key, ints
from spark_ext.state.signed import SIGN, difference, keep, netted, numbered, ranks, signed, signs_of
from spark_ext.tables.join_kernel import side_by_side
from spark_ext.tables.layout import CHANGED, EXCESS, GONE, HASH, INVALID, KEPT, STALE, UNKNOWN, Changelog, Pair, nullable
from spark_ext.tables.versions import by_hash, fold, near

__all__ = ["TableForeignJoin"]

RIGHT_KEPT: Final = f"{RIGHT}_{KEPT}"
RIGHT_GONE: Final = f"{RIGHT}_{GONE}"


@dataclass(frozen=True)
class TableForeignJoin:
    """The join of rows with a sign to the table whose key they name.

    Guarantee: the rows tagged ``changed``, summed by sign up to any batch, are the join of both tables as they are then: a row for each
    left row that has a partner, or with ``left`` for each. A left row whose foreign key changes goes in one bucket and comes in another.
    One with a null in it has no partner.

    A left row that goes and is not there, or comes while one of its key and foreign key is there, is ``unknown``; one whose own key has a
    null ``invalid``. A right row that `most_matches` left rows name takes no more of them: they are ``excess``, as though they had not
    come, and when they go they are ``unknown``. Of several in a batch those with the lowest values are taken.

    Parameters
    ----------
    left : pa.Schema
        Columns of the left rows, without sign.
    keys : tuple of str
        The left table's key.
    right : Changelog
        The right table, by its key.
    pair : Pair
        Foreign key and right key, how they stand side by side: inner or left.
    most_matches : int
        So many rows can come out for one change on the right, twice.

    Raises
    ------
    SettingsError, SchemaError
        Something does not fit.

    State: table ``left``, rows that are there, with the hash of their foreign key; ``right_kept`` and ``right_gone``, see
    `spark_ext.tables.versions.fold`.
    """

    left: pa.Schema
    keys: tuple[str, ...]
    right: Changelog
    pair: Pair
    most_matches: int

    def __post_init__(self) -> None:
        if not self.keys or any(name not in self.left.names for name in self.keys):
            got, todo = f"{self.keys!r} of {self.left.names}", "name the columns that identify a left row"
            raise SettingsError("join", "changes", "by foreign key", expected="keys of the left table", got=got, todo=todo)
        for name in {*self.keys, *self.pair.left_keys}:
            check_key(name, self.left.field(name).type)
        if self.pair.how not in {"inner", "left"}:
            raise SettingsError(
                "join", "tables", "by foreign key", expected="how inner or left", got=repr(self.pair.how),
                why="a right row without left ones has none of their keys", todo="use inner or left",
            )  # fmt: skip
        if sorted(self.pair.right_keys) != sorted(self.right.keys):
            got, todo = f"{self.pair.right_keys!r}", "name the whole key of the right table"
            raise SettingsError("join on", "keys", "of the right table", expected=f"{self.right.keys!r}", got=got, todo=todo)
        if self.most_matches < 1:
            raise SettingsError("join", "tables", "", expected="most_matches >= 1", got=repr(self.most_matches), todo="correct it")

    @property
    def operator(self) -> str:
        """Name and version of the state's layout."""
        return "table_foreign_join_v1"

    @property
    def settings(self) -> str:
        """What the state depends on, as JSON."""
        columns = {field.name: str(field.type) for field in self.left}
        left = {"columns": columns, "keys": self.pair.left_keys, "own_keys": self.keys}
        return json.dumps({"pair": self.pair.settings, LEFT: left, RIGHT: self.right.settings})

    @cached_property
    def in_schemas(self) -> Mapping[str, pa.Schema]:
        """Of the left side its columns, ``sign`` and ``_key_hash`` of the foreign key; of the right as of a changelog."""
        return {LEFT: pa.schema([*signed(self.left), pa.field(HASH, pa.int64())]), RIGHT: self.right.in_schema}

    @cached_property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        """Tables of the state."""
        rows = pa.schema([*nullable(self.left), pa.field(HASH, pa.int64())])
        return {LEFT: rows, RIGHT_KEPT: self.right.kept_schema, RIGHT_GONE: self.right.gone_schema}

    @cached_property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        """Columns of the joined table and ``sign``; of rows that are not taken also ``side``."""
        refused = self.pair.refused_schema
        return {CHANGED: signed(self.pair.result), STALE: refused, INVALID: refused, UNKNOWN: refused, EXCESS: refused}

    def step(self, state: State, rows: Mapping[str, pa.Table], moment: Moment) -> Step:
        """Fold one micro-batch into the bucket; see `spark_ext.state.kernel.Kernel.step`."""
        right = fold(self.right, state[RIGHT_KEPT], state[RIGHT_GONE], rows[RIGHT], moment.watermark_us)
        left = self._left(state[LEFT], rows[LEFT])
        of_right = ints(rows[RIGHT].column(HASH))
        same = near(state[LEFT], of_right)  # left rows whose partner may have changed
        stayed = near(left.rows, of_right)
        hashes = np.concatenate([of_right, ints(left.goes.column(HASH)), ints(left.comes.column(HASH))])
        tables = []
        for there, is_near, more, kept in ((state[LEFT], same, left.goes, state[RIGHT_KEPT]), (left.rows, stayed, left.comes, right.kept)):
            apart = more.filter(pa.array(~near(more, of_right)))  # those of the others are in `there`
            both = pa.concat_tables([there.filter(pa.array(is_near)), apart])
            tables.append(side_by_side(both, kept.filter(pa.array(near(kept, hashes))), self.pair))
        changed = [difference(*tables)]
        if self.pair.how == "left":
            changed.append(_alone(left.keyless, self.pair))
        out = {
            CHANGED: pa.concat_tables(changed),
            STALE: self.pair.refused(RIGHT, right.stale),
            INVALID: pa.concat_tables([self.pair.refused(LEFT, left.invalid), self.pair.refused(RIGHT, right.invalid)]),
            UNKNOWN: self.pair.refused(LEFT, left.unknown),
            EXCESS: self.pair.refused(LEFT, left.excess),
        }
        return Step({LEFT: left.rows, RIGHT_KEPT: right.kept, RIGHT_GONE: right.gone}, out, right.wake_us)

    def _left(self, known: pa.Table, rows: pa.Table) -> _Left:
        """Take the changes of the left side."""
        schema = self.state_schema[LEFT]
        rows = pa.table([rows.column(name) for name in self.in_schemas[LEFT].names], schema=self.in_schemas[LEFT])
        has_key, has_partner = _valid(rows, self.keys), _valid(rows, self.pair.left_keys)
        invalid = rows.filter(pa.array(~has_key))
        keyless = netted(rows.filter(pa.array(has_key & ~has_partner)).drop_columns(HASH))
        rows = netted(_sign_last(keep(rows, has_key & has_partner)))
        signs = signs_of(rows)
        old = known.filter(pa.array(touched := near(known, ints(rows.column(HASH)))))
        plain = rows.select(schema.names).cast(schema)
        by_key = tuple(dict.fromkeys((*self.pair.left_keys, *self.keys)))
        of_old, units = numbered([(old, by_key), (plain, by_key)])
        there = np.full(int(max(of_old.max(initial=-1), units.max(initial=-1))) + 1, -1)
        there[of_old] = np.arange(len(of_old))
        # A unit is a left row in this bucket: at most one goes and one comes.
        goes = _first(units, (signs < 0) & (there >= 0)[units], plain)
        leaves = np.zeros(len(there), bool)
        leaves[units[goes]] = True
        comes = _first(units, (signs > 0) & ((there < 0) | leaves)[units], plain)
        stays = ~leaves[of_old]
        comes, excess = self._within(old.filter(pa.array(stays)), plain, comes)
        gone, came = old.filter(pa.array(~stays)), plain.filter(pa.array(comes))
        after = by_hash(pa.concat_tables([known.filter(pa.array(~touched)), old.filter(pa.array(stays)), came]))
        unknown = rows.filter(pa.array(~goes & ~comes & ~excess))
        return _Left(after, gone, came, keyless, invalid, unknown, rows.filter(pa.array(excess)))

    def _within(self, old: pa.Table, new: pa.Table, comes: Mask) -> tuple[Mask, Mask]:
        """Return which rows come, and which are too many for their partner."""
        of_old, of_new = numbered([(old, self.pair.left_keys), (new, self.pair.left_keys)])
        counts = np.bincount(of_old, minlength=int(max(of_old.max(initial=-1), of_new.max(initial=-1))) + 1)
        asked = np.flatnonzero(comes)
        total = counts + np.bincount(of_new[asked], minlength=len(counts))
        excess = np.zeros(len(comes), bool)
        if (total > self.most_matches).any():
            order = asked[np.lexsort((ranks(taken(new, asked)), of_new[asked]))]
            groups = of_new[order]
            place = np.arange(len(order)) - np.searchsorted(groups, groups, "left") + counts[groups]
            excess[order[place >= self.most_matches]] = True
        return comes & ~excess, excess


@dataclass(frozen=True, slots=True)
class _Left:
    """What a batch made of the left side: the next rows, those that go and come, and those that are not taken."""

    rows: pa.Table
    goes: pa.Table
    comes: pa.Table
    keyless: pa.Table
    invalid: pa.Table
    unknown: pa.Table
    excess: pa.Table


def _alone(rows: pa.Table, pair: Pair) -> pa.Table:
    """Return rows with a sign that have no partner, in the columns of the result."""
    schema = signed(pair.result)
    return pa.table(
        [rows.column(one.name) if one.name in rows.column_names else pa.nulls(rows.num_rows, one.type) for one in schema], schema=schema
    )


def _first(units: Numbers, asked: Mask, rows: pa.Table) -> Mask:
    """Return one row of each unit among those that are asked for: the one with the lowest values."""
    places = np.flatnonzero(asked)
    _, first = np.unique(units[places], return_index=True)
    if len(first) < len(places):
        places = places[np.argsort(ranks(taken(rows, places)))]
        _, first = np.unique(units[places], return_index=True)
    found = np.zeros(len(units), bool)
    found[places[first]] = True
    return found


def _sign_last(rows: pa.Table) -> pa.Table:
    return rows.select([*(name for name in rows.column_names if name != SIGN), SIGN])


def _valid(rows: pa.Table, names: tuple[str, ...]) -> Mask:
    found = np.ones(rows.num_rows, bool)
    for name in names:
        found &= np.asarray(rows.column(name).is_valid().to_numpy())
    return found
