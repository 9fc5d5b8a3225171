"""Sketches of streams and tables: aggregations, tables of sketches, and the questions that they answer.

    rows -- aggregate(keys, aggregates) or windows.aggregate(...) --> a sketch per key -- sketch table --> merge, estimate, bounds, ...

`sketch` says which sketch is kept of which column.
"""

from spark_ext.sketching.measure import sketch
from spark_ext.sketching.plan import aggregate

__all__ = ["aggregate", "sketch"]
