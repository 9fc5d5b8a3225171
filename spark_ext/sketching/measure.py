"""A measure: which sketch is kept of which column. An aggregate like those of windows, whose state and result are the sketch's bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sketches import DecayingWindow, Quantiles, Sketch, hashes
from sketches.base import HashSketch
from sketches.errors import SketchError, SketchTypeError
from sketches.numbered import Numbered, numbered
from sketches.timed import TimedSketch
from spark_ext.errors import SchemaError, SettingsError, StateError
from spark_ext.state.segments import Segments
from spark_ext.windows.aggregates.aggregate import Aggregate, Types
from spark_ext.windows.aggregates.columns import column_name, type_of
from spark_ext.windows.aggregates.reduce import narrow

__all__ = ["BINARY", "SketchOf", "check_template", "sees_hashes", "sketch"]

BINARY: Final = pa.binary()
NUMBERS_ONLY: Final = (Quantiles, DecayingWindow)  # they refuse NaN and infinities


def sketch(template: Sketch, column: str, *, weights: str | None = None, times: str | None = None, hashed: bool = False) -> SketchOf:
    """Keep a sketch of a column: in `spark_ext.sketching.aggregate`, in `spark_ext.windows.aggregate`, and as a running value.

    Guarantee: the sketch that comes out is one of the values of the group, as its class promises it for any split of them; it does not
    matter how rows lie in partitions, batches and panes. Nulls are no values. For `Quantiles` and `DecayingWindow`, which refuse them, NaN
    and infinities are no values either: count them beside it if they may come.

    Parameters
    ----------
    template : Sketch
        An empty sketch with the parameters that all shall have, such as ``HyperLogLog(12)``; none that has keys or a clock of its own.
    column : str
        The values. Of sketches that look at hashes only (distinct counts, Bloom filters, Count-Min) any plain type, and structs of such
        in `aggregate`.
    weights : str, optional
        Column of weights, for sketches that have them; as their `update_many` takes them. A null weight stands for 1.
    times : str, optional
        Column of type timestamp, for sketches that weigh by time. In windows the event time if not given. Rows without a time are left out.
    hashed : bool
        The column, a bigint, holds ``xxhash64`` of the values already: for composites, such as ``xxhash64(visitor, page)``, and to let
        strings cross to Python as eight bytes.

    Returns
    -------
    SketchOf
        Result ``binary``: the stored form, see `sketches.envelope`; never null, empty without values. State: the same.

    Raises
    ------
    SettingsError
        The template is no empty sketch, or has no weights, times or hashes where they are asked for.

    Examples
    --------
    >>> from sketches import HyperLogLog
    >>> sketch(HyperLogLog(12), "visitor")
    sketch(HyperLogLog(precision=12, hash='xxh64'), 'visitor')
    """
    check_template(template)
    column_name(column, "sketch")
    if times is not None and not isinstance(template, TimedSketch):
        raise _refused("no times", repr(times), f"{template.KIND!r} does not look at them", "leave times out")
    if hashed and not sees_hashes(template):
        raise _refused("values", "hashes", f"{template.KIND!r} needs the values themselves", "give the column of values, hashed=False")
    if weights is not None:
        try:
            template.copy()._weights_of(np.ones(0, np.int64), 0, _no_column())  # noqa: SLF001 (a probe: does the class have weights?)
        except SketchError as error:
            raise _refused("no weights", repr(weights), f"{template.KIND!r} has none", "leave weights out") from error
    return SketchOf(template, column, weights, times, hashed)


def check_template(template: Sketch) -> None:
    """Refuse what is no empty sketch, or one that has keys or a clock of its own.

    Raises
    ------
    SettingsError
    """
    try:
        numbered(template)
    except SketchError as error:
        raise SettingsError("build", "aggregate", "sketch", expected=error.expected, got=error.got, todo=error.todo) from error


def sees_hashes(template: Sketch) -> bool:
    """Tell whether a sketch is the same when it gets ``xxhash64`` of its values."""
    return isinstance(template, HashSketch) and getattr(template, "hash", "xxh64") == "xxh64"


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class SketchOf(Aggregate):
    """See `sketch`."""

    template: Sketch
    column: str
    weights: str | None = None
    times: str | None = None
    hashed: bool = False
    _stored: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_stored", self.template.to_bytes())

    @property
    def inputs(self) -> tuple[str, ...]:  # noqa: D102
        return tuple(dict.fromkeys(name for name in (self.column, self.weights, self.times) if name is not None))

    def state(self, types: Types) -> list[pa.DataType]:  # noqa: D102
        found = type_of(types, self.column, "sketch")
        if self.hashed and not pa.types.is_int64(found):
            todo = "make it with xxhash64(...)"
            raise SchemaError("sketch", "column", self.column, expected="bigint, the hashes", got=str(found), todo=todo)
        if self.times is not None and not pa.types.is_timestamp(type_of(types, self.times, "sketch")):
            got = str(types[self.times])
            raise SchemaError("sketch by", "times", self.times, expected="a timestamp", got=got, todo="cast it to timestamp")
        if self.weights is not None and not _is_weight(type_of(types, self.weights, "sketch")):
            got = str(types[self.weights])
            raise SchemaError("sketch with", "weights", self.weights, expected="integers or floats", got=got, todo="cast it to bigint")
        if pa.types.is_nested(found):
            todo = "hash it, xxhash64(...), and say hashed=True"
            raise SchemaError("sketch", "column", self.column, expected="plain values", got=str(found), todo=todo)
        try:
            self.template.copy().update_many(pa.array([], found), **({"times": 0} if isinstance(self.template, TimedSketch) else {}))
        except (SketchError, SketchTypeError) as error:
            raise SchemaError("sketch", "column", self.column, expected=error.expected, got=str(found), todo=error.todo) from error
        return [BINARY]

    def result(self, types: Types) -> pa.DataType:  # noqa: D102
        self.state(types)
        return BINARY

    def identity(self, types: Types, groups: int) -> list[pa.Array]:  # noqa: D102
        del types
        return [pa.nulls(groups, BINARY)]

    def of_rows(self, rows: Mapping[str, pa.Array], times: pa.Array, segments: Segments) -> list[pa.Array]:  # noqa: D102
        salt = int(np.add.reduce(hashes(times), initial=np.uint64(len(times))))  # other random numbers in each batch
        made = self.numbered(salt, len(segments))
        self.take(made, segments.ids, rows, times)
        return [made.to_stored()]

    def merge(self, states: Sequence[pa.Array], segments: Segments) -> list[pa.Array]:  # noqa: D102
        (stored,) = states
        if len(segments) == segments.rows:
            return [stored]
        several = segments.sizes > 1
        _, parts = narrow(np.repeat(several, segments.sizes), segments)
        made = self.numbered(0, len(parts))
        self.merge_into(made, parts.ids, stored.filter(pa.array(np.repeat(several, segments.sizes))))
        place = np.where(several, len(stored) + np.cumsum(several) - 1, segments.starts)
        return [pa.concat_arrays([stored, made.to_stored()]).take(pa.array(place))]

    def finish(self, states: Sequence[pa.Array], types: Types) -> pa.Array:  # noqa: D102
        del types
        return pc.fill_null(states[0], pa.scalar(self._stored, BINARY))

    # What plans ask for beside it -------------------------------------------------------------------------------------

    def numbered(self, salt: int, count: int) -> Numbered[Sketch]:
        """Return empty sketches; those that draw random numbers draw others for another `salt`."""
        return numbered(self.template._of_group(salt), count)  # noqa: SLF001 (its random numbers, begun elsewhere)

    def take(self, made: Numbered[Sketch], numbers: NDArray[np.int64], rows: Mapping[str, pa.Array], times: pa.Array | None = None) -> None:
        """Give each row to the sketch of its number.

        Parameters
        ----------
        made : Numbered
            The sketches.
        numbers : ndarray (n,) int64
            One for each row.
        rows : mapping of str to pa.Array (n,)
            Columns by name.
        times : pa.Array (n,) int64, optional
            Microseconds, for sketches that weigh by time, where no column is named for that.
        """
        values = rows[self.column]
        weights = None if self.weights is None else pc.fill_null(rows[self.weights], 1)
        moments = self._moments(rows, times)
        keep = None
        if isinstance(self.template, NUMBERS_ONLY) and pa.types.is_floating(values.type):
            finite = pc.is_finite(values)
            keep = None if pc.all(finite).as_py() else pc.fill_null(finite, False)
        for column in (moments, values if self.hashed else None):
            if column is not None and column.null_count:
                keep = column.is_valid() if keep is None else pc.and_(keep, column.is_valid())
        if keep is not None:
            mask = keep.to_numpy(zero_copy_only=False)
            numbers, values = numbers[mask], values.filter(keep)
            weights, moments = (None if column is None else column.filter(keep) for column in (weights, moments))
        some = None if weights is None else weights.to_numpy(zero_copy_only=False)
        if self.hashed:
            made.update_hashes(numbers, values.to_numpy(), some)
        else:
            made.update(numbers, values, some, None if moments is None else moments.to_numpy())

    def merge_into(self, made: Numbered[Sketch], numbers: NDArray[np.int64], stored: pa.Array) -> None:
        """Merge stored sketches of our own into those of their numbers."""
        wrong = made.merge_stored(numbers, stored)
        if wrong:
            error = next(iter(wrong.values()))
            todo = "keep the checkpoint and report it: these bytes were made and checked by this operator"
            raise StateError("merge", "sketches of", self.column, expected=error.expected, got=error.got, todo=todo) from error

    def _moments(self, rows: Mapping[str, pa.Array], times: pa.Array | None) -> pa.Array | None:
        if not isinstance(self.template, TimedSketch):
            return None
        if self.times is not None:
            return rows[self.times].cast(pa.timestamp("us", "UTC")).view(pa.int64())
        return times

    def __repr__(self) -> str:
        given = {"weights": self.weights, "times": self.times, "hashed": self.hashed or None}
        more = "".join(f", {name}={value!r}" for name, value in given.items() if value is not None)
        return f"sketch({self.template!r}, {self.column!r}{more})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SketchOf) and (repr(self), self._stored) == (repr(other), other._stored)

    def __hash__(self) -> int:
        return hash((repr(self), self._stored))


def _is_weight(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _no_column() -> Any:
    from sketches.columns import Words  # noqa: PLC0415

    return Words(np.empty(0, np.uint64), "null")


def _refused(expected: str, got: str, why: str, todo: str) -> SettingsError:
    return SettingsError("build", "aggregate", "sketch", expected=expected, got=got, why=why, todo=todo)
