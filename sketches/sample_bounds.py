"""Means of samples, and how far they can be from those of the whole."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketches.base import check_confidence, out_of_range
from sketches.errors import SketchError
from sketches.items import Items

__all__ = ["Of", "deviates", "mean_bounds", "numbers_of"]

Of = Callable[[NDArray[Any]], NDArray[Any]] | None
"""A function of the sample: a number or a truth for each item. None: the item itself."""


def numbers_of(items: Items, of: Of) -> NDArray[Any]:
    """Return what is asked of each item, as booleans or float64.

    Raises
    ------
    SketchError
        The function does not give one number for each item; the items are no numbers, and there is no function.
    """
    values = items.values()
    found = values if of is None else np.asarray(of(values))
    if found.shape != values.shape or (found.dtype.kind not in "biuf" and found.size):
        raise SketchError(
            "use",
            "argument",
            "of",
            expected=f"a function that gives a number or a truth for each of {values.size} items",
            got=f"{found.dtype} of shape {found.shape}",
            todo="give such a function of the sample" if of is not None else "the items are no numbers: give a function of them",
        )
    return found if found.dtype.kind == "b" else found.astype(np.float64)


def deviates(confidence: float) -> float:
    """Return how many standard deviations to each side hold that much of a normal distribution."""
    return NormalDist().inv_cdf(0.5 + check_confidence(confidence) / 2)


def mean_bounds(numbers: NDArray[Any], count: int, confidence: float, within: tuple[float, float] | None) -> tuple[float, float]:
    """Return bounds of the mean over `count` rows, of which these numbers are a uniform sample.

    Parameters
    ----------
    numbers : ndarray (k,)
        Booleans have 0 and 1 for `within`.
    count : int
        Rows in all.
    confidence : float
        Of both bounds together.
    within : (float, float), optional
        Limits of the numbers of all rows, sampled or not. Then the bounds are those of Hoeffding in the form of Serfling (1974, corollary
        1.1), which hold for every distribution and size: ``(high - low) sqrt((1 - (k - 1) / count) ln(2 / (1 - confidence)) / (2 k))``
        to each side. Without them they are those of the normal distribution, with the correction for a sample without replacement: right in
        the limit, for samples of some hundreds, and not for numbers of which few decide the mean.
    """
    share = check_confidence(confidence)
    low, high = (0.0, 1.0) if numbers.dtype.kind == "b" and within is None else within or (-math.inf, math.inf)
    if not low <= high:
        raise out_of_range("within", "two numbers, the lower one first", within)
    size = numbers.size
    if not size:
        return low, high
    if within is not None and (numbers.min() < low or numbers.max() > high):
        raise out_of_range("within", f"limits around the sample, {numbers.min():g} to {numbers.max():g}", within)
    mean = float(numbers.mean())
    if size == count:
        return mean, mean
    if math.isfinite(high - low):
        side = (high - low) * math.sqrt((1 - (size - 1) / count) * math.log(2 / (1 - share)) / (2 * size))
    elif size == 1:
        side = math.inf
    else:
        side = deviates(share) * float(numbers.std(ddof=1)) * math.sqrt((1 - size / count) / size)
    return max(low, mean - side), min(high, mean + side)
