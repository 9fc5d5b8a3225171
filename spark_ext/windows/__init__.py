"""Windows over event time, counts and calendars, with every row accounted for.

    rows -- aggregate(keys, event_time, window, aggregates) --> tagged rows -- results / late / invalid / outside

A window is a shape (`tumbling`, `sliding`, `session`, `count_tumbling`, `count_sliding`, `calendar`, `business_hours`,
`global_window`, `assigned`) with a lateness policy (`with_grace`, `without_grace`). A trigger says when it gives out results before it
closes, an eviction what the global window forgets. `rollup` aggregates results again. `spark_ext.windows.aggregates` says what is computed.
"""

from spark_ext.windows.chain import rollup, stage
from spark_ext.windows.evictions import keep_all, keep_for, keep_last
from spark_ext.windows.plan import aggregate, explain
from spark_ext.windows.shapes import (
    assigned,
    business_hours,
    calendar,
    count_sliding,
    count_tumbling,
    global_window,
    session,
    sliding,
    tumbling,
)
from spark_ext.windows.tagged import invalid, is_rejected, late, outside, results
from spark_ext.windows.triggers import each_batch, each_rows, early, on_close

__all__ = [
    "aggregate",
    "assigned",
    "business_hours",
    "calendar",
    "count_sliding",
    "count_tumbling",
    "each_batch",
    "each_rows",
    "early",
    "explain",
    "global_window",
    "invalid",
    "is_rejected",
    "keep_all",
    "keep_for",
    "keep_last",
    "late",
    "on_close",
    "outside",
    "results",
    "rollup",
    "session",
    "sliding",
    "stage",
    "tumbling",
]
