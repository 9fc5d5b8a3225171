"""Rows meet a table as it was when they happened: Delta's versions as its history."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import reduce
from operator import and_
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import TimestampType

from spark_ext.delta.commits import missing_files, open_table, version_times
from spark_ext.errors import JoinError, SchemaError, SettingsError
from spark_ext.joins.copy_kernel import LookupHow
from spark_ext.joins.local_copy import MOST_ROWS
from spark_ext.joins.lookup import lookup
from spark_ext.joins.on import On
from spark_ext.joins.table_layout import Columns
from spark_ext.names import column
from spark_ext.paths import absolute

__all__ = ["lookup_versions"]

MOST_VERSIONS: Final = 50
BEFORE: Final = -1  # the place of rows from before the first version, and of those without event time


def lookup_versions(
    rows: DataFrame,
    path: str,
    *,
    on: On,
    event_time: str,
    newest: int | None = None,
    how: LookupHow = "left",
    suffix: str = "_right",
    columns: Columns | None = None,
    most_matches: int = 1,
    most_rows: int = MOST_ROWS,
    most_versions: int = MOST_VERSIONS,
) -> DataFrame:
    """Join each row with a Delta table as of the row's event time: the last version that was committed by then.

    Guarantee: each row meets the version with the greatest commit time at or before its event time, and no later one than `newest`. With
    `newest` the result depends on the rows and on the table's log only, so that a replay gives the same: in an epoch give
    ``epoch.versions[name]``. What counts is when something was written, not from when it held; for that see `lookup_history`.

    Parameters
    ----------
    rows : DataFrame
        Bounded, persisted as those of an epoch are: their event times are looked at when this is called.
    path : str
        A Delta table.
    on, how, suffix, columns, most_matches, most_rows
        As for `lookup`, for each version. Columns are those of version `newest`; where an older one lacks one it is null.
    event_time : str
        Column of type timestamp. Null, or before the first version: meets nothing.
    newest : int, optional
        The last version that counts; default the newest there is.
    most_versions : int
        So many versions are read at most, each once.

    Returns
    -------
    DataFrame
        As of `lookup`, in no order.

    Raises
    ------
    SchemaError, SettingsError
        As for `lookup`; there is no such table or version, or `rows` is a stream.
    JoinError
        As for `lookup`; a version is not there any more, or more than `most_versions` are asked for.

    State: as for `lookup`, for each version that is asked for.
    """
    _check(rows, event_time)
    table = open_table(absolute(path))
    if table is None:
        raise SettingsError("look up in", "table", path, expected="a Delta table", got="none", todo="correct the path")
    last = int(table.version()) if newest is None else newest
    if not 0 <= last <= int(table.version()):
        expected, todo = f"one of 0 to {table.version()}", "correct it"
        raise SettingsError("look up in", "version", str(newest), expected=expected, got=repr(newest), todo=todo)
    known = version_times(table, newest=last)
    asked = _asked(rows, event_time, known, path, most_versions)
    shape = _at(rows, path, last)
    parts = []
    for version, condition in asked:
        if version == BEFORE:
            found = shape.limit(0)
        elif version == last:
            found = shape
        else:
            table.load_as_version(version)
            if missing := missing_files(table):
                raise _gone(path, f"version {version} with all its files", f"{missing} of them missing")
            found = _as_newest(_at(rows, path, version), shape)
        part = rows.where(condition)
        parts.append(
            lookup(part, found, on=on, how=how, suffix=suffix, columns=columns, most_matches=most_matches, most_rows=most_rows)
        )  # fmt: skip
    return reduce(DataFrame.unionAll, parts)


def _asked(rows: DataFrame, event_time: str, known: list[tuple[int, int]], path: str, most_versions: int) -> list[tuple[int, Column]]:
    """Return the versions that rows ask for, each with the condition for its rows."""
    at = F.unix_micros(column(event_time))
    bounds = rows.agg(F.min(at).alias("first"), F.max(at).alias("last")).head()
    assert bounds is not None, "an aggregate has a row"  # noqa: S101
    times = [us for _, us in known]
    if bounds["first"] is None:
        return [(BEFORE, F.lit(True))]
    low, high = (bisect_right(times, bounds[name]) for name in ("first", "last"))
    if low == 0 and (not known or known[0][0] > 0):
        begins = f"with version {known[0][0]}" if known else "behind the newest version that counts"
        raise _gone(path, f"a log back to {bounds['first']} us", f"one that begins {begins}")
    place = _place(at, times[low:high], low)  # of what is committed within the batch's time
    distinct = sorted(row[0] for row in rows.where(at.isNotNull()).select(place.alias("place")).distinct().collect())
    if len(distinct) > most_versions:
        raise JoinError(
            "look up in", "table", path, expected=f"at most {most_versions} versions for one batch", got=str(len(distinct)),
            why="each is read as a whole", todo="keep a history (epochs.History) and use lookup_history, or allow more with most_versions=",
        )  # fmt: skip
    found = []
    for one in distinct:
        since = [at >= times[one - 1]] if one else []
        until = [at < times[one]] if one < len(times) else []
        found.append((known[one - 1][0] if one else BEFORE, reduce(and_, [*since, *until])))
    return [*found, (BEFORE, at.isNull())]


def _place(at: Column, times: Sequence[int], before: int) -> Column:
    """Return `before` and how many of the times, which ascend, have come by then; halved, as a chain of thousands is too deep for Spark."""
    if not times:
        return F.lit(before)
    half = len(times) // 2
    return F.when(at >= times[half], _place(at, times[half + 1 :], before + half + 1)).otherwise(_place(at, times[:half], before))


def _at(rows: DataFrame, path: str, version: int) -> DataFrame:
    return rows.sparkSession.read.format("delta").option("versionAsOf", version).load(absolute(path))


def _as_newest(frame: DataFrame, newest: DataFrame) -> DataFrame:
    own = {field.name: field for field in frame.schema}
    for field in newest.schema:
        if field.name in own and own[field.name].dataType != field.dataType:
            expected, got = f"type {field.dataType.simpleString()}, as now", own[field.name].dataType.simpleString()
            raise SchemaError("read", "column of an older version", field.name, expected=expected, got=got, todo="leave it out: columns=")
    return frame.select(*(
        column(field.name) if field.name in own else F.lit(None).cast(field.dataType).alias(field.name) for field in newest.schema
    ))  # fmt: skip


def _check(rows: DataFrame, event_time: str) -> None:
    if rows.isStreaming:
        todo = "call it in the route of an epoch"
        raise SettingsError("look up versions for", "rows", "", expected="the frame of a batch", got="a stream", todo=todo)
    got = rows.schema[event_time].dataType.simpleString() if event_time in rows.columns else f"columns {rows.columns}"
    if event_time not in rows.columns or not isinstance(rows.schema[event_time].dataType, TimestampType):
        raise SchemaError("use", "event time", event_time, expected="a column of type timestamp", got=got, todo="name it, or cast it")


def _gone(path: str, expected: str, got: str) -> JoinError:
    return JoinError(
        "look up in", "table", path, expected=expected, got=got, why="somebody has cleaned the table up",
        todo="let it keep files and log for longer (delta.deletedFileRetentionDuration, delta.logRetentionDuration), or keep a history",
    )  # fmt: skip
