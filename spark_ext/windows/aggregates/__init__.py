"""Aggregates for windows: build them with these functions, or derive your own from `NumpyAggregate`."""

from spark_ext.windows.aggregates.aggregate import Aggregate, Types
from spark_ext.windows.aggregates.basic import count, mean, sum  # noqa: A004
from spark_ext.windows.aggregates.distinct import distinct, distinct_values
from spark_ext.windows.aggregates.moments import variance
from spark_ext.windows.aggregates.numpy_aggregate import NumpyAggregate
from spark_ext.windows.aggregates.ordered import first, last, max, min  # noqa: A004
from spark_ext.windows.aggregates.ranked import collect, top_n

__all__ = [
    "Aggregate",
    "NumpyAggregate",
    "Types",
    "collect",
    "count",
    "distinct",
    "distinct_values",
    "first",
    "last",
    "max",
    "mean",
    "min",
    "sum",
    "top_n",
    "variance",
]
