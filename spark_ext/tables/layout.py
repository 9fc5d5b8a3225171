"""Columns of tables that change: of a changelog, of rows with a sign, and of two tables side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

import pyarrow as pa

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.joins.layout import HASH, LEFT, RIGHT, SIDE, STAMP
from spark_ext.state.keys import check_key
from spark_ext.state.packing import TAG
from spark_ext.state.signed import SIGN, signed

__all__ = [
    "CHANGED",
    "DELETED",
    "DELETED_AT",
    "EXCESS",
    "GONE",
    "HASH",
    "INVALID",
    "KEPT",
    "OURS",
    "STALE",
    "UNKNOWN",
    "Changelog",
    "How",
    "Pair",
    "check_names",
    "nullable",
]  # fmt: skip

CHANGED: Final = "changed"
STALE: Final = "stale"
INVALID: Final = "invalid"
UNKNOWN: Final = "unknown"
EXCESS: Final = "excess"
DELETED: Final = "_deleted"
DELETED_AT: Final = "_deleted_at"
KEPT: Final = "kept"
GONE: Final = "gone"
OURS: Final = (TAG, SIDE, SIGN, HASH, DELETED, DELETED_AT)

LONGEST_US: Final = 200 * 366 * 24 * 3_600_000_000  # any longer, and times of the far future have no room

How = Literal["inner", "left", "right", "full"]


@dataclass(frozen=True)
class Changelog:
    """What makes a changelog a table.

    Attributes
    ----------
    schema : pa.Schema
        Its columns as they came.
    keys : tuple of str
        One row for each; a null in one of them is no key.
    sequence : str or None
        Orders the changes of a key: integer, date or timestamp. A null is no place in an order.
    ttl_us : int or None
        How long the watermark has to go on until it is forgotten that a key was deleted; None: never.
    is_signed : bool
        Whether it comes as rows with a sign instead, in order.

    Raises
    ------
    SchemaError
        A column is missing, of a type that cannot be used, or has the name of one that is added.
    SettingsError
        No key, or a `ttl_us` that forgets nothing.
    """

    schema: pa.Schema
    keys: tuple[str, ...]
    sequence: str | None = None
    ttl_us: int | None = None
    is_signed: bool = False

    def __post_init__(self) -> None:
        names = () if self.sequence is None else (self.sequence,)
        check_names(self.schema, (*self.keys, *names))
        if not self.keys or len({*self.keys, *names}) != len(self.keys) + len(names):
            got = f"keys {self.keys!r}, sequence {self.sequence!r}"
            expected = "one key or more, each once, the sequence not among them"
            raise SettingsError("use", "table", "by key", expected=expected, got=got, todo="correct it")
        for key in self.keys:
            check_key(key, self.schema.field(key).type)
        if self.sequence is not None:
            kind = self.schema.field(self.sequence).type
            if not (pa.types.is_signed_integer(kind) or pa.types.is_date(kind) or kind == STAMP):
                expected, todo = "an integer, a date or a timestamp", "cast it"
                raise SchemaError("order changes by", "column", self.sequence, expected=expected, got=str(kind), todo=todo)
        if self.ttl_us is not None and (not 0 <= self.ttl_us <= LONGEST_US or self.sequence is None):
            expected, got = (
                "ttl of 0 to 200 years, together with a sequence",
                f"ttl of {self.ttl_us} microseconds, sequence {self.sequence!r}",
            )
            why = "only a sequence makes it matter that a key was deleted"
            raise SettingsError("use", "ttl", "of deleted keys", expected=expected, got=got, why=why, todo="leave ttl out, or name one")
        if self.is_signed and self.sequence is not None:
            why, todo = "a row that goes has the sequence it came with", "leave sequence out"
            expected, got = "none for rows with a sign", repr(self.sequence)
            raise SettingsError("use", "sequence", "of changes", expected=expected, got=got, why=why, todo=todo)

    @cached_property
    def in_schema(self) -> pa.Schema:
        """What a kernel gets: the columns, whether it is a delete or the sign, and the hash of the key."""
        note = pa.field(SIGN, pa.int8()) if self.is_signed else pa.field(DELETED, pa.bool_())
        return pa.schema([*self.schema, note, pa.field(HASH, pa.int64())])

    @cached_property
    def kept_schema(self) -> pa.Schema:
        """Rows that are in the table, by hash."""
        return pa.schema([*nullable(self.schema), pa.field(HASH, pa.int64())])

    @cached_property
    def gone_schema(self) -> pa.Schema:
        """Keys that were deleted, with the sequence of the delete and the watermark of that time, null before any."""
        names = [*self.keys, *([] if self.sequence is None else [self.sequence])]
        fields = [self.schema.field(name).with_nullable(True) for name in names]
        return pa.schema([*fields, pa.field(HASH, pa.int64()), pa.field(DELETED_AT, STAMP)])

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint depends on."""
        columns = {field.name: str(field.type) for field in self.schema}
        return {"columns": columns, "keys": self.keys, "sequence": self.sequence, "is_signed": self.is_signed}


@dataclass(frozen=True)
class Pair:
    """Two tables side by side.

    The result has the columns of the left one, then those of the right one without its keys; one whose name is taken gets the suffix.

    Attributes
    ----------
    left, right : pa.Schema
        Columns of both.
    on : tuple of (str, str)
        What has to be equal: column of the left one, and key of the right one.
    how : str
        inner, left, right or full.
    suffix : str
        For names that both have.

    Raises
    ------
    SchemaError
        A column is missing or of another type than its partner, or names of the result are not distinct.
    SettingsError
        No such kind of join, or nothing to join on.
    """

    left: pa.Schema
    right: pa.Schema
    on: tuple[tuple[str, str], ...]
    how: How
    suffix: str

    def __post_init__(self) -> None:
        if self.how not in ("inner", "left", "right", "full"):
            expected = "how one of inner, left, right, full"
            raise SettingsError("join", "tables", "", expected=expected, got=repr(self.how), todo="correct it")
        if not self.on:
            raise SettingsError("join", "tables", "", expected="one column or more to join on", got="none", todo="name it")
        check_names(self.left, [ours for ours, _ in self.on])
        check_names(self.right, [theirs for _, theirs in self.on])
        for ours, theirs in self.on:
            kinds = self.left.field(ours).type, self.right.field(theirs).type
            if kinds[0] != kinds[1]:
                expected, todo = f"one type on both sides, {kinds[0]}", f"cast one: right.withColumn({theirs!r}, ...)"
                raise SchemaError("join on", "key", ours, expected=expected, got=str(kinds[1]), todo=todo)
        names = [name.lower() for name in self.result.names]
        if len(set(names)) != len(names):
            got, todo = f"{self.result.names} with suffix {self.suffix!r}", "give another suffix, or rename"
            raise SchemaError("join", "columns", "of both tables", expected="names that differ", got=got, todo=todo)

    @property
    def left_keys(self) -> tuple[str, ...]:
        """Columns of the left side that are compared."""
        return tuple(ours for ours, _ in self.on)

    @property
    def right_keys(self) -> tuple[str, ...]:
        """Columns of the right side that are compared."""
        return tuple(theirs for _, theirs in self.on)

    @cached_property
    def right_names(self) -> Mapping[str, str]:
        """Name in the result of each column of the right side."""
        keys, taken = {theirs: ours for ours, theirs in self.on}, {name.lower() for name in self.left.names}
        return {name: keys.get(name, name + self.suffix if name.lower() in taken else name) for name in self.right.names}

    @cached_property
    def result(self) -> pa.Schema:
        """Columns of both."""
        others = [field.with_name(self.right_names[field.name]) for field in self.right if field.name not in self.right_keys]
        return nullable(pa.schema([*self.left, *others]))

    @cached_property
    def refused_schema(self) -> pa.Schema:
        """Columns of rows that are not taken: those of the result, and whose they are."""
        return pa.schema([*signed(self.result), pa.field(SIDE, pa.string())])

    def refused(self, side: str, rows: pa.Table) -> pa.Table:
        """Return rows of one side in the columns of `refused_schema`."""
        names = {name: name for name in self.left.names} if side == LEFT else self.right_names
        columns = {here: rows.column(own) for own, here in names.items()} | {SIDE: pa.repeat(pa.scalar(side), rows.num_rows)}
        if SIGN in rows.column_names:
            columns[SIGN] = rows.column(SIGN)
        schema = self.refused_schema
        found = [columns[one.name] if one.name in columns else pa.nulls(rows.num_rows, one.type) for one in schema]
        return pa.table(found, schema=schema)

    @property
    def settings(self) -> dict[str, Any]:
        """What a checkpoint depends on."""
        return {"how": self.how, "on": [list(pair) for pair in self.on], LEFT: str(self.left.names), RIGHT: str(self.right.names)}


def nullable(schema: pa.Schema) -> pa.Schema:
    """Return the columns without the promise that they are never null, and without notes."""
    return pa.schema([pa.field(field.name, field.type) for field in schema])


def check_names(schema: pa.Schema, used: Sequence[str]) -> None:
    """Refuse columns that are missing, or have the names of columns that are added.

    Raises
    ------
    SchemaError
        There is one.
    """
    taken = [name for name in schema.names if name.lower() in OURS]
    if taken or len({name.lower() for name in schema.names}) != len(schema.names):
        expected, todo = f"columns with names of their own, other than {', '.join(OURS)}", "rename them"
        raise SchemaError("use as a table", "frame with columns", ", ".join(taken), expected=expected, got=repr(schema.names), todo=todo)
    for name in used:
        if name not in schema.names:
            expected = f"one of {schema.names}"
            raise SchemaError("read", "column", name, expected=expected, got="no such column", todo="correct the name")
