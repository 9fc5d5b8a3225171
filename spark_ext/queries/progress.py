"""A progress bar for running queries, from what Spark reports of each batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from spark_ext.queries.query import Query

__all__ = ["QueryProgress", "rows_behind"]


class QueryProgress:
    """Show rows done, rows per second and the event time that each query has reached.

    A context manager; on a terminal it draws bars on stderr, elsewhere one line per query at the end.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TextColumn("{task.fields[reached]}"),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._watched: dict[str, _Watched] = {}

    def __enter__(self) -> Self:
        """Start to draw."""
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop drawing; leave one line per query where no bar could be drawn."""
        self._bars.stop()
        if not self._console.is_terminal:
            for name, watched in self._watched.items():
                self._console.print(f"{name}: {watched.rows:,} rows in {watched.batches} batches", highlight=False)

    def watch(self, queries: Sequence[Query]) -> Callable[[], None]:
        """Add a bar per query and return the function that brings them up to date."""
        for query in queries:
            task = self._bars.add_task(query.name, total=None, speed="", reached="")
            self._watched[query.name] = _Watched(task)

        def update() -> None:
            for query in queries:
                self._update(query, self._watched[query.name])

        return update

    def _update(self, query: Query, watched: _Watched) -> None:
        # An idle trigger reports no rows under the number of the batch that comes next.
        reports = [one for one in query.spark_query.recentProgress if int(one["numInputRows"])]
        fresh = [one for one in reports if int(one["batchId"]) > watched.last_batch]
        for one in fresh:
            watched.last_batch = int(one["batchId"])
            watched.rows += int(one["numInputRows"])
            watched.batches += 1
        if fresh:
            last = fresh[-1]
            behind = rows_behind(last)
            reached = last["eventTime"].get("max", last["eventTime"].get("watermark", ""))[:10]
            self._bars.update(
                watched.task,
                completed=watched.rows,
                total=None if behind is None else watched.rows + behind,
                speed=f"{last['processedRowsPerSecond']:,.0f} rows/s",
                reached=f"at {reached}" if reached else "",
            )
        if not query.is_active():
            self._bars.update(watched.task, total=watched.rows, completed=watched.rows)


class _Watched:
    def __init__(self, task: TaskID) -> None:
        self.task = task
        self.last_batch = -1
        self.rows = 0
        self.batches = 0


def rows_behind(progress: Any) -> int | None:
    """Return how many records of its topics a batch has left, from Spark's progress; None for other sources.

    Examples
    --------
    >>> rows_behind({"sources": [{"endOffset": '{"t": {"0": 5}}', "latestOffset": '{"t": {"0": 9}}'}]})
    4
    """
    behind = 0
    for source in progress["sources"]:
        ends, latest = _offsets(source["endOffset"]), _offsets(source["latestOffset"])
        if ends is None or latest is None:
            return None
        behind += sum(latest.values()) - sum(ends.values())
    return behind


def _offsets(text: str | None) -> dict[tuple[str, str], int] | None:
    try:
        found = json.loads(text or "null")
        return {(topic, partition): int(offset) for topic, partitions in found.items() for partition, offset in partitions.items()}
    except (ValueError, AttributeError, TypeError):
        return None
