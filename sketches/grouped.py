"""Many sketches of one kind, one for each key, updated by columns of keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from sketches.base import Sketch
from sketches.columns import column, is_arrow
from sketches.errors import SketchError
from sketches.numbered import numbered

__all__ = ["Grouped"]

S = TypeVar("S", bound=Sketch)
NAN: Final = float("nan")
STEP: Final = 1024  # sketches that are stored at once


class Grouped(Generic[S]):
    """A sketch for each key.

    Guarantee: each sketch is what it would be had it been given the values of its key alone, in their order; a conservative Count-Min,
    which counts a block of rows together, keeps its bounds, but not each count. Sketches that draw random numbers draw others in each
    group. Keys, weights and times are checked before anything is taken; a value that the sketch refuses (NaN for `DecayingWindow`, a second
    type for a hot list) may come after groups that were updated: check such values before.

    Parameters
    ----------
    template : Sketch
        An empty sketch of the parameters that all shall have.

    State: the sketches, see `sketches.numbered`, and the keys in a dict.

    Examples
    --------
    >>> from sketches import HyperLogLog
    >>> visitors = Grouped(HyperLogLog(12))
    >>> visitors.update_grouped(np.array(["a", "b", "a"]), np.array([1, 1, 2]))
    >>> {page: round(sketch.estimate()) for page, sketch in visitors.items()}
    {'a': 2, 'b': 1}
    """

    def __init__(self, template: S) -> None:
        self._groups = numbered(template, as_alone=True)
        self._places: dict[Any, int] = {}

    def update_grouped(self, keys: Any, values: Any, weights: Any = None, times: Any = None) -> None:
        """Give each value to the sketch of its key.

        Parameters
        ----------
        keys : array (n,)
            NumPy or Arrow array; null is a key like another, as in ``GROUP BY``.
        values : array (n,)
            As for the sketch's `update_many`; nulls are left out, but make the group.
        weights : array (n,), optional
            For sketches whose `update_many` has them.
        times : array (n,), or one time for all
            For sketches that weigh values by their time, and needed there.
        """
        template = self._groups.template
        found = column(values)
        names, groups = _encode(keys)
        if len(groups) != len(values):
            todo = "give a key for each value"
            raise SketchError("use", "argument", "keys", expected=f"{len(values):,} keys", got=f"{len(groups):,}", todo=todo)
        some = template._weights_of(weights, len(values), found)
        moments = self._groups._moments(times, len(values), found)
        numbers = self._numbers_of(names)[groups]
        self._groups._update(numbers if found.rows is None else numbers[found.rows], found, some, moments)

    def merge(self, other: Grouped[S]) -> None:
        """Take in the sketches of another one, key by key."""
        self._groups.template.copy().merge(other._groups.template)  # of equal parameters?
        numbers = self._numbers_of(list(other))
        for start in range(0, numbers.size, STEP):
            for error in self._groups.merge_stored(numbers[start : start + STEP], other._groups.to_stored(start, start + STEP)).values():
                raise error

    def keys(self) -> list[Any]:
        """Return the keys, in the order in which they came."""
        return list(self._places)

    def values(self) -> list[S]:
        """Return copies of the sketches, in the order of `keys`."""
        return [self._groups.at(number) for number in range(len(self._groups))]

    def items(self) -> list[tuple[Any, S]]:
        """Return keys and copies of the sketches."""
        return list(zip(self._places, self.values(), strict=True))

    def to_bytes(self) -> list[bytes]:
        """Return the stored form of each sketch, in the order of `keys`."""
        parts = (self._groups.to_stored(start, start + STEP) for start in range(0, len(self._groups), STEP))
        return [data for part in parts for data in (part.to_pylist() if is_arrow(part) else part)]

    def __getitem__(self, key: Any) -> S:
        """Return a copy of the sketch of a key."""
        return self._groups.at(self._places[_one_nan(key)])

    def __contains__(self, key: Any) -> bool:
        return _one_nan(key) in self._places

    def __iter__(self) -> Iterator[Any]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _numbers_of(self, names: list[Any]) -> NDArray[np.int64]:
        """Return the numbers of keys; new ones get the next numbers, and empty sketches."""
        names = [_one_nan(name) for name in names]
        new = [name for name in dict.fromkeys(names) if name not in self._places]
        before = len(self._places)
        self._groups.grow(before + len(new))
        self._places.update(zip(new, range(before, before + len(new)), strict=True))  # last: the room is there
        return np.array([self._places[name] for name in names], np.int64)


def _encode(keys: Any) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the distinct keys, and for each row which of them it has."""
    if isinstance(keys, np.ndarray) and keys.dtype.kind in "biuSU" and keys.ndim == 1:
        try:
            import pyarrow as pa  # noqa: PLC0415 (it does by a hash table what NumPy does by sorting; NumPy alone will do)
        except ImportError:
            return _encode_numpy(keys)
        if keys.dtype.kind in "SU" and _has_zeros_inside(keys):  # Arrow would end the strings there
            return _encode_numpy(keys)
        return _encode_arrow(pa.array(keys.astype(keys.dtype.newbyteorder("="), copy=False)))
    if isinstance(keys, np.ndarray) or not is_arrow(keys):
        got = f"an array of {keys.dtype}" if isinstance(keys, np.ndarray) else type(keys).__name__
        expected = "an array of integers, booleans, strings or binary, or an Arrow array"
        raise SketchError("use", "argument", "keys", expected=expected, got=got, todo="make it one")
    from sketches.arrow_columns import to_arrow  # noqa: PLC0415

    return _encode_arrow(to_arrow(keys))


def _encode_numpy(keys: NDArray[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    found, first, groups = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)  # as they came
    return found[order].tolist(), np.argsort(order)[groups].astype(np.int64)


def _has_zeros_inside(texts: NDArray[Any]) -> bool:
    """Tell whether any of the strings of one width has a zero before its end."""
    if not texts.size or not texts.dtype.itemsize:
        return False
    letters = np.ascontiguousarray(texts).view(np.uint8 if texts.dtype.kind == "S" else np.uint32).reshape(texts.size, -1)
    return bool(np.count_nonzero(letters) != np.char.str_len(texts).sum())


def _one_nan(key: Any) -> Any:
    """Return the one NaN for any: as a key it must be equal to itself."""
    return NAN if isinstance(key, float) and key != key else key  # noqa: PLR0124 (NaN)


def _encode_arrow(keys: Any) -> tuple[list[Any], NDArray[np.int64]]:
    if keys.type.num_fields:
        expected = "keys of one value each"
        raise SketchError("use", "argument", "keys", expected=expected, got=str(keys.type), todo="hash them by Spark's xxhash64 first")
    if hasattr(keys.type, "value_type"):
        keys = keys.cast(keys.type.value_type)  # a dictionary: a value of it may be null
    encoded = keys.dictionary_encode(null_encoding="encode")
    if hasattr(encoded, "unify_dictionaries"):  # of several chunks
        chunks = encoded.unify_dictionaries().chunks
        indices = [chunk.indices.to_numpy(zero_copy_only=False) for chunk in chunks]
        return (chunks[0].dictionary.to_pylist() if chunks else []), np.concatenate([np.empty(0, np.int64), *indices]).astype(np.int64)
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
