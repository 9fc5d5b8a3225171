"""Variance, merged without loss of digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spark_ext.errors import SettingsError
from spark_ext.state.segments import Segments
from spark_ext.windows.aggregates.aggregate import Aggregate, Types
from spark_ext.windows.aggregates.basic import number_type
from spark_ext.windows.aggregates.columns import arrow, column_name, valid, view
from spark_ext.windows.aggregates.reduce import narrow, reduce

__all__ = ["Variance", "variance"]

Floats = NDArray[np.float64]


def variance(column: str, *, ddof: int = 1) -> Aggregate:
    """Compute the variance of a column; nulls are ignored.

    Guarantee: squares are of differences from the mean, never of values, so that a large mean costs no digits.

    Parameters
    ----------
    column : str
        Of numbers; computed in float64.
    ddof : int, >= 0
        The divisor is the number of values less this: 1 for a sample (``var_samp``), 0 for a population (``var_pop``).

    Returns
    -------
    Aggregate
        Result float64; null where there are not more than `ddof` values. State: 24 bytes a group.

    Raises
    ------
    SettingsError
        `ddof` is not a whole number >= 0.
    SchemaError
        When its types are asked for: the column does not hold numbers.

    References
    ----------
    Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979, equation 2.1, here
    for any number of parts; the same authors, "Algorithms for computing the sample variance", 1983, equation 1.7, for the
    correction of the mean.
    """
    if not isinstance(ddof, int) or isinstance(ddof, bool) or ddof < 0:
        expected = "ddof to be a whole number >= 0"
        raise SettingsError("build", "aggregate", "variance", expected=expected, got=repr(ddof), todo="give 1 for a sample, 0 for all")
    return Variance(column_name(column, "variance"), ddof)


@dataclass(frozen=True, slots=True)
class Variance(Aggregate):
    """See `variance`. State: number of values (int64), their mean and their sum of squared differences from it (float64)."""

    column: str
    ddof: int

    @property
    def inputs(self) -> tuple[str, ...]:  # noqa: D102
        return (self.column,)

    def state(self, types: Types) -> list[pa.DataType]:  # noqa: D102
        number_type(types, self.column, "variance")
        return [pa.int64(), pa.float64(), pa.float64()]

    def result(self, types: Types) -> pa.DataType:  # noqa: D102
        return self.state(types)[1]

    def identity(self, types: Types, groups: int) -> list[pa.Array]:  # noqa: D102
        return [arrow(np.zeros(groups, kind.to_pandas_dtype()), kind) for kind in self.state(types)]

    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:  # noqa: D102
        array = rows[self.column]
        present = valid(array)
        if pa.types.is_decimal(array.type):
            array = pc.cast(array, pa.float64())
        values = view(array).astype(np.float64, copy=False)
        if present is None:
            return _states(len(segments), None, *_combined(None, values, None, segments))
        groups, known = narrow(present, segments)
        return _states(len(segments), groups, *_combined(None, values[present], None, known))

    def merge(self, states: Sequence[pa.Array], segments: Segments) -> list[pa.Array]:  # noqa: D102
        counts, means, squares = (view(state) for state in states)
        filled = counts > 0  # the mean of nothing must not count
        if filled.all():
            return _states(len(segments), None, *_combined(counts, means, squares, segments))
        groups, known = narrow(filled, segments)
        return _states(len(segments), groups, *_combined(counts[filled], means[filled], squares[filled], known))

    def finish(self, states: Sequence[pa.Array], types: Types) -> pa.Array:  # noqa: D102
        counts, _, squares = (view(state) for state in states)
        divisor = counts - self.ddof
        return arrow(squares / np.maximum(divisor, 1), pa.float64(), divisor > 0)


def _combined(
    counts: NDArray[np.int64] | None, means: Floats, squares: Floats | None, segments: Segments
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Combine parts of each segment; without `counts` and `squares` each part is one value."""
    if len(segments) == segments.rows and counts is not None and squares is not None:
        return counts, means, squares
    weights = 1.0 if counts is None else counts.astype(np.float64)
    total = segments.sizes if counts is None else reduce(np.add, counts, segments)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = reduce(np.add, means * weights if counts is not None else means, segments) / total
        apart = means - np.repeat(mean, segments.sizes)
        weighted = apart * weights if counts is not None else apart
        spread = reduce(np.add, weighted * apart if squares is None else weighted * apart + squares, segments)
        # The mean was rounded: what its error added to the squares is taken off, and it is put right.
        error = reduce(np.add, weighted, segments) / total
        return total, mean + error, np.maximum(spread - error * error * total, 0.0)


def _states(count: int, groups: NDArray[np.int64] | None, counts: NDArray[np.int64], means: Floats, squares: Floats) -> list[pa.Array]:
    states = []
    for values, kind in ((counts, pa.int64()), (means, pa.float64()), (squares, pa.float64())):
        full: NDArray[Any] = values
        if groups is not None:
            full = np.zeros(count, values.dtype)
            full[groups] = values
        states.append(arrow(full, kind))
    return states
