"""Tables that change: a changelog by key, its aggregation and joins, kept in Delta and read by key.

changelog -- `changes` --> rows with ``sign`` -- `aggregate`, `join_foreign` --> rows with ``sign`` -- sink `spark_ext.epochs.Table`
`inserts`: rows that only come. `join`: two changelogs by key. `read_changes`: the changes of a Delta table, for the next query.
`TableReader`: its rows by key.
"""

from spark_ext.tables.join_plan import join, join_foreign
from spark_ext.tables.plan import aggregate, changes, inserts
from spark_ext.tables.reader import TableReader
from spark_ext.tables.reading import current, read_changes
from spark_ext.tables.tagged import changed, excess, invalid, stale, unknown

__all__ = [
    "TableReader",
    "aggregate",
    "changed",
    "changes",
    "current",
    "excess",
    "inserts",
    "invalid",
    "join",
    "join_foreign",
    "read_changes",
    "stale",
    "unknown",
]
