"""The columns of a join: of both sides, of its result, and of rows that are not in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import pyarrow as pa

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.state.keys import check_key
from spark_ext.state.packing import TAG

__all__ = [
    "BOTH", "EXCESS", "HASH", "HOWS", "INVALID", "JOINED", "LATE", "LATENESS", "LEFT", "MATCHED", "OURS", "RIGHT", "SEEN", "SIDE",
    "STAMP", "How", "Layout", "Side",
]  # fmt: skip

JOINED: Final = "joined"
LATE: Final = "late"
INVALID: Final = "invalid"
EXCESS: Final = "excess"
SIDE: Final = "side"
LEFT: Final = "left"
RIGHT: Final = "right"
BOTH: Final = "both"
LATENESS: Final = "lateness_ms"
HASH: Final = "_key_hash"  # Spark's xxhash64 of the keys
MATCHED: Final = "_matched"  # of a row in the state
SEEN: Final = "_seen_us"
OURS: Final = (TAG, SIDE, LATENESS, HASH, MATCHED, SEEN)
STAMP: Final = pa.timestamp("us", "UTC")
HOWS: Final = ("inner", "left", "right", "full", "semi", "anti")

How = Literal["inner", "left", "right", "full", "semi", "anti"]


@dataclass(frozen=True)
class Side:
    """One side of a join.

    Attributes
    ----------
    schema : pa.Schema
        Its columns as they came.
    keys : tuple of str
        What has to be equal, in the order of the other side's.
    time : str
        Column of event time, ``timestamp[us, tz=UTC]``.
    """

    schema: pa.Schema
    keys: tuple[str, ...]
    time: str

    @cached_property
    def in_schema(self) -> pa.Schema:
        """The columns that a kernel gets: its own, and the hash of the key."""
        return self.schema.append(pa.field(HASH, pa.int64()))

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint depends on."""
        return {"columns": {field.name: str(field.type) for field in self.schema}, "keys": self.keys, "time": self.time}


@dataclass(frozen=True)
class Layout:
    """A join of two sides, checked.

    The result has the columns of the left side, then those of the right side without its keys; one whose name is taken gets the suffix.
    A key stands once, under the left side's name, also where only the right side has a row.

    Attributes
    ----------
    left, right : Side
        The sides.
    how : str
        inner, left, right, full, semi or anti, as in Spark.
    suffix : str
        For names that both sides have.
    earliest_us, latest_us : int
        Event times outside of these are absurd.
    most_matches : int
        A row with more partners at a time is refused.

    Raises
    ------
    SchemaError
        A column is missing, has a name that cannot be used, or keys have different types.
    SettingsError
        No key, not as many on both sides, or no such kind of join.
    """

    left: Side
    right: Side
    how: How
    suffix: str
    earliest_us: int
    latest_us: int
    most_matches: int

    def __post_init__(self) -> None:
        if self.how not in HOWS:
            raise SettingsError("join", "streams", "", expected=f"how one of {', '.join(HOWS)}", got=repr(self.how), todo="correct it")
        if self.most_matches < 1:
            raise SettingsError("join", "streams", "", expected="most_matches >= 1", got=repr(self.most_matches), todo="correct it")
        if not self.left.keys or len(self.left.keys) != len(self.right.keys):
            got = f"{self.left.keys!r} and {self.right.keys!r}"
            raise SettingsError("join on", "keys", "of both sides", expected="as many on both, one or more", got=got, todo="name them")
        for name, side in ((LEFT, self.left), (RIGHT, self.right)):
            _check_side(name, side)
        for ours, theirs in zip(self.left.keys, self.right.keys, strict=True):
            kinds = self.left.schema.field(ours).type, self.right.schema.field(theirs).type
            if kinds[0] != kinds[1]:
                why = "keys of different types are equal by rules that nobody reads"
                todo = f"cast one: right.withColumn({theirs!r}, F.col({theirs!r}).cast(...))"
                raise SchemaError(
                    "join on", "key", ours, expected=f"one type on both sides, {kinds[0]}", got=str(kinds[1]), why=why, todo=todo
                )
        names = [name.lower() for name in self.result.names]
        if len(set(names)) != len(names) or not set(names).isdisjoint(OURS):
            got, todo = f"{self.result.names} with suffix {self.suffix!r}", "give another suffix, or rename"
            expected = f"names that differ, none of them {', '.join(OURS)}"
            raise SchemaError("join", "columns", "of both sides", expected=expected, got=got, todo=todo)

    @cached_property
    def right_names(self) -> Mapping[str, str]:
        """Name in the result of each column of the right side."""
        keys = dict(zip(self.right.keys, self.left.keys, strict=True))
        taken = {name.lower() for name in self.left.schema.names}
        return {name: keys.get(name, name + self.suffix if name.lower() in taken else name) for name in self.right.schema.names}

    @cached_property
    def result(self) -> pa.Schema:
        """Columns of both sides."""
        others = [field.with_name(self.right_names[field.name]) for field in self.right.schema if field.name not in self.right.keys]
        return pa.schema([field.with_nullable(True) for field in (*self.left.schema, *others)])

    @property
    def is_one_sided(self) -> bool:
        """Tell whether the result has the columns of the left side only."""
        return self.how in {"semi", "anti"}

    @property
    def in_schemas(self) -> Mapping[str, pa.Schema]:
        """What a kernel gets of each side."""
        return {LEFT: self.left.in_schema, RIGHT: self.right.in_schema}

    @cached_property
    def out_schema(self) -> Mapping[str, pa.Schema]:
        """Columns of each tag: those of the result and ``side``; ``late`` has ``lateness_ms`` more, from the event to the watermark."""
        rows = self.result.append(pa.field(SIDE, pa.string()))
        joined = rows if not self.is_one_sided else self.left.schema.append(pa.field(SIDE, pa.string()))
        return {JOINED: joined, LATE: rows.append(pa.field(LATENESS, pa.int64())), INVALID: rows, EXCESS: rows}

    def rows_of(self, name: str, rows: pa.Table, schema: pa.Schema, **more: pa.Array) -> pa.Table:
        """Return rows of one side in the columns of a tag; those of the other side are null, ``side`` is its name or what `more` says."""
        names = {one: one for one in self.left.schema.names} if name == LEFT else self.right_names
        columns = {names[one]: rows.column(one) for one in names}
        columns |= {SIDE: pa.repeat(pa.scalar(name), rows.num_rows), **more}
        found = [columns[one.name] if one.name in columns else pa.nulls(rows.num_rows, one.type) for one in schema]
        return pa.table(found, schema=schema)

    def pairs_of(self, left: pa.Table, right: pa.Table) -> pa.Table:
        """Return the result's rows of pairs: row by row a left and a right one."""
        others = [right.column(name) for name in self.right.schema.names if name not in self.right.keys]
        columns = [*(left.column(name) for name in self.left.schema.names), *others, pa.repeat(pa.scalar(BOTH), left.num_rows)]
        return pa.table(columns, schema=self.out_schema[JOINED])


def _check_side(name: str, side: Side) -> None:
    names = side.schema.names
    for used in (*side.keys, side.time):
        if used not in names:
            raise SchemaError(
                "read", f"column of the {name} side", used, expected=f"one of {names}", got="no such column", todo="correct the name"
            )
    taken = [one for one in names if one.lower() in OURS]
    if taken or len({one.lower() for one in names}) != len(names):
        expected = f"columns with names of their own, other than {', '.join(OURS)}"
        raise SchemaError("join", f"{name} side with columns", ", ".join(taken), expected=expected, got=repr(names), todo="rename them")
    if len(set(side.keys)) != len(side.keys) or side.time in side.keys:
        expected, got = "distinct keys, event time not among them", f"keys {side.keys!r}, event time {side.time!r}"
        raise SettingsError("join on", "keys", f"of the {name} side", expected=expected, got=got, todo="correct them")
    if side.schema.field(side.time).type != STAMP:
        got = str(side.schema.field(side.time).type)
        raise SchemaError(
            "use", f"event time of the {name} side", side.time, expected="type timestamp", got=got, todo="cast it to timestamp"
        )
    for key in side.keys:
        check_key(key, side.schema.field(key).type)
