"""What filters of members have in common: questions by value, column and hash, bounds, unions and intersections."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from sketches.base import StateSketch, checked_hashes
from sketches.columns import BLOCK, Column, column, hash_blocks, one

__all__ = ["MembershipSketch"]


class MembershipSketch(StateSketch):
    """A table of bits in which a value that was taken is found for sure."""

    __slots__ = ()

    @abstractmethod
    def _ask(self, hashes: NDArray[np.uint64], answer: NDArray[np.bool_]) -> None:
        """Fill in for each hash whether its value may have been taken."""

    @abstractmethod
    def _bounds(self, confidence: float) -> tuple[float, float]:
        """Return what the number of distinct values is between."""

    def contains(self, value: Any) -> bool:
        """Return whether a value may have been taken; False is sure. None is not in any filter."""
        found = one(value)
        return bool(len(found)) and bool(self._contains_column(found)[0])

    __contains__ = contains

    def contains_many(self, values: Any) -> NDArray[np.bool_]:
        """Return for each row whether its value may have been taken.

        Parameters
        ----------
        values : array (n,)
            As for `update_many`.

        Returns
        -------
        ndarray (n,) bool
            False is sure; False for nulls.
        """
        found = column(values)
        if found.rows is None:
            return self._contains_column(found)
        answer = np.zeros(len(values), np.bool_)
        answer[found.rows] = self._contains_column(found)
        return answer

    def contains_hashes(self, hashes: NDArray[np.int64] | NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return `contains` for values that were hashed already, by `sketches.hashes` or Spark SQL's ``xxhash64``."""
        some = checked_hashes(hashes)
        answer = np.empty(some.size, np.bool_)
        for start in range(0, some.size, BLOCK):
            self._ask(some[start : start + BLOCK], answer[start : start + BLOCK])
        return answer

    def lower_bound(self, confidence: float = 0.95) -> float:
        """Return a number of distinct values that, with this confidence for both bounds, is not above the true one.

        Not for what `&` returned.
        """
        return self._bounds(confidence)[0]

    def upper_bound(self, confidence: float = 0.95) -> float:
        """Return a number of distinct values that, with this confidence for both bounds, is not below the true one."""
        return self._bounds(confidence)[1]

    def __or__(self, other: Self) -> Self:
        """Return the filter of what one of the two has taken: as `merge`, and exactly the filter of the union."""
        return type(self).merged((self, other))

    def __and__(self, other: Self) -> Self:
        """Return a filter in which all values are that both have taken.

        Its rate of false positives is not above that of either; but it holds more than the filter of the intersection would, so `estimate`
        and the bounds are too high. For a size take ``a.estimate() + b.estimate() - (a | b).estimate()``.
        """
        if type(other) is not type(self) or other._key() != self._key():
            raise self._mismatch(other)
        return self.of_state(self.state & other.state)

    def _contains_column(self, values: Column) -> NDArray[np.bool_]:
        answer = np.empty(len(values), np.bool_)
        for start, part in hash_blocks(values):
            self._ask(part, answer[start : start + part.size])
        return answer

    def _merge(self, other: Self) -> None:
        np.bitwise_or(self.state, other.state, out=self.state)
