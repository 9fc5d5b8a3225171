"""What both writers hold to: names of the history's own columns, and what they refuse in the same words."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import pyarrow as pa

from spark_ext.delta.fit import Fit
from spark_ext.errors import EpochError, SchemaError
from spark_ext.state.signed import SIGN

__all__ = [
    "CHANGE_FEED", "IS_CURRENT", "OWN", "ROW_GROUP", "VALID_FROM", "VALID_TO", "check_history", "duplicate_keys", "free_name",
    "null_sequence", "without_sign",
]  # fmt: skip

VALID_FROM: Final = "valid_from"
VALID_TO: Final = "valid_to"
IS_CURRENT: Final = "is_current"
TIME: Final = pa.timestamp("us", "UTC")
CHANGE_FEED: Final = "delta.enableChangeDataFeed"
ROW_GROUP: Final = 4_096  # rows that are read for one by `spark_ext.tables.TableReader`; files are 2 % larger for it
OWN: Final = {VALID_FROM: TIME, VALID_TO: TIME, IS_CURRENT: pa.bool_()}


def check_history(plan: Fit, sequence: str | None, table: pa.Schema | None) -> str:
    """Return the sequence column of a history.

    Raises
    ------
    SchemaError
        It is no timestamp, or the table is no history.
    """
    kind = None if sequence is None else plan.schema.field(sequence).type
    if sequence is None or not pa.types.is_timestamp(kind):
        raise SchemaError(
            "use", "sequence", str(sequence), expected="a timestamp", got=str(kind), why="it says from when a row holds", todo="cast it"
        )
    lacks = [] if table is None else [f"{name} {kind}" for name, kind in OWN.items() if not _has(table, name, kind)]
    if lacks:
        raise SchemaError(
            "write to",
            "history",
            plan.path,
            expected=f"a table with {', '.join(lacks)}",
            got=", ".join(f"{field.name} {field.type}" for field in table or ()),
            todo="correct the path, or make the history in a table of its own",
        )
    return sequence


def without_sign(rows: pa.Schema) -> pa.Schema:
    """Return the columns of rows with a sign that go into a table.

    Raises
    ------
    SchemaError
        There is no sign.
    """
    at = rows.get_field_index(SIGN)
    if at < 0 or rows.field(at).type != pa.int8():
        got = f"columns {rows.names}" if at < 0 else str(rows.field(at).type)
        todo = "write changes, as spark_ext.tables makes them, or use upsert for rows that only come"
        raise SchemaError("apply", "changes", "without a sign", expected=f"a column {SIGN!r} of type tinyint", got=got, todo=todo)
    return rows.remove(at)


def duplicate_keys(path: str, keys: Sequence[str]) -> EpochError:
    """Return the error of a batch that leaves open which of two rows is the newer one."""
    return EpochError(
        "upsert",
        "batch into table",
        path,
        expected=f"one row per key ({', '.join(keys)})",
        got="several",
        why="without a sequence nothing says which is the newest; nothing was written",
        todo="name the column that orders the rows of a key as sequence, or leave one row per key",
    )


def null_sequence(path: str, sequence: str) -> EpochError:
    """Return the error of a batch with a version that holds from no time."""
    return EpochError(
        "write",
        "batch to history",
        path,
        expected=f"a time in {sequence!r} in every row",
        got="null",
        why="nothing was written",
        todo="send rows without it elsewhere, to the dead letters for one",
    )


def free_name(names: Collection[str]) -> str:
    """Return a name that none of the columns has."""
    name = "is_whole"
    while name.casefold() in {one.casefold() for one in names}:
        name = f"_{name}"
    return name


def _has(table: pa.Schema, name: str, kind: pa.DataType) -> bool:
    at = table.get_field_index(name)
    return at >= 0 and bool(table.field(at).type.equals(kind))
