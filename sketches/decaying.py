"""Sums, counts and means in which a row weighs half as much after each half-life."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from sketches.columns import BLOCK, Column
from sketches.envelope import damaged
from sketches.errors import SketchError
from sketches.numeric import LATEST, LONGEST, MICROSECOND, as_numbers, instant, length_us
from sketches.timed import TimedSketch

__all__ = ["DecayingWindow", "forward_terms", "halved", "weighted"]

PARAMETERS: Final = struct.Struct("<q")
PAYLOAD: Final = struct.Struct("<Qq5d")
MOST_ROWS: Final = (1 << 63) - 1
FURTHEST: Final = 1022  # half-lives: a row that many older than the newest has nothing left; the factor is the least normal float64
Double = tuple[float, float]


class DecayingWindow(TimedSketch):
    """Exponentially decayed count, sum, mean and variance, whatever the order in which rows arrive.

    A row of weight w and age a counts as w * 2 ** (-a / half_life). Kept is the sum at a landmark, a whole multiple of the half-life, of
    terms w * 2 ** ((time - landmark) / half_life) ("forward decay"): none of them changes when time goes by, so a late row is taken as if
    it had come in time, and the landmark moves by an exact power of two.

    Guarantee: it computes, it does not estimate; only floats are rounded. With T the sum of ``abs(w * value) * 2 ** (-age / half_life)``
    over all rows, `sum_at` and `count_at` (value 1) are off by at most ``2**-47 * T``, for any number of rows, updates and merges up to
    2**40. In units of 2**-53: NumPy's exp2 and its argument are off by at most 10, the products by 2, a block of 8192 rows is added
    pairwise in at most 25 roundings, and blocks and merges are added in two floats each, which costs 2**-50 units a time. Rows more than
    1022 half-lives older than the newest one are counted in `rows` and have nothing else left. No promise for `variance_at` but that it
    is not negative, and that an offset common to all values does not cancel in it.

    Values are finite numbers; times and durations count as microseconds.

    Parameters
    ----------
    half_life : timedelta
        After which a row has half its weight: from a microsecond to 285 years.

    State: 56 bytes: rows, newest time, two floats each for count and sum, one for the squares.

    Equal: merged sketches agree with one pass in `rows` and `newest` exactly, in count and sum within the guarantee.

    Not supported: another half-life afterwards; taking rows back; NaN and infinities (refused). A row far in the future (a wrong clock)
    makes all others vanish, so look at times before.

    References
    ----------
    Cormode, Shkapenyuk, Srivastava, Xu, 2009, Forward Decay: A Practical Time Decay Model for Streaming Systems, sections III and IV.
    Chan, Golub, LeVeque, 1979, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances.

    Examples
    --------
    >>> window = DecayingWindow(timedelta(hours=1))
    >>> window.update_many(np.array([8.0, 4.0]), np.array(["2026-01-01T12:00", "2026-01-01T13:00"], "datetime64[m]"))
    >>> window.sum_at(np.datetime64("2026-01-01T13:00")), window.sum_at(np.datetime64("2026-01-01T15:00"))
    (8.0, 2.0)
    >>> window.count_at(np.datetime64("2026-01-01T13:00"))
    1.5
    """

    __slots__ = ("_count", "_half_life", "_spread", "_sum")
    KIND: ClassVar[str] = "decaying"

    def __init__(self, half_life: timedelta) -> None:
        self._half_life = length_us("half_life", half_life)
        self._rows = 0
        self._newest = 0
        self._count: Double = (0.0, 0.0)
        self._sum: Double = (0.0, 0.0)
        self._spread = 0.0  # weighted squares of the distances from the mean

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """The half-life, as text."""
        return {"half_life": str(self._half_life * MICROSECOND)}

    @property
    def rows(self) -> int:
        """How many values of a positive weight it has taken; these do not decay."""
        return self._rows

    # Taking -----------------------------------------------------------------------------------------------------------

    def _update_timed(self, values: Column, times: NDArray[np.int64], weights: NDArray[np.float64] | None) -> None:
        numbers = as_numbers(values)
        if numbers is None or not np.isfinite(numbers).all():
            got = values.kind if numbers is None else f"{numbers[~np.isfinite(numbers)][0]:g}"
            raise SketchError("use", "argument", "values", expected="finite numbers", got=got, todo="leave such rows out")
        if weights is not None and not weights.all():
            some = np.flatnonzero(weights)
            numbers, times, weights = numbers[some], times[some], weights[some]
        if not numbers.size:
            return
        after = self.copy()
        for part, moments, loads in _blocks(numbers, times, weights):
            after._take(part, moments, loads)  # noqa: SLF001 (our own)
        self._become(after)

    def _take(self, numbers: NDArray[np.float64], times: NDArray[np.int64], weights: NDArray[np.float64] | None) -> None:
        newest = int(times.max())
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # an overflow is found by `_become`
            terms = forward_terms(times, self._half_life, newest // self._half_life)
            if weights is not None:
                terms *= weights
            count, total = float(terms.sum()), float((terms * numbers).sum())
            distances = numbers - (total / count if count else 0.0)
            spread = float((terms * distances * distances).sum())
        self._add(newest, numbers.size, (count, 0.0), (total, 0.0), spread)

    def _merge(self, other: Self) -> None:
        after = self.copy()
        after._add(other._newest, other._rows, other._count, other._sum, other._spread)  # noqa: SLF001 (our own)
        self._become(after)

    def _add(self, newest: int, rows: int, count: Double, total: Double, spread: float) -> None:
        if not rows or not self._rows:
            if rows:
                self._rows, self._newest, self._count, self._sum, self._spread = rows, newest, count, total, spread
            return
        ours, theirs = self._newest // self._half_life, newest // self._half_life
        landmark = max(ours, theirs)
        old, new = halved(landmark - ours), halved(landmark - theirs)
        mine, more = (self._count[0] * old, self._count[1] * old), (count[0] * new, count[1] * new)
        sums, others = (self._sum[0] * old, self._sum[1] * old), (total[0] * new, total[1] * new)
        self._spread = self._spread * old + spread * new
        if mine[0] > 0 and more[0] > 0:
            apart = others[0] / more[0] - sums[0] / mine[0]
            self._spread += apart * apart * mine[0] * (more[0] / (mine[0] + more[0]))
        self._count, self._sum = _added(mine, more), _added(sums, others)
        self._rows = min(self._rows + rows, MOST_ROWS)
        self._newest = max(self._newest, newest)

    def _become(self, after: Self) -> None:
        """Take over another state, unless numbers became too large."""
        if not all(map(math.isfinite, (*after._count, *after._sum, after._spread))):
            expected = "numbers whose weighted squares and their sum are floats"
            raise SketchError("use", "argument", "values", expected=expected, got="larger ones", todo="scale them down")
        self._rows, self._newest = after._rows, after._newest
        self._count, self._sum, self._spread = after._count, after._sum, after._spread

    def copy(self) -> Self:
        """Return another one with the same content."""
        other = object.__new__(type(self))
        other._half_life, other._rows, other._newest = self._half_life, self._rows, self._newest
        other._count, other._sum, other._spread = self._count, self._sum, self._spread
        return other

    def _key(self) -> int:
        return self._half_life

    # Asking -----------------------------------------------------------------------------------------------------------

    def count_at(self, instant: Any) -> float:
        """Return the sum of the weights as they are at an instant; rows after it weigh more than they will at their own time."""
        return self._at(self._count, instant)

    def sum_at(self, instant: Any) -> float:
        """Return the sum of weight times value, as weights are at an instant."""
        return self._at(self._sum, instant)

    def mean_at(self, instant: Any) -> float:
        """Return the weighted mean, NaN without values; all weights fade alike, so it is the same at each instant."""
        _moment(instant)
        return sum(self._sum) / sum(self._count) if self._rows else math.nan

    def variance_at(self, instant: Any) -> float:
        """Return the weighted variance about the mean, NaN without values; it is the same at each instant."""
        _moment(instant)
        return self._spread / sum(self._count) if self._rows else math.nan

    def _at(self, double: Double, instant: Any) -> float:
        whole, part = divmod(_moment(instant), self._half_life)
        return weighted(sum(double), self._newest // self._half_life - whole, part / self._half_life)

    # Bytes ------------------------------------------------------------------------------------------------------------

    def _pack(self) -> tuple[bytes, bytes]:
        payload = PAYLOAD.pack(self._rows, self._newest, *self._count, *self._sum, self._spread)
        return PARAMETERS.pack(self._half_life), payload

    @classmethod
    def _unpack(cls, version: int, parameters: memoryview, payload: memoryview) -> Self:
        if len(parameters) != PARAMETERS.size or len(payload) != PAYLOAD.size:
            raise damaged(cls.KIND, f"{PARAMETERS.size} and {PAYLOAD.size} bytes", f"{len(parameters)} and {len(payload)}")
        (half_life,) = PARAMETERS.unpack(parameters)
        if not 1 <= half_life <= LONGEST:
            raise damaged(cls.KIND, f"a half-life from 1 to {LONGEST} microseconds", repr(half_life))
        rows, newest, *floats = PAYLOAD.unpack(payload)
        count, count_rest, total, rest, spread = floats
        if rows > MOST_ROWS or not -LATEST <= newest <= LATEST or (not rows and bytes(payload) != bytes(PAYLOAD.size)):
            raise damaged(cls.KIND, "a number of rows and their newest time", f"{rows} and {newest}")
        whole = all(map(math.isfinite, floats)) and count + count_rest == count and total + rest == total
        if not whole or spread < 0 or (rows and count <= 0):
            raise damaged(cls.KIND, "finite sums, of which count and squares are not negative", repr(floats))
        found = cls(half_life * MICROSECOND)
        found._rows, found._newest = rows, newest
        found._count, found._sum, found._spread = (count, count_rest), (total, rest), spread
        return found


def forward_terms(times: NDArray[np.int64], half_life: int, landmark: int) -> NDArray[np.float64]:
    """Return 2 ** (time / half_life - landmark) for each time, none after the landmark's half-life; 0 from 1022 half-lives before it.

    The fraction of a half-life and the whole ones are kept apart: another landmark changes the result by an exact power of two.
    """
    whole = times // half_life
    terms = np.exp2((times - whole * half_life) / half_life)
    whole -= landmark
    if whole.any():
        np.maximum(whole, -1 - FURTHEST, out=whole)
        terms *= ((whole + (FURTHEST + 1)) << 52).view(np.float64)  # 2 ** whole by its bits; the furthest has the bits of 0
    return terms


def halved(times: int) -> float:
    """Return 0.5 ** times exactly, 0 beyond 1022."""
    return math.ldexp(1.0, -times) if times <= FURTHEST else 0.0


def weighted(total: float, halvings: int, part: float) -> float:
    """Return total * 2 ** (halvings - part), infinite where that is too large."""
    try:
        return math.ldexp(total * 2.0**-part, max(min(halvings, 1 << 20), -1 << 20))
    except OverflowError:
        return math.copysign(math.inf, total)


def _moment(time: Any) -> int:
    return instant(time)


def _added(one: Double, other: Double) -> Double:
    """Add two numbers that are each held in two floats, the second the rest of the first (Knuth's TwoSum, Dekker's sum)."""
    total = one[0] + other[0]
    back = total - one[0]
    rest = (one[0] - (total - back)) + (other[0] - back) + one[1] + other[1]
    high = total + rest
    return high, rest - (high - total)


def _blocks(
    numbers: NDArray[np.float64], times: NDArray[np.int64], weights: NDArray[np.float64] | None
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64] | None]]:
    for start in range(0, numbers.size, BLOCK):
        stop = start + BLOCK
        yield numbers[start:stop], times[start:stop], None if weights is None else weights[start:stop]
