"""The one number that a stored sketch stands for, with its bounds."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sketches.base import Sketch, check_confidence
from sketches.bloom import BloomFilter
from sketches.classic_bloom import ClassicBloomFilter
from sketches.count_min import CountMinSketch
from sketches.envelope import NUMBERS
from sketches.functions.registers import DISTINCT, blocks, counted
from sketches.functions.rows import OnError, Rows
from sketches.functions.structs import NUMBERS as INTERVAL
from sketches.functions.structs import struct
from sketches.heavy_hitters import HeavyHitters
from sketches.membership import MembershipSketch
from sketches.misra_gries import MisraGries
from sketches.quantiles import Quantiles
from sketches.reservoir import ReservoirSample
from sketches.space_saving import SpaceSaving
from sketches.stratified_reservoir import StratifiedReservoirSample
from sketches.weighted_reservoir import WeightedReservoirSample

__all__ = ["bounds", "estimate"]

WEIGHED: Final = (CountMinSketch, HeavyHitters, MisraGries, SpaceSaving)
COUNTED: Final = (Quantiles, ReservoirSample, WeightedReservoirSample)
FILTERS: Final = (BloomFilter, ClassicBloomFilter)
ANSWERING: Final[tuple[type[Sketch], ...]] = (*DISTINCT, *FILTERS, *WEIGHED, *COUNTED, StratifiedReservoirSample)
PARTS: Final = ("estimate", "lower", "upper")


def estimate(sketches: Any, *, on_error: OnError = "fail") -> pa.Array:
    """Return the one number that each sketch stands for.

    That is: how many distinct values (HyperLogLog, UltraLogLog, Bloom filters that do not rotate), the total weight (Count-Min, heavy
    hitters, hot lists), how many values (samples, quantiles).

    Guarantee: what the class says, `estimate`, `total` or `count`.

    Parameters
    ----------
    sketches : Arrow array of binary (n,)
    on_error : "fail" or "null"
        Whether a row that is damaged, or of another kind, is an error or null.

    Returns
    -------
    pyarrow.Array (n,) double
    """
    rows = Rows(sketches, "estimate", on_error)
    found, valid = _measured(rows, 0.95)
    return rows.spread(pa.array(found[0], mask=~valid))


def bounds(sketches: Any, confidence: float = 0.95, *, on_error: OnError = "fail") -> pa.Array:
    """Return the number of `estimate` and the bounds that the true one is between.

    Guarantee: that of the class, `lower_bound` and `upper_bound`, with the confidence given; totals and numbers of values are exact, so
    all three are equal.

    Parameters
    ----------
    sketches : Arrow array of binary (n,)
    confidence : float
        Above 0, below 1.
    on_error : "fail" or "null"
        As for `estimate`.

    Returns
    -------
    pyarrow.Array (n,) struct<estimate: double, lower: double, upper: double>
    """
    rows = Rows(sketches, "bounds", on_error)
    found, valid = _measured(rows, check_confidence(confidence))
    return rows.spread(struct(INTERVAL, dict(zip(PARTS, found, strict=True)), valid))


def _measured(rows: Rows, confidence: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return for each form estimate and bounds, as an array (3, forms), and whether it has them."""
    found, valid = np.zeros((3, rows.forms)), np.zeros(rows.forms, np.bool_)
    by_registers = np.isin(rows.code, [NUMBERS[some.KIND] for some in DISTINCT])
    for part in blocks(rows, np.flatnonzero(by_registers)):
        found[:, part.which] = counted(part, confidence)
        valid[part.which] = True
    others = np.flatnonzero(~by_registers)
    answers = rows.answers(lambda sketch: _one(sketch, confidence), *ANSWERING, which=others)
    for form, answer in zip(others.tolist(), answers, strict=True):
        if answer is not None:
            found[:, form], valid[form] = answer, True
    return found, valid


def _one(sketch: Sketch, confidence: float) -> tuple[float, float, float]:
    if isinstance(sketch, MembershipSketch):
        return sketch.estimate(), sketch.lower_bound(confidence), sketch.upper_bound(confidence)  # type: ignore[attr-defined]
    if isinstance(sketch, WEIGHED):
        exact = sketch.total
    elif isinstance(sketch, StratifiedReservoirSample):
        exact = sum(sketch.counts().values())
    else:
        exact = sketch.count  # type: ignore[attr-defined]  # of these kinds it has one
    return exact, exact, exact
