"""Joins of two tables that change, by their key or by a foreign key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Literal, TypeVar

import pyarrow as pa
from pyspark.sql import DataFrame

from spark_ext.errors import SettingsError
from spark_ext.joins.layout import LEFT, RIGHT
from spark_ext.joins.plan import MOST_MATCHES, SUFFIX
from spark_ext.state.buckets import buckets_for
from spark_ext.state.operator import Input, apply_to_inputs, input_schema
from spark_ext.state.signed import SIGN
from spark_ext.tables.foreign_kernel import TableForeignJoin
from spark_ext.tables.join_kernel import TableJoin
from spark_ext.tables.layout import How, Pair
from spark_ext.tables.plan import Deleted, changelog_of, check_signed, own_columns, with_hash
from spark_ext.tables.tagged import described

__all__ = ["join", "join_foreign"]

T = TypeVar("T")


def join(
    left: DataFrame,
    right: DataFrame,
    *,
    keys: str | Sequence[str],
    how: How = "inner",
    sequence: str | tuple[str | None, str | None] | None = None,
    deleted: Deleted | tuple[Deleted | None, Deleted | None] | None = None,
    suffix: str = SUFFIX,
    ttl: timedelta | None = None,
    expected_keys: int = 100_000,
    buckets: int | None = None,
) -> DataFrame:
    """Join two tables by the key of both.

    Guarantee: rows ``changed``, summed by ``sign``, are the join of both tables as they are after any batch, whatever the batches; a
    replayed batch gives the same rows.

    Parameters
    ----------
    left, right : DataFrame
        Changelogs as in `changes`, or changes (with a column ``sign``); both streams, or both bounded.
    keys : str or sequence of str
        The key of both tables, named and typed alike. A null is no key: such rows are ``invalid``.
    how : {"inner", "left", "right", "full"}
        As in Spark.
    sequence, deleted
        As in `changes`; of both sides, or of the left and the right one.
    suffix : str
        For columns of the right side, other than keys, whose name the left one has; so for a sequence of the same name.
    ttl, expected_keys, buckets
        As in `changes`; the watermark is the lower one of both streams.

    Returns
    -------
    DataFrame
        ``tag``, the columns of the left side, those of the right one without keys, ``sign``, ``side``; `changed`, `stale` and `invalid`
        take them apart.

    Raises
    ------
    SettingsError, SchemaError
        Something does not fit, with what to do.
    StateError
        In the running query: the checkpoint was made with other settings.

    State: `TableJoin`, one blob per bucket.
    """
    names = (keys,) if isinstance(keys, str) else tuple(keys)
    sequences, deletes = _both(sequence), _both(deleted)
    logs, inputs = [], {}
    for at, (side, frame) in enumerate(((LEFT, left), (RIGHT, right))):
        has_order = sequences[at] is not None
        log, made = changelog_of(frame, names, sequences[at], deletes[at], ttl if has_order else None)
        logs.append(log)
        inputs[side] = Input(made, names, log.in_schema.names)
    if ttl is not None and not any(sequences):
        raise SettingsError("use", "ttl", repr(ttl), expected="a sequence", got="none", todo="leave ttl out, or name one")
    pair = Pair(logs[0].schema, logs[1].schema, tuple((name, name) for name in names), how, suffix)
    number = buckets_for(expected_keys) if buckets is None else buckets
    return described(apply_to_inputs(inputs, TableJoin(logs[0], logs[1], pair), buckets=number), pair)


def join_foreign(
    left_changes: DataFrame,
    right: DataFrame,
    *,
    on: Mapping[str, str],
    keys: str | Sequence[str],
    how: Literal["inner", "left"] = "inner",
    sequence: str | None = None,
    deleted: Deleted | None = None,
    suffix: str = SUFFIX,
    most_matches: int = MOST_MATCHES,
    ttl: timedelta | None = None,
    expected_keys: int = 100_000,
    buckets: int | None = None,
) -> DataFrame:
    """Join a table to another whose key it names: a change on either side changes the rows it concerns.

    Guarantee: rows ``changed``, summed by ``sign``, are the join of both tables as they are after any batch, keyed as the left one. A left
    row that moves to another foreign key leaves the old partner. A replayed batch gives the same rows.

    Parameters
    ----------
    left_changes : DataFrame
        Rows with ``sign``: each carries its foreign key, so that one that moves is found where it was.
    right : DataFrame
        A changelog as in `changes`, or changes.
    on : mapping of str to str
        Foreign key of the left table to key of the right one, all columns of it, typed alike. A null has no partner.
    keys : str or sequence of str
        The left table's own key.
    how : {"inner", "left"}
        Whether left rows without a partner come out.
    sequence, deleted, ttl
        Of `right`, as in `changes`.
    suffix : str
        For columns of the right side, other than keys, whose name the left one has.
    most_matches : int
        So many left rows may name one right row; others are ``excess``: one hot key cannot bring any number of rows at once.
    expected_keys, buckets
        As in `changes`; rows of the left table count.

    Returns
    -------
    DataFrame
        ``tag``, the columns of the left side, those of the right one without keys, ``sign``, ``side``; `changed`, `stale`, `invalid`,
        `unknown` and `excess` take them apart.

    Raises
    ------
    SettingsError, SchemaError
        Something does not fit, with what to do.
    StateError
        In the running query: the checkpoint was made with other settings.

    State: `TableForeignJoin`, one blob per bucket.
    """
    check_signed(left_changes)
    own = (keys,) if isinstance(keys, str) else tuple(keys)
    schema = pa.schema([field for field in input_schema(left_changes, own_columns(left_changes)) if field.name != SIGN])
    log, other = changelog_of(right, tuple(on.values()), sequence, deleted, ttl)
    pair = Pair(schema, log.schema, tuple(on.items()), how, suffix)
    kernel = TableForeignJoin(schema, own, log, pair, most_matches)
    inputs = {
        LEFT: Input(with_hash(left_changes, pair.left_keys), pair.left_keys, kernel.in_schemas[LEFT].names),
        RIGHT: Input(other, pair.right_keys, log.in_schema.names),
    }
    number = buckets_for(expected_keys) if buckets is None else buckets
    return described(apply_to_inputs(inputs, kernel, buckets=number), pair)


def _both(value: T | tuple[T, T]) -> tuple[T, T]:
    return value if isinstance(value, tuple) else (value, value)
