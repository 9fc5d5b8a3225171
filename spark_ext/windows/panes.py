"""What a time-based shape makes of event times: panes, of which windows consist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["OUTSIDE", "PaneAssigner", "Panes"]

OUTSIDE = -1


@dataclass(frozen=True, slots=True)
class Panes:
    """The panes of a batch of event times.

    Attributes
    ----------
    index : ndarray (n,) int64
        Pane of each row; `OUTSIDE` where the shape has no window for it.
    starts, ends : ndarray (k,) int64
        Each pane is ``[start, end)``, microseconds since 1970. Distinct, ascending by start, then end; each has a row.
    """

    index: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


class PaneAssigner(Protocol):
    """A shape whose windows depend on event time alone."""

    def panes(self, times_us: NDArray[np.int64]) -> Panes:
        """Return the pane of each event time; pure, and the same for the same time in every batch.

        Parameters
        ----------
        times_us : ndarray (n,) int64
            Event times in microseconds since 1970, any order, within the years 1 to 9999.
        """
        ...
