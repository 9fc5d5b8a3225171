"""UltraLogLog: how many distinct values, in a quarter less memory than HyperLogLog."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from sketches import ultraloglog_kernel, ultraloglog_plain
from sketches.columns import SEED, Column, Words
from sketches.distinct import DistinctSketch
from sketches.envelope import damaged
from sketches.jit import pick

__all__ = ["UltraLogLog"]

PIECE: Final = 1 << 16  # words for one call of the kernel; after each the floor may have risen

_floor_of = pick(ultraloglog_kernel.floor_of, ultraloglog_plain.floor_of)
_merge = pick(ultraloglog_kernel.merge, ultraloglog_plain.merge)
_update = pick(ultraloglog_kernel.update, ultraloglog_plain.update)
_update_words8 = pick(ultraloglog_kernel.update_words8, ultraloglog_plain.update_words8)
_update_groups = pick(ultraloglog_kernel.update_groups, ultraloglog_plain.update_groups)


class UltraLogLog(DistinctSketch):
    """Count distinct values, in less memory.

    Guarantee: ``P(|estimate - n| <= 1.96 * 0.761 / sqrt(2**precision) * n)`` is about 0.95 at every n up to 10**16, and less error at n
    below ``2**precision``; the bounds hold with about the confidence given. "About": the error is normal on a logarithmic scale for many
    registers (precision 7 and more), and the hash is taken for random. It is not for somebody who picks values by their hashes; and
    beyond 10**16 values the hashes of 64 bits are too few.

    Parameters
    ----------
    precision : int
        3 to 18; there are ``2**precision`` registers. 11 has a standard error of 1.7 %, about that of HyperLogLog with 12.

    State: ``2**precision`` bytes; times the relative variance of the estimate that is 4.63 bits, where HyperLogLog of bytes has 8.6 and of
    six bits 6.4. Stored: as many, or 4 for each register in use if that is less.

    Not supported: removing values; a small intersection of large sets, see `intersection_estimate`; exchange with other libraries. Near
    its highest speed it is somewhat slower than `HyperLogLog`, because more values can change a register.

    Equal: merges are equal byte for byte to one sketch of all the values, in any order.

    References
    ----------
    O. Ertl (2024), "UltraLogLog: A Practical and More Space-Efficient Alternative to HyperLogLog for Approximate Distinct Counting",
    section 2 (the registers), section 3.1 (the estimator, by maximum likelihood).

    Examples
    --------
    >>> sketch = UltraLogLog(precision=11)
    >>> sketch.update_many(np.arange(100_000) % 30_000)
    >>> exact = 30_000
    >>> sketch.lower_bound() <= exact <= sketch.upper_bound()
    True
    >>> abs(sketch.estimate() / exact - 1) < 0.03
    True
    """

    __slots__ = ()
    KIND: ClassVar[str] = "ultraloglog"
    LEAST: ClassVar[int] = 3
    MOST: ClassVar[int] = 18
    VARIANCE: ClassVar[float] = 0.5788087  # log 2 / zeta(2, 5/4)
    BIAS: ClassVar[float] = 0.4814741  # 3/2 log 2 zeta(3, 5/4) / zeta(2, 5/4)**2

    def __init__(self, precision: int = 11) -> None:
        precision = self._checked_precision(precision)
        self._begin(precision, np.zeros(1 << precision, np.uint8))

    @classmethod
    def from_error(cls, *, relative_error: float, confidence: float = 0.95) -> Self:
        """Make the smallest one whose estimate is off by at most `relative_error`, as a share of n, with probability `confidence`.

        Examples
        --------
        >>> UltraLogLog.from_error(relative_error=0.02, confidence=0.95)
        UltraLogLog(precision=13)
        """
        return cls(cls._precision_for(relative_error, confidence))

    def of_state(self, state: NDArray[Any]) -> Self:
        """Return a sketch of the same precision that has these registers, not a copy, for its content."""
        new = type(self).__new__(type(self))
        new._begin(self.precision, state)  # noqa: SLF001 (our own)
        return new

    def _update_column(self, values: Column, weights: NDArray[Any] | None) -> None:
        if isinstance(values, Words) and values.words.dtype == np.uint64:
            for start in range(0, len(values), PIECE):
                part = values.words[start : start + PIECE]
                _update_words8(self.state, self.precision, self._floor_for(part.size), part, SEED)
        else:
            super()._update_column(values, weights)

    def _update_hashes(self, hashes: NDArray[np.uint64], weights: NDArray[Any] | None) -> None:
        _update(self.state, self.precision, self._floor_for(hashes.size), hashes)

    def _lookup_floor(self) -> int:
        return _floor_of(self.state, self.precision)

    def _update_states(
        self, states: NDArray[Any], groups: NDArray[np.int64], hashes: NDArray[np.uint64], weights: NDArray[Any] | None
    ) -> None:
        _update_groups(states, self.precision, groups, hashes)

    def _merge(self, other: Self) -> None:
        _merge(self.state, other.state)

    def _events(self) -> tuple[float, dict[int, int]]:
        last = 64 - self.precision
        never, happened = 0.0, dict.fromkeys(range(1, last + 1), 0)
        counts = np.bincount(self.state).tolist()
        never += counts[0]
        for register in range(4, len(counts)):
            count = counts[register]
            if not count:
                continue
            rank = (register >> 2) - (self.precision - 2)
            if rank <= last:
                never += count * 2.0**-rank
            happened[min(rank, last)] += count
            for below, bit in ((1, 2), (2, 1)):
                if rank <= below:
                    break
                if register & bit:
                    happened[rank - below] += count
                else:
                    never += count * 2.0 ** (below - rank)
        return never, happened

    @classmethod
    def _unpack(cls, version: int, parameters: memoryview, payload: memoryview) -> Self:
        del version  # there is one
        if len(parameters) != 1 or not cls.LEAST <= parameters[0] <= cls.MOST:
            raise damaged(cls.KIND, f"a precision from {cls.LEAST} to {cls.MOST}", repr(bytes(parameters)))
        new = cls.__new__(cls)
        new._begin(parameters[0], cls._read_registers(parameters[0], payload))  # noqa: SLF001 (our own)
        return new

    @classmethod
    def _possible(cls, precision: int) -> NDArray[np.bool_]:
        registers = np.arange(256)
        ranks = (registers >> 2) - (precision - 2)
        low = registers & 3  # a first rank has none below it, the second one
        possible: NDArray[np.bool_] = (registers == 0) | ((ranks == 1) & (low == 0)) | ((ranks == 2) & (low & 1 == 0)) | (ranks > 2)
        return possible
