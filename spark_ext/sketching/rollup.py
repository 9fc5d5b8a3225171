"""Rows of a sketch table added up over other keys: sketches merged, counts added, in two stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from sketches import Sketch
from sketches.errors import SketchBytesError
from sketches.functions.rows import OnError
from sketches.numbered import Numbered
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.sketching.checks import fields_of_frame
from spark_ext.sketching.measure import BINARY, SketchOf, check_template
from spark_ext.sketching.plan import aggregate
from spark_ext.sketching.table_schema import Measure, schema_of_fields
from spark_ext.windows import aggregates
from spark_ext.windows.aggregates.aggregate import Aggregate, Types
from spark_ext.windows.aggregates.columns import column_name, type_of

__all__ = ["MergedOf", "merged", "rollup"]


def rollup(frame: DataFrame, *, keys: Sequence[str], on_error: OnError = "fail") -> DataFrame:
    """Add the rows of a sketch table up over any keys: from minutes to days, from pages to sites.

    Guarantee: the answer for all that the rows of a group stand for, as if it had been sketched at once: byte for byte or by guarantee, as
    each sketch's class says. Null sketches add nothing. In two stages: sketches of a group never lie in one row together, and a group may
    be of any size.

    Parameters
    ----------
    frame : DataFrame
        Bounded rows of a sketch table, filtered and with columns added as you like: what is added up the columns' metadata say, which
        reading, `where` and `withColumn` keep.
    keys : sequence of str
        Columns to group by, of the frame; may be empty. What is neither a key nor a measure is left out.
    on_error : {"fail", "null"}
        Whether a damaged or foreign sketch, or one of other parameters than the column's, fails the query or adds nothing;
        `spark_ext.sketching.functions.error` finds such rows.

    Returns
    -------
    DataFrame
        The keys and all measures.

    Raises
    ------
    SchemaError
        No column says how it is added up.
    SketchBytesError, SchemaError
        In the running query: a row that cannot be added up.
    """
    fields = fields_of_frame(frame)
    measures = dict(schema_of_fields(fields, name="of the frame").measures)
    added: Mapping[str, Aggregate] = {name: _added(name, one, on_error) for name, one in measures.items() if name not in keys}
    return aggregate(frame, keys=keys, aggregates=added)


def merged(template: Sketch, column: str, *, on_error: OnError = "fail") -> MergedOf:
    """Merge a column of stored sketches: an aggregate for `aggregate`, and for windows over rows that hold sketches.

    Parameters
    ----------
    template : Sketch
        An empty sketch with their parameters.
    column : str
        The sketches, binary; nulls add nothing.
    on_error : {"fail", "null"}
        As for `rollup`.

    Returns
    -------
    MergedOf
        Result ``binary``, never null. State: the same.
    """
    check_template(template)
    if on_error not in get_args(OnError):
        expected = f"one of {', '.join(get_args(OnError))}"
        raise SettingsError("use", "setting", "on_error", expected=expected, got=repr(on_error), todo="correct it")
    return MergedOf(template, column_name(column, "merged"), on_error=on_error)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class MergedOf(SketchOf):
    """See `merged`."""

    on_error: OnError = "fail"

    def state(self, types: Types) -> list[pa.DataType]:  # noqa: D102
        found = type_of(types, self.column, "merged")
        if found != BINARY:
            raise SchemaError("merge", "column", self.column, expected="binary, stored sketches", got=str(found), todo="name such a column")
        return [BINARY]

    def take(  # noqa: D102
        self, made: Numbered[Sketch], numbers: NDArray[np.int64], rows: Mapping[str, pa.Array], times: pa.Array | None = None
    ) -> None:
        del times
        wrong = made.merge_stored(numbers, rows[self.column])
        if wrong and self.on_error == "fail":
            row, error = min(wrong.items())
            todo = "use on_error='null' to leave such rows out, and spark_ext.sketching.functions.error to find them"
            kind, got = f"row {row} of a block of column", error.got
            raise SketchBytesError("merge", kind, self.column, expected=error.expected, got=got, todo=todo) from error

    def __repr__(self) -> str:
        return f"merged({self.template!r}, {self.column!r}, on_error={self.on_error!r})"


def _added(name: str, measure: Measure, on_error: OnError) -> Aggregate:
    match measure.how:
        case "sketch":
            return merged(measure.template, name, on_error=on_error)
        case "sum":
            return aggregates.sum(name)
        case "min":
            return aggregates.min(name)
        case "max":
            return aggregates.max(name)
