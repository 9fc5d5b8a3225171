"""What counters of distinct values have in common: registers of one byte, estimates by likelihood with bounds, unions and intersections."""

from __future__ import annotations

import math
import struct
from abc import abstractmethod
from statistics import NormalDist
from typing import Any, ClassVar, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sketches.base import StateSketch, check_confidence, is_whole, out_of_range
from sketches.envelope import damaged
from sketches.likelihood import most_likely

__all__ = ["DistinctSketch", "Interval"]

DENSE: Final = b"\0"
SPARSE: Final = b"\1"
ENTRY: Final = np.dtype("<u4")  # index << 8 | register
PRECISION: Final = struct.Struct("<B")


class Interval(NamedTuple):
    """An estimate and the bounds that it lies between."""

    estimate: float
    lower: float
    upper: float


class DistinctSketch(StateSketch):
    """Registers of one byte; the index of a value's register is in its hash's first `precision` bits."""

    __slots__ = ("_floor", "_left", "precision")
    LEAST: ClassVar[int]
    MOST: ClassVar[int]
    VARIANCE: ClassVar[float]
    """Variance of the estimate, relative, times the number of registers, when there are many values for each."""
    BIAS: ClassVar[float]
    """Bias of the likelihood's maximum, relative, times the number of registers."""
    precision: int
    _floor: int
    _left: int

    def _begin(self, precision: int, state: NDArray[np.uint8]) -> None:
        self.precision = precision
        self.state = state
        self._floor = 0  # no item of this rank or below can change a register
        self._left = 0  # items until the floor is looked up again

    @classmethod
    def _checked_precision(cls, precision: int) -> int:
        if not is_whole(precision, cls.LEAST, cls.MOST):
            raise out_of_range("precision", f"an integer from {cls.LEAST} to {cls.MOST}", precision)
        return int(precision)

    @classmethod
    def _precision_for(cls, relative_error: float, confidence: float) -> int:
        wide = NormalDist().inv_cdf(0.5 + 0.5 * check_confidence(confidence))
        best = wide * math.sqrt(cls.VARIANCE / (1 << cls.MOST))
        if not best <= relative_error < 1.0:
            raise out_of_range("relative_error", f"a number from {best:.3g} (at confidence {confidence}) to below 1", relative_error)
        return next(p for p in range(cls.LEAST, cls.MOST + 1) if wide * math.sqrt(cls.VARIANCE / (1 << p)) <= relative_error)

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """The precision."""
        return {"precision": self.precision}

    def _key(self) -> Any:
        return self.precision

    @abstractmethod
    def _lookup_floor(self) -> int:
        """Return the highest rank known of which no value can change a register."""

    def _floor_for(self, items: int) -> int:
        """Return such a rank before so many items are taken; looked up so rarely that it costs nothing."""
        self._left -= items
        if self._left < 0:
            self._floor = self._lookup_floor()
            self._left = 4 * self.state.size
        return self._floor

    # Estimates --------------------------------------------------------------------------------------------------------

    @abstractmethod
    def _events(self) -> tuple[float, dict[int, int]]:
        """Return `a` and `b` of the likelihood, see `sketches.likelihood`."""

    def estimate(self) -> float:
        """Return how many distinct values it has taken."""
        return self._measured()[0]

    def lower_bound(self, confidence: float = 0.95) -> float:
        """Return what the number of distinct values is not below, with half of what is missing to `confidence` as risk."""
        return self._between(confidence).lower

    def upper_bound(self, confidence: float = 0.95) -> float:
        """Return what the number of distinct values is not above, with half of what is missing to `confidence` as risk."""
        return self._between(confidence).upper

    def union_estimate(self, other: Self, confidence: float = 0.95) -> Interval:
        """Return how many distinct values at least one of the two has taken; neither changes."""
        return self._union(other)._between(confidence)  # noqa: SLF001 (our own)

    def intersection_estimate(self, other: Self, confidence: float = 0.95) -> Interval:
        """Return how many distinct values both have taken, by inclusion and exclusion: |A| + |B| - |A or B|.

        Guarantee: the bounds hold with probability `confidence`, by that of the three bounds they are made of. The error is about that of
        the union, however small the intersection: with a relative error of e, an intersection smaller than about 4 e |A or B| cannot be
        told from none. Then the lower bound is 0 and the estimate says nothing.
        """
        ours, theirs, both = self._three(other, confidence)
        estimate = max(0.0, ours.estimate + theirs.estimate - both.estimate)
        upper = min(ours.upper, theirs.upper, max(0.0, ours.upper + theirs.upper - both.lower))
        return Interval(min(estimate, upper), min(max(0.0, ours.lower + theirs.lower - both.upper), upper), upper)

    def jaccard(self, other: Self, confidence: float = 0.95) -> Interval:
        """Return the size of the intersection as a share of the union; 0 for two empty ones.

        Guarantee: as `intersection_estimate`; below about 4 times the relative error it says nothing.
        """
        ours, theirs, both = self._three(other, confidence)
        if not both.estimate:
            return Interval(0.0, 0.0, 0.0)
        share = (ours.estimate + theirs.estimate) / both.estimate - 1.0
        lower = (ours.lower + theirs.lower) / both.upper - 1.0
        upper = (ours.upper + theirs.upper) / both.lower - 1.0
        return Interval(*(min(1.0, max(0.0, number)) for number in (share, lower, upper)))

    def _union(self, other: Self) -> Self:
        both = self.copy()
        both.merge(other)
        return both

    def _three(self, other: Self, confidence: float) -> tuple[Interval, Interval, Interval]:
        each = 1.0 - (1.0 - check_confidence(confidence)) / 3.0
        both = self._union(other)._between(each)  # noqa: SLF001 (our own; refuses another kind)
        return self._between(each), other._between(each), both

    def _measured(self) -> tuple[float, float]:
        """Return estimate and relative variance."""
        registers = self.state.size
        rate, variance = most_likely(*self._events())
        if rate in (0.0, math.inf):
            return rate, 0.0
        # The number of values is given, not Poisson's; what is left is the spread, and bias, of the registers alone.
        own = max(variance - 1.0 / (rate * registers), 0.0)
        return registers * rate / (1.0 + self.BIAS / self.VARIANCE * own), own

    def _between(self, confidence: float) -> Interval:
        wide = NormalDist().inv_cdf(0.5 + 0.5 * check_confidence(confidence))
        estimate, variance = self._measured()
        if estimate in (0.0, math.inf):
            return Interval(estimate, estimate if estimate == 0.0 else float(self.state.size), estimate)
        spread = math.exp(wide * math.sqrt(variance))
        # Each register that is not empty is a value. Of few values, the collisions have a Poisson number: skewed, and whole.
        lower = max(estimate / spread, float(np.count_nonzero(self.state)))
        return Interval(estimate, min(lower, estimate), estimate * spread + 1.0 + wide * wide / 6.0)

    # Bytes ------------------------------------------------------------------------------------------------------------

    def _pack(self) -> tuple[bytes, bytes | memoryview]:
        places = np.flatnonzero(self.state)
        if places.size * ENTRY.itemsize >= self.state.size:
            return self._packed_parameters(), DENSE + self.state.tobytes()
        entries = (places.astype(np.uint32) << np.uint32(8)) | self.state[places]
        return self._packed_parameters(), SPARSE + entries.astype(ENTRY).tobytes()

    def _packed_parameters(self) -> bytes:
        return PRECISION.pack(self.precision)

    @classmethod
    def _read_registers(cls, precision: int, payload: memoryview) -> NDArray[np.uint8]:
        """Read what `_pack` wrote; refuses registers that no values give."""
        size = 1 << precision
        flag = bytes(payload[:1])
        if flag == DENSE:
            if len(payload) != 1 + size:
                raise damaged(cls.KIND, f"{size:,} registers", f"{len(payload) - 1:,} bytes")
            state = np.frombuffer(payload, np.uint8, offset=1).copy()
            if np.count_nonzero(state) * ENTRY.itemsize < size:
                raise damaged(cls.KIND, "the shorter form", "the form of many registers for few")
        elif flag == SPARSE:
            if (len(payload) - 1) % ENTRY.itemsize or len(payload) - 1 >= size:
                raise damaged(cls.KIND, f"fewer than {size:,} bytes of entries", f"{len(payload) - 1:,}")
            state = cls._read_entries(size, np.frombuffer(payload, ENTRY, offset=1))
        else:
            raise damaged(cls.KIND, "form 0 or 1", repr(flag))
        wrong = state[~cls._possible(precision)[state]]
        if wrong.size:
            raise damaged(cls.KIND, f"registers of precision {precision}", f"{wrong[0]}")
        return state

    @classmethod
    def _read_entries(cls, size: int, entries: NDArray[np.uint32]) -> NDArray[np.uint8]:
        places = entries >> np.uint32(8)
        if places.size and (places[-1] >= size or (places[1:] <= places[:-1]).any() or not (entries & np.uint32(255)).all()):
            raise damaged(cls.KIND, f"rising places below {size:,} with registers above 0", "others")
        state = np.zeros(size, np.uint8)
        state[places] = entries & np.uint32(255)
        return state

    @classmethod
    @abstractmethod
    def _possible(cls, precision: int) -> NDArray[np.bool_]:
        """Return for each of 256 bytes whether a register can be that."""
