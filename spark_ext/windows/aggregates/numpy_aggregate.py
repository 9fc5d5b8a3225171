"""A user's own aggregate: four NumPy functions over the values of one column."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray

from spark_ext.errors import QueryError, SchemaError, SettingsError
from spark_ext.state.segments import Segments
from spark_ext.windows.aggregates.aggregate import Aggregate, Types
from spark_ext.windows.aggregates.columns import column_name, is_fixed, type_of, valid, view
from spark_ext.windows.aggregates.reduce import narrow

__all__ = ["NumpyAggregate"]

STATE_KINDS: Final = "biuf"
OUTPUT_KINDS: Final = "bif"  # Spark has no unsigned numbers
TODO: Final = "correct the class, and check it with spark_ext.windows.laws.check_laws; the checkpoint can be kept"


@dataclass(frozen=True)
class NumpyAggregate(Aggregate):
    """Base of an aggregate whose state is a few numbers a group.

    Guarantee: what the four functions return is checked for names, lengths and dtypes; that they obey the laws of `Aggregate` is for
    `spark_ext.windows.laws.check_laws` to show. Rows where the column is null are left out, so a group may have no values; it is then
    as `neutral` says. The functions are never called for no groups, and no segment is empty: ``numpy.add.reduceat`` is safe.

    Parameters
    ----------
    column : str
        What is aggregated: integers, floats, booleans; dates and times come as integers in the unit of their type.

    Attributes
    ----------
    fields : mapping of str to dtype
        The state: names, and NumPy dtypes of booleans, integers or floats. Another set of fields is another state layout.
    output_dtype : dtype, default float64
        Of the result: boolean, signed integer, float32 or float64.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class RootMeanSquare(NumpyAggregate):
    ...     fields = {"rows": np.int64, "squares": np.float64}
    ...
    ...     def neutral(self):
    ...         return {"rows": 0, "squares": 0.0}
    ...
    ...     def update(self, values, starts):
    ...         return {"rows": np.diff(starts, append=len(values)), "squares": np.add.reduceat(values**2.0, starts)}
    ...
    ...     def combine(self, states, starts):
    ...         return {name: np.add.reduceat(state, starts) for name, state in states.items()}
    ...
    ...     def output(self, states):
    ...         rows = states["rows"]
    ...         return np.ma.array(np.sqrt(states["squares"] / np.maximum(rows, 1)), mask=rows == 0)
    >>> rms = RootMeanSquare("price")
    >>> states = rms.of_rows({"price": pa.array([3, 4, None])}, pa.array([0, 0, 0]), Segments(np.array([0, 2]), 3))
    >>> rms.finish(states, {"price": pa.int64()}).to_pylist()
    [3.5355339059327378, None]
    """

    column: str
    fields: ClassVar[Mapping[str, DTypeLike]]
    output_dtype: ClassVar[DTypeLike] = np.float64

    @abstractmethod
    def neutral(self) -> Mapping[str, Any]:
        """Return the state of a group without values: a scalar for each field."""

    @abstractmethod
    def update(self, values: NDArray[Any], starts: NDArray[np.int64]) -> Mapping[str, NDArray[Any]]:
        """Return states of groups of values.

        Parameters
        ----------
        values : ndarray (n,)
            The column without nulls, read-only, ordered by group; of one group in any order.
        starts : ndarray (k,) int64
            Group ``i`` is ``values[starts[i]:starts[i + 1]]``; the last one goes to the end.

        Returns
        -------
        mapping of str to ndarray (k,)
            For each field, of a dtype that it holds safely.
        """

    @abstractmethod
    def combine(self, states: Mapping[str, NDArray[Any]], starts: NDArray[np.int64]) -> Mapping[str, NDArray[Any]]:
        """Return one state for each group of states: as `update`, with fields of shape (n,), read-only, in place of values."""

    @abstractmethod
    def output(self, states: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return the result of each state, ndarray (k,); of a masked array, what is masked is null."""

    def __post_init__(self) -> None:
        column_name(self.column, self._name)
        fields = getattr(self, "fields", None)
        if not isinstance(fields, Mapping) or not fields:
            expected, got = "a class attribute 'fields' that maps names to dtypes", repr(fields)
            raise SettingsError("build", "aggregate", self._name, expected=expected, got=got, todo="declare the fields of the state")
        for name, dtype in fields.items():
            self._expect_dtype(name, np.dtype(dtype), STATE_KINDS)
        self._expect_dtype("output_dtype", np.dtype(self.output_dtype), OUTPUT_KINDS)

    @property
    def inputs(self) -> tuple[str, ...]:  # noqa: D102
        return (self.column,)

    def state(self, types: Types) -> list[pa.DataType]:  # noqa: D102
        found = type_of(types, self.column, self._name)
        if not is_fixed(found) and not pa.types.is_boolean(found):
            expected = "numbers, booleans, dates or timestamps"
            todo = "cast the column, of a decimal to double"
            why = "NumPy has no such values"
            raise SchemaError("aggregate", "column", self.column, expected=expected, got=str(found), why=why, todo=todo)
        return [pa.from_numpy_dtype(np.dtype(dtype)) for dtype in self.fields.values()]

    def result(self, types: Types) -> pa.DataType:  # noqa: D102
        self.state(types)
        return pa.from_numpy_dtype(np.dtype(self.output_dtype))

    def identity(self, types: Types, groups: int) -> list[pa.Array]:  # noqa: D102
        return [pa.array(values) for values in self._neutrals(groups).values()]

    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:  # noqa: D102
        array, count, groups = rows[self.column], len(segments), None
        present = valid(array)
        if present is not None:
            groups, segments = narrow(present, segments)
            array = array.filter(pa.array(present))
        states = self._neutrals(count)
        if len(segments):
            values = array.to_numpy(zero_copy_only=False) if pa.types.is_boolean(array.type) else view(array)
            found = self._checked(self.update(values, segments.starts), len(segments), "update")
            if groups is None:
                states = found
            else:
                for name, state in found.items():
                    states[name][groups] = state
        return [pa.array(values) for values in states.values()]

    def merge(self, states: Sequence[pa.Array], segments: Segments) -> list[pa.Array]:  # noqa: D102
        if not len(segments):
            return [state.slice(0, 0) for state in states]
        found = self._checked(self.combine(self._named(states), segments.starts), len(segments), "combine")
        return [pa.array(values) for values in found.values()]

    def finish(self, states: Sequence[pa.Array], types: Types) -> pa.Array:  # noqa: D102
        to, count = self.result(types), len(states[0])
        if not count:
            return pa.array([], to)
        found = self.output(self._named(states))
        values = self._array(found, np.dtype(self.output_dtype), count, "output")
        mask = np.ma.getmaskarray(found) if isinstance(found, np.ma.MaskedArray) else None
        return pa.array(values, to, mask=mask)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _expect_dtype(self, name: str, dtype: np.dtype[Any], kinds: str) -> None:
        if dtype.kind in kinds and dtype.itemsize <= 8 and not (dtype.kind == "f" and dtype.itemsize < 4):  # noqa: PLR2004
            return
        expected = f"{name!r} of a boolean, integer or float dtype that Spark has"
        todo = "give a dtype such as np.int64 or np.float64"
        raise SettingsError("build", "aggregate", self._name, expected=expected, got=str(dtype), todo=todo)

    def _named(self, states: Sequence[pa.Array]) -> dict[str, NDArray[Any]]:
        return {name: state.to_numpy(zero_copy_only=False) for name, state in zip(self.fields, states, strict=True)}

    def _neutrals(self, groups: int) -> dict[str, NDArray[Any]]:
        found = self.neutral()
        self._expect_fields(found, "neutral")
        states = {}
        for name, dtype in self.fields.items():
            what, value = f"neutral()[{name!r}]", found[name]
            if np.ndim(value):
                self._refuse(what, "a number", repr(value))
            with np.errstate(over="ignore"):
                state = self._array(np.asarray(value)[None], np.dtype(dtype), 1, what, casting="same_kind")
            held = np.isfinite(state[0]) if state.dtype.kind == "f" else state[0] == value
            if np.isfinite(value) and not held:
                self._refuse(what, f"a number that {state.dtype} holds", repr(value))
            states[name] = np.full(groups, state[0])
        return states

    def _checked(self, found: object, count: int, what: str) -> dict[str, NDArray[Any]]:
        self._expect_fields(found, what)
        assert isinstance(found, Mapping)  # noqa: S101
        return {name: self._array(found[name], np.dtype(dtype), count, f"{what}()[{name!r}]") for name, dtype in self.fields.items()}

    def _expect_fields(self, found: object, what: str) -> None:
        if not isinstance(found, Mapping) or set(found) != set(self.fields):
            got = f"{sorted(found)!r}" if isinstance(found, Mapping) else f"{type(found).__name__}"
            self._refuse(f"{what}()", f"a mapping with the fields {sorted(self.fields)!r}", got)

    def _array(self, found: object, dtype: np.dtype[Any], count: int, what: str, *, casting: Any = "safe") -> NDArray[Any]:
        values = np.ma.getdata(found) if isinstance(found, np.ma.MaskedArray) else found
        if not isinstance(values, np.ndarray) or values.shape != (count,):
            got = f"shape {values.shape!r}" if isinstance(values, np.ndarray) else type(found).__name__
            self._refuse(what, f"an array of shape {(count,)!r}, one value a group", got)
        elif not np.can_cast(values.dtype, dtype, casting):
            self._refuse(what, f"dtype {dtype}, or one that it holds safely", f"dtype {values.dtype}")
        return np.asarray(values).astype(dtype, copy=False)

    def _refuse(self, what: str, expected: str, got: str) -> None:
        raise QueryError("use", "aggregate", self._name, expected=f"{what} to be {expected}", got=got, todo=TODO)
