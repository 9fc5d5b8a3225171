"""Simple conditions on fields, the same in a source's worker and in a Spark plan.

A filter is a list of ``(field, operator, value)``, as pyarrow and Delta take them; a row matches if all of them hold. A
null matches nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column
from pyspark.sql import functions as F

from spark_ext.errors import SettingsError
from spark_ext.ingest.schema import column

__all__ = ["Condition", "Conditions", "check_conditions", "conditions_from_json", "conditions_to_json", "matches", "to_column"]

Condition: TypeAlias = tuple[str, str, Any]
Conditions: TypeAlias = Sequence[Condition]

_SCALARS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_COLUMNS: Final[Mapping[str, Callable[[Column, Any], Column]]] = {
    "=": lambda left, right: left == right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
}
_LISTS: Final = ("in", "not in")
_VALUES: Final = (str, int, float, bool, datetime)


def check_conditions(conditions: Conditions, fields: Sequence[str]) -> tuple[Condition, ...]:
    """Return the conditions as they were given, checked.

    Raises
    ------
    SettingsError
        A field that is not declared, an unknown operator, or a value of another sort than text, number, boolean, time with
        zone, or a list of those for ``in`` and ``not in``.
    """
    for condition in conditions:
        whole = isinstance(condition, tuple | list) and len(condition) == 3  # noqa: PLR2004 (field, operator, value)
        name, operator, value = condition if whole else ("", "", None)
        many = operator in _LISTS
        values = value if many and isinstance(value, list | tuple | set | frozenset) else [None] if many else [value]
        plain = all(isinstance(one, _VALUES) and not (isinstance(one, datetime) and one.tzinfo is None) for one in values)
        if name not in fields or (operator not in _SCALARS and not many) or not plain:
            raise SettingsError(
                "use",
                "filter",
                str(condition),
                expected=f"(field, operator, value): one of {sorted(fields)}, one of {[*_SCALARS, *_LISTS]}, a value or a list of values",
                got=repr(condition),
                todo="write it so, or filter the DataFrame behind the source",
            )
    return tuple((name, operator, sorted(value) if isinstance(value, set | frozenset) else value) for name, operator, value in conditions)


def matches(conditions: Conditions, columns: Mapping[str, pa.Array]) -> pa.BooleanArray:
    """Return for each row whether all conditions hold; null counts as no."""

    def one(condition: Condition) -> pa.Array:
        name, operator, value = condition
        array = columns[name]
        if operator in _SCALARS:
            return _SCALARS[operator](array, pa.scalar(value, array.type))
        found = pc.is_in(array, value_set=pa.array(list(value), array.type))
        return found if operator == "in" else pc.and_(pc.invert(found), pc.is_valid(array))

    return pc.fill_null(reduce(pc.and_, (one(condition) for condition in conditions)), False)


def to_column(conditions: Conditions) -> Column:
    """Return the same as a Spark condition; null counts as no."""

    def one(condition: Condition) -> Column:
        name, operator, value = condition
        if operator in _COLUMNS:
            return _COLUMNS[operator](column(name), F.lit(value))
        found = column(name).isin(list(value))
        return found if operator == "in" else ~found

    return F.coalesce(reduce(lambda left, right: left & right, (one(condition) for condition in conditions)), F.lit(False))


def conditions_to_json(conditions: Conditions) -> list[list[Any]]:
    """Return the conditions in types that JSON has; times as objects."""

    def plain(value: Any) -> Any:
        if isinstance(value, datetime):
            return {"time": value.isoformat()}
        return [plain(one) for one in value] if isinstance(value, list | tuple) else value

    return [[name, operator, plain(value)] for name, operator, value in conditions]


def conditions_from_json(found: Sequence[Sequence[Any]]) -> tuple[Condition, ...]:
    """Undo `conditions_to_json`."""

    def back(value: Any) -> Any:
        if isinstance(value, dict):
            return datetime.fromisoformat(value["time"])
        return [back(one) for one in value] if isinstance(value, list) else value

    return tuple((name, operator, back(value)) for name, operator, value in found)
