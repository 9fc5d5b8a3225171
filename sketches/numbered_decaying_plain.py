"""Many decaying windows without numba: partial sums added to one after the other by `sketches.decaying.DecayingWindow` itself."""
# ruff: noqa: SLF001 (the hooks of sketches are for the package)

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketches.decaying import DecayingWindow
from sketches.errors import SketchError
from sketches.numeric import MICROSECOND

__all__ = ["add"]


def add(
    lines: NDArray[np.int64],
    sums: NDArray[np.float64],
    numbers: NDArray[np.int64],
    more_lines: NDArray[np.int64],
    more_sums: NDArray[np.float64],
    half_life: int,
    fits: NDArray[np.bool_],
) -> None:
    """Add to each window of a number; where that gives no floats, `fits` is false and nothing is added."""
    for i, g in enumerate(numbers.tolist()):
        window = _window(half_life, lines[g], sums[g])
        try:
            window._merge(_window(half_life, more_lines[i], more_sums[i]))
        except SketchError:
            fits[i] = False
            continue
        fits[i] = True
        lines[g] = window._rows, window._newest
        sums[g] = *window._count, *window._sum, window._spread


def _window(half_life: int, line: Any, sums: Any) -> DecayingWindow:
    window = DecayingWindow(half_life * MICROSECOND)
    window._rows, window._newest = line.tolist()
    count, count_rest, total, rest, window._spread = sums.tolist()
    window._count, window._sum = (count, count_rest), (total, rest)
    return window
