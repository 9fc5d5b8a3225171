"""The vocabulary of all sketches: what each can do, under which name, and what it refuses.

A sketch takes values (`Sketch.update`, `Sketch.update_many`), merges with others of its parameters, answers with bounds, and travels as
bytes. Classes that only look at the hash of a value derive from `HashSketch`: they also take hashes that Spark has computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sketches.columns import Column, column, hash_blocks, one
from sketches.envelope import OVERHEAD, open_envelope, seal
from sketches.errors import SketchError

__all__ = ["HashSketch", "Sketch", "StateSketch", "check_confidence", "checked_hashes", "checked_weights", "is_whole", "out_of_range"]


class Sketch(ABC):
    """A summary of a stream that can be merged.

    Guarantee: merging sketches of the parts of a stream is as good as one sketch of the whole, in any order and grouping; each class says
    whether it is equal byte for byte, or within the same bound. `update_many` is `update` for each value, but fast.

    Attributes
    ----------
    KIND : str
        Name in stored bytes and in errors.
    VERSION : int
        Of the layout of the bytes.
    """

    __slots__ = ()
    KIND: ClassVar[str]
    VERSION: ClassVar[int] = 1

    # What each class says of itself -----------------------------------------------------------------------------------

    @property
    @abstractmethod
    def parameters(self) -> dict[str, int | float | str]:
        """What two sketches must have in common to be merged, by the names of the constructor's arguments."""

    @property
    @abstractmethod
    def is_empty(self) -> bool:
        """Whether it has taken no value yet."""

    @abstractmethod
    def _update_column(self, values: Column, weights: NDArray[Any] | None) -> None:
        """Take values; `weights`, if the class has them, are one for each, checked by the class."""

    @abstractmethod
    def _merge(self, other: Self) -> None:
        """Take another sketch of equal parameters in; it stays as it is."""

    @abstractmethod
    def _pack(self) -> tuple[bytes, bytes | memoryview]:
        """Return parameters and payload for `sketches.envelope.seal`."""

    @classmethod
    @abstractmethod
    def _unpack(cls, version: int, parameters: memoryview, payload: memoryview) -> Self:
        """Make one from what `_pack` gave; raises `sketches.envelope.damaged` where anything does not fit, before it takes memory."""

    @abstractmethod
    def copy(self) -> Self:
        """Return another one with the same content."""

    # What all do alike ------------------------------------------------------------------------------------------------

    def update(self, value: Any) -> None:
        """Take one value: int (as int64), float, str, bytes, bool, date, datetime, a NumPy scalar; None is no value.

        For many values `update_many` is a hundred times as fast and more.
        """
        self._update_column(one(value), None)

    def update_many(self, values: Any) -> None:
        """Take all values of an array; nulls are no values.

        Parameters
        ----------
        values : array (n,)
            NumPy or Arrow, of the types in `sketches.columns`.

        Raises
        ------
        SketchTypeError
            Values of another type; nothing was taken.
        """
        self._update_column(column(values), None)

    def merge(self, other: Self) -> None:
        """Take in what another sketch has seen; `other` stays as it is.

        Raises
        ------
        SketchError
            It is of another kind, or of other parameters.
        """
        if type(other) is not type(self) or other._key() != self._key():
            raise self._mismatch(other)
        self._merge(other)

    @classmethod
    def merged(cls, sketches: Iterable[Self]) -> Self:
        """Return one new sketch of what all of them have seen; at least one must be given."""
        some = iter(sketches)
        first = next(some, None)
        if first is None:
            raise SketchError("merge", "sketches", cls.KIND, expected="at least one", got="none", todo="give one that is empty")
        found = first.copy()
        for other in some:
            found.merge(other)
        return found

    def to_bytes(self) -> bytes:
        """Return the stored form; see `sketches.envelope`. Equal sketches of a byte-equal class give equal bytes."""
        return seal(self.KIND, self.VERSION, *self._pack())

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Self:
        """Read the stored form.

        Raises
        ------
        SketchBytesError
            The bytes are not those of such a sketch, or damaged. Time and memory are in proportion to their number.
        """
        found = open_envelope(data, cls.KIND, version=cls.VERSION)
        return cls._unpack(found.version, found.parameters, found.payload)

    @property
    def serialized_size_bytes(self) -> int:
        """The length of what `to_bytes` returns now."""
        parameters, payload = self._pack()
        return OVERHEAD + len(parameters) + len(payload)

    def _weights_of(self, weights: Any, rows: int, values: Column) -> NDArray[Any] | None:
        """Return the weights of the values that are not null, checked; a class that has weights overrides it."""
        if weights is not None:
            got = type(weights).__name__
            raise SketchError("use", "argument", "weights", expected=f"none for {self.KIND!r}", got=got, todo="leave them out")
        return None

    def _of_group(self, number: int) -> Self:
        """Return the sketch that a group begins with; a class that draws random numbers gives each group its own."""
        del number
        return self.copy()

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def __reduce__(self) -> tuple[Any, tuple[bytes]]:
        return type(self).from_bytes, (self.to_bytes(),)  # checked when read, and no private field in a pickle

    def _key(self) -> Any:
        """Return what must be equal for a merge; a class on a fast path gives a tuple that is made once."""
        return self.parameters

    def _mismatch(self, other: Any) -> SketchError:
        if type(other) is not type(self):
            got = type(other).__name__
            return SketchError(
                "merge", "sketch", self.KIND, expected=f"another {type(self).__name__}", got=got, todo="merge like with like"
            )
        ours, theirs = self.parameters, other.parameters
        name = next(name for name in ours if ours[name] != theirs[name])
        return SketchError(
            "merge",
            "sketch",
            self.KIND,
            expected=f"{name} {ours[name]!r}",
            got=repr(theirs[name]),
            why=f"sketches merge only with equal {', '.join(ours)}",
            todo=f"rebuild one of them with {name}={ours[name]!r}",
        )

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return f"{type(self).__name__}({inside})"


class HashSketch(Sketch):
    """A sketch that sees of each value the hash only."""

    __slots__ = ()

    @abstractmethod
    def _update_hashes(self, hashes: NDArray[np.uint64], weights: NDArray[Any] | None) -> None:
        """Take hashes; the array is overwritten afterwards."""

    def update_hashes(self, hashes: NDArray[np.int64] | NDArray[np.uint64]) -> None:
        """Take values that were hashed already, by `sketches.hashes` or by Spark SQL's ``xxhash64`` of one column.

        Parameters
        ----------
        hashes : ndarray (n,) int64 or uint64
        """
        self._update_hashes(checked_hashes(hashes), None)

    def _as_hashed(self, values: Column) -> Column:
        """Return the values as a column that hashes itself the way this sketch does."""
        return values

    def _update_column(self, values: Column, weights: NDArray[Any] | None) -> None:
        for start, part in hash_blocks(self._as_hashed(values)):
            self._update_hashes(part, None if weights is None else weights[start : start + part.size])


class StateSketch(HashSketch):
    """A sketch whose whole content is one array of a shape that its parameters give, empty when all zeros.

    Attributes
    ----------
    state : ndarray
        The content.
    """

    __slots__ = ("state",)
    state: NDArray[Any]

    @abstractmethod
    def of_state(self, state: NDArray[Any]) -> Self:
        """Return a sketch of the same parameters that has this array, not a copy, for its content."""

    @abstractmethod
    def _update_states(
        self, states: NDArray[Any], groups: NDArray[np.int64], hashes: NDArray[np.uint64], weights: NDArray[Any] | None
    ) -> None:
        """Take each hash into ``states[group]``; states : ndarray (groups, *state.shape)."""

    @property
    def is_empty(self) -> bool:
        """Whether it has taken no value yet."""
        return not self.state.any()

    def copy(self) -> Self:
        """Return another one with the same content."""
        return self.of_state(self.state.copy())


def checked_hashes(hashes: Any) -> NDArray[np.uint64]:
    """Return hashes as uint64."""
    if not isinstance(hashes, np.ndarray) or hashes.ndim != 1 or hashes.dtype not in (np.int64, np.uint64):
        got = f"{hashes.dtype}, {hashes.ndim} dimensions" if isinstance(hashes, np.ndarray) else type(hashes).__name__
        raise SketchError(
            "use",
            "argument",
            "hashes",
            expected="a flat array of int64 or uint64",
            got=got,
            todo="make them with sketches.hashes or xxhash64",
        )
    return np.ascontiguousarray(hashes).view(np.uint64)


def checked_weights(weights: Any, rows: int, values: Column) -> NDArray[np.float64]:
    """Return the weights of the values that are not null, as finite float64, none below 0.

    Parameters
    ----------
    weights : array (rows,)
        One for each row that was given, also for nulls.
    rows : int
        Rows that were given.
    values : Column
        Made from them.
    """
    found = np.asarray(weights)
    if isinstance(weights, np.ma.MaskedArray) and np.ma.getmaskarray(weights).any():
        raise SketchError("use", "argument", "weights", expected="weights without a mask", got="a masked array", todo="fill them")
    expected = f"{rows:,} finite numbers, none below 0"
    todo = "give one weight for each value"
    if found.dtype.kind not in "iufb" or found.shape != (rows,):
        raise SketchError("use", "argument", "weights", expected=expected, got=f"{found.dtype} of shape {found.shape}", todo=todo)
    numbers = found.astype(np.float64) if values.rows is None else found[values.rows].astype(np.float64)
    wrong = np.flatnonzero(~(np.isfinite(numbers) & (numbers >= 0)))
    if wrong.size:
        raise SketchError("use", "argument", "weights", expected=expected, got=f"{numbers[wrong[0]]:g} at {wrong[0]}", todo=todo)
    return numbers


def check_confidence(confidence: float) -> float:
    """Refuse a confidence that is not between 0 and 1."""
    if not 0.0 < confidence < 1.0:
        raise out_of_range("confidence", "a number between 0 and 1", confidence)
    return confidence


def is_whole(value: object, least: int, most: int) -> bool:
    """Tell whether a parameter is an integer, and not a boolean, from `least` to `most`."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and least <= int(value) <= most


def out_of_range(name: str, expected: str, got: object) -> SketchError:
    """Return the error of a parameter."""
    return SketchError("use", "parameter", name, expected=expected, got=repr(got), todo="correct it")
