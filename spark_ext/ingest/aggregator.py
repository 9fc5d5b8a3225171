"""Group the good rows of a range as they come, in bounded memory; runs in workers, without Spark.

Flows in: columns of good rows with their offsets. Flows out: one row per group, or several where there are too many.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from spark_ext.errors import QueryError
from spark_ext.ingest.partial import PartialAggregate

__all__ = ["Aggregator"]

MOST_GROUPS: Final = 200_000
STRETCH: Final = 65_536  # offsets; only between two stretches groups are given out early, so blocks do not matter
MOST_PIECES: Final = 64
FIRST: Final = "first"
SAFE_DIGITS: Final = 28  # ten more for the number of rows fit into 38

_SOME: Final = pc.ScalarAggregateOptions(skip_nulls=True, min_count=1)  # as in SQL: nothing adds up to null
_VALID: Final = pc.CountOptions(mode="only_valid")


class Aggregator:
    """Aggregates one range after the other.

    Parameters
    ----------
    partial : PartialAggregate
        What to aggregate.
    schema : StructType
        Of the format.
    event_time : str, optional
        Field that panes are cut from.
    most_groups, stretch : int
        Groups held before they are given out, and offsets between two looks at that.

    State: the groups of the range, at most ``most_groups + stretch``.
    """

    def __init__(
        self,
        partial: PartialAggregate,
        schema: StructType,
        event_time: str | None,
        *,
        most_groups: int = MOST_GROUPS,
        stretch: int = STRETCH,
    ) -> None:
        self._partial, self._event_time = partial, event_time
        self._schema: pa.Schema = to_arrow_schema(partial.columns(schema, event_time), timezone="UTC")
        self._most_groups, self._stretch = most_groups, stretch
        self._pane_us = None if partial.pane is None else partial.pane // timedelta(microseconds=1)
        self._groups = [str(at) for at in range(len(partial.keys) + (self._pane_us is not None))]
        functions = [function for function, _ in partial.aggregates.values()]
        names = [f"a{at}" for at in range(len(functions))]
        self._names = [*self._groups, *names, FIRST]
        self._first: list[tuple[Any, ...]] = [
            ([], "count_all") if field is None else (name, function, _VALID if function == "count" else _SOME)
            for name, (function, field) in zip(names, partial.aggregates.values(), strict=True)
        ]
        self._first.append((FIRST, "min", _SOME))
        self._again = [(name, "sum" if function == "count" else function, _SOME) for name, function in zip(names, functions, strict=True)]
        self._again.append((FIRST, "min", _SOME))
        self._pieces: list[pa.Table] = []
        self._held = 0  # rows of the pieces: no fewer than there are groups
        self._at: int | None = None

    def add(self, columns: pa.RecordBatch, offsets: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """Take good rows, and yield groups if too many are held.

        Parameters
        ----------
        columns : pyarrow.RecordBatch
            The fields that `PartialAggregate.needed` names.
        offsets : ndarray (n,) int64
            Where the rows come from; ascending.
        """
        stretches = offsets // self._stretch
        edges = (np.flatnonzero(np.diff(stretches)) + 1).tolist()
        for start, stop in pairwise([0, *edges, len(offsets)]):
            if stop == start:
                continue
            if stretches[start] != self._at and self._held > self._most_groups:
                self._merge()
                if self._held > self._most_groups:
                    yield from self.take()
            self._at = int(stretches[start])
            self._keep(self._group(self._inputs(columns.slice(start, stop - start), offsets[start:stop]), self._first))

    def take(self) -> Iterator[pa.RecordBatch]:
        """Yield all groups that are held, in the order in which they were met, and forget them.

        Raises
        ------
        QueryError
            A sum does not fit its type.
        """
        self._merge()
        pieces, self._pieces, self._held, self._at = self._pieces, [], 0, None
        for piece in pieces:
            ordered = piece.sort_by(FIRST)  # Arrow's own order depends on the blocks
            arrays = [self._settled(ordered[name], at) for at, name in enumerate(self._names[:-1])]
            yield from pa.Table.from_arrays(arrays, schema=self._schema).combine_chunks().to_batches()

    def _inputs(self, columns: pa.RecordBatch, offsets: NDArray[np.int64]) -> pa.Table:
        """Return the groups and the values to aggregate, under our names, in types whose sums cannot overflow."""
        arrays = [columns.column(name) for name in self._partial.keys]
        if self._pane_us is not None:
            times = np.asarray(columns.column(self._event_time).view(pa.int64()))
            arrays.append(pa.array(times // self._pane_us * self._pane_us))  # rounded down, before 1970 too
        for function, field in self._partial.aggregates.values():
            if field is None:
                arrays.append(pa.nulls(len(columns)))
            else:
                value = columns.column(field)
                arrays.append(value.cast(_wide(value.type)) if function == "sum" else value)
        return pa.Table.from_arrays([*arrays, pa.array(offsets)], self._names)

    def _group(self, table: pa.Table, how: list[tuple[Any, ...]]) -> pa.Table:
        grouped = table.group_by(self._groups, use_threads=False).aggregate(how)
        return pa.Table.from_arrays(grouped.columns, self._names)  # by place: counts of rows all have one name

    def _keep(self, piece: pa.Table) -> None:
        self._pieces.append(piece)
        self._held += len(piece)
        if len(self._pieces) > MOST_PIECES:
            self._merge()

    def _merge(self) -> None:
        if len(self._pieces) > 1:
            self._pieces = [self._group(pa.concat_tables(self._pieces), self._again)]
            self._held = len(self._pieces[0])

    def _settled(self, column: pa.ChunkedArray, at: int) -> pa.ChunkedArray:
        field = self._schema.field(at)
        if column.type == field.type:
            return column
        try:
            return column.cast(field.type)
        except pa.ArrowInvalid as error:
            raise QueryError(
                "sum",
                "aggregate",
                field.name,
                expected=f"a sum that fits {field.type}",
                got="a larger one",
                why="no digit may be lost",
                todo="declare the field decimal with few digits (its sums have 38), or sum behind the source; keep the checkpoint",
            ) from error


def _wide(kind: pa.DataType) -> pa.DataType:
    """Return a type in which the sum of as many values as a worker ever sees is exact."""
    if pa.types.is_decimal(kind):
        return pa.decimal128(38, kind.scale) if kind.precision <= SAFE_DIGITS else pa.decimal256(76, kind.scale)
    return pa.decimal128(38, 0) if kind.bit_width == 64 else pa.int64()  # noqa: PLR2004 (only bigint can overflow)
