"""Simple conditions on fields, the same in a source's worker and in a Spark plan.

A filter is a list of ``(field, operator, value)``, as pyarrow and Delta take them; a row matches if all of them hold. A
null matches nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal, localcontext
from functools import reduce
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import (
    BooleanType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructType,
    TimestampType,
)

from spark_ext.errors import SettingsError
from spark_ext.ingest.schema import FLOATS
from spark_ext.names import column

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
_IN_JSON: Final[Mapping[str, Any]] = {"time": datetime, "date": date, "decimal": Decimal}  # a datetime is a date as well
INTEGER_BITS: Final[Mapping[type[DataType], int]] = {ByteType: 8, ShortType: 16, IntegerType: 32, LongType: 64}
_LISTS: Final = ("in", "not in")


def check_conditions(conditions: Conditions, schema: StructType) -> tuple[Condition, ...]:
    """Return the conditions, each value as what its field holds.

    Parameters
    ----------
    conditions : conditions
        With a list or set of values for ``in`` and ``not in``.
    schema : StructType
        Which fields there are. A value is of the field's type: nothing is rounded, cut or read as another unit.

    Raises
    ------
    SettingsError
        A field that is not declared or cannot be compared, an unknown operator, or a value that the field cannot hold.
    """
    return tuple(_checked(condition, schema) for condition in conditions)


def _checked(condition: Any, schema: StructType) -> Condition:
    whole = isinstance(condition, tuple | list) and len(condition) == 3  # noqa: PLR2004 (field, operator, value)
    name, operator, value = condition if whole else ("", "", ())
    if not isinstance(name, str) or name not in schema.fieldNames() or operator not in (*_SCALARS, *_LISTS):
        expected = (
            f"(field, operator, value): one of {sorted(schema.fieldNames())}, one of {[*_SCALARS, *_LISTS]}, a value or a list of values"
        )
        raise _refused(condition, expected)
    kind = schema[name].dataType
    many = operator in _LISTS
    if many and not isinstance(value, list | tuple | set | frozenset):
        raise _refused(condition, f"a list of values behind {operator!r}")
    values = [_held(one, kind) for one in value] if many else [_held(value, kind)]
    if None in values:
        raise _refused(condition, f"{_expected(kind)} for the field {name!r} of type {kind.simpleString()}")
    return name, operator, values if many else values[0]


def _refused(condition: Any, expected: str) -> SettingsError:
    todo = "write it so, or filter the DataFrame behind the source"
    return SettingsError("use", "filter", str(condition), expected=expected, got=repr(condition), todo=todo)


def _held(value: Any, kind: DataType) -> Any:  # noqa: PLR0911 (one line per type)
    """Return a value as a field of this type would hold it, None if it could not."""
    if isinstance(kind, StringType):
        return value if isinstance(value, str) else None
    if isinstance(kind, BooleanType):
        return value if isinstance(value, bool) else None
    if isinstance(kind, TimestampType):
        return value if isinstance(value, datetime) and value.tzinfo is not None else None
    if isinstance(kind, DateType):
        return value if isinstance(value, date) and not isinstance(value, datetime) else None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    if isinstance(kind, FLOATS):
        whole = isinstance(value, int | float) and abs(value) <= sys.float_info.max
        return float(value) if whole and float(value) == value else None  # an integer that a double does not hold
    if isinstance(kind, DecimalType):
        return None if isinstance(value, float) else _decimal(Decimal(value), kind)
    bits = INTEGER_BITS.get(type(kind))
    return value if bits and isinstance(value, int) and -(1 << (bits - 1)) <= value < 1 << (bits - 1) else None


def _decimal(value: Decimal, kind: DecimalType) -> Decimal | None:
    if not value.is_finite() or abs(value) >= Decimal(10) ** (kind.precision - kind.scale):
        return None
    with localcontext(prec=kind.precision + 1):
        held = value.quantize(Decimal(1).scaleb(-kind.scale))
    return held if held == value else None


def _expected(kind: DataType) -> str:
    if isinstance(kind, DecimalType):
        return f"a whole number or a Decimal that {kind.simpleString()} holds"
    if bits := INTEGER_BITS.get(type(kind)):
        return f"a whole number of {bits} bits"
    words: dict[type[DataType], str] = {
        StringType: "a text",
        BooleanType: "True or False",
        TimestampType: "a datetime with a zone",
        DateType: "a date",
        FloatType: "a finite number",
        DoubleType: "a finite number",
    }
    return words.get(type(kind), "no condition at all")


def matches(conditions: Conditions, columns: Mapping[str, pa.Array]) -> pa.BooleanArray:
    """Return for each row whether all conditions hold; null counts as no.

    Parameters
    ----------
    conditions : conditions
        As `check_conditions` returns them.
    columns : mapping of str to pyarrow.Array
        One array per field.
    """

    def one(condition: Condition) -> pa.Array:
        name, operator, value = condition
        array = columns[name]
        if pa.types.is_float32(array.type):
            array = array.cast(pa.float64())  # compared as Spark compares it with a double
        if operator in _SCALARS:
            return _SCALARS[operator](array, pa.scalar(value, array.type))
        values = [*value, *((0.0, -0.0) if pa.types.is_floating(array.type) and 0.0 in value else ())]  # found by their bits
        found = pc.is_in(array, value_set=pa.array(values, array.type))
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
    """Return the conditions in types that JSON has; times, dates and decimals as objects."""

    def plain(value: Any) -> Any:
        for name, kind in _IN_JSON.items():
            if isinstance(value, kind):
                return {name: str(value) if kind is Decimal else value.isoformat()}
        return [plain(one) for one in value] if isinstance(value, list | tuple) else value

    return [[name, operator, plain(value)] for name, operator, value in conditions]


def conditions_from_json(found: Sequence[Sequence[Any]]) -> tuple[Condition, ...]:
    """Undo `conditions_to_json`."""

    def back(value: Any) -> Any:
        if isinstance(value, dict):
            [(name, text)] = value.items()
            return Decimal(text) if name == "decimal" else _IN_JSON[name].fromisoformat(text)
        return [back(one) for one in value] if isinstance(value, list) else value

    return tuple((name, operator, back(value)) for name, operator, value in found)
