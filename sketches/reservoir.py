"""A uniform sample of a stream, by Algorithm L: it jumps from one item that is taken to the next."""
# ruff: noqa: SLF001 (what is looked into is another one of the same class)

from __future__ import annotations

import math
import struct
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from sketches.base import Sketch, check_confidence, is_whole, out_of_range
from sketches.columns import Column
from sketches.draws import checked_seed, digest, exp, fold, log, log_one_minus, uniforms
from sketches.envelope import damaged
from sketches.items import Items
from sketches.sample_bounds import Of, mean_bounds, numbers_of

__all__ = ["ReservoirSample", "checked_size"]

MOST_SIZE: Final = 1 << 24
MOST_COUNT: Final = 1 << 62
MOST_STEP: Final = 1 << 60
LONGEST_SKIP: Final = 2.0**51
LEAST_LOG: Final = -700.0
DRAWS: Final = (32, 1024)  # steps that are drawn at once: as many as the sample has items, within these
FIRST: Final = 1 << 62  # counter of what is drawn once, when the sample is full
PARAMETERS: Final = struct.Struct("<I")
HEAD: Final = struct.Struct("<QQQqd")
NO_STEPS: Final = np.empty(0, np.int64)


class ReservoirSample(Sketch):
    """A uniform sample without replacement of all values of a stream.

    Guarantee: after `count` values, each set of ``min(size, count)`` of them is the sample with the same probability, in any order of the
    stream and after any merges of parts of any lengths. Work: a comparison for each call, and some 0.3 microseconds for each of the
    ``size (1 + ln(count / size))`` values that are taken on average; the others are not even read.

    Parameters
    ----------
    size : int
        Items of the sample k, 1 to 2^24.
    seed : int
        0 to 2^64 - 1. Random numbers follow from it, and from the first k values once there are so many: parts of a stream that are sampled
        under one seed choose other places, unless their first k values are equal, one by one. Give such parts seeds of their own.

    Memory: k items (8 bytes each for int64), and at most 24 KiB of numbers drawn ahead, which are not stored.

    Not supported: weights (`WeightedReservoirSample`); taking values back; the order of the stream (that of the sample says nothing);
    bounds against somebody who chooses values knowing the seed.
    Equal: by distribution. A merge gives a uniform sample of both, but which one depends on the order of merging; the same calls give the
    same bytes, and values may be cut into calls in any way.

    A merge gives each item the key that it might have had: Algorithm L knows of its items that their keys are uniform below W, one of them
    W itself. The k least keys of both stay, the greatest of them is the new W. So the number of items from each part follows the
    hypergeometric law, and the stream goes on as if it had been one.

    References
    ----------
    Li 1994, "Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n)))", section 3 (Algorithm L). Serfling 1974, "Probability
    inequalities for the sum in sampling without replacement", corollary 1.1.

    Examples
    --------
    >>> sample = ReservoirSample(1000, seed=1)
    >>> sample.update_many(np.arange(1_000_000) % 10)
    >>> bool(sample.lower_bound(lambda digit: digit < 3) < 0.3 < sample.upper_bound(lambda digit: digit < 3))
    True
    """

    __slots__ = ("_at", "_count", "_items", "_key_", "_last", "_log_w", "_logs", "_places", "_size", "_slots", "_step")
    KIND = "reservoir"

    def __init__(self, size: int, seed: int = 0) -> None:
        self._size = checked_size(size)
        self._items = Items()
        self._count = 0
        self._begin(fold(0, checked_seed(seed)), 0.0)

    @classmethod
    def from_error(cls, epsilon: float, confidence: float = 0.95, seed: int = 0) -> Self:
        """Return one whose estimate of a share is within `epsilon` of the truth with that confidence, for any stream (Hoeffding).

        Its size is ``ln(2 / (1 - confidence)) / (2 epsilon^2)``.
        """
        share = check_confidence(confidence)
        if not 0 < epsilon < 1:
            raise out_of_range("epsilon", "a number between 0 and 1", epsilon)
        return cls(math.ceil(math.log(2 / (1 - share)) / (2 * epsilon * epsilon)), seed)

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """The size; samples of several seeds go together."""
        return {"size": self._size}

    @property
    def is_empty(self) -> bool:
        """Whether it has taken no value yet."""
        return self._count == 0

    @property
    def count(self) -> int:
        """How many values it has seen, nulls left out."""
        return self._count

    # Taking -----------------------------------------------------------------------------------------------------------

    def _begin(self, key: int, log_w: float, *, step: int = 0, last: int = 0) -> None:
        """Go on after value number `last`, from a state of the random numbers."""
        self._key_, self._log_w, self._step, self._last = key, log_w, step, last
        self._at = 0
        self._places = self._slots = NO_STEPS
        self._logs = np.array([log_w])

    def _fill(self) -> None:
        """Begin to jump: the sample has just become full. W is the greatest of as many uniform keys."""
        key = digest(self._key_, self._items.column())
        self._begin(key, float(log(uniforms(key, FIRST, 1))[0]) / self._size, last=self._count)

    def _draw(self) -> None:
        """Draw steps: the places of the next values to be taken, and the items that they take the place of."""
        self._step += self._places.size
        self._log_w = float(self._logs[-1])
        if self._places.size:
            self._last = int(self._places[-1]) + 1
        steps = min(max(self._size, DRAWS[0]), DRAWS[1])
        u = uniforms(self._key_, 3 * self._step, 3 * steps).reshape(steps, 3)
        logs = log(u[:, :2])
        self._logs = np.cumsum(np.concatenate(([self._log_w], logs[:, 1] / self._size)))
        skips = np.minimum(np.floor(logs[:, 0] / log_one_minus(exp(self._logs[:-1]))), LONGEST_SKIP).astype(np.int64)
        self._places = np.maximum(np.cumsum(skips + 1) + (self._last - 1), self._count)  # stored numbers may be anybody's
        self._slots = (u[:, 2] * self._size).astype(np.int64)
        self._at = 0

    def _update_column(self, values: Column, weights: NDArray[Any] | None) -> None:
        self._items.check(values, self.KIND)
        begin = 0
        if len(self._items) < self._size:
            begin = min(self._size - len(self._items), len(values))
            self._items.append(values, np.arange(begin))
            self._count += begin
            if len(self._items) < self._size:
                return
            if begin:
                self._fill()
        first, stop = self._count - begin, self._count - begin + len(values)
        while self._count < stop:
            if self._at == self._places.size:
                self._draw()
            ready = self._at + int(np.searchsorted(self._places[self._at :], stop))
            some = slice(self._at, ready)
            self._items.put(self._slots[some], values, self._places[some] - first)
            self._at = ready
            if ready < self._places.size:
                self._count = stop

    def _merge(self, other: Self) -> None:
        theirs = other._items.column()
        self._items.check(theirs, self.KIND, action="merge")
        if not len(theirs):
            return
        count, ours = self._count + other._count, len(self._items)
        if ours + len(theirs) < self._size:
            self._items.append(theirs, np.arange(len(theirs)))
            self._count = count
            return
        key = fold(self._stirred(), self._count, other._stirred(), other._count)
        log_keys = np.concatenate((self._log_keys(fold(key, 1)), other._log_keys(fold(key, 2))))
        order = np.argsort(log_keys, kind="stable")[: self._size]
        places = np.sort(order)
        self._items = self._items.take(places[places < ours])
        self._items.append(theirs, places[places >= ours] - ours)
        self._count = count
        self._begin(fold(key, 3), float(log_keys[order[-1]]), last=count)

    def _stirred(self) -> int:
        """Return a key into which the first values have gone."""
        return self._key_ if len(self._items) == self._size else digest(self._key_, self._items.column())

    def _log_keys(self, key: int) -> NDArray[np.float64]:
        """Return logarithms of keys for the items, drawn from what is known of them."""
        size = len(self._items)
        u = uniforms(key, 0, size + 1)
        found = log(u[:size])
        if size == self._size:
            log_w = float(self._logs[self._at])
            found += log_w
            found[int(u[size] * size)] = log_w
        return found

    def _of_group(self, number: int) -> Self:
        group = self.copy()
        group._begin(fold(self._key_, number), 0.0)  # groups with equal first values would have equal samples
        return group

    def copy(self) -> Self:
        """Return another one with the same content; it goes on with the same random numbers."""
        found = type(self)(self._size)
        found._items, found._count = self._items.copy(), self._count
        found._key_, found._log_w, found._step, found._last = self._key_, self._log_w, self._step, self._last
        found._at, found._places, found._slots, found._logs = self._at, self._places, self._slots, self._logs  # never written
        return found

    # Asking -----------------------------------------------------------------------------------------------------------

    def sample(self) -> NDArray[Any]:
        """Return the items, as `sketches.items.Items.values` gives them; in no meaningful order."""
        return self._items.values()

    def sample_arrow(self) -> Any:
        """Return the items as a pyarrow.Array."""
        return self._items.to_arrow()

    def estimate(self, of: Of = None) -> float:
        """Return the mean over all values, estimated by that of the sample; NaN without values.

        Parameters
        ----------
        of : function, optional
            Of the sample: gives a number for each item, or a truth: then the mean is the share of values it is true for. None: the items.
        """
        numbers = numbers_of(self._items, of)
        return float(numbers.mean()) if numbers.size else math.nan

    def lower_bound(self, of: Of = None, *, confidence: float = 0.95, within: tuple[float, float] | None = None) -> float:
        """Return the lower of the two bounds between which the mean is with that confidence.

        Parameters
        ----------
        of : function, optional
            As for `estimate`.
        confidence : float
            Of both bounds together.
        within : (float, float), optional
            Limits of the numbers of all values, which make the bound sound for every distribution; truths have 0 and 1. Without them the
            bound is the normal distribution's: right in the limit only. See `sketches.sample_bounds.mean_bounds`.
        """
        return mean_bounds(numbers_of(self._items, of), self._count, confidence, within)[0]

    def upper_bound(self, of: Of = None, *, confidence: float = 0.95, within: tuple[float, float] | None = None) -> float:
        """Return the upper one of the two bounds; see `lower_bound`."""
        return mean_bounds(numbers_of(self._items, of), self._count, confidence, within)[1]

    def estimate_sum(self, of: Of = None) -> float:
        """Return the sum over all values: `count` times `estimate`, and so are its bounds. Of truths: how many values."""
        return self._count * self.estimate(of) if self._count else 0.0

    # Bytes ------------------------------------------------------------------------------------------------------------

    def _pack(self) -> tuple[bytes, bytes | memoryview]:
        last = int(self._places[self._at - 1]) + 1 if self._at else self._last
        head = HEAD.pack(self._count, self._key_, self._step + self._at, last, float(self._logs[self._at]))
        return PARAMETERS.pack(self._size), head + self._items.pack()

    @classmethod
    def _unpack(cls, version: int, parameters: memoryview, payload: memoryview) -> Self:
        if len(parameters) != PARAMETERS.size or len(payload) < HEAD.size:
            raise damaged(cls.KIND, f"{PARAMETERS.size} bytes of parameters", f"{len(parameters)}, and {len(payload)} of payload")
        (size,) = PARAMETERS.unpack(parameters)
        if not 1 <= size <= MOST_SIZE:
            raise damaged(cls.KIND, f"a size from 1 to {MOST_SIZE}", f"{size}")
        found = cls(size)
        rest = found._read(payload)
        if len(rest):
            raise damaged(cls.KIND, "the end of the bytes", f"{len(rest)} more")
        return found

    def _read(self, payload: memoryview) -> memoryview:
        """Take over the state that stands at the begin of the payload; returns what follows it."""
        if len(payload) < HEAD.size:
            raise damaged(self.KIND, f"{HEAD.size} bytes of state", f"{len(payload)}")
        count, key, step, last, log_w = HEAD.unpack_from(payload)
        self._items, rest = Items.unpack(self.KIND, payload[HEAD.size :])
        if count > MOST_COUNT or len(self._items) != min(count, self._size) or (count == 0) != (not self._items.kind):
            raise damaged(self.KIND, f"{min(count, self._size)} items of {count} values", f"{len(self._items)}")
        is_full = len(self._items) == self._size
        jumps = self._size <= last <= count and step < MOST_STEP and LEAST_LOG <= log_w <= 0
        if not (jumps if is_full else (step, last, log_w) == (0, 0, 0)):
            raise damaged(self.KIND, "a state of the random numbers", f"step {step} after {last} of {count}, {log_w}")
        self._count = count
        self._begin(key, log_w, step=step, last=last)
        return rest


def checked_size(size: int, *, least: int = 1) -> int:
    """Refuse a size of a sample that is out of range."""
    if not is_whole(size, least, MOST_SIZE):
        raise out_of_range("size", f"an integer from {least} to {MOST_SIZE:,}", size)
    return int(size)
