"""A stream whose rows a test hands in, and a clock that it holds: for programs of DStreams."""

from __future__ import annotations

from typing import Any

from spark_ext.dstream import DStream, StreamingContext
from spark_ext.dstream.batch import Batch
from spark_ext.dstream.graph import InputNode
from spark_ext.dstream.rows import Rows, of_rdd


class Hand(InputNode):
    """Rows that have been handed in by the time of the plan; plans: positions."""

    kind = "hand"

    def __init__(self, slide_ms: int) -> None:
        super().__init__(slide_ms)
        self.given: list[Any] = []
        self.calls: list[Any] = []
        self.fails_in = ""

    def start(self, folder: str, planned: Any | None) -> None:
        self.calls.append(("start", planned))
        self._fail("start")

    def plan(self, planned: Any | None, time_ms: int) -> Any:
        self._fail("plan")
        return [planned[1] if planned else 0, len(self.given)]

    def has_news(self, planned: Any | None) -> bool:
        self._fail("has_news")
        return len(self.given) > (planned[1] if planned else 0)

    def row_count(self, planned: Any) -> int:
        return int(planned[1] - planned[0])

    def describe(self, planned: Any) -> dict[str, Any]:
        return {"Description": f"rows {planned[0]} to {planned[1]}"}

    def finished(self, planned: Any) -> None:
        self.calls.append(("finished", planned))

    def stop(self, *, graceful: bool) -> None:
        self.calls.append(("stop", graceful))

    def compute(self, batch: Batch) -> Rows | None:
        start, end = batch.plan.inputs[self.name]
        return of_rdd(batch.context.parallelize(self.given[start:end], 1))

    def _fail(self, where: str) -> None:
        if self.fails_in == where:
            msg = f"the hand fails in {where}"
            raise OSError(msg)


def by_hand(ssc: StreamingContext) -> tuple[Hand, DStream[Any]]:
    """Return an input and its stream."""
    node = Hand(ssc._graph.interval_ms)
    ssc._graph.add(node)
    return node, DStream(node, ssc)
