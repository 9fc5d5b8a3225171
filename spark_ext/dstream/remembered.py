"""The rows of recent batches: what `slice` finds, and when Spark may let go of what is persisted."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Mapping

from spark_ext.dstream.graph import Node
from spark_ext.dstream.rows import Rows

__all__ = ["Remembered"]


class Remembered:
    """Rows by stream and batch time, as long as the stream or the context remembers them.

    Guarantee: safe from several threads; persisted rows are unpersisted when they are forgotten.

    Parameters
    ----------
    least_ms : callable
        How long each stream remembers at least; asked anew for each batch.
    """

    def __init__(self, least_ms: Callable[[], int]) -> None:
        self._least_ms = least_ms
        self._rows: dict[Node, dict[int, Rows]] = defaultdict(dict)
        self._lock = threading.Lock()

    def add(self, made: Mapping[Node, Rows | None], time_ms: int) -> None:
        """Take in what a batch has made, and forget what is too old by then."""
        with self._lock:
            for node, rows in made.items():
                if rows is not None:
                    self._rows[node][time_ms] = rows
            least_ms = self._least_ms()
            for node, known in self._rows.items():
                self._forget(node, known, time_ms - max(node.remember_ms, least_ms))

    def between(self, node: Node, begin_ms: int, end_ms: int) -> list[Rows]:
        """Return the rows of a stream at the times from begin to end, both included, that are remembered, in order."""
        with self._lock:
            return [rows for time_ms, rows in sorted(self._rows.get(node, {}).items()) if begin_ms <= time_ms <= end_ms]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for node, known in self._rows.items():
                self._forget(node, known, max(known, default=0))

    def _forget(self, node: Node, known: dict[int, Rows], until_ms: int) -> None:
        for time_ms in [old for old in known if old <= until_ms]:
            gone = known.pop(time_ms)
            if node.storage_level is not None:
                gone.base.unpersist()
