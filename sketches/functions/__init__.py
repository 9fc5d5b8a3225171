"""Questions to Arrow columns of stored sketches, row by row: ``sketches.functions.estimate(table["visitors"])``. They need no Spark.

    column of bytes (Arrow) ---> estimate, bounds, top, contains, ... ---> column of answers
                            ---> merge, merge_by --------------------> sketches of groups

Guarantee: an answer is that of the sketch's class, whatever the column is made of: chunks, dictionaries, small or large binary. Null gives
null. A row that cannot be answered (damaged or foreign bytes, a kind without such an answer) is an error that names it, or, with
``on_error="null"``, null; `error` says what is wrong with each row. Reading is in time and memory in proportion to the bytes.
"""

from __future__ import annotations

from sketches.functions.about import error, kind, parameters
from sketches.functions.counting import bounds, estimate
from sketches.functions.frequencies import frequency
from sketches.functions.lists import merge_list
from sketches.functions.members import contains
from sketches.functions.merging import merge, merge_by
from sketches.functions.ranking import heavy, top
from sketches.functions.samples import sample
from sketches.functions.statistics import decayed, quantile, rank
from sketches.functions.unions import difference, intersection, jaccard, union, union_estimate

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
    "merge_by",
    "merge_list",
    "parameters",
    "quantile",
    "rank",
    "sample",
    "top",
    "union",
    "union_estimate",
]
