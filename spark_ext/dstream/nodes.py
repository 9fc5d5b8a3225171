"""Kinds of streams without state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from pyspark import RDD

from spark_ext.dstream.batch import Batch
from spark_ext.dstream.columns.steps import Step
from spark_ext.dstream.graph import Node
from spark_ext.dstream.rows import Rows, of_rdd, union

__all__ = ["RowsNode", "StepNode", "TransformNode", "UnionNode"]


class StepNode(Node):
    """One step on each element or partition."""

    kind = "map"

    def __init__(self, parent: Node, step: Step, *, kind: str, keeps_places: bool) -> None:
        self.kind = kind  # type: ignore[misc]  # of this object
        super().__init__((parent,), parent.slide_ms)
        self.step = step
        self.keeps_places = keeps_places

    def compute(self, batch: Batch) -> Rows | None:  # noqa: D102 (Node's)
        rows = batch.rows(self.parents[0])
        return None if rows is None else rows.then(self.step, keeps_places=self.keeps_places)


class RowsNode(Node):
    """A function of the parents' rows; without rows of the first parent there are none."""

    kind = "rows"

    def __init__(self, parents: Sequence[Node], function: Callable[..., Rows], *, kind: str) -> None:
        self.kind = kind  # type: ignore[misc]  # of this object
        super().__init__(parents, parents[0].slide_ms)
        self.function = function

    def compute(self, batch: Batch) -> Rows | None:  # noqa: D102 (Node's)
        found = [batch.rows(parent) for parent in self.parents]
        return self.function(*found) if all(rows is not None for rows in found) else None


class TransformNode(Node):
    """The user's function of RDDs; a parent that has no rows now gives None, as in Spark."""

    kind = "transform"

    def __init__(self, parents: Sequence[Node], function: Callable[..., RDD[Any]], *, kind: str = "transform") -> None:
        self.kind = kind  # type: ignore[misc]  # of this object
        super().__init__(parents, parents[0].slide_ms)
        self.function = function

    def compute(self, batch: Batch) -> Rows | None:  # noqa: D102 (Node's)
        found = [batch.rows(parent) for parent in self.parents]
        if all(rows is None for rows in found):
            return None
        time: datetime = batch.time
        made = self.function(time, *(None if rows is None else rows.rdd() for rows in found))
        return None if made is None else of_rdd(made)

    def functions(self) -> Iterable[Any]:  # noqa: D102 (Node's)
        return ()  # it runs in the driver


class UnionNode(Node):
    """All elements of all parents."""

    kind = "union"

    def __init__(self, parents: Sequence[Node]) -> None:
        super().__init__(parents, parents[0].slide_ms)

    def compute(self, batch: Batch) -> Rows | None:  # noqa: D102 (Node's)
        found = [rows for parent in self.parents if (rows := batch.rows(parent)) is not None]
        return union(batch.context, found) if found else None
