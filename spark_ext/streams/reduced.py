"""An aggregate by a user's function of two arrays of values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from spark_ext.errors import QueryError
from spark_ext.state.segments import Segments
from spark_ext.windows.aggregates import Aggregate, Types

__all__ = ["Reduced"]

VALUE = "value"


@dataclass(frozen=True)
class Reduced(Aggregate):
    """Values of a group, put together two at a time by an associative function; neighbours by event time, so few calls do all groups.

    Guarantee: the function is called some log2(rows of the largest group) times per batch, for all groups at once. Nulls are skipped.

    Parameters
    ----------
    function : callable
        Two Arrow arrays of one length in, one out, of the same type; element by element and associative.
    id : str
        Its name in the checkpoint.

    State: one value a group.

    Examples
    --------
    >>> import pyarrow.compute as pc
    >>> most = Reduced(pc.max_element_wise, "max")
    >>> most.of_rows({"value": pa.array([1, 5, 2, 7])}, pa.array([0, 1, 2, 3]), Segments(np.array([0, 3]), 4))[0].to_pylist()
    [5, 7]
    """

    function: Callable[[pa.Array, pa.Array], pa.Array] = field(repr=False, compare=False)
    id: str

    @property
    def inputs(self) -> tuple[str, ...]:  # noqa: D102
        return (VALUE,)

    def state(self, types: Types) -> list[pa.DataType]:  # noqa: D102
        return [types[VALUE]]

    def result(self, types: Types) -> pa.DataType:  # noqa: D102
        return types[VALUE]

    def identity(self, types: Types, groups: int) -> list[pa.Array]:  # noqa: D102
        return [pa.nulls(groups, types[VALUE])]

    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:  # noqa: D102
        order = np.lexsort((np.asarray(times), segments.ids))
        return [self._reduced(rows[VALUE].take(pa.array(order)), segments)]

    def merge(self, states: Sequence[pa.Array], segments: Segments) -> list[pa.Array]:  # noqa: D102
        return [self._reduced(states[0], segments)]

    def finish(self, states: Sequence[pa.Array], types: Types) -> pa.Array:  # noqa: D102
        return states[0]

    def _reduced(self, values: pa.Array, segments: Segments) -> pa.Array:
        """Put neighbours together in rounds, each of which halves the rows of every group."""
        present = values.is_valid().to_numpy(zero_copy_only=False)
        ids, values = segments.ids[present], values.filter(pa.array(present))
        while True:
            starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])) if len(ids) else np.empty(0, np.int64)
            place = np.arange(len(ids)) - np.repeat(starts, np.diff(starts, append=len(ids)))
            left = (place % 2 == 0) & np.append(ids[1:] == ids[:-1], False) if len(ids) else np.zeros(0, bool)
            if not left.any():
                break
            at = np.flatnonzero(left)
            both = self._called(values.take(pa.array(at)), values.take(pa.array(at + 1)))
            stays = np.flatnonzero(place % 2 == 0)
            taken = np.where(left[stays], len(values) + np.cumsum(left[stays]) - 1, stays)
            values, ids = pa.concat_arrays([values, both]).take(pa.array(taken)), ids[stays]
        found = np.full(len(segments), -1)
        found[ids] = np.arange(len(ids))
        return values.take(pa.array(found, mask=found < 0))

    def _called(self, left: pa.Array, right: pa.Array) -> pa.Array:
        found = self.function(left, right)
        found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
        if not isinstance(found, pa.Array) or len(found) != len(left) or found.type != left.type:
            raise QueryError(
                "reduce", "values by", self.id or "a function", expected=f"an Arrow array of {len(left)} {left.type}",
                got=f"{len(found)} {found.type}" if isinstance(found, pa.Array) else type(found).__name__,
                why="a reducer makes one value of two, pair by pair", todo="correct the function",
            )  # fmt: skip
        return found
