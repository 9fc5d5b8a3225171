"""Values of declared fields out of their text: numbers by their type, times of either form; the same in every format."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from sketches.jit import njit
from spark_ext.ingest.codes import DATE, DECIMAL, DOUBLE, GOOD, HARD, INTEGER, RANGE, TIMESTAMP, TYPE
from spark_ext.ingest.number_kernel import BAD_TIME, DAY_US, EXACT_POWERS, FAR_YEAR, FIRST_DAY, LAST_DAY, number_at, time_at

__all__ = ["number_value", "time_value"]

FIRST_US: Final = FIRST_DAY * DAY_US
LAST_US: Final = (LAST_DAY + 1) * DAY_US - 1


@njit()
def _decimal(mantissa: np.uint64, exponent: int, cut: bool, precision: int, scale: int) -> int:
    """Return the unscaled value of a decimal of at most 18 digits, or -1 if it has digits that the type has no place for."""
    shift = exponent + scale
    if shift < 0 or cut:
        return -1
    if mantissa == 0:
        return 0
    if shift > 18:
        return -1
    limit = np.uint64(10) ** np.uint64(precision)
    for _ in range(shift):
        if mantissa >= limit:
            return -1
        mantissa *= np.uint64(10)
    return np.int64(mantissa) if mantissa < limit else -1


@njit(forceinline=True)
def number_value(data: Any, at: int, end: int, kind: int, low: int, high: int) -> tuple[int, int, np.int64, int]:
    """Read a JSON number as a value of a type.

    Parameters
    ----------
    data, at, end
        Where it begins, and where the record or its text ends.
    kind, low, high : int
        The type, as `Fields` gives it.

    Returns
    -------
    int
        The place behind it, or negative if there is no number.
    int
        GOOD, or the reason.
    int
        The value; a double by its bits.
    int
        HARD, or 0.
    """
    behind, negative, mantissa, exponent, cut, integer = number_at(data, at, end)
    if behind < 0:
        return behind, TYPE, 0, 0
    if kind == INTEGER:
        if not integer:
            return behind, TYPE, 0, 0
        if exponent > 0 or mantissa > (np.uint64(-low) if negative else np.uint64(high)):
            return behind, RANGE, 0, 0
        return behind, GOOD, np.int64(np.uint64(0) - mantissa if negative else mantissa), 0
    if kind == DOUBLE:
        if mantissa >= np.uint64(1) << np.uint64(53) or cut or exponent > 22 or exponent < -22:
            return behind, GOOD, 0, HARD
        number = np.float64(mantissa)
        number = number * EXACT_POWERS[exponent] if exponent >= 0 else number / EXACT_POWERS[-exponent]
        return behind, GOOD, np.float64(-number if negative else number).view(np.int64), 0
    if kind == DECIMAL:
        if low > 18:
            return behind, GOOD, 0, HARD
        unscaled = _decimal(mantissa, exponent, cut, low, high)
        return behind, RANGE if unscaled < 0 else GOOD, -unscaled if negative else unscaled, 0
    if kind == TIMESTAMP and low > 0:
        if not integer:
            return behind, TYPE, 0, 0
        if exponent > 0 or mantissa > np.uint64(-FIRST_US if negative else LAST_US) // np.uint64(low):
            return behind, RANGE, 0, 0
        return behind, GOOD, (-np.int64(mantissa) if negative else np.int64(mantissa)) * low, 0
    return behind, TYPE, 0, 0


@njit()
def time_value(data: Any, at: int, end: int, kind: int, low: int) -> tuple[int, np.int64]:
    """Read a whole text as a timestamp or date: GOOD or the reason, and the value; arguments as in `number_value`."""
    if low > 0:
        behind, reason, value, _hard = number_value(data, at, end, kind, low, 0)
        return reason if behind == end else TYPE, value
    time = time_at(data, at, end, kind == DATE)
    return TYPE if time == BAD_TIME else (RANGE if time == FAR_YEAR else GOOD), time
