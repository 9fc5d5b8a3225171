"""Questions to columns of stored sketches, Column in, Column out: ``df.groupBy("day").agg(merge("visitors"))``.

What each answers and promises is in `sketches.functions`; what SQL calls them is in `spark_ext.sketching.register`. A column is given by
its name, a dot or a space in it being part of it, or as a Column; a text is always a name: the text "a" as an item is ``F.lit("a")``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import numpy as np
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import DataType

from sketches.base import check_confidence
from sketches.functions.rows import OnError
from sketches.numeric import instant
from spark_ext.names import column
from spark_ext.sketching.answers import RETURNS, Answers

__all__ = [
    "bounds",
    "contains",
    "decayed",
    "difference",
    "error",
    "estimate",
    "frequency",
    "heavy",
    "intersection",
    "jaccard",
    "kind",
    "merge",
    "merge_list",
    "parameters",
    "quantile",
    "rank",
    "sample",
    "top",
    "union",
    "union_estimate",
]

ColumnOrName = Column | str


def kind(sketches: ColumnOrName, *, on_error: OnError = "fail") -> Column:
    """Return which kind of sketch each row begins as, as a string."""
    return _asked("kind", on_error, sketches)


def error(sketches: ColumnOrName) -> Column:
    """Return what is wrong with each row, as a string; null where it is a sound sketch, or null."""
    return _asked("error", "null", sketches)


def parameters(sketches: ColumnOrName, *, on_error: OnError = "fail") -> Column:
    """Return the parameters of each sketch, as a string of JSON."""
    return _asked("parameters", on_error, sketches)


def estimate(sketches: ColumnOrName, *, on_error: OnError = "fail") -> Column:
    """Return the one number that each sketch stands for, as a double."""
    return _asked("estimate", on_error, sketches)


def bounds(sketches: ColumnOrName, confidence: float = 0.95, *, on_error: OnError = "fail") -> Column:
    """Return the number of `estimate` and its bounds, as ``struct<estimate, lower, upper>`` of doubles."""
    return _asked("bounds", on_error, sketches, F.lit(check_confidence(confidence)))


def contains(sketches: ColumnOrName, items: Any, *, hashed: bool = False, on_error: OnError = "fail") -> Column:
    """Return whether the item of each row may have been taken by its filter, as a boolean; null for a null item.

    Items cross to Python as 8 bytes each: the JVM hashes them.

    Parameters
    ----------
    sketches : Column or str
        Bloom filters.
    items : Column or str, or one value for all
        Of the type that the filter was given: an int of Python is a bigint.
    hashed : bool
        Whether items are ``xxhash64`` of values already, such as of several columns.
    on_error : "fail" or "null"
        As in `sketches.functions`.
    """
    item = _value(items)
    words = item if hashed else F.when(item.isNotNull(), F.xxhash64(item))  # the hash of null is a number too
    return _asked("contains", on_error, sketches, words, F.lit(True))


def frequency(sketches: ColumnOrName, items: Any, confidence: float = 0.95, *, hashed: bool = False, on_error: OnError = "fail") -> Column:
    """Return how often the item of each row came by its sketch, as ``struct<estimate, lower, upper>`` of bigint; null for a null item.

    Parameters
    ----------
    sketches : Column or str
        Count-Min, heavy hitters, hot lists.
    items, hashed
        As for `contains`; a hot list that keeps items of another type refuses values, and cannot see it of hashes.
    confidence : float
        Of each lower bound.
    on_error : "fail" or "null"
        As in `sketches.functions`.
    """
    return _asked("frequency", on_error, sketches, _value(items), F.lit(check_confidence(confidence)), F.lit(hashed))


def top(
    sketches: ColumnOrName,
    n: int,
    at: Any = None,
    confidence: float = 0.95,
    *,
    item_type: DataType | str = "string",
    on_error: OnError = "fail",
) -> Column:
    """Return the `n` most frequent items, as an array of ``struct<item, estimate, lower, upper, guaranteed>``.

    Parameters
    ----------
    sketches : Column or str
        Hot lists, heavy hitters; with `at` DecayingTop.
    n : int
        From 0.
    at : Column or str, or one instant, optional
        For DecayingTop: when. Numbers are doubles then, else bigint.
    confidence : float
        Of each lower bound of heavy hitters.
    item_type : DataType or str
        Of the items: what the sketch was given, or can be cast to; "string" makes texts of all, as `sketches.functions.top` does.
    on_error : "fail" or "null"
        As in `sketches.functions`.
    """
    if at is None:
        return _asked("top", on_error, sketches, F.lit(n), F.lit(check_confidence(confidence)), item_type=item_type)
    return _asked("top_at", on_error, sketches, F.lit(n), _instant(at), item_type=item_type)


def heavy(
    sketches: ColumnOrName, share: float, confidence: float = 0.95, *, item_type: DataType | str = "string", on_error: OnError = "fail"
) -> Column:
    """Return the items that came, for certain (`guaranteed`) or possibly, at least `share` of the total, as `top` does."""
    return _asked("heavy", on_error, sketches, F.lit(float(share)), F.lit(check_confidence(confidence)), item_type=item_type)


def sample(sketches: ColumnOrName, *, item_type: DataType | str = "string", on_error: OnError = "fail") -> Column:
    """Return the items of each sample, as an array of `item_type`, see `top`."""
    return _asked("sample", on_error, sketches, item_type=item_type)


def quantile(sketches: ColumnOrName, q: Any, confidence: float = 0.95, *, on_error: OnError = "fail") -> Column:
    """Return the value at a rank from 0 to 1, one for all or a column, as ``struct<estimate, lower, upper>`` of doubles."""
    return _asked("quantile", on_error, sketches, _value(q), F.lit(check_confidence(confidence)))


def rank(sketches: ColumnOrName, x: Any, confidence: float = 0.95, *, on_error: OnError = "fail") -> Column:
    """Return the share of values that are at most x, one for all or a column, as ``struct<estimate, lower, upper>`` of doubles."""
    return _asked("rank", on_error, sketches, _value(x), F.lit(check_confidence(confidence)))


def decayed(sketches: ColumnOrName, at: Any, *, on_error: OnError = "fail") -> Column:
    """Return count, sum and mean as of an instant, one for all or a column of timestamps, as ``struct<count, sum, mean>`` of doubles."""
    return _asked("decayed", on_error, sketches, _instant(at))


def union(a: ColumnOrName, b: ColumnOrName, *, on_error: OnError = "fail") -> Column:
    """Return the sketch of what at least one of two has taken, as binary."""
    return _asked("union", on_error, a, b)


def union_estimate(a: ColumnOrName, b: ColumnOrName, confidence: float = 0.95, *, on_error: OnError = "fail") -> Column:
    """Return how many distinct values at least one of two has taken, as ``struct<estimate, lower, upper>`` of doubles."""
    return _asked("union_estimate", on_error, a, b, F.lit(check_confidence(confidence)))


def intersection(a: ColumnOrName, b: ColumnOrName, confidence: float = 0.95, *, on_error: OnError = "fail") -> Column:
    """Return how many distinct values both of two have taken, as ``struct<estimate, lower, upper>`` of doubles."""
    return _asked("intersection", on_error, a, b, F.lit(check_confidence(confidence)))


def difference(a: ColumnOrName, b: ColumnOrName, confidence: float = 0.95, *, on_error: OnError = "fail") -> Column:
    """Return how many distinct values the first has taken and the second has not, as ``struct<estimate, lower, upper>`` of doubles."""
    return _asked("difference", on_error, a, b, F.lit(check_confidence(confidence)))


def jaccard(a: ColumnOrName, b: ColumnOrName, confidence: float = 0.95, *, on_error: OnError = "fail") -> Column:
    """Return the size of the intersection as a share of the union, as ``struct<estimate, lower, upper>`` of doubles."""
    return _asked("jaccard", on_error, a, b, F.lit(check_confidence(confidence)))


def merge(sketches: ColumnOrName, *, on_error: OnError = "fail") -> Column:
    """Merge the sketches of a group, an aggregate: binary, null if there are only nulls.

    Not supported: other aggregates than this one beside it, windows, and one row for no rows without ``groupBy``; for these see
    `merge_list`, and for sketches and counts of rows in one pass `spark_ext.sketching.aggregate`.
    """
    return _asked("merge", on_error, sketches)


def merge_list(lists: ColumnOrName, *, on_error: OnError = "fail") -> Column:
    """Merge the sketches in each array, as of ``F.collect_list``: binary, null if there are none.

    So ``merge_list(F.collect_list("visitors"))`` stands beside other aggregates and in windows, and makes few calls for many small
    groups; but all sketches of a group are in one row, which must be below 2 GB.
    """
    return _asked("merge_list", on_error, lists)


def _asked(name: str, on_error: OnError, *arguments: ColumnOrName, item_type: DataType | str = "string") -> Column:
    """Return what a question, as a function of the session, answers for some columns."""
    returns = RETURNS[name]
    answers = Answers(on_error)
    if "{item}" in returns:
        kind = item_type if isinstance(item_type, DataType) else DataType.fromDDL(item_type)
        returns = returns.replace("{item}", kind.simpleString())
        if kind.simpleString() != "string":
            answers = Answers(on_error, to_arrow_type(kind, timezone="UTC"))
    columns = [column(some) if isinstance(some, str) else some for some in arguments]
    answer: Column = arrow_udf(getattr(answers, name), returns)(*columns)  # type: ignore[call-overload]  # the type of UDF is that of its hints
    return answer


def _value(value: Any) -> Column:
    """Return an argument as a column: one by its name, or a value of the type that `sketches.columns.one` gives it."""
    if isinstance(value, str):
        return column(value)
    if isinstance(value, Column):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return F.lit(value).cast("bigint")
    return F.lit(value)


def _instant(at: Any) -> Column:
    """Return an instant as a column of timestamps; a datetime without a zone is in UTC, as everywhere."""
    return F.timestamp_micros(F.lit(instant(at))) if isinstance(at, datetime | np.datetime64 | int) else _value(at)
