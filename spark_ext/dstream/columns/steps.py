"""Steps: operations on the elements of one partition, run one after the other in one pass.

What flows in: blocks or elements of a partition. What flows out: blocks or elements. A step that knows its function
works on a column; any other works on elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from spark_ext.dstream.columns.blocks import OBJECT_ROWS, Block, cut, pack, pair_of, unpack
from spark_ext.dstream.columns.kernels import flat, mapped, mask
from spark_ext.dstream.columns.known import expression

__all__ = [
    "FilterStep",
    "FlatMapStep",
    "FlatMapValuesStep",
    "MapStep",
    "MapValuesStep",
    "PartitionStep",
    "Step",
    "knows_first",
    "run_on_blocks",
    "run_on_elements",
]

OnColumn: TypeAlias = Callable[[pa.Array], "pa.Array | None"]


class Step(Protocol):
    """One operation."""

    def on_elements(self, index: int, elements: Iterable[Any]) -> Iterable[Any]:
        """Work on the elements of partition `index`, lazily."""

    def on_column(self) -> OnColumn | None:
        """Return what does the same to a column, or None if the step's function is not known.

        That gives None for a column that it is not for.
        """

    @property
    def takes_partition(self) -> bool:
        """Whether it must see a partition as a whole."""


class _ByElement:
    __slots__ = ()
    takes_partition = False


# Generators, not `map` and `filter`: a StopIteration of the user's function must be an error, not an early end.


@dataclass(frozen=True, slots=True)
class MapStep(_ByElement):
    """`map`."""

    function: Callable[[Any], Any]

    def on_elements(self, index: int, elements: Iterable[Any]) -> Iterable[Any]:  # noqa: D102 (Step's)
        function = self.function
        return (function(element) for element in elements)

    def on_column(self) -> OnColumn | None:  # noqa: D102 (Step's)
        known = expression(self.function)
        return None if known is None else lambda column: mapped(known, column)


@dataclass(frozen=True, slots=True)
class FilterStep(_ByElement):
    """`filter`."""

    function: Callable[[Any], bool]

    def on_elements(self, index: int, elements: Iterable[Any]) -> Iterable[Any]:  # noqa: D102 (Step's)
        function = self.function
        return (element for element in elements if function(element))

    def on_column(self) -> OnColumn | None:  # noqa: D102 (Step's)
        known = expression(self.function)

        def run(column: pa.Array) -> pa.Array | None:
            kept = mask(known, column)  # type: ignore[arg-type]
            return None if kept is None else column.filter(kept)

        return None if known is None else run


@dataclass(frozen=True, slots=True)
class FlatMapStep(_ByElement):
    """`flatMap`."""

    function: Callable[[Any], Iterable[Any]]

    def on_elements(self, index: int, elements: Iterable[Any]) -> Iterable[Any]:  # noqa: D102 (Step's)
        function = self.function
        return chain.from_iterable(function(element) for element in elements)

    def on_column(self) -> OnColumn | None:  # noqa: D102 (Step's)
        known = expression(self.function)

        def run(column: pa.Array) -> pa.Array | None:
            lists = flat(known, column)  # type: ignore[arg-type]
            return None if lists is None else lists.flatten()

        return None if known is None else run


@dataclass(frozen=True, slots=True)
class MapValuesStep(_ByElement):
    """`mapValues`."""

    function: Callable[[Any], Any]

    def on_elements(self, index: int, elements: Iterable[Any]) -> Iterable[Any]:  # noqa: D102 (Step's)
        function = self.function
        return ((pair[0], function(pair[1])) for pair in elements)

    def on_column(self) -> OnColumn | None:  # noqa: D102 (Step's)
        known = expression(self.function)

        def run(column: pa.Array) -> pa.Array | None:
            if not _has_values(column):
                return None
            values = mapped(known, column.field(1))  # type: ignore[arg-type]
            return None if values is None else pair_of(column.field(0), values)

        return None if known is None else run


@dataclass(frozen=True, slots=True)
class FlatMapValuesStep(_ByElement):
    """`flatMapValues`."""

    function: Callable[[Any], Iterable[Any]]

    def on_elements(self, index: int, elements: Iterable[Any]) -> Iterable[Any]:  # noqa: D102 (Step's)
        function = self.function
        return ((pair[0], value) for pair in elements for value in function(pair[1]))

    def on_column(self) -> OnColumn | None:  # noqa: D102 (Step's)
        known = expression(self.function)

        def run(column: pa.Array) -> pa.Array | None:
            lists = flat(known, column.field(1)) if _has_values(column) else None  # type: ignore[arg-type]
            return None if lists is None else pair_of(column.field(0).take(pc.list_parent_indices(lists)), lists.flatten())

        return None if known is None else run


@dataclass(frozen=True, slots=True)
class PartitionStep:
    """`mapPartitionsWithIndex`."""

    function: Callable[[int, Iterable[Any]], Iterable[Any]]
    takes_partition = True

    def on_elements(self, index: int, elements: Iterable[Any]) -> Iterable[Any]:  # noqa: D102 (Step's)
        return self.function(index, elements)

    def on_column(self) -> OnColumn | None:  # noqa: D102 (Step's)
        return None


def run_on_elements(steps: Sequence[Step], index: int, elements: Iterable[Any]) -> Iterable[Any]:
    """Run steps over the elements of a partition; gives elements."""
    for step in steps:
        elements = step.on_elements(index, elements)
    return elements


def run_on_blocks(steps: Sequence[Step], index: int, blocks: Iterable[Block]) -> Iterator[Block]:
    """Run steps over the blocks of a partition, on columns as far as that goes; gives blocks, lists among them that may be columns."""
    count = next((place for place, step in enumerate(steps) if step.takes_partition), len(steps))
    if count == len(steps):
        yield from _by_block(steps, index, blocks)
        return
    elements = chain.from_iterable(map(unpack, _by_block(steps[:count], index, blocks)))
    yield from cut(run_on_elements(steps[count:], index, elements), OBJECT_ROWS)


def knows_first(steps: Sequence[Step]) -> bool:
    """Tell whether the first step's function is known, so that columns are of use to it."""
    return bool(steps) and steps[0].on_column() is not None


def _by_block(steps: Sequence[Step], index: int, blocks: Iterable[Block]) -> Iterator[Block]:
    kernels = [step.on_column() for step in steps]
    for block in blocks:
        done = 0
        column = pack(block) if kernels and kernels[0] is not None else block
        while done < len(steps) and isinstance(column, pa.Array):
            kernel = kernels[done]
            made = None if kernel is None else kernel(column)
            if made is None:
                break
            column, done = made, done + 1
        if done < len(steps):
            yield from cut(run_on_elements(steps[done:], index, unpack(column)), OBJECT_ROWS)
        elif len(column):
            yield column


def _has_values(column: pa.Array) -> bool:
    return pa.types.is_struct(column.type) and column.type.num_fields > 1 and not column.null_count
