"""Named points in the life of an epoch, where a test may let it crash. In production they cost one comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, get_args

__all__ = ["POINTS", "Point", "reach", "watched"]

Point = Literal["after_read", "before_sink", "after_sink", "after_sinks", "before_ledger", "after_ledger", "in_maintenance"]
POINTS: Final[tuple[Point, ...]] = get_args(Point)

_watch: Callable[[Point, int, str], None] | None = None


def reach(point: Point, batch_id: int, sink: str = "") -> None:
    """Say that an epoch is at this point; what watches may raise or kill the process."""
    if _watch is not None:
        _watch(point, batch_id, sink)


@contextmanager
def watched(watch: Callable[[Point, int, str], None]) -> Iterator[None]:
    """Call `watch` with point, batch id and name of the sink (or an empty string) at each point, in the query's thread."""
    global _watch  # noqa: PLW0603 (one process, one test at a time)
    before, _watch = _watch, watch
    try:
        yield
    finally:
        _watch = before
