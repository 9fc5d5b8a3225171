"""One batch being worked out: what each stream holds at its time."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from pyspark import SparkContext

from spark_ext.dstream.plans import Plan
from spark_ext.dstream.rows import Rows
from spark_ext.dstream.store import Store

if TYPE_CHECKING:
    from spark_ext.dstream.graph import Node

__all__ = ["Batch"]


@dataclass
class Batch:
    """What nodes get to see of a batch.

    Attributes
    ----------
    plan : Plan
        Number, time, and what inputs give.
    zero_ms, interval_ms : int
        When the program began (the first batch is one interval later), and the batch interval.
    context : SparkContext
        Spark's context.
    store : Store
        What earlier batches left, and where this one leaves something.
    """

    plan: Plan
    zero_ms: int
    interval_ms: int
    context: SparkContext
    store: Store
    _made: dict[Node, Rows | None] = field(default_factory=dict)

    @property
    def time_ms(self) -> int:
        """The batch's time, ms since 1970."""
        return self.plan.time_ms

    @property
    def time(self) -> datetime:
        """The batch's time as `pyspark.streaming` gives it: local, without a zone."""
        return datetime.fromtimestamp(self.time_ms / 1000)  # noqa: DTZ006 (Spark's form)

    def is_due(self, node: Node, time_ms: int | None = None) -> bool:
        """Tell whether a stream has rows at a time, which is this batch's unless given."""
        since = (self.time_ms if time_ms is None else time_ms) - self.zero_ms
        return since > 0 and since % node.slide_ms == 0

    def rows(self, node: Node) -> Rows | None:
        """Return the rows of a stream at this batch's time, the same object each time; None between its slides."""
        if not self.is_due(node):
            return None
        if node not in self._made:
            rows = node.compute(self)
            if rows is not None and node.storage_level is not None:
                rows = rows.persisted(node.storage_level)
            self._made[node] = rows
        return self._made[node]

    def replace(self, node: Node, rows: Rows) -> None:
        """Let those who ask from now on get the same rows from elsewhere, so that they are computed once."""
        self._made[node] = rows

    def made(self) -> dict[Node, Rows | None]:
        """Return what has been made so far."""
        return dict(self._made)
