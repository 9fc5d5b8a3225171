"""Values of JSON as values of a column, and back: strictly, so that nothing is rounded, cut or guessed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final

import pyarrow as pa

from spark_ext.errors import SchemaError

__all__ = ["WrongValueError", "check_type", "converter", "to_json"]

DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
TIMESTAMP: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?")
OFFSET: Final = re.compile(r"(Z|[+-]\d\d:\d\d)")
NUMBER: Final = re.compile(r"-?\d{1,60}(\.\d{1,60})?")
PRECISION: Final = 80  # digits while a decimal is compared with itself
FLOAT_BITS: Final = 32

Converter = Callable[[Any], Any]


class WrongValueError(ValueError):
    """A value that is not of the type; the text says what is expected."""


def check_type(name: str, kind: pa.DataType) -> None:
    """Refuse a type that JSON has no values for.

    Raises
    ------
    SchemaError
        The type is not a string, boolean, number, date, timestamp, or an array or a struct of such.
    """
    if pa.types.is_struct(kind):
        for field in kind:
            check_type(f"{name}.{field.name}", field.type)
    elif pa.types.is_list(kind):
        check_type(f"{name}[]", kind.value_type)
    elif not any(test(kind) for test, _ in CONVERTERS):
        expected = "string, boolean, number, date, timestamp, or array or struct of these"
        raise SchemaError(
            "read from JSON", "column", name, expected=expected, got=str(kind), todo="declare it as text, and convert it after"
        )


def converter(field: pa.Field) -> Converter:
    """Return the function that makes a column's value of a JSON value; it raises `WrongValueError`.

    Null, or a field that is not there, is null where the column may be. An integer has no fraction; a float is one that it can hold; a
    decimal, as number or text, fits without rounding; dates and timestamps are ISO 8601 text, with an offset unless the column is
    ``timestamp_ntz``.
    """
    convert, nullable = _of_type(field.type), field.nullable

    def checked(value: Any) -> Any:
        if value is None:
            if nullable:
                return None
            raise WrongValueError("a value")
        return convert(value)

    return checked


def to_json(value: Any) -> Any:
    """Return a key's value as JSON has it: decimals, dates and timestamps are text, timestamps in UTC.

    Examples
    --------
    >>> to_json(Decimal("1.50")), to_json(datetime(2013, 1, 1, 12, tzinfo=UTC)), to_json(7)
    ('1.50', '2013-01-01T12:00:00Z', 7)
    """
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z" if value.tzinfo else value.isoformat()
    if isinstance(value, date):
        return value.isoformat()
    return format(value, "f") if isinstance(value, Decimal) else value


def _of_type(kind: pa.DataType) -> Converter:
    return next(make(kind) for test, make in CONVERTERS if test(kind))


def _integer(kind: pa.DataType) -> Converter:
    bound = 1 << (kind.bit_width - 1)

    def convert(value: Any) -> int:
        if type(value) is not int or not -bound <= value < bound:
            raise WrongValueError(f"an integer of {kind.bit_width} bits")
        return value

    return convert


def _floating(kind: pa.DataType) -> Converter:
    def convert(value: Any) -> float:
        try:
            found = float(value) if type(value) in {int, float, Decimal} else math.nan
        except OverflowError:
            found = math.inf
        wide = kind.bit_width > FLOAT_BITS
        if not math.isfinite(found) or (type(value) is int and int(found) != value) or not (wide or abs(found) <= MOST_FLOAT):
            raise WrongValueError(f"a number that a float of {kind.bit_width} bits can hold")
        return found

    return convert


def _decimal(kind: pa.DataType) -> Converter:
    step, context = Decimal(1).scaleb(-kind.scale), Context(prec=PRECISION)

    def convert(value: Any) -> Decimal:
        wrong = WrongValueError(f"a number that decimal({kind.precision},{kind.scale}) can hold, as number or text")
        if type(value) is str and NUMBER.fullmatch(value):
            value = Decimal(value)
        if type(value) not in {int, Decimal}:
            raise wrong
        try:
            found = Decimal(value).quantize(step, context=context)
        except InvalidOperation as error:
            raise wrong from error
        if found != value or len(found.as_tuple().digits) > kind.precision:
            raise wrong
        return found

    return convert


def _text(_kind: pa.DataType) -> Converter:
    def convert(value: Any) -> str:
        if type(value) is not str:
            raise WrongValueError("text")
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise WrongValueError("text without halves of surrogate pairs") from error
        return value

    return convert


def _boolean(_kind: pa.DataType) -> Converter:
    def convert(value: Any) -> bool:
        if type(value) is not bool:
            raise WrongValueError("true or false")
        return value

    return convert


def _date(_kind: pa.DataType) -> Converter:
    def convert(value: Any) -> date:
        return date.fromisoformat(_matching(value, DATE, "a date as yyyy-mm-dd"))

    return _parsing(convert, "a date as yyyy-mm-dd")


def _timestamp(kind: pa.DataType) -> Converter:
    zoned = kind.tz is not None
    pattern = re.compile(TIMESTAMP.pattern + (OFFSET.pattern if zoned else ""))
    expected = f"a timestamp as yyyy-mm-ddThh:mm:ss[.ffffff]{'Z or with another offset' if zoned else ' without offset'}"

    def convert(value: Any) -> datetime:
        found = datetime.fromisoformat(_matching(value, pattern, expected))
        return found.astimezone(UTC) if zoned else found

    return _parsing(convert, expected)


def _list(kind: pa.DataType) -> Converter:
    inner = converter(kind.value_field)

    def convert(value: Any) -> list[Any]:
        if type(value) is not list:
            raise WrongValueError("an array")
        return [inner(one) for one in value]

    return convert


def _struct(kind: pa.DataType) -> Converter:
    inner = {field.name: converter(field) for field in kind}

    def convert(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise WrongValueError("an object")
        return {name: one(value.get(name)) for name, one in inner.items()}

    return convert


def _matching(value: Any, pattern: re.Pattern[str], expected: str) -> str:
    if type(value) is not str or not value.isascii() or not pattern.fullmatch(value):
        raise WrongValueError(expected)
    return value


def _parsing(convert: Converter, expected: str) -> Converter:
    """Return it so that a date which no calendar has is a wrong value too."""

    def parsed(value: Any) -> Any:
        try:
            return convert(value)
        except WrongValueError:
            raise
        except (ValueError, OverflowError) as error:
            raise WrongValueError(expected) from error

    return parsed


MOST_FLOAT: Final = 3.4028234663852886e38
CONVERTERS: Final[tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], Converter]], ...]] = (
    (pa.types.is_string, _text),
    (pa.types.is_boolean, _boolean),
    (pa.types.is_integer, _integer),
    (lambda kind: pa.types.is_float32(kind) or pa.types.is_float64(kind), _floating),
    (pa.types.is_decimal, _decimal),
    (pa.types.is_date32, _date),
    (pa.types.is_timestamp, _timestamp),
    (pa.types.is_list, _list),
    (pa.types.is_struct, _struct),
)
