"""HyperLogLog: how many distinct values, in a few KiB."""

from __future__ import annotations

import struct
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from sketches import hyperloglog_kernel, hyperloglog_plain
from sketches.base import out_of_range
from sketches.columns import SEED, Column, Words
from sketches.distinct import DistinctSketch
from sketches.envelope import damaged
from sketches.errors import SketchError
from sketches.jit import pick
from sketches.murmur import murmured

__all__ = ["HyperLogLog"]

HASHES: Final = ("xxh64", "murmur3")
PARAMETERS: Final = struct.Struct("<BB")
PIECE: Final = 1 << 16  # words for one call of the kernel; after each the floor may have risen

_floor_of = pick(hyperloglog_kernel.floor_of, hyperloglog_plain.floor_of)
_update = pick(hyperloglog_kernel.update, hyperloglog_plain.update)
_update_words8 = pick(hyperloglog_kernel.update_words8, hyperloglog_plain.update_words8)
_update_groups = pick(hyperloglog_kernel.update_groups, hyperloglog_plain.update_groups)


class HyperLogLog(DistinctSketch):
    """Count distinct values.

    Guarantee: ``P(|estimate - n| <= 1.96 * 1.037 / sqrt(2**precision) * n)`` is about 0.95 at every n up to 10**16, and less error at n
    below ``2**precision``; the bounds hold with about the confidence given. "About": the error is normal on a logarithmic scale for many
    registers (precision 8 and more), and the hash is taken for random. It is not for somebody who picks values by their hashes; and
    beyond 10**16 values the hashes of 64 bits are too few.

    Parameters
    ----------
    precision : int
        4 to 18; there are ``2**precision`` registers. 12 has a standard error of 1.6 %.
    hash : str
        ``"xxh64"``, or ``"murmur3"`` for a sketch that exchanges content with Apache DataSketches, and with Spark's ``hll_sketch_agg``:
        see `sketches.datasketches_hll`.

    State: ``2**precision`` bytes. Stored: as many, or 4 for each register in use if that is less.

    Not supported: removing values; a small intersection of large sets, see `intersection_estimate`. For an exact count of few values
    take a set; for less memory at the same error `UltraLogLog`.

    Equal: merges are equal byte for byte to one sketch of all the values, in any order.

    References
    ----------
    P. Flajolet, E. Fusy, O. Gandouet, F. Meunier (2007), "HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm".
    O. Ertl (2017), "New cardinality estimation algorithms for HyperLogLog sketches", section 4: the estimator, by maximum likelihood.

    Examples
    --------
    >>> sketch = HyperLogLog(precision=12)
    >>> sketch.update_many(np.arange(100_000) % 30_000)
    >>> exact = 30_000
    >>> sketch.lower_bound() <= exact <= sketch.upper_bound()
    True
    >>> abs(sketch.estimate() / exact - 1) < 0.03
    True
    """

    __slots__ = ("_keyed", "hash")
    KIND: ClassVar[str] = "hyperloglog"
    LEAST: ClassVar[int] = 4
    MOST: ClassVar[int] = 18
    VARIANCE: ClassVar[float] = 1.0747551  # log 2 / zeta(2, 2)
    BIAS: ClassVar[float] = 1.0101426  # 3 log 2 zeta(3, 2) / zeta(2, 2)**2
    hash: str
    _keyed: tuple[int, str]

    def __init__(self, precision: int = 12, hash: str = "xxh64") -> None:  # noqa: A002 (the word for it)
        precision = self._checked_precision(precision)
        if hash not in HASHES:
            raise out_of_range("hash", " or ".join(map(repr, HASHES)), hash)
        self.hash = hash
        self._keyed = (precision, hash)
        self._begin(precision, np.zeros(1 << precision, np.uint8))

    @classmethod
    def from_error(cls, *, relative_error: float, confidence: float = 0.95, hash: str = "xxh64") -> Self:  # noqa: A002
        """Make the smallest one whose estimate is off by at most `relative_error`, as a share of n, with probability `confidence`.

        Examples
        --------
        >>> HyperLogLog.from_error(relative_error=0.02, confidence=0.95)
        HyperLogLog(precision=14, hash='xxh64')
        """
        return cls(cls._precision_for(relative_error, confidence), hash)

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """Precision and hash."""
        return {"precision": self.precision, "hash": self.hash}

    def _key(self) -> Any:
        return self._keyed

    def of_state(self, state: NDArray[Any]) -> Self:
        """Return a sketch of the same parameters that has these registers, not a copy, for its content."""
        new = type(self).__new__(type(self))
        new.hash = self.hash
        new._keyed = self._keyed  # noqa: SLF001 (our own)
        new._begin(self.precision, state)  # noqa: SLF001 (our own)
        return new

    def reduced(self, precision: int) -> Self:
        """Return a sketch of a lower precision: what it would be had it been made so.

        Examples
        --------
        >>> fine, coarse = HyperLogLog(14), HyperLogLog(11)
        >>> fine.update_many(np.arange(5000))
        >>> coarse.update_many(np.arange(5000))
        >>> fine.reduced(11).to_bytes() == coarse.to_bytes()
        True
        """
        if not self.LEAST <= self._checked_precision(precision) <= self.precision:
            raise out_of_range("precision", f"an integer from {self.LEAST} to {self.precision}, that of the sketch", precision)
        new = type(self)(precision, self.hash)
        bits = self.precision - precision
        if self.hash == "murmur3":  # the index is the low bits of a word of its own
            np.max(self.state.reshape(1 << bits, -1), axis=0, out=new.state)
            return new
        rows = self.state.reshape(-1, 1 << bits)
        ranks = np.where(rows > 0, np.uint8(1) + hyperloglog_plain.leading_zeros_in(bits), np.uint8(0))
        ranks[:, 0] = np.where(rows[:, 0] > 0, rows[:, 0] + np.uint8(bits), np.uint8(0))  # the bits taken from the index are zeros too
        np.max(ranks, axis=1, out=new.state)
        return new

    def update_hashes(self, hashes: NDArray[np.int64] | NDArray[np.uint64]) -> None:
        """Take values that were hashed already, by `sketches.hashes` or by Spark SQL's ``xxhash64`` of one column.

        Raises
        ------
        SketchError
            The sketch has another hash.
        """
        if self.hash != "xxh64":
            why = "hashes of two kinds count each value twice"
            todo = "use update_many, or a sketch with hash='xxh64'"
            raise SketchError("update", "sketch", self.KIND, expected="hash 'xxh64'", got=repr(self.hash), why=why, todo=todo)
        super().update_hashes(hashes)

    def _as_hashed(self, values: Column) -> Column:
        return values if self.hash == "xxh64" else murmured(values, self.precision)

    def _update_column(self, values: Column, weights: NDArray[Any] | None) -> None:
        if self.hash == "xxh64" and isinstance(values, Words) and values.words.dtype == np.uint64:
            for start in range(0, len(values), PIECE):
                part = values.words[start : start + PIECE]
                _update_words8(self.state, self.precision, self._floor_for(part.size), part, SEED)
        else:
            super()._update_column(values, weights)

    def _update_hashes(self, hashes: NDArray[np.uint64], weights: NDArray[Any] | None) -> None:
        _update(self.state, self.precision, self._floor_for(hashes.size), hashes)

    def _lookup_floor(self) -> int:
        return _floor_of(self.state)

    def _update_states(
        self, states: NDArray[Any], groups: NDArray[np.int64], hashes: NDArray[np.uint64], weights: NDArray[Any] | None
    ) -> None:
        _update_groups(states, self.precision, groups, hashes)

    def _merge(self, other: Self) -> None:
        np.maximum(self.state, other.state, out=self.state)

    def _events(self) -> tuple[float, dict[int, int]]:
        last = 64 - self.precision
        counts = np.bincount(self.state).tolist()
        never = sum(count * 2.0**-rank for rank, count in enumerate(counts) if rank <= last)
        happened = {rank: count for rank, count in enumerate(counts) if 0 < rank <= last}
        if len(counts) > last + 1:  # the hash ended before a one came: as likely as the rank before
            happened[last] += counts[last + 1]
        return never, happened

    def _packed_parameters(self) -> bytes:
        return PARAMETERS.pack(self.precision, HASHES.index(self.hash))

    @classmethod
    def _unpack(cls, version: int, parameters: memoryview, payload: memoryview) -> Self:
        del version  # there is one
        if len(parameters) != PARAMETERS.size:
            raise damaged(cls.KIND, f"{PARAMETERS.size} bytes of parameters", f"{len(parameters)}")
        precision, number = PARAMETERS.unpack(parameters)
        if not cls.LEAST <= precision <= cls.MOST or number >= len(HASHES):
            raise damaged(cls.KIND, f"precision {cls.LEAST} to {cls.MOST} and hash 0 or 1", f"{precision} and {number}")
        state = cls._read_registers(precision, payload)
        new = cls.__new__(cls)
        new.hash = HASHES[number]
        new._keyed = (precision, new.hash)  # noqa: SLF001 (our own)
        new._begin(precision, state)  # noqa: SLF001 (our own)
        return new

    @classmethod
    def _possible(cls, precision: int) -> NDArray[np.bool_]:
        return np.arange(256) <= 65 - precision
