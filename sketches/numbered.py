"""Many sketches of equal parameters, by number: how a group-by, a window or a column of stored sketches works on them.

    numbers, values --- update ------- sketches 0 .. n-1 --- to_stored ---> a column of bytes
    numbers, bytes  --- merge_stored --'                 '-- at ---> one of them, as an object

A number is a place in a table of keys that somebody else keeps: `sketches.grouped.Grouped`, or a plan in Spark.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from sketches.base import Sketch, StateSketch, checked_hashes
from sketches.columns import Column, Words, column
from sketches.errors import SketchBytesError, SketchError, SketchTypeError
from sketches.numeric import instants
from sketches.payload import LARGEST_SPARSE
from sketches.rotating_bloom import RotatingBloomFilter
from sketches.stratified_reservoir import StratifiedReservoirSample
from sketches.timed import TimedSketch

__all__ = ["Numbered", "numbered"]

S = TypeVar("S", bound=Sketch)
Numbers = NDArray[np.int64]
NOTHING_WRONG: Final[Mapping[int, SketchError]] = {}
FAST: Final = {
    "hyperloglog": "sketches.numbered_registers.NumberedRegisters",
    "ultraloglog": "sketches.numbered_registers.NumberedRegisters",
    "bloom": "sketches.numbered_tables.NumberedTables",
    "classic_bloom": "sketches.numbered_tables.NumberedTables",
    "count_min": "sketches.numbered_tables.NumberedTables",
    "misra_gries": "sketches.numbered_hot.NumberedHotLists",
    "space_saving": "sketches.numbered_hot.NumberedHotLists",
    "reservoir": "sketches.numbered_reservoir.reservoirs",
    "decaying": "sketches.numbered_decaying.NumberedDecaying",
    "quantiles": "sketches.numbered_quantiles.NumberedQuantiles",
}
"""By kind: what is faster than `Objects`; imported when it is asked for."""
OBJECTS: Final = "sketches.numbered.Objects"
BY_GUARANTEE: Final = ("decaying", "misra_gries", "space_saving")  # what is faster adds up other blocks than one sketch alone would


class Numbered(ABC, Generic[S]):
    """Sketches 0 to n - 1, each as if it had been given the values of its number alone.

    Guarantee: each sketch keeps the promises of its class. Those that are equal byte for byte by their class are so here; the others
    (hot lists, quantiles, samples, conservative Count-Min) are equal by guarantee or distribution to those that were updated one by one.
    What is refused, values, weights, times or numbers, is refused before anything is taken.

    Attributes
    ----------
    template : Sketch
        An empty sketch of their parameters; it stays empty.
    """

    def __init__(self, template: S) -> None:
        self.template = template

    @abstractmethod
    def __len__(self) -> int:
        """How many sketches there are."""

    @abstractmethod
    def grow(self, count: int) -> None:
        """Make empty sketches at the end, so that there are `count` of them; fewer are not made."""

    @abstractmethod
    def _update(self, numbers: Numbers, values: Column, weights: NDArray[Any] | None, times: NDArray[np.int64] | None) -> None:
        """Take checked values without nulls: a number for each, and a weight and a time where the class has them."""

    @abstractmethod
    def merge_stored(self, numbers: Numbers, stored: Any) -> Mapping[int, SketchError]:
        """Take in stored sketches; a number may come any number of times.

        Parameters
        ----------
        numbers : ndarray (n,) int64
            Which sketch each is merged into.
        stored : pyarrow.BinaryArray (n,)
            What `Sketch.to_bytes` or `to_stored` gave; null is no sketch.

        Returns
        -------
        mapping of int to SketchError
            The rows that were not taken, and why: `SketchBytesError` for damaged or foreign bytes, `SketchError` for other parameters.
            All other rows were.
        """

    @abstractmethod
    def to_stored(self, start: int = 0, stop: int | None = None) -> Any:
        """Return the stored forms of sketches `start` to `stop`, as a pyarrow.BinaryArray: each what `at(number).to_bytes()` is.

        Where there is no Arrow they are a list of bytes, which `merge_stored` takes too.
        """

    @abstractmethod
    def at(self, number: int) -> S:
        """Return a copy of one of the sketches."""

    def update(self, numbers: Numbers, values: Any, weights: Any = None, times: Any = None) -> None:
        """Give each value to the sketch of its number; nulls are no values.

        Parameters
        ----------
        numbers : ndarray (n,) int64
            From 0 to `len` - 1.
        values : array (n,)
            As for the sketch's `update_many`.
        weights : array (n,), optional
            For sketches whose `update_many` has them.
        times : array (n,), or one time for all
            For sketches that weigh values by their time, and needed there.
        """
        found = column(values)
        rows = len(values)
        self._check_numbers(numbers, rows)
        some = self.template._weights_of(weights, rows, found)  # noqa: SLF001 (the hooks of sketches are for the package)
        moments = self._moments(times, rows, found)
        self._update(numbers if found.rows is None else numbers[found.rows], found, some, moments)

    def update_hashes(self, numbers: Numbers, hashes: Any, weights: Any = None) -> None:
        """Give each value, hashed already by `sketches.hashes` or Spark's ``xxhash64``, to the sketch of its number.

        For sketches that have `update_hashes`.
        """
        del numbers, hashes, weights
        todo = "give the values, or take a sketch that sees hashes only, such as HyperLogLog"
        raise SketchError("update", "sketches", self.template.KIND, expected="values", got="hashes", todo=todo)

    def _check_numbers(self, numbers: Numbers, rows: int) -> None:
        if numbers.shape != (rows,) or numbers.dtype != np.int64:
            got = f"{numbers.dtype} of shape {numbers.shape}"
            raise SketchError("use", "argument", "numbers", expected=f"{rows:,} int64", got=got, todo="give one for each value")
        if rows and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(self):
            got = f"{numbers.min()} to {numbers.max()}"
            raise SketchError("use", "argument", "numbers", expected=f"0 to {len(self) - 1}", got=got, todo="call grow first")

    def _moments(self, times: Any, rows: int, values: Column) -> NDArray[np.int64] | None:
        if isinstance(self.template, TimedSketch):
            moments = instants(times, rows)
            return moments if values.rows is None else moments[values.rows]
        if times is not None:
            got = type(times).__name__
            raise SketchError("use", "argument", "times", expected=f"none for {self.template.KIND!r}", got=got, todo="leave them out")
        return None


def numbered(template: S, count: int = 0, *, as_alone: bool = False) -> Numbered[S]:
    """Return `count` empty sketches with the parameters of `template`, in the form that is fastest for their class.

    Parameters
    ----------
    template : Sketch
        An empty one.
    count : int
        How many.
    as_alone : bool
        Also hot lists and decaying sums shall be what they would be alone, call by call, and not just as good: an object for each, slower.

    Raises
    ------
    SketchError
        The template is not empty, or a sketch that has keys or a clock of its own.
    """
    if not isinstance(template, Sketch) or isinstance(template, RotatingBloomFilter | StratifiedReservoirSample):
        got = template.__name__ if isinstance(template, type) else type(template).__name__
        expected = "a sketch, and none that has keys or a clock of its own"
        raise SketchError("group", "template", "sketch", expected=expected, got=got, todo="give one such as HyperLogLog(12)")
    if not template.is_empty:
        raise SketchError("group", "sketch", template.KIND, expected="an empty one", got="one with values", todo="make a new one")
    fast = _may_be_fast(template) and not (as_alone and template.KIND in BY_GUARANTEE)
    module, _, name = (FAST.get(template.KIND, OBJECTS) if fast else OBJECTS).rpartition(".")
    made: Numbered[S] = getattr(import_module(module), name)(template)
    made.grow(count)
    return made


def _may_be_fast(template: Sketch) -> bool:
    if isinstance(template, StateSketch):
        return template.state.nbytes <= LARGEST_SPARSE  # above, one at a time is work enough
    try:
        import pyarrow  # noqa: F401, PLC0415 (the others keep their bytes in its arrays)
    except ImportError:
        return False
    return True


class Objects(Numbered[S]):
    """Sketches as objects: right for every class, and as fast as one call per group and block."""

    def __init__(self, template: S) -> None:
        super().__init__(template)
        self._sketches: list[S] = []

    def __len__(self) -> int:
        return len(self._sketches)

    def grow(self, count: int) -> None:
        self._sketches += [self.template._of_group(number) for number in range(len(self._sketches), count)]  # noqa: SLF001

    def update_hashes(self, numbers: Numbers, hashes: Any, weights: Any = None) -> None:
        if not hasattr(self.template, "_update_hashes"):
            super().update_hashes(numbers, hashes, weights)
        some = checked_hashes(hashes)
        self._check_numbers(numbers, some.size)
        counts = self.template._weights_of(weights, some.size, Words(some, "long"))  # noqa: SLF001
        for number, rows in _by_number(numbers):
            self._sketches[number]._update_hashes(some[rows], None if counts is None else counts[rows])  # noqa: SLF001

    def _update(self, numbers: Numbers, values: Column, weights: NDArray[Any] | None, times: NDArray[np.int64] | None) -> None:
        for number, rows in _by_number(numbers):
            sketch, some = self._sketches[number], None if weights is None else weights[rows]
            if times is not None and isinstance(sketch, TimedSketch):
                sketch._update_timed(values.take(rows), times[rows], some)  # noqa: SLF001
            else:
                sketch._update_column(values.take(rows), some)  # noqa: SLF001

    def merge_stored(self, numbers: Numbers, stored: Any) -> Mapping[int, SketchError]:
        self._check_numbers(numbers, len(stored))
        wrong: dict[int, SketchError] = {}
        column = stored.to_pylist() if hasattr(stored, "to_pylist") else stored
        for row, (number, data) in enumerate(zip(numbers.tolist(), column, strict=True)):
            if data is None:
                continue
            try:
                self._sketches[number].merge(type(self.template).from_bytes(data))
            except (SketchError, SketchBytesError, SketchTypeError) as error:
                wrong[row] = error  # type: ignore[assignment]
        return wrong

    def to_stored(self, start: int = 0, stop: int | None = None) -> Any:
        found = [sketch.to_bytes() for sketch in self._sketches[start:stop]]
        try:
            import pyarrow as pa  # noqa: PLC0415 (without it, as they are)
        except ImportError:
            return found
        return pa.array(found, pa.binary())

    def at(self, number: int) -> S:
        return self._sketches[number].copy()


def _by_number(numbers: Numbers) -> Any:
    """Yield each number with its rows, in their order."""
    order = np.argsort(numbers, kind="stable")
    in_order = numbers[order]
    starts = np.flatnonzero(np.diff(in_order, prepend=-1))
    stops = np.append(starts[1:], len(order))[: starts.size]
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        yield int(in_order[start]), order[start:stop]
