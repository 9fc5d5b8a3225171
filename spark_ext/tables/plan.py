"""A changelog as a table, and its aggregation: streams and bounded frames alike.

changelog -- changes(keys, sequence) --> tagged rows -- changed / stale / invalid
changes -- aggregate(by, aggregates) --> tagged rows -- changed / unknown

Nothing here waits for a watermark: what comes out is right at once, and taken back when it is not right any more. The engine wants a
stream to have one, so a stream without gets a constant: it never moves, and so causes no batches without rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.names import column
from spark_ext.state.buckets import buckets_for
from spark_ext.state.operator import apply_kernel, has_watermark, input_schema
from spark_ext.state.signed import SIGN
from spark_ext.tables.aggregate_kernel import TableAggregate
from spark_ext.tables.changes_kernel import TableChanges
from spark_ext.tables.layout import DELETED, HASH, Changelog
from spark_ext.tables.tagged import NOTE
from spark_ext.time.sources import WATERMARK_TIME
from spark_ext.windows.aggregates.aggregate import Aggregate

if TYPE_CHECKING:
    from spark_ext.state.control import Control

__all__ = ["Deleted", "aggregate", "changelog_of", "changes", "check_signed", "inserts", "own_columns", "with_hash"]

Deleted = Column | str
NO_TIME: Final = "_no_time"
MICROSECOND: Final = timedelta(microseconds=1)


def changes(
    changelog: DataFrame,
    *,
    keys: Sequence[str],
    sequence: str | None = None,
    deleted: Deleted | None = None,
    ttl: timedelta | None = None,
    expected_keys: int = 100_000,
    buckets: int | None = None,
    control: Control | None = None,
) -> DataFrame:
    """Make a table of a changelog: give the changes of its rows, net per batch.

    Guarantee: rows ``changed``, summed by ``sign``, are the table after any batch: of each key the change with the highest sequence, no row
    if that is a delete. With a sequence it depends neither on the order nor on the batches that changes came in. A replayed batch gives
    the same rows. A change that is not newer than what the table has comes out as ``stale``, one with a null in its key or sequence as
    ``invalid``.

    Parameters
    ----------
    changelog : DataFrame
        A stream, or a bounded frame. All columns but keys and sequence are values.
    keys : sequence of str
        Columns that identify a row of the table, of any type but array and map.
    sequence : str, optional
        Column of type integer, date or timestamp that orders the changes of a key: offset, version, event time. Without it the later
        batch wins, and of several changes in one batch that with the highest values, the others being ``stale``: name one if a key can
        change twice in a batch.
    deleted : Column or str, optional
        Boolean expression that tells a delete; null is no delete. Default: all values are null.
    ttl : timedelta, optional
        How long after a delete, by the watermark, an older change of the key may come. Then the key is forgotten; default never. The
        stream needs a watermark for it.
    expected_keys : int
        Order of magnitude of keys in the table; decides the number of buckets, see `spark_ext.state.buckets_for`.
    buckets : int, optional
        The number of buckets itself, fixed for the life of a checkpoint.
    control : Control, optional
        Where the end of input is told; see `spark_ext.state.control`. Only `ttl` goes by it.

    Returns
    -------
    DataFrame
        ``tag``, the columns of `changelog`, ``sign``; `changed`, `stale` and `invalid` take them apart. Append mode on a stream.

    Raises
    ------
    SettingsError, SchemaError
        Something does not fit, with what to do.
    StateError
        In the running query: the checkpoint was made with other settings.

    State: `TableChanges`, one blob per bucket.
    """
    log, frame = changelog_of(changelog, tuple(keys), sequence, deleted, ttl, can_be_signed=False)
    number = buckets_for(expected_keys) if buckets is None else buckets
    return apply_kernel(frame, TableChanges(log), keys=keys, columns=log.in_schema.names, buckets=number, control=control)


def aggregate(
    changes: DataFrame,
    *,
    by: Sequence[str],
    aggregates: Mapping[str, Aggregate],
    expected_keys: int = 100_000,
    buckets: int | None = None,
) -> DataFrame:
    """Aggregate a table that changes: a row that moves from one group to another leaves the first.

    Guarantee: rows ``changed``, summed by ``sign``, are the aggregation of the rows that are there after any batch, a group that has none
    having no result. A replayed batch gives the same rows. A row that goes but, as far as is known, was not there comes out as ``unknown``
    and changes nothing; see `TableAggregate` for how far that is.

    Parameters
    ----------
    changes : DataFrame
        Rows with ``sign``, such as ``changed(tables.changes(...))`` or `read_changes`. A query has one operator with state: behind
        another one read them back from a table (`spark_ext.epochs.Table`).
    by : sequence of str
        Columns to group by; a null is a group.
    aggregates : mapping of str to Aggregate
        Name of the result, and what it is: count, sum, mean, min or max of `spark_ext.windows.aggregates`.
    expected_keys : int
        Order of magnitude of groups; with min or max of their distinct values.
    buckets : int, optional
        The number of buckets itself, fixed for the life of a checkpoint.

    Returns
    -------
    DataFrame
        ``tag``, `by`, the results, ``sign``, and for ``unknown`` rows the columns that were read; `changed` and `unknown` take them apart.
        It is keyed by `by`.

    Raises
    ------
    SettingsError, SchemaError
        Something does not fit, or a row cannot be taken out of an aggregate again.
    QueryError
        In the running query: a sum or mean has no room in its type.
    StateError
        In the running query: the checkpoint was made with other settings.

    State: `TableAggregate`, one blob per bucket.
    """
    check_signed(changes)
    names = dict.fromkeys([*by, *(name for one in aggregates.values() for name in one.inputs)])
    missing = [name for name in names if name not in changes.columns]
    if missing:
        expected = f"one of {changes.columns}"
        raise SchemaError("read", "column", missing[0], expected=expected, got="no such column", todo="correct the name")
    kernel = TableAggregate(input_schema(changes, list(names)), tuple(by), tuple(aggregates.items()))
    number = buckets_for(expected_keys) if buckets is None else buckets
    tagged = apply_kernel(with_hash(changes, by), kernel, keys=by, columns=kernel.in_schema.names, buckets=number)
    return tagged.withMetadata(SIGN, {NOTE: {"result": [*by, *aggregates], "read": list(names)}})


def inserts(rows: DataFrame) -> DataFrame:
    """Return rows that only ever come, such as events, as changes: each with ``sign`` +1.

    Raises
    ------
    SchemaError
        They have a column ``sign``.
    """
    if SIGN in rows.columns:
        got, todo = f"columns {rows.columns}", "rename it, or take them for the changes that they are"
        raise SchemaError("make changes of", "frame", "", expected=f"no column {SIGN!r}", got=got, todo=todo)
    return rows.withColumn(SIGN, F.lit(1).cast("tinyint"))


def changelog_of(
    frame: DataFrame,
    keys: tuple[str, ...],
    sequence: str | None,
    deleted: Deleted | None,
    ttl: timedelta | None,
    *,
    can_be_signed: bool = True,
) -> tuple[Changelog, DataFrame]:
    """Return what a frame is as a changelog, and the frame with the columns that a kernel wants.

    A frame with a column ``sign`` has changes instead, if `can_be_signed`.
    """
    is_signed = can_be_signed and SIGN in frame.columns
    if is_signed:
        check_signed(frame)
        if deleted is not None:
            todo = "leave deleted out"
            raise SettingsError("use", "changes", "with a sign", expected="no other deletes", got="deleted", todo=todo)
    if ttl is not None and frame.isStreaming and not has_watermark(frame):
        why, todo = "ttl is counted by it", "use spark_ext.time.with_watermark(stream, ...) or stream.withWatermark(...), or leave ttl out"
        raise SettingsError("use", "ttl", repr(ttl), expected="a stream with a watermark", got="one without", why=why, todo=todo)
    schema = pa.schema([field for field in input_schema(frame, own_columns(frame)) if not (is_signed and field.name == SIGN)])
    log = Changelog(schema, keys, sequence, None if ttl is None else ttl // MICROSECOND, is_signed)
    if not is_signed:
        frame = frame.withColumn(DELETED, F.coalesce(_deleted(schema, log, deleted), F.lit(False)))
    return log, with_hash(frame, keys)


def check_signed(frame: DataFrame) -> None:
    """Refuse a frame that is no changes.

    Raises
    ------
    SchemaError
        It has no column ``sign`` of type tinyint.
    """
    got = frame.schema[SIGN].dataType.simpleString() if SIGN in frame.columns else f"columns {frame.columns}"
    if got != "tinyint":
        todo = "make changes with spark_ext.tables.changes, read_changes, or spark_ext.tables.inserts for rows that only come"
        raise SchemaError("read changes from", "frame", "", expected=f"a column {SIGN!r} of type tinyint", got=got, todo=todo)


def own_columns(frame: DataFrame) -> list[str]:
    """Return the user's columns."""
    return [name for name in frame.columns if name != WATERMARK_TIME]


def with_hash(frame: DataFrame, keys: Sequence[str]) -> DataFrame:
    """Return a frame with the hash of its keys, and, if it is a stream without a watermark, with one that stands still."""
    for name in keys:
        if name not in frame.columns:
            raise SchemaError("read", "column", name, expected=f"one of {frame.columns}", got="no such column", todo="correct the name")
    if frame.isStreaming and not has_watermark(frame):
        frame = frame.withColumn(NO_TIME, F.timestamp_seconds(F.lit(0))).withWatermark(NO_TIME, "0 seconds")
    return frame.withColumn(HASH, F.xxhash64(*map(column, keys))) if keys else frame


def _deleted(schema: pa.Schema, log: Changelog, deleted: Deleted | None) -> Column:
    if deleted is not None:
        return (F.expr(deleted) if isinstance(deleted, str) else deleted).cast("boolean")
    values = [name for name in schema.names if name not in {*log.keys, log.sequence}]
    found = F.lit(bool(values))
    for name in values:
        found = found & column(name).isNull()
    return found
