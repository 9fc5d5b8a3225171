"""Named points in the life of a batch, where a test may let it crash. In production they cost one comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, get_args

__all__ = ["POINTS", "Point", "reach", "watched"]

Point = Literal["before_plan", "after_plan", "in_keep", "after_keep", "after_output", "after_outputs"]
POINTS: Final[tuple[Point, ...]] = get_args(Point)

_watch: Callable[[Point, int], None] | None = None


def reach(point: Point, batch: int) -> None:
    """Say that a batch is at this point; what watches may raise or kill the process."""
    if _watch is not None:
        _watch(point, batch)


@contextmanager
def watched(watch: Callable[[Point, int], None]) -> Iterator[None]:
    """Call `watch` with point and number of the batch at each point, in the query's thread."""
    global _watch  # noqa: PLW0603 (one process, one test at a time)
    before, _watch = _watch, watch
    try:
        yield
    finally:
        _watch = before
