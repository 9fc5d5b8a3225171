"""Rows of a sketch table that have one key become one row: sketches are merged, numbers added up."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sketches.base import Sketch
from sketches.errors import SketchBytesError, SketchError, SketchTypeError
from sketches.numbered import Numbered, Objects, numbered
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.sketching.checks import key_of, refused
from spark_ext.sketching.table_schema import Measure, SketchSchema
from spark_ext.state.keys import codes
from spark_ext.state.segments import group
from spark_ext.windows.aggregates.ordered import Extreme

__all__ = ["Combiner", "OnDamage"]

OnDamage = Literal["fail", "replace"]
Numbers = NDArray[np.int64]
SAFE_SUM: Final = 2.0**62  # a sum of int64 that is further from 0 may have gone round
MOST_DIGITS: Final = 76
BLOCK_BYTES: Final = 1 << 28  # of stored sketches in one Arrow array, which ends at 2 GiB

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Combiner:
    """What `spark_ext.delta.combine` does with the rows of a key in a sketch table; pure, and can be sent to workers.

    Guarantee: sums of integers and decimals, minima, maxima and all sketches that are equal byte for byte by their class do not depend on
    how rows were split; other sketches keep what their class promises, sums of floats their value but for the last bits. A null counts as
    nothing; only nulls give null. A sum that does not fit its column is refused.

    Attributes
    ----------
    schema : SketchSchema
        What the table is.
    path : str
        For messages.
    on_damage : {"fail", "replace"}
        What to do where a sketch that is in the table already is damaged. ``fail``: nothing is written. ``replace``: the new sketch
        takes its place, and a warning in the log names column and key; what the damaged one had counted is lost in the table as it is,
        and still in its older versions. Damaged bytes among new rows are refused in any case.
    """

    schema: SketchSchema
    path: str
    on_damage: OnDamage = "fail"

    def __post_init__(self) -> None:
        if self.on_damage not in get_args(OnDamage):
            expected, got = f"one of {', '.join(get_args(OnDamage))}", repr(self.on_damage)
            raise SettingsError("use", "setting", "on_damage", expected=expected, got=got, todo="correct it")

    def __call__(self, known: pa.Table, rows: pa.Table) -> pa.Table:
        """Return one row per key of both, in the order of their first rows.

        Parameters
        ----------
        known, rows : pyarrow.Table
            What the table has, and what comes to it; with the table's columns, in their order.

        Raises
        ------
        SchemaError
            A new sketch of other parameters, or a sum that does not fit.
        SketchBytesError
            A damaged sketch.
        """
        both = pa.concat_tables([known, rows])
        if not both.num_rows:
            return both
        groups = codes([both.column(name) for name in self.schema.keys])
        _, firsts = np.unique(groups, return_index=True)  # counted up by first appearance
        measures = dict(self.schema.measures)
        columns = []
        for name in both.column_names:
            if name not in measures:
                columns.append(both.column(name).take(pa.array(firsts)))
            elif measures[name].how == "sketch":
                made = numbered(measures[name].template, firsts.size)
                columns.append(self._merged(name, measures[name], made, both, groups, known.num_rows))
            else:
                columns.append(self._added(name, measures[name].how, both, groups))
        return pa.Table.from_arrays(columns, schema=both.schema)

    def _merged(self, name: str, measure: Measure, made: Numbered[Sketch], both: pa.Table, groups: Numbers, known: int) -> pa.ChunkedArray:
        stored, count = both.column(name), len(made)
        rows = np.full(count, -1)  # of each group: the only sketch, if it has one; it stays as it is
        sizes = np.zeros(count, np.int64)
        at = 0
        for chunk in stored.chunks:
            some = groups[at : at + len(chunk)]
            taken = chunk.is_valid().to_numpy(zero_copy_only=False)
            wrong = made.merge_stored(some, chunk)
            if not isinstance(made, Objects) and any(isinstance(error, SketchTypeError) for error in wrong.values()):
                apart: Objects[Sketch] = Objects(measure.template)  # each with items of its own type
                apart.grow(count)
                return self._merged(name, measure, apart, both, groups, known)
            for row, error in wrong.items():
                self._damaged(name, measure, error, both, at + row, known)
                taken[row] = False
                rows[some[row]] = at + row  # unless there is another that can take its place
            sizes += np.bincount(some[taken], minlength=count)
            alone = taken & (sizes[some] == 1)
            rows[some[alone]] = at + np.flatnonzero(alone)
            at += len(chunk)
        rows[sizes > 1] = -1
        longest = pc.max(pc.binary_length(stored)).as_py() or 1
        step = max(1, BLOCK_BYTES // (4 * longest))
        parts = []
        for start in range(0, count, step):
            stop = min(start + step, count)
            place = rows[start:stop]
            as_it_is = stored.take(pa.array(place, mask=place < 0)).combine_chunks()
            parts.append(pc.if_else(pa.array(sizes[start:stop] > 1), made.to_stored(start, stop), as_it_is))
        return pa.chunked_array(parts, pa.binary())

    def _damaged(self, name: str, measure: Measure, error: SketchError, both: pa.Table, row: int, known: int) -> None:
        key = key_of(both.slice(row, 1), self.schema.keys)
        if row >= known:
            raise refused(name, measure, error, both.column(name)[row].as_buffer(), key=key)
        if self.on_damage == "fail":
            raise SketchBytesError(
                "merge into",
                "sketch table",
                self.path,
                expected=f"{measure} in column {name!r} of the row with {key}",
                got=f"bytes for which was expected {error.expected}, got {error.got}",
                why="they are damaged in the table; nothing was written",
                todo="restore the table to a version in which they are whole, or give up what they counted: on_damage='replace'",
            ) from error
        _log.warning("%s: column %r of the row with %s is damaged, and is begun anew: %s", self.path, name, key, error)

    def _added(self, name: str, how: str, both: pa.Table, groups: Numbers) -> pa.ChunkedArray:
        field, values = both.schema.field(name), both.column(name)
        if how != "sum" and pa.types.is_floating(field.type):  # Arrow leaves NaN out
            order, segments = group(groups)
            taken = values.combine_chunks().take(pa.array(order))
            return pa.chunked_array(Extreme(name, largest=how == "max").of_rows({name: taken}, pa.nulls(0), segments))
        if pa.types.is_decimal(field.type):  # so many digits that no sum goes round
            values = values.cast(pa.decimal256(MOST_DIGITS, field.type.scale))
        table = pa.table({"group": pa.array(groups), "value": values}).group_by("group", use_threads=False)
        found = table.aggregate([("value", how)]).column(f"value_{how}")
        if how != "sum":
            return found.cast(field.type)
        about = self._about(groups, values) if pa.types.is_integer(field.type) else None
        try:
            if about is not None and about > SAFE_SUM:
                raise pa.ArrowInvalid(f"about {about:.3g}")
            return found.cast(field.type)
        except pa.ArrowInvalid as error:
            todo = "keep the sum in a wider type: make a table with such a column"
            expected = f"sums that fit {field.type}"
            raise SchemaError("write", "column", name, expected=expected, got=str(error), why="nothing was written", todo=todo) from error

    @staticmethod
    def _about(groups: Numbers, values: pa.ChunkedArray) -> float:
        """Return the greatest sum of absolute values, which does not go round."""
        numbers = pc.fill_null(values.cast(pa.float64(), safe=False), 0.0).to_numpy()
        return float(np.bincount(groups, weights=np.abs(numbers)).max())
