"""Counts, sums and means that rows can be taken out of again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.errors import SettingsError
from spark_ext.joins.sides import Mask, Numbers
from spark_ext.state.segments import Segments
from spark_ext.windows.aggregates.aggregate import Aggregate, Types
from spark_ext.windows.aggregates.basic import Count, Mean, Sum
from spark_ext.windows.aggregates.columns import arrow, valid, view
from spark_ext.windows.aggregates.ordered import Extreme
from spark_ext.windows.aggregates.reduce import narrow, reduce

__all__ = ["Running", "is_extreme", "running"]

LEAST: Final = np.iinfo(np.int64).min
INFINITE: Final = (np.inf, -np.inf)


def is_extreme(aggregate: Aggregate) -> bool:
    """Tell whether its value is one of the rows', so that all of them have to be known."""
    return isinstance(aggregate, Extreme)


def running(name: str, aggregate: Aggregate, types: Types) -> Running | None:
    """Return how an aggregate is kept, None for minimum and maximum.

    Raises
    ------
    SettingsError
        A row cannot be taken out of it again.
    SchemaError
        As the aggregate's.
    """
    if is_extreme(aggregate):
        aggregate.result(types)
        return None
    if not isinstance(aggregate, Count | Sum | Mean):
        expected, got = "count, sum, mean, min or max of spark_ext.windows.aggregates", type(aggregate).__name__.lower()
        why = "of the others no row can be taken out again"
        todo = "aggregate a stream of rows with spark_ext.windows, or keep the rows and aggregate when they are read"
        raise SettingsError("aggregate changes by", "aggregate", name, expected=expected, got=got, why=why, todo=todo)
    aggregate.result(types)
    return Running(aggregate, types)


@dataclass(frozen=True)
class Running:
    """The state of an aggregate under rows with a sign, linear in them.

    Guarantee: integers and decimals are exact at any time. Floats are the sum of what came less the sum of what went, up to rounding;
    NaN and infinities are counted apart, so that they leave no trace when they are taken out, and a group without values begins at
    nothing again.

    Parameters
    ----------
    aggregate : Count, Sum or Mean
        What is kept.
    types : mapping of str to pa.DataType
        Of its inputs.

    State: of ``sum`` and ``mean`` the columns of `Sum`, then the number of values; of floats also how many are NaN, infinite and minus
    infinite. Of ``count`` that of a column's values; rows are counted by the group.
    """

    aggregate: Count | Sum | Mean
    types: Types

    @property
    def column(self) -> str | None:
        """The column that is read."""
        return self.aggregate.column

    @cached_property
    def is_float(self) -> bool:
        """Whether sums are rounded."""
        return self._sum is not None and pa.types.is_floating(self._sum.result(self.types))

    @cached_property
    def state(self) -> list[pa.DataType]:
        """Types of the state's columns."""
        if self.column is None:
            return []
        sums = [] if self._sum is None else self._sum.state(self.types)
        return [*sums, *([pa.int64()] * (4 if self.is_float else 1))]

    def nothing(self, groups: int) -> list[pa.Array]:
        """Return the states of groups without rows."""
        sums = [] if self._sum is None else self._sum.identity(self.types, groups)
        return [*sums, *(arrow(np.zeros(groups, np.int64), pa.int64()) for _ in self.state[len(sums) :])]

    def counts(self, states: Sequence[pa.Array]) -> Numbers:
        """Return the number of values of each group."""
        return np.asarray(view(states[self._sums]))

    def of_rows(self, rows: Mapping[str, pa.Array], signs: Numbers, segments: Segments) -> list[pa.Array]:
        """Return what rows with signs add to each group; `rows` are ordered by group."""
        if self.column is None:
            return []
        column = rows[self.column]
        present = valid(column)
        known = np.ones(len(column), bool) if present is None else present
        counted = [known]
        sums: list[pa.Array] = []
        if self._sum is not None:
            if self.is_float:
                values = view(column).astype(np.float64)
                special = [known & np.isnan(values), *(known & (values == one) for one in INFINITE)]
                known = known & np.isfinite(values)
                counted += special
                column = arrow(np.where(known, values, 0.0) * signs, pa.float64(), known)
                sums = self._sum.of_rows({self.column: column}, _NO_TIMES, segments)
            else:
                sums = self._signed_sums(self._sum, column, signs, segments)
        return [*sums, *(arrow(reduce(np.add, mask * signs, segments), pa.int64()) for mask in counted)]

    def added(self, states: Sequence[pa.Array], more: Sequence[pa.Array]) -> list[pa.Array]:
        """Return the sum of two states, group by group."""
        if self.column is None:
            return []
        counts = [arrow(view(a) + view(b), pa.int64()) for a, b in zip(states[self._sums :], more[self._sums :], strict=True)]
        if self._sum is None:
            return counts
        sums = self._merged(self._sum, states[: self._sums], more[: self._sums])
        return [*self._emptied(sums, view(counts[0]) == 0), *counts]

    def finish(self, states: Sequence[pa.Array], rows: Numbers) -> pa.Array:
        """Return the results of groups; `rows`: how many each has."""
        if self.column is None:
            return arrow(rows, pa.int64())
        if self._sum is None:
            return states[0]
        sums, counts = list(states[: self._sums]), states[self._sums]
        if self.is_float:
            sums = [self._with_special(sums[0], states[self._sums :])]
        is_mean = isinstance(self.aggregate, Mean)
        return self.aggregate.finish([*sums, counts] if is_mean else sums, self.types)

    @cached_property
    def _sum(self) -> Sum | None:
        return None if isinstance(self.aggregate, Count) else Sum(self.aggregate.column)

    @cached_property
    def _sums(self) -> int:
        return 0 if self._sum is None else len(self._sum.state(self.types))

    def _signed_sums(self, total: Sum, column: pa.Array, signs: Numbers, segments: Segments) -> list[pa.Array]:
        """Return the sums of rows that come less those of rows that go; neither has to fit the column's type."""
        name = total.column
        if (signs > 0).all():
            return total.of_rows({name: column}, _NO_TIMES, segments)
        nothing = total.identity(self.types, 1)
        parts = []
        for chosen in (signs > 0, signs < 0):
            groups, some = narrow(chosen, segments)
            found = total.of_rows({name: column.filter(pa.array(chosen))}, _NO_TIMES, some)
            places = np.full(len(segments), len(groups))
            places[groups] = np.arange(len(groups))
            parts.append([pa.concat_arrays(both).take(pa.array(places)) for both in zip(found, nothing, strict=True)])
        parts[1] = _negated(parts[1])
        return self._merged(total, *parts)

    @staticmethod
    def _merged(aggregate: Sum, a: Sequence[pa.Array], b: Sequence[pa.Array]) -> list[pa.Array]:
        size = len(a[0])
        pairs = pa.array(np.arange(2 * size).reshape(2, size).T.ravel())
        return aggregate.merge(
            [pa.concat_arrays(both).take(pairs) for both in zip(a, b, strict=True)], Segments(2 * np.arange(size), 2 * size)
        )

    def _emptied(self, sums: list[pa.Array], empty: Mask) -> list[pa.Array]:
        """Return sums that are nothing where there are no values; elsewhere none is null, all values may be special ones."""
        found = []
        for at, one in enumerate(sums):
            values = np.where(empty, 0, np.where(one.is_valid().to_numpy(zero_copy_only=False), view(one), 0)).astype(view(one).dtype)
            found.append(arrow(values, one.type, ~empty if at == 0 else None))
        return found

    @staticmethod
    def _with_special(sums: pa.Array, counts: Sequence[pa.Array]) -> pa.Array:
        nan, plus, minus = (view(one) > 0 for one in counts[1:])
        values = np.where(plus, np.inf, np.where(minus, -np.inf, view(sums)))
        return arrow(np.where(nan | (plus & minus), np.nan, values), pa.float64(), valid(sums))


_NO_TIMES: Final = pa.array([], pa.int64())  # no aggregate here reads times


def _negated(states: Sequence[pa.Array]) -> list[pa.Array]:
    """Return minus the sums of `Sum`'s state: words, low first, and how often they went round."""
    words: list[NDArray[Any]] = [view(one) for one in states[:-1]]
    carry = view(states[-1]).astype(np.int64)
    with np.errstate(over="ignore"):
        if len(words) == 1:
            low = words[0]
            new, is_least = [-low], low == LEAST
        else:
            low, high = words
            new, is_least = [-low, ~high + (low == 0)], (low == 0) & (high == LEAST)
    carry = np.where(is_least, 1 - carry, -carry)  # the least number is its own negative, once round
    return [
        *(arrow(word, pa.int64(), valid(state)) for word, state in zip(new, states, strict=False)),
        arrow(carry.astype(np.int32), pa.int32()),
    ]
