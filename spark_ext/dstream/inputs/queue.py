"""`queueStream`: a list of RDDs, one or all per batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyspark import RDD

from spark_ext.dstream.batch import Batch
from spark_ext.dstream.graph import InputNode
from spark_ext.dstream.rows import Rows, nothing, of_rdd, union

__all__ = ["QueueInput"]


class QueueInput(InputNode):
    """Plans: ``{"from": i, "to": j}``, positions in the list. After the end the default, or nothing in one partition."""

    kind = "queueStream"

    def __init__(self, rdds: Sequence[RDD[Any]], slide_ms: int, *, one_at_a_time: bool, default: RDD[Any] | None) -> None:
        super().__init__(slide_ms)
        self._rdds = list(rdds)
        self._one_at_a_time = one_at_a_time
        self._default = default

    def plan(self, planned: Any | None, time_ms: int) -> dict[str, int]:  # noqa: D102 (InputNode's)
        start = 0 if planned is None else planned["to"]
        end = start + 1 if self._one_at_a_time else len(self._rdds)
        return {"from": start, "to": max(start, min(end, len(self._rdds)))}

    def has_news(self, planned: Any | None) -> bool:  # noqa: D102 (InputNode's)
        return (0 if planned is None else planned["to"]) < len(self._rdds)

    def compute(self, batch: Batch) -> Rows | None:  # noqa: D102 (Node's)
        planned = batch.plan.inputs[self.name]
        chosen = self._rdds[planned["from"] : planned["to"]]
        if chosen:
            return union(batch.context, [of_rdd(rdd) for rdd in chosen])
        return nothing(batch.context, 1) if self._default is None else of_rdd(self._default)
