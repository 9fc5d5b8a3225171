"""Partial aggregates: what a source may count and add up before rows leave it, and how the parts become the whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DecimalType, IntegralType, LongType, StructField, StructType, TimestampType

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.ingest.schema import FLOATS, NESTED
from spark_ext.ingest.tags import DEAD, TAGS, accepted
from spark_ext.names import column

__all__ = ["PANE_START", "PartialAggregate"]

PANE_START: Final = "pane_start"
FUNCTIONS: Final = ("count", "sum", "min", "max")
LONGEST_PANE: Final = timedelta(days=31)  # its start stays within what pandas can hold
SUM_DIGITS: Final = 38


@dataclass(frozen=True)
class PartialAggregate:
    """What a source adds up per group before rows leave it; `merge` makes the whole of the parts.

    Guarantee: ``merge`` of the partial rows of any ranges equals the same grouping over all their rows, exactly: sums of integers
    and decimals never lose a digit (a sum beyond its type is an error), null values are ignored as in SQL, a null key is a
    group of its own. What a range gives out depends on its records alone, not on how they were fetched.

    Parameters
    ----------
    keys : sequence of str
        Fields to group by; none of type float or double, none nested. May be empty if there is a pane.
    pane : timedelta, optional
        Groups also by the format's event time, cut into panes of this length, at most 31 days, whose bounds are counted from
        1970-01-01T00:00:00Z. A window downstream may be any multiple of it.
    aggregates : mapping of str to (function, field)
        Name of the column, and ``count``, ``sum``, ``min`` or ``max`` of a field; ``("count", None)`` counts rows.
        Sums are bigint, of decimals decimal(38, s). Floats and doubles are not summed.

    State, in a worker: one row per group of the range, at most some 270,000; where there are more, groups are given out early,
    and come more than once.

    Examples
    --------
    >>> PartialAggregate(["ad"], timedelta(seconds=10), {"events": ("count", None), "total": ("sum", "price")})
    PartialAggregate(keys=['ad'], pane=datetime.timedelta(seconds=10), aggregates={'events': ('count', None), 'total': ('sum', 'price')})
    """

    keys: Sequence[str]
    pane: timedelta | None
    aggregates: Mapping[str, tuple[str, str | None]]

    def __post_init__(self) -> None:
        names = [name.lower() for name in (*self.keys, PANE_START, *self.aggregates)]
        known = all(function in FUNCTIONS and (field is not None or function == "count") for function, field in self.aggregates.values())
        if not known or not self.aggregates or not (self.keys or self.pane):
            expected = f"keys or a pane, and one aggregate or more of {', '.join(FUNCTIONS)} with its field"
            raise _refused("aggregates", expected, f"keys={list(self.keys)!r}, aggregates={dict(self.aggregates)!r}")
        if len(set(names)) != len(names) or set(TAGS) & set(names):
            expected = f"names that differ in more than case, other than {', '.join([PANE_START, *TAGS])}"
            raise _refused("names", expected, repr([*self.keys, *self.aggregates]))
        if self.pane is not None and not timedelta(0) < self.pane <= LONGEST_PANE:
            raise _refused("pane", f"a length above zero and up to {LONGEST_PANE}", repr(self.pane))

    def needed(self, event_time: str | None) -> list[str]:
        """Return the fields that it looks at, in a fixed order."""
        time = [event_time] if self.pane is not None and event_time is not None else []
        return list(dict.fromkeys([*self.keys, *time, *(field for _, field in self.aggregates.values() if field is not None)]))

    def columns(self, schema: StructType, event_time: str | None) -> StructType:
        """Return the columns of its rows over a format's schema, checked.

        Raises
        ------
        SchemaError
            A field is not declared, or of a type that cannot be grouped by or aggregated; or there is a pane and no event time.
        """
        for name, problem, todo in self._problems({one.name: one.dataType for one in schema.fields}, event_time):
            raise SchemaError("aggregate", "field", name, expected="one that can be aggregated exactly", got=problem, todo=todo)
        types = {one.name: one.dataType for one in schema.fields}
        start = [StructField(PANE_START, TimestampType())] if self.pane is not None else []
        values = [StructField(name, _result(function, types.get(field or ""))) for name, (function, field) in self.aggregates.items()]
        return StructType([*(StructField(name, types[name]) for name in self.keys), *start, *values])

    def _problems(self, types: Mapping[str, DataType], event_time: str | None) -> Iterator[tuple[str, str, str]]:
        if self.pane is not None and event_time is None:
            yield PANE_START, "a format without event time", "name the event_time of the format, or set pane=None"
        for name in self.needed(event_time):
            if name not in types:
                yield name, f"no such field among {list(types)}", "declare it in the schema"
            elif isinstance(types[name], NESTED):
                yield name, f"type {types[name].simpleString()}", "aggregate it behind the source"
        for name in self.keys:
            if isinstance(types[name], FLOATS):
                yield name, f"a key of type {types[name].simpleString()}", "declare it decimal: -0.0 and 0.0 are the same number"
        for function, field in self.aggregates.values():
            if function != "sum" or field is None or isinstance(types[field], IntegralType | DecimalType):
                continue
            why = "; its sum would depend on the order of the rows" if isinstance(types[field], FLOATS) else ""
            yield field, f"a sum of {types[field].simpleString()}{why}", "declare it decimal, or sum it behind the source"

    def merge(self, frame: DataFrame) -> DataFrame:
        """Combine partial rows, of however many ranges and batches, into one per group.

        Parameters
        ----------
        frame : DataFrame
            What the source gave, as a whole or its accepted rows; batch, or a stream (then give it a watermark on ``pane_start`` as
            you would for any aggregation).

        Returns
        -------
        DataFrame
            The keys, ``pane_start`` if there are panes, and the aggregates, of the same types.
        """
        rows = accepted(frame) if DEAD in frame.columns else frame
        groups = [*self.keys, *([PANE_START] if self.pane is not None else [])]
        whole = {"count": F.sum, "sum": F.sum, "min": F.min, "max": F.max}
        values: list[Column] = [whole[function](column(name)).alias(name) for name, (function, _) in self.aggregates.items()]
        return rows.groupBy(*(column(name) for name in groups)).agg(*values)

    def to_json(self) -> str:
        """Return it as text, for a worker in another process."""
        pane_us = None if self.pane is None else self.pane // timedelta(microseconds=1)
        return json.dumps({"keys": list(self.keys), "pane_us": pane_us, "aggregates": dict(self.aggregates)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo `to_json`."""
        found: dict[str, Any] = json.loads(text)
        pane = None if found["pane_us"] is None else timedelta(microseconds=found["pane_us"])
        return cls(found["keys"], pane, {name: (function, field) for name, (function, field) in found["aggregates"].items()})


def _result(function: str, kind: DataType | None) -> DataType:
    if function == "count" or kind is None:
        return LongType()
    if function == "sum":
        return DecimalType(SUM_DIGITS, kind.scale) if isinstance(kind, DecimalType) else LongType()
    return kind


def _refused(name: str, expected: str, got: str) -> SettingsError:
    return SettingsError("use", "partial aggregate", name, expected=expected, got=got, todo="correct it")
