"""The columns of a join of rows with a table: keys of both sides, and what comes out of the table under which name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import StructField, StructType

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.joins.copy_kernel import HOWS, LookupHow
from spark_ext.joins.on import On, pairs_of
from spark_ext.state.keys import check_key, check_text

__all__ = ["HASHED", "Columns", "TableLayout"]

HASHED: Final = "_key_hash"  # beside the columns of the rows, on the way to a worker
Columns = Sequence[str] | Mapping[str, str]


@dataclass(frozen=True)
class TableLayout:
    """A join of rows with a table, checked.

    Attributes
    ----------
    rows : StructType
        Columns of the rows.
    keys, table_keys : tuple of str
        What has to be equal, pair by pair.
    looked_up : tuple of str
        Columns of the table that come out, if any does.
    how : str
        left, inner, semi or anti.
    result : StructType
        What comes out: the columns of the rows, then those of the table.
    """

    rows: StructType
    keys: tuple[str, ...]
    table_keys: tuple[str, ...]
    looked_up: tuple[str, ...]
    how: LookupHow
    result: StructType

    @classmethod
    def of(
        cls, rows: DataFrame, table: DataFrame, *, on: On, how: LookupHow, suffix: str = "_right", columns: Columns | None = None
    ) -> TableLayout:
        """Check it and lay it out.

        Raises
        ------
        SchemaError
            A column is missing or has a name that is taken, or keys have different types or types without an equality.
        SettingsError
            No key, no such kind of join, or the table is a stream.
        """
        if how not in HOWS:
            raise SettingsError("look up", "argument", "how", expected=f"one of {', '.join(HOWS)}", got=repr(how), todo="correct it")
        if table.isStreaming:
            expected = "a table that stands still"
            raise SettingsError("look up in", "table", "", expected=expected, got="a stream", todo="join the streams: spark_ext.joins.join")
        pairs = pairs_of(on)
        if not pairs or len(set(pairs.values())) != len(pairs):
            raise SettingsError("look up", "argument", "on", expected="one key or more, each once", got=repr(on), todo="correct it")
        ours, theirs = rows.schema, table.schema
        for name, other in pairs.items():
            _check_pair(_field(ours, name, "rows"), _field(theirs, other, "table"))
        if columns is None:
            named = {field.name: field.name for field in theirs if field.name not in pairs.values()}
        else:
            named = dict(columns) if isinstance(columns, Mapping) else {name: name for name in columns}
        taken = {field.name.lower() for field in ours}
        added = [
            StructField(out + suffix if out.lower() in taken else out, _field(theirs, name, "table").dataType)
            for name, out in named.items()
        ]
        made = ours if how in {"semi", "anti"} else StructType([*ours, *added])
        names = [field.name.lower() for field in made]
        if len(set(names)) != len(names) or HASHED in names:
            expected, got = f"names that differ, none of them {HASHED}", f"{made.names} with suffix {suffix!r}"
            raise SchemaError("join", "columns", "of rows and table", expected=expected, got=got, todo="give another suffix, or rename")
        looked_up = () if how in {"semi", "anti"} else tuple(named)
        return cls(ours, tuple(pairs), tuple(pairs.values()), looked_up, how, made)


def _field(schema: StructType, name: str, side: str) -> StructField:
    if name not in schema.names:
        raise SchemaError("read", f"column of the {side}", name, expected=f"one of {schema.names}", got="no such column", todo="correct it")
    return schema[name]


def _check_pair(ours: StructField, theirs: StructField) -> None:
    kind, other = ours.dataType.simpleString(), theirs.dataType.simpleString()
    if ours.dataType != theirs.dataType:
        raise SchemaError(
            "join on", "key", ours.name, expected=f"one type on both sides, {kind} as {ours.name!r} of the rows",
            got=f"{other} as {theirs.name!r} of the table", why="keys of different types are equal by rules that nobody reads",
            todo=f"cast one: rows.withColumn({ours.name!r}, F.col({ours.name!r}).cast({other!r}))",
        )  # fmt: skip
    check_text(ours.name, kind)
    check_key(ours.name, to_arrow_type(ours.dataType, timezone="UTC"))
