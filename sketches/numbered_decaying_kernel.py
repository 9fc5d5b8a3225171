"""Many decaying windows in loops for numba: partial sums added to them, as `sketches.decaying.DecayingWindow` adds them."""
# mypy: disable-error-code="return-value, assignment, call-arg, no-any-return"
# (numba gives the values of a kernel their types; NumPy's own say too little about scalars)

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sketches.jit import njit

__all__ = ["add"]

FURTHEST = 1022
MOST_ROWS = (1 << 63) - 1


@njit(inline="always")
def _halved(times: int, power: NDArray[np.float64]) -> float:
    """Return 0.5 ** times exactly, 0 beyond 1022."""
    power.view(np.int64)[0] = (1023 - times) << 52 if times <= FURTHEST else 0
    return power[0]


@njit(inline="always")
def _added(high: float, low: float, more: float, less: float) -> tuple[float, float]:
    """Add two numbers that are each held in two floats, the second the rest of the first."""
    total = high + more
    back = total - high
    rest = (high - (total - back)) + (more - back) + low + less
    both = total + rest
    return both, rest - (both - total)


@njit(error_model="numpy")
def add(
    lines: NDArray[np.int64],
    sums: NDArray[np.float64],
    numbers: NDArray[np.int64],
    more_lines: NDArray[np.int64],
    more_sums: NDArray[np.float64],
    half_life: int,
    fits: NDArray[np.bool_],
) -> None:
    """Add to each window of a number, one after the other; where that gives no floats, `fits` is false and nothing is added.

    Parameters
    ----------
    lines, more_lines : ndarray (n, 2) int64
        Rows and newest time.
    sums, more_sums : ndarray (n, 5) float64
        Two floats each for count and sum, one for the squares.
    """
    power = np.empty(1, np.float64)
    for i in range(numbers.size):
        g = numbers[i]
        fits[i] = True
        if more_lines[i, 0] == 0:
            continue
        c0, c1, s0, s1, spread = more_sums[i, 0], more_sums[i, 1], more_sums[i, 2], more_sums[i, 3], more_sums[i, 4]
        rows, newest = more_lines[i, 0], more_lines[i, 1]
        if lines[g, 0] > 0:
            ours, theirs = lines[g, 1] // half_life, newest // half_life
            landmark = max(ours, theirs)
            old, new = _halved(landmark - ours, power), _halved(landmark - theirs, power)
            mine, more = sums[g, 0] * old, c0 * new
            total, other = sums[g, 2] * old, s0 * new
            spread = sums[g, 4] * old + spread * new
            if mine > 0.0 and more > 0.0:
                apart = other / more - total / mine
                spread += apart * apart * mine * (more / (mine + more))
            c0, c1 = _added(mine, sums[g, 1] * old, more, c1 * new)
            s0, s1 = _added(total, sums[g, 3] * old, other, s1 * new)
            rows = rows + lines[g, 0] if rows <= MOST_ROWS - lines[g, 0] else MOST_ROWS
            newest = max(newest, lines[g, 1])
        if not (np.isfinite(c0) and np.isfinite(c1) and np.isfinite(s0) and np.isfinite(s1) and np.isfinite(spread)):
            fits[i] = False
            continue
        lines[g, 0], lines[g, 1] = rows, newest
        sums[g, 0], sums[g, 1], sums[g, 2], sums[g, 3], sums[g, 4] = c0, c1, s0, s1, spread
