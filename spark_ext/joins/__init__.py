"""Joins of streams with streams, and of streams with tables; every row is accounted for.

`join` is of two streams, within a time or by the last rows; its rows are taken apart by `joined`, `late`, `invalid` and `excess`.
"""

from spark_ext.joins.plan import explain, join
from spark_ext.joins.shapes import interval, one_window, two_windows
from spark_ext.joins.tagged import excess, invalid, joined, late

__all__ = ["excess", "explain", "interval", "invalid", "join", "joined", "late", "one_window", "two_windows"]
