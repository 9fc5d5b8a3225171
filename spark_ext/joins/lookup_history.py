"""Rows meet the version of their key that held when they happened."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, get_args

from pyspark.sql import DataFrame
from pyspark.sql.types import DataType, TimestampNTZType, TimestampType

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.joins.copy_kernel import LookupHow, Overlap
from spark_ext.joins.local_copy import MOST_ROWS, Interval, Moment, copy_of, joined
from spark_ext.joins.on import On
from spark_ext.joins.table_layout import Columns, TableLayout

__all__ = ["lookup_history"]

MICROSECOND: Final = timedelta(microseconds=1)


def lookup_history(
    rows: DataFrame,
    history: DataFrame,
    *,
    on: On,
    event_time: str,
    how: LookupHow = "left",
    valid_from: str = "valid_from",
    valid_to: str | None = "valid_to",
    tolerance: timedelta | None = None,
    overlap: Overlap = "fail",
    suffix: str = "_right",
    columns: Columns | None = None,
    most_rows: int = MOST_ROWS,
) -> DataFrame:
    """Join each row with what held for its key at its event time: ``valid_from <= event time < valid_to``.

    Guarantee: a row meets one version at most: the last one that began by its event time, if it has not ended by then. The result depends
    on the rows and on the table's version only; in an epoch the ledger names that (`Epoch.table`).

    Parameters
    ----------
    rows, history, on, suffix, columns, most_rows
        As for `lookup`; of the history all columns but the keys come out by default, its times as well.
    event_time : str
        Column of the rows. Null meets nothing.
    how : {"left", "inner", "semi", "anti"}
        As in Spark.
    valid_from : str
        Column of the history: from when a row holds. Never null; of the type of `event_time`.
    valid_to : str or None
        Column of the history: until when, not with; null for the one that still holds. None for a table of measurements, in which each
        row holds until the next one of its key. An interval that ends before it begins never holds.
    tolerance : timedelta, optional
        How long before the event the version may have begun at most, inclusive.
    overlap : {"fail", "latest"}
        Intervals of a key that overlap are refused; or the one that began last is asked, and no other. Two rows of a key that begin at one
        time are refused in any case.

    Returns
    -------
    DataFrame
        The columns of `rows`, then those of the history, which are nullable.

    Raises
    ------
    SchemaError, SettingsError
        As for `lookup`; a time is no timestamp, or of another type than the others.
    JoinError
        Intervals that overlap, two rows of a key from one time, a row without a beginning: with the key. Too many rows.

    State: as for `lookup`, and 8 or 16 bytes per row.
    """
    layout = TableLayout.of(rows, history, on=on, how=how, suffix=suffix, columns=columns)
    if overlap not in get_args(Overlap):
        raise _refused("overlap", f"one of {', '.join(get_args(Overlap))}", repr(overlap), "correct it")
    if tolerance is not None and tolerance < timedelta(0):
        raise _refused("tolerance", "a time of zero or more, or None", repr(tolerance), "correct it")
    kind = _time(rows, event_time, "event_time")
    for name, argument in ((valid_from, "valid_from"), (valid_to, "valid_to")):
        if name is not None and (found := _time(history, name, argument)) != kind:
            expected = f"{kind.simpleString()}, as {event_time!r} is"
            raise SchemaError("use", f"column for {argument}", name, expected=expected, got=found.simpleString(), todo="cast it")
    copy = copy_of(history, layout, interval=Interval(valid_from, valid_to, overlap), most_rows=most_rows)
    return joined(rows, copy, layout, Moment(event_time, None if tolerance is None else tolerance // MICROSECOND))


def _time(frame: DataFrame, name: str, argument: str) -> DataType:
    if name not in frame.columns:
        todo = "name it; for a table of measurements: valid_to=None" if argument == "valid_to" else "correct the name"
        raise SchemaError("read", f"column for {argument}", name, expected=f"one of {frame.columns}", got="no such column", todo=todo)
    kind = frame.schema[name].dataType
    if not isinstance(kind, TimestampType | TimestampNTZType):
        raise SchemaError("use", f"column for {argument}", name, expected="a timestamp", got=kind.simpleString(), todo="cast it")
    return kind


def _refused(name: str, expected: str, got: str, todo: str) -> SettingsError:
    return SettingsError("look up", "argument", name, expected=expected, got=got, todo=todo)
