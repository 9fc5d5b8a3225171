"""The join of two tables by their common key: changelogs in, changes of the joined table out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from spark_ext.errors import SettingsError
from spark_ext.joins.layout import LEFT, RIGHT
from spark_ext.joins.sides import Numbers
from spark_ext.state.kernel import Moment, State, Step
from spark_ext.state.keys import ints
from spark_ext.state.signed import difference, numbered, signed
from spark_ext.tables.layout import CHANGED, GONE, HASH, INVALID, KEPT, STALE, Changelog, Pair
from spark_ext.tables.versions import fold, near

__all__ = ["TableJoin", "partners", "side_by_side"]


@dataclass(frozen=True)
class TableJoin:
    """The join of two changelogs by the key of both.

    Guarantee: the rows tagged ``changed``, summed by sign up to any batch, are the join of both tables as they are then, whatever the
    batches. Each side is folded as by `TableChanges`, with its ``stale`` and ``invalid`` rows.

    Parameters
    ----------
    left, right : Changelog
        Both sides.
    pair : Pair
        How they stand side by side; joined on all keys of both.

    State: tables ``left_kept``, ``left_gone``, ``right_kept`` and ``right_gone``, see `spark_ext.tables.versions.fold`.
    """

    left: Changelog
    right: Changelog
    pair: Pair

    def __post_init__(self) -> None:
        if self.pair.left_keys != self.left.keys or self.pair.right_keys != self.right.keys:
            got = f"{self.pair.on!r} of tables by {self.left.keys!r} and {self.right.keys!r}"
            todo = "join by another column with join_foreign"
            raise SettingsError("join", "tables", "by key", expected="the keys of both", got=got, todo=todo)

    @property
    def operator(self) -> str:
        """Name and version of the state's layout."""
        return "table_join_v1"

    @property
    def settings(self) -> str:
        """What the state depends on, as JSON."""
        return json.dumps({"keys": self.left.keys, "pair": self.pair.settings, LEFT: self.left.settings, RIGHT: self.right.settings})

    @property
    def in_schemas(self) -> Mapping[str, pa.Schema]:
        """Columns of both changelogs, ``_deleted`` and ``_key_hash``."""
        return {LEFT: self.left.in_schema, RIGHT: self.right.in_schema}

    @cached_property
    def state_schema(self) -> Mapping[str, pa.Schema]:
        """Tables of the state."""
        found: dict[str, pa.Schema] = {}
        for side, log in ((LEFT, self.left), (RIGHT, self.right)):
            found |= {f"{side}_{KEPT}": log.kept_schema, f"{side}_{GONE}": log.gone_schema}
        return found

    @cached_property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        """Columns of the joined table and ``sign``; of rows that are not taken also ``side``."""
        refused = self.pair.refused_schema
        return {CHANGED: signed(self.pair.result), STALE: refused, INVALID: refused}

    def step(self, state: State, rows: Mapping[str, pa.Table], moment: Moment) -> Step:
        """Fold one micro-batch into the bucket; see `spark_ext.state.kernel.Kernel.step`."""
        logs = {LEFT: self.left, RIGHT: self.right}
        done = {
            side: fold(log, state[f"{side}_{KEPT}"], state[f"{side}_{GONE}"], rows[side], moment.watermark_us) for side, log in logs.items()
        }
        hashes = np.concatenate([ints(rows[side].column(HASH)) for side in logs])
        before = [_near(state[f"{side}_{KEPT}"], hashes) for side in logs]
        after = [_near(done[side].kept, hashes) for side in logs]
        out = {CHANGED: difference(side_by_side(before[0], before[1], self.pair), side_by_side(after[0], after[1], self.pair))}
        for tag, field in ((STALE, "stale"), (INVALID, "invalid")):
            out[tag] = pa.concat_tables([self.pair.refused(side, getattr(one, field)) for side, one in done.items()])
        kept = {f"{side}_{KEPT}": one.kept for side, one in done.items()} | {f"{side}_{GONE}": one.gone for side, one in done.items()}
        wakes = [one.wake_us for one in done.values() if one.wake_us is not None]
        return Step({name: kept[name] for name in self.state_schema}, out, min(wakes, default=None))


def partners(left: pa.Table, right: pa.Table, pair: Pair) -> Numbers:
    """Return for each left row the position of the right row with its key, -1 without one; right keys are distinct."""
    ours, theirs = numbered([(left, pair.left_keys), (right, pair.right_keys)])
    place = np.full(int(max(ours.max(initial=-1), theirs.max(initial=-1))) + 1, -1)
    place[theirs] = np.arange(len(theirs))
    return place[ours]


def side_by_side(left: pa.Table, right: pa.Table, pair: Pair) -> pa.Table:
    """Return the join of two tables, in the columns of `Pair.result`; right keys are distinct."""
    found = partners(left, right, pair)
    if pair.how in {"inner", "right"}:
        left, found = left.filter(pa.array(found >= 0)), found[found >= 0]
    others = right.take(pa.array(found, mask=found < 0))
    columns = [*(left.column(name) for name in pair.left.names)]
    columns += [others.column(name) for name in pair.right.names if name not in pair.right_keys]
    both = pa.table(columns, schema=pair.result)
    if pair.how not in {"right", "full"}:
        return both
    alone = np.ones(right.num_rows, bool)
    alone[found[found >= 0]] = False
    rest = right.filter(pa.array(alone))
    there = {here: rest.column(own) for own, here in pair.right_names.items()}
    columns = [there[one.name] if one.name in there else pa.nulls(rest.num_rows, one.type) for one in pair.result]
    return pa.concat_tables([both, pa.table(columns, schema=pair.result)])


def _near(kept: pa.Table, hashes: Numbers) -> pa.Table:
    return kept.filter(pa.array(near(kept, hashes)))
