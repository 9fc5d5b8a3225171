"""Steps: operations on the elements of one partition, run one after the other in one pass.

What flows in: blocks or elements of a partition. What flows out: blocks or elements. A step that knows its function
works on a column; any other works on elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from spark_ext.dstream.columns.blocks import Block, packed, unpack

__all__ = ["FilterStep", "FlatMapStep", "MapStep", "PartitionStep", "Step", "run_on_blocks", "run_on_elements"]


class Step(Protocol):
    """One operation."""

    def on_elements(self, index: int, elements: Iterable[Any]) -> Iterable[Any]:
        """Work on the elements of partition `index`, lazily."""


@dataclass(frozen=True, slots=True)
class MapStep:
    """`map`."""

    function: Callable[[Any], Any]

    def on_elements(self, index: int, elements: Iterable[Any]) -> Iterable[Any]:  # noqa: D102 (Step's)
        return map(self.function, elements)


@dataclass(frozen=True, slots=True)
class FilterStep:
    """`filter`."""

    function: Callable[[Any], bool]

    def on_elements(self, index: int, elements: Iterable[Any]) -> Iterable[Any]:  # noqa: D102 (Step's)
        return filter(self.function, elements)


@dataclass(frozen=True, slots=True)
class FlatMapStep:
    """`flatMap`."""

    function: Callable[[Any], Iterable[Any]]

    def on_elements(self, index: int, elements: Iterable[Any]) -> Iterable[Any]:  # noqa: D102 (Step's)
        return chain.from_iterable(map(self.function, elements))


@dataclass(frozen=True, slots=True)
class PartitionStep:
    """`mapPartitionsWithIndex`."""

    function: Callable[[int, Iterable[Any]], Iterable[Any]]

    def on_elements(self, index: int, elements: Iterable[Any]) -> Iterable[Any]:  # noqa: D102 (Step's)
        return self.function(index, elements)


def run_on_elements(steps: Sequence[Step], index: int, elements: Iterable[Any]) -> Iterable[Any]:
    """Run steps over the elements of a partition; gives elements."""
    for step in steps:
        elements = step.on_elements(index, elements)
    return elements


def run_on_blocks(steps: Sequence[Step], index: int, blocks: Iterable[Block]) -> Iterator[Block]:
    """Run steps over the blocks of a partition; gives blocks."""
    if not steps:
        yield from blocks
        return
    elements = chain.from_iterable(map(unpack, blocks))
    yield from packed(run_on_elements(steps, index, elements))
