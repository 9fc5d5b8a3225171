"""What an aggregate is: states of groups, made of rows, merged, and turned into results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import pyarrow as pa

from spark_ext.state.segments import Segments

__all__ = ["Aggregate", "Types"]

Types = Mapping[str, pa.DataType]


class Aggregate(ABC):
    """Mergeable summary of the rows of a group.

    Guarantee: `merge` is associative and commutative and `identity` is its neutral element, up to the last bits of floating-point
    sums; so a window has the same result however its rows were split into batches and panes. `spark_ext.windows.laws` checks it.

    Instances are frozen dataclasses: they are sent to workers and compared by value. All arrays are Arrow arrays without chunks.
    """

    @property
    @abstractmethod
    def inputs(self) -> tuple[str, ...]:
        """Columns it reads."""

    @abstractmethod
    def state(self, types: Types) -> list[pa.DataType]:
        """Return the types of its state columns, given those of `inputs`.

        Raises
        ------
        SchemaError
            An input is of a type that it cannot aggregate.
        """

    @abstractmethod
    def result(self, types: Types) -> pa.DataType:
        """Return the type of its result, given those of `inputs`."""

    @abstractmethod
    def identity(self, types: Types, groups: int) -> list[pa.Array]:
        """Return the states of `groups` groups without rows."""

    @abstractmethod
    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:
        """Return the states of groups of rows.

        Parameters
        ----------
        rows : mapping of str to pa.Array (n,)
            `inputs`, ordered by group; of one group in any order.
        times : pa.Array (n,) int64
            Event times in microseconds since 1970, no nulls.
        segments : Segments
            The groups.

        Returns
        -------
        list of pa.Array (len(segments),)
            As `state` says.
        """

    @abstractmethod
    def merge(self, states: Sequence[pa.Array], segments: Segments) -> list[pa.Array]:
        """Return one state for each segment of states."""

    @abstractmethod
    def finish(self, states: Sequence[pa.Array], types: Types) -> pa.Array:
        """Return the results of groups, of the type `result` says. May be called on states that live on."""
