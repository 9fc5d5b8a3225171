"""Joins of streams with streams, and of streams with tables; every row is accounted for.

Two streams: `join`, within a time or by the last rows; `join_asof`, with the row that is nearest in time. Their rows are taken apart by
`joined`, `late`, `invalid` and `excess`. A stream and a table: `lookup` in a copy, `lookup_keys` in a large table, `lookup_history` as of
event time, `lookup_versions` in the table as it was then, `lookup_remote` over HTTP or JDBC.
"""

from spark_ext.joins.asof_plan import join_asof
from spark_ext.joins.lookup import lookup
from spark_ext.joins.lookup_history import lookup_history
from spark_ext.joins.lookup_keys import lookup_keys
from spark_ext.joins.lookup_versions import lookup_versions
from spark_ext.joins.plan import explain, join
from spark_ext.joins.remote import Cache, HttpLookup, JdbcLookup, Limits, lookup_remote
from spark_ext.joins.shapes import interval, one_window, two_windows
from spark_ext.joins.tagged import excess, invalid, joined, late

__all__ = [
    "Cache",
    "HttpLookup",
    "JdbcLookup",
    "Limits",
    "excess",
    "explain",
    "interval",
    "invalid",
    "join",
    "join_asof",
    "joined",
    "late",
    "lookup",
    "lookup_history",
    "lookup_keys",
    "lookup_remote",
    "lookup_versions",
    "one_window",
    "two_windows",
]
