"""Roll-ups: columns of stored sketches merged, whole or by group, without Spark.

column, groups --- numbered(empty of the first sound row).merge_stored ---> one sketch per group
                                      |
                             rows that do not go together: refused
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sketches.base import Sketch, StateSketch
from sketches.errors import EngineError, SketchError
from sketches.functions.rows import CLASSES, OnError, Rows, stored_column
from sketches.numbered import Numbered, numbered
from sketches.rotating_bloom import RotatingBloomFilter
from sketches.stratified_reservoir import StratifiedReservoirSample
from sketches.templates import template_of

__all__ = ["Merging", "merge", "merge_by"]

AT_ONCE: Final = 128 << 20  # bytes of sketches that are held
STORED: Final = 512 << 20  # bytes of stored sketches that are merged in one call
GUESS: Final = 8 << 10  # bytes of a sketch that does not say
ROWS: Final = "millrace row"


def merge(sketches: Any, groups: NDArray[np.int64] | None = None, *, on_error: OnError = "fail") -> Any:
    """Return the sketch of what all sketches of a column have taken, or one for each group.

    Guarantee: that of `Sketch.merge`, in the order of the rows: byte for byte one sketch of all values, or within the same promise, as the
    class says. A null adds nothing. What is held at once is bounded, however many groups there are; not so where one sketch is large.

    Parameters
    ----------
    sketches : Arrow array of binary (n,)
        Stored sketches, all of the kind and the parameters of the first sound one.
    groups : ndarray (n,) int64, optional
        The group of each row, a number from 0; numbers should be dense.
    on_error : "fail" or "null"
        Whether a row that is damaged, or has another kind or other parameters, is an error, or left out as if it were null.

    Returns
    -------
    bytes, or None if there was nothing to merge; with `groups` a pyarrow.BinaryArray (greatest number + 1,), null for a group of only nulls

    Raises
    ------
    SketchBytesError, SketchError
        By the number of the row, if `on_error` is "fail".
    """
    if groups is None:
        whole = Merging(on_error)
        whole.take(sketches)
        return whole.stored
    rows = Rows(sketches, "merge", on_error, once=False)
    numbers = np.asarray(groups)
    if numbers.shape != (len(rows),) or numbers.dtype != np.int64 or (numbers.size and numbers.min() < 0):
        expected, got = f"{len(rows):,} int64, none below 0", f"{numbers.dtype} of shape {numbers.shape}"
        raise SketchError("use", "argument", "groups", expected=expected, got=got, todo="give the number of a group for each row")
    return _merged(rows, numbers, int(numbers.max()) + 1 if numbers.size else 0)


def merge_by(table: pa.Table, keys: Sequence[str], columns: Sequence[str], *, on_error: OnError = "fail") -> pa.Table:
    """Return one row for each key of a table, with the sketches of its rows merged.

    Parameters
    ----------
    table : pyarrow.Table
        Such as ``deltalake.DeltaTable(path).to_pyarrow_table()``.
    keys : sequence of str
        Columns, of any type that Arrow groups by; null is a key like another. None of them: one row of all.
    columns : sequence of str
        Columns of stored sketches, each as for `merge`.
    on_error : "fail" or "null"
        As for `merge`.

    Returns
    -------
    pyarrow.Table
        Keys, in the order in which they come, and the columns, binary: null for a key whose rows are all null. Fields keep their metadata.

    Examples
    --------
    >>> from sketches import HyperLogLog
    >>> from sketches.functions import estimate
    >>> shops = []
    >>> for visitors in ([1, 2], [2, 3], [9]):
    ...     shops.append(HyperLogLog(8))
    ...     shops[-1].update_many(np.array(visitors))
    >>> stored = pa.array([shop.to_bytes() for shop in shops])
    >>> days = merge_by(pa.table({"day": ["mon", "mon", "tue"], "visitors": stored}), ["day"], ["visitors"])
    >>> dict(zip(days["day"].to_pylist(), np.round(estimate(days["visitors"])).tolist()))
    {'mon': 3.0, 'tue': 1.0}
    """
    wanted = {name: table.schema.field(name) for name in (*keys, *columns)}
    numbers, found = _groups_of(table, list(keys))
    arrays = {name: found[name] for name in keys}
    for name in columns:
        arrays[name] = _merged(Rows(table[name], "merge", on_error, once=False), numbers, len(found) if keys else 1)
    fields = [field if name in keys else field.with_type(pa.binary()) for name, field in wanted.items()]
    return pa.table([arrays[name] for name in wanted], schema=pa.schema(fields, table.schema.metadata))


class Merging:
    """A merge that goes on from array to array, as if they were one column; rows are numbered on.

    Attributes
    ----------
    stored : bytes, optional
        The sketch of all that was taken; None before there was one.
    """

    def __init__(self, on_error: OnError) -> None:
        self._on_error: OnError = on_error
        self._rows = 0
        self.stored: bytes | None = None

    def take(self, sketches: Any) -> None:
        """Merge in all sketches of an array, as for `merge`."""
        column = stored_column(sketches)
        size, before = len(column), 0 if self.stored is None else 1
        if before:
            column = pa.concat_arrays([pa.array([self.stored], pa.large_binary()), column])
        rows = Rows(column, "merge", self._on_error, once=False, begin=self._rows - before)
        self._rows += size
        self.stored = _alone(rows) if rows.forms == 1 else _merged(rows, np.zeros(len(rows), np.int64), 1)[0].as_py()


def _alone(rows: Rows) -> bytes | None:
    """Return the one sketch that is there: alone it is merged."""
    try:
        rows.read(0, *CLASSES.values())
    except EngineError as error:
        rows.refuse(0, error)
        return None
    return bytes(rows.view(0))


def _groups_of(table: pa.Table, keys: list[str]) -> tuple[NDArray[np.int64], pa.Table]:
    """Return for each row the number of its key, and the keys by number."""
    numbers = np.zeros(len(table), np.int64)
    if not keys:
        return numbers, table.select([])
    numbered_rows = table.select(keys).append_column(ROWS, pa.array(np.arange(len(table))))
    found = numbered_rows.group_by(keys, use_threads=False).aggregate([(ROWS, "list")])
    lists = found[f"{ROWS}_list"].combine_chunks()
    members, starts = np.asarray(lists.flatten()), np.asarray(lists.offsets)
    order = np.argsort(np.minimum.reduceat(members, starts[:-1])) if members.size else np.empty(0, np.int64)  # as they come in the table
    numbers[members] = np.repeat(np.argsort(order), np.diff(starts))
    return numbers, found.take(pa.array(order))


def _merged(rows: Rows, numbers: NDArray[np.int64], count: int) -> pa.Array:
    """Return the merged sketches of `count` groups; each row has the number of its group."""
    template = _template(rows)
    if template is None:
        return pa.nulls(count, pa.binary())
    if isinstance(template, RotatingBloomFilter | StratifiedReservoirSample):
        return _by_objects(rows, numbers, count)
    size = template.state.nbytes if isinstance(template, StateSketch) else GUESS
    step, parts = max(1, AT_ONCE // size), []
    order = rows.first[np.argsort(numbers[rows.first], kind="stable")]
    bounds = np.searchsorted(numbers[order], np.arange(0, count + step, step))
    for start, (first, last) in zip(range(0, count, step), pairwise(bounds.tolist()), strict=False):
        parts.append(_range(rows, np.sort(order[first:last]), numbers - start, numbered(template, min(step, count - start))))
    return pa.concat_arrays([pa.array([], pa.binary()), *parts])


def _range(rows: Rows, which: NDArray[np.int64], numbers: NDArray[np.int64], held: Numbered[Any]) -> pa.Array:
    """Return the merged sketches of some groups, of which these are the rows."""
    taken = np.zeros(len(held), np.bool_)
    for part in _pieces(rows, which):
        places = numbers[part]
        stored = rows.stored if part.size == len(rows) else rows.stored.take(pa.array(part))
        wrong = held.merge_stored(places, stored.cast(pa.binary()))
        for at in sorted(wrong):
            rows.refuse_row(int(part[at]), wrong[at])
        taken[np.delete(places, list(wrong))] = True
    found = held.to_stored()
    return found if taken.all() else pc.if_else(pa.array(taken), found, pa.scalar(None, pa.binary()))


def _pieces(rows: Rows, which: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield rows in parts whose bytes fit into one array of binary."""
    forms = rows.place[which]
    ends = np.cumsum(rows.ends[forms] - rows.starts[forms])
    yield from np.split(which, np.flatnonzero(np.diff(ends // STORED)) + 1) if which.size else ()


def _template(rows: Rows) -> Any:
    """Return an empty sketch like the first sound one; None if there is none."""
    for form in range(rows.forms):
        try:
            sketch = rows.read(form, *CLASSES.values())
        except EngineError as error:
            rows.refuse(form, error)
            continue
        return template_of(sketch.KIND, sketch.parameters)
    return None


def _by_objects(rows: Rows, numbers: NDArray[np.int64], count: int) -> pa.Array:
    """Do as `_merged` for sketches that cannot be held by number."""
    found: dict[int, Sketch] = {}
    first: Sketch | None = None
    for form, number in enumerate(numbers[rows.first].tolist()):
        try:
            sketch = rows.read(form, *CLASSES.values())
            first = first or template_of(sketch.KIND, sketch.parameters)
            into = found.get(number) or first.copy()
            into.merge(sketch)
            found[number] = into
        except EngineError as error:
            rows.refuse(form, error)
    return pa.array([found[number].to_bytes() if number in found else None for number in range(count)], pa.binary())
