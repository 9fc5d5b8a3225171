"""By key: reduce, combine, group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spark_ext.dstream.rows import Rows, of_rdd

__all__ = ["reduced"]


def reduced(rows: Rows, function: Callable[[Any, Any], Any], partitions: int) -> Rows:
    """Return one pair per key, its values put together by `function`."""
    return of_rdd(rows.rdd().reduceByKey(function, partitions))
