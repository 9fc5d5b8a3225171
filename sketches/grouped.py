"""Many sketches of one kind, one for each key, updated by columns of keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from sketches.base import Sketch, StateSketch, checked_weights
from sketches.columns import BLOCK, Column, column, is_arrow
from sketches.errors import SketchError
from sketches.numeric import instants
from sketches.timed import TimedSketch

__all__ = ["Grouped"]

S = TypeVar("S", bound=Sketch)
FIRST: Final = 16  # groups there is room for at the begin


class Grouped(Generic[S]):
    """A sketch for each key.

    Guarantee: each sketch is what it would be had it been given the values of its key alone, in their order; a conservative Count-Min,
    which counts a block of rows together, keeps its bounds, but not each count.

    Parameters
    ----------
    template : Sketch
        An empty sketch of the parameters that all shall have.

    State: a sketch for each key, and the keys in a dict.

    Examples
    --------
    >>> from sketches import HyperLogLog
    >>> visitors = Grouped(HyperLogLog(12))
    >>> visitors.update_grouped(np.array(["a", "b", "a"]), np.array([1, 1, 2]))
    >>> {page: round(sketch.estimate()) for page, sketch in visitors.items()}
    {'a': 2, 'b': 1}
    """

    def __init__(self, template: S) -> None:
        if not template.is_empty:
            raise SketchError("group", "sketch", template.KIND, expected="an empty one", got="one with values", todo="make a new one")
        self._template = template
        self._places: dict[Any, int] = {}
        self._sketches: list[S] = []
        self._states = _room(template, FIRST) if isinstance(template, StateSketch) else None

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
        template = self._template
        found = template._as_hashed(column(values)) if isinstance(template, StateSketch) else column(values)
        names, groups = _encode(keys)
        if len(groups) != len(values):
            todo = "give a key for each value"
            raise SketchError("use", "argument", "keys", expected=f"{len(values):,} keys", got=f"{len(groups):,}", todo=todo)
        numbers = None if weights is None else checked_weights(weights, len(values), found)
        moments = self._moments(times, len(values), found)
        known = self._places_of(names)
        places = known[groups if found.rows is None else groups[found.rows]]
        if isinstance(template, StateSketch):
            self._update_states(template, places, found, numbers)
        else:
            self._update_sorted(places, found, numbers, moments)

    def merge(self, other: Grouped[S]) -> None:
        """Take in the sketches of another one, key by key."""
        self._template.copy().merge(other._template)  # of equal parameters?
        places = self._places_of(list(other))
        for place, sketch in zip(places.tolist(), other.values(), strict=True):
            self._at(place).merge(sketch)

    def keys(self) -> list[Any]:
        """Return the keys, in the order in which they came."""
        return list(self._places)

    def values(self) -> list[S]:
        """Return the sketches, in the order of `keys`; changing one changes the group."""
        return [self._at(place) for place in range(len(self._places))]

    def items(self) -> list[tuple[Any, S]]:
        """Return keys and sketches."""
        return list(zip(self._places, self.values(), strict=True))

    def to_bytes(self) -> list[bytes]:
        """Return the stored form of each sketch, in the order of `keys`."""
        return [sketch.to_bytes() for sketch in self.values()]

    def __getitem__(self, key: Any) -> S:
        return self._at(self._places[key])

    def __contains__(self, key: Any) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[Any]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _at(self, place: int) -> S:
        if self._states is None:
            return self._sketches[place]
        found: S = self._template.of_state(self._states[place])  # type: ignore[attr-defined]  # it has states
        return found

    def _places_of(self, names: list[Any]) -> NDArray[np.int64]:
        before = len(self._places)
        known = np.array([self._places.setdefault(name, len(self._places)) for name in names], np.int64)
        more = len(self._places) - before
        if self._states is None:
            self._sketches += [self._template.copy() for _ in range(more)]
        elif len(self._places) > len(self._states):
            larger = _room(self._template, max(2 * len(self._states), len(self._places)))
            larger[:before] = self._states[:before]
            self._states = larger
        return known

    def _update_states(self, template: StateSketch, places: NDArray[np.int64], values: Column, weights: NDArray[Any] | None) -> None:
        buffer = np.empty(min(BLOCK, len(values)), np.uint64)
        for start in range(0, len(values), BLOCK):
            stop = min(start + BLOCK, len(values))
            values.hash_into(start, stop, buffer[: stop - start])
            some = None if weights is None else weights[start:stop]
            template._update_states(self._states, places[start:stop], buffer[: stop - start], some)  # type: ignore[arg-type]

    def _moments(self, times: Any, rows: int, values: Column) -> NDArray[np.int64] | None:
        if isinstance(self._template, TimedSketch):
            moments = instants(times, rows)
            return moments if values.rows is None else moments[values.rows]
        if times is not None:
            got = type(times).__name__
            raise SketchError("use", "argument", "times", expected=f"none for {self._template.KIND!r}", got=got, todo="leave them out")
        return None

    def _update_sorted(
        self, places: NDArray[np.int64], values: Column, weights: NDArray[Any] | None, moments: NDArray[np.int64] | None
    ) -> None:
        order = np.argsort(places, kind="stable")
        in_order = places[order]
        starts = np.flatnonzero(np.diff(in_order, prepend=-1))
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
            rows = order[start:stop]
            sketch, some = self._sketches[in_order[start]], None if weights is None else weights[rows]
            if moments is not None and isinstance(sketch, TimedSketch):
                sketch._update_timed(values.take(rows), moments[rows], some)
            else:
                sketch._update_column(values.take(rows), some)


def _room(template: Any, groups: int) -> NDArray[Any]:
    return np.zeros((groups, *template.state.shape), template.state.dtype)


def _encode(keys: Any) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the distinct keys, and for each row which of them it has."""
    if isinstance(keys, np.ndarray) and keys.dtype.kind in "biuSU":
        try:
            import pyarrow as pa  # noqa: PLC0415 (it does by a hash table what NumPy does by sorting; NumPy alone will do)
        except ImportError:
            found, first, groups = np.unique(keys, return_index=True, return_inverse=True)
            order = np.argsort(first)  # as they came
            return found[order].tolist(), np.argsort(order)[groups].astype(np.int64)
        return _encode_arrow(pa.array(keys))
    if isinstance(keys, np.ndarray) or not is_arrow(keys):
        got = f"an array of {keys.dtype}" if isinstance(keys, np.ndarray) else type(keys).__name__
        expected = "an array of integers, booleans, strings or binary, or an Arrow array"
        raise SketchError("use", "argument", "keys", expected=expected, got=got, todo="make it one")
    from sketches.arrow_columns import to_arrow  # noqa: PLC0415

    return _encode_arrow(to_arrow(keys))


def _encode_arrow(keys: Any) -> tuple[list[Any], NDArray[np.int64]]:
    encoded = keys.dictionary_encode(null_encoding="encode")
    if hasattr(encoded, "unify_dictionaries"):  # of several chunks
        chunks = encoded.unify_dictionaries().chunks
        indices = [chunk.indices.to_numpy(zero_copy_only=False) for chunk in chunks]
        return (chunks[0].dictionary.to_pylist() if chunks else []), np.concatenate([np.empty(0, np.int64), *indices]).astype(np.int64)
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
