"""What sketches have in common in which the time of a value counts."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sketches.base import Sketch, checked_weights
from sketches.columns import Column, column, one
from sketches.numeric import instant, instants

__all__ = ["TimedSketch"]


class TimedSketch(Sketch):
    """A sketch that weighs each value by its time."""

    __slots__ = ("_newest", "_rows")
    _rows: int
    _newest: int  # microseconds; nothing without rows

    @abstractmethod
    def _update_timed(self, values: Column, times: NDArray[np.int64], weights: NDArray[np.float64] | None) -> None:
        """Take values with a time, and perhaps a weight, for each."""

    @property
    def is_empty(self) -> bool:
        """Whether it has taken no value yet; values of weight zero are none."""
        return self._rows == 0

    @property
    def newest(self) -> np.datetime64 | None:
        """Time of the newest value, None without one."""
        return np.datetime64(self._newest, "us") if self._rows else None

    def update(self, value: Any, time: Any = None, weight: float = 1) -> None:
        """Take one value at a time: a datetime, a datetime64, or an int of microseconds."""
        found = one(value)
        moment = np.full(len(found), instant(time), np.int64)
        self._update_timed(found, moment, None if weight == 1 else checked_weights([weight], 1, found))

    def update_many(self, values: Any, times: Any = None, weights: Any = None) -> None:
        """Take all values of an array; nulls are no values.

        Parameters
        ----------
        values : array (n,)
            As for the class.
        times : array (n,), or one time for all
            int64 in microseconds since 1970, datetime64, or Arrow timestamps; in any order. Without a zone they are in UTC.
        weights : array (n,), optional
            Finite, not negative; 1 if not given. A value of weight 0 is no value.

        Raises
        ------
        SketchError, SketchTypeError
            Values, times or weights that are not so; nothing was taken.
        """
        found = column(values)
        numbers = self._weights_of(weights, len(values), found)
        moments = instants(times, len(values))
        self._update_timed(found, moments if found.rows is None else moments[found.rows], numbers)

    def _weights_of(self, weights: Any, rows: int, values: Column) -> NDArray[Any] | None:
        return None if weights is None else checked_weights(weights, rows, values)

    def _update_column(self, values: Column, weights: NDArray[Any] | None) -> None:
        instants(None, max(len(values), 1))  # says that times are needed
