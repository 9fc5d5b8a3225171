"""Sketches of streams and tables: aggregations, tables of sketches, and the questions that they answer.

    rows -- aggregate(keys, aggregates) or windows.aggregate(...) --> a sketch per key -- epochs.Sketches --> sketch table
                                                                                                                  |
    SQL (register), DataFrames (functions), Arrow without Spark (sketches.functions) <-- rollup, compact ---------'

`sketch` says which sketch is kept of which column, `merged` that stored ones are merged. `create_sketch_table` makes a table, `compact`
makes hours of minutes. `spark_ext.sketching.functions` has the questions: ``functions.estimate("visitors")``, in SQL
``sketch_estimate(visitors)``. `KeyFilter` drops facts that have no partner before a join.
"""

from spark_ext.sketching import functions
from spark_ext.sketching.compaction import compact
from spark_ext.sketching.measure import sketch
from spark_ext.sketching.plan import aggregate
from spark_ext.sketching.prefilter import KeyFilter
from spark_ext.sketching.register import register
from spark_ext.sketching.rollup import merged, rollup
from spark_ext.sketching.table_schema import SketchSchema, sketch_schema
from spark_ext.sketching.tables import create_sketch_table

__all__ = [
    "KeyFilter",
    "SketchSchema",
    "aggregate",
    "compact",
    "create_sketch_table",
    "functions",
    "merged",
    "register",
    "rollup",
    "sketch",
    "sketch_schema",
]
