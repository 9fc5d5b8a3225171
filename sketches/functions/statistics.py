"""Quantiles and ranks of stored sketches of numbers, and decayed sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sketches.base import Sketch, check_confidence
from sketches.decaying import DecayingWindow
from sketches.errors import EngineError
from sketches.functions.rows import OnError, Rows
from sketches.functions.structs import NUMBERS, floats_of, instants_of, struct
from sketches.quantiles import Quantiles

__all__ = ["decayed", "quantile", "rank"]

DECAYED: Final = pa.struct([("count", pa.float64()), ("sum", pa.float64()), ("mean", pa.float64())])
Three = tuple[NDArray[np.float64], ...]


def quantile(sketches: Any, q: Any, confidence: float = 0.95, *, on_error: OnError = "fail") -> pa.Array:
    """Return the value at a rank of each sketch, and the bounds that the true one is between.

    Guarantee: that of `Quantiles.lower_bound` and `upper_bound`, with the confidence.

    Parameters
    ----------
    sketches : Arrow array of binary (n,)
        Quantiles. Equal neighbours are read once. One without values gives NaN.
    q : array (n,) of numbers, or one for all
        Ranks, from 0 (the minimum) to 1 (the maximum); null gives null.
    confidence : float
        Of the bounds.
    on_error : "fail" or "null"
        Whether a row is an error or null that is damaged, of another kind, or asked for a rank that is none.

    Returns
    -------
    pyarrow.Array (n,) struct<estimate: double, lower: double, upper: double>
    """

    def ask(sketch: Quantiles, wanted: NDArray[np.float64]) -> Three:
        error = sketch.rank_error(confidence)
        three = np.concatenate((wanted, np.maximum(wanted - error, 0.0), np.minimum(wanted + error, 1.0)))
        return tuple(np.split(sketch.quantiles(three), 3))  # which refuses ranks that are none

    check_confidence(confidence)
    rows = Rows(sketches, "quantile", on_error)
    return _answers(rows, NUMBERS, floats_of("q", q, len(rows)), ask, Quantiles)


def rank(sketches: Any, x: Any, confidence: float = 0.95, *, on_error: OnError = "fail") -> pa.Array:
    """Return the share of values of each sketch that are at most x, and the bounds that the true share is between.

    Guarantee: that of `Quantiles.rank_error`, with the confidence; below the minimum and from the maximum on it is exact.

    Parameters
    ----------
    sketches : Arrow array of binary (n,)
        Quantiles. Equal neighbours are read once. One without values gives NaN.
    x : array (n,) of numbers, or one for all
        Values; null gives null.
    confidence : float
        Of the bounds.
    on_error : "fail" or "null"
        Whether a row is an error or null that is damaged, of another kind, or asked for NaN.

    Returns
    -------
    pyarrow.Array (n,) struct<estimate: double, lower: double, upper: double>
    """

    def ask(sketch: Quantiles, wanted: NDArray[np.float64]) -> Three:
        found = sketch.cdf(wanted)  # refuses NaN
        error = np.where((wanted < sketch.minimum) | (wanted >= sketch.maximum), 0.0, sketch.rank_error(confidence))
        return found, np.maximum(found - error, 0.0), np.minimum(found + error, 1.0)

    check_confidence(confidence)
    rows = Rows(sketches, "rank", on_error)
    return _answers(rows, NUMBERS, floats_of("x", x, len(rows)), ask, Quantiles)


def decayed(sketches: Any, at: Any, *, on_error: OnError = "fail") -> pa.Array:
    """Return count, sum and mean of each window as of an instant, older rows weighing less.

    Guarantee: that of `DecayingWindow`: computed, only rounded.

    Parameters
    ----------
    sketches : Arrow array of binary (n,)
        DecayingWindow. Equal neighbours are read once. The mean of one without values is NaN.
    at : array (n,), or one instant for all
        int64 in microseconds since 1970, datetimes or timestamps; null gives null. Rows after it weigh more than at their own time.
    on_error : "fail" or "null"
        Whether a row that is damaged, or of another kind, is an error or null.

    Returns
    -------
    pyarrow.Array (n,) struct<count: double, sum: double, mean: double>
    """

    def ask(window: DecayingWindow, times: NDArray[np.int64]) -> Three:
        moments = times.tolist()
        parts = [(window.count_at(moment), window.sum_at(moment), window.mean_at(moment)) for moment in moments]
        return tuple(np.array(part) for part in zip(*parts, strict=True))

    rows = Rows(sketches, "decayed", on_error)
    return _answers(rows, DECAYED, instants_of("at", at, len(rows)), ask, DecayingWindow)


def _answers(
    rows: Rows,
    kind: pa.StructType,
    argument: tuple[NDArray[Any], NDArray[np.bool_]],
    ask: Callable[[Any, Any], Three],
    wanted: type[Sketch],
) -> pa.Array:
    """Ask each form for what its rows want to know."""
    values, present = argument
    found, valid = np.zeros((3, len(rows))), np.zeros(len(rows), np.bool_)
    for form, which in rows.groups():
        try:
            sketch = rows.read(form, wanted)
        except EngineError as error:
            rows.refuse(form, error)
            continue
        some = which[present[which]]
        try:
            found[:, some] = ask(sketch, values[some]) if some.size else 0.0
            valid[some] = True
        except EngineError:
            _one_by_one(rows, sketch, ask, values, some, found, valid)
    return struct(kind, {kind.field(at).name: part for at, part in enumerate(found)}, valid)


def _one_by_one(
    rows: Rows,
    sketch: Sketch,
    ask: Callable[[Any, Any], Three],
    values: NDArray[Any],
    which: NDArray[np.int64],
    found: NDArray[np.float64],
    valid: NDArray[np.bool_],
) -> None:
    """Find out which rows of a form ask for what nobody can answer."""
    for row in which.tolist():
        try:
            found[:, row] = [part[0] for part in ask(sketch, values[row : row + 1])]
            valid[row] = True
        except EngineError as error:
            rows.refuse_row(row, error)
