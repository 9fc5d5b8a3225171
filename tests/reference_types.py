"""What a JSON value is as a declared type: the second half of `tests.reference_json`, as slow and as obvious."""

from __future__ import annotations

import math
import re
import struct
import sys
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any, Final, NamedTuple

from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    ShortType,
    StringType,
    StructType,
    TimestampType,
)

__all__ = ["FieldError", "Members", "Number", "typed"]

BITS: Final[dict[type[DataType], int]] = {ShortType: 16, IntegerType: 32, LongType: 64}
DATE: Final = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
TIME: Final = re.compile(
    DATE.pattern + r"[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?(?:Z|([+-])([0-9]{2})(?::?([0-9]{2}))?)",
)
FAR: Final = re.compile(r"(?:[+-][0-9]+|[0-9]{5,})-")  # a year that no type of ours has
PANDAS: Final = (date(1678, 1, 1), date(2261, 12, 31))  # what its nanoseconds can hold
EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
DAY_US: Final = 86_400_000_000


class FieldError(Exception):
    """A value does not fit its declared type; the message is the reason."""


class Number(NamedTuple):
    """A number as it was written."""

    text: str


sys.set_int_max_str_digits(0)  # a record may be one number of thousands of digits


class Members(NamedTuple):
    """An object's names and values in the order in which they were written."""

    pairs: list[tuple[str, Any]]


def whole(kind: DataType, text: str) -> int:
    bits = BITS[type(kind)]
    if re.search("[.eE]", text):
        raise FieldError("type")
    if not -(2 ** (bits - 1)) <= int(text) < 2 ** (bits - 1):
        raise FieldError("range")
    return int(text)


def floating(kind: DataType, text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise FieldError("range")
    if isinstance(kind, DoubleType):
        return number
    try:
        nearest: float = struct.unpack("<f", struct.pack("<f", number))[0]
    except OverflowError:
        raise FieldError("range") from None
    return nearest


def exact(kind: DecimalType, text: str) -> Decimal:
    """Return a decimal, if the digits as written fit: scale behind the point, precision less scale before it."""
    mantissa, _, exponent = text.lower().lstrip("-").partition("e")
    before, _, behind = mantissa.partition(".")
    shift = int(exponent or "0") - len(behind)  # the number is its digits times ten to the power of this
    digits = (before + behind).lstrip("0")
    if -shift > kind.scale or (digits and len(digits) + shift > kind.precision - kind.scale):
        raise FieldError("range")
    unscaled = digits + "0" * (shift + kind.scale) if digits else "0"
    return Decimal((int(text.startswith("-") and bool(digits)), tuple(map(int, unscaled)), -kind.scale))


def day(year: str, month: str, of_month: str) -> int | None:
    """Return days since 1970; None in the year 0, which has the days of the year 2000 and is out of range."""
    try:
        found = date(int(year) or 2000, int(month), int(of_month))
    except ValueError:
        raise FieldError("type") from None
    return found.toordinal() - EPOCH_DAY if int(year) else None


def instant(text: str) -> int:
    """Return microseconds since 1970."""
    if FAR.match(text):
        raise FieldError("range")
    found = TIME.fullmatch(text)
    if found is None:
        raise FieldError("type")
    year, month, of_month, hour, minute, second, fraction, sign, zone_hour, zone_minute = found.groups()
    days = day(year, month, of_month)
    zone = int(zone_hour or 0) * 60 + int(zone_minute or 0)
    if int(hour) > 23 or int(minute) > 59 or int(second) > 59 or int(zone_minute or 0) > 59 or zone > 18 * 60:
        raise FieldError("type")
    if days is None:
        raise FieldError("range")
    seconds = (int(hour) * 60 + int(minute) + (zone if sign == "-" else -zone)) * 60 + int(second)
    micros = days * DAY_US + seconds * 1_000_000 + int((fraction or "").ljust(6, "0")[:6])
    first, last = (one.toordinal() - EPOCH_DAY for one in PANDAS)
    if not first * DAY_US <= micros < (last + 1) * DAY_US:
        raise FieldError("range")
    return micros


def calendar_day(text: str) -> date:
    if FAR.match(text):
        raise FieldError("range")
    found = DATE.fullmatch(text)
    if found is None:
        raise FieldError("type")
    days = day(*found.groups())
    if days is None or not PANDAS[0] <= date.fromordinal(days + EPOCH_DAY) <= PANDAS[1]:
        raise FieldError("range")
    return date.fromordinal(days + EPOCH_DAY)


LEAVES: Final[dict[type[DataType], tuple[type, Callable[[Any, Any], Any]]]] = {
    StringType: (str, lambda _, text: text),
    BooleanType: (bool, lambda _, truth: truth),
    ShortType: (Number, lambda kind, number: whole(kind, number.text)),
    IntegerType: (Number, lambda kind, number: whole(kind, number.text)),
    LongType: (Number, lambda kind, number: whole(kind, number.text)),
    FloatType: (Number, lambda kind, number: floating(kind, number.text)),
    DoubleType: (Number, lambda kind, number: floating(kind, number.text)),
    DecimalType: (Number, lambda kind, number: exact(kind, number.text)),
    TimestampType: (str, lambda _, text: instant(text)),
    DateType: (str, lambda _, text: calendar_day(text)),
}


def typed(kind: DataType, found: Any) -> Any:
    """Return a value as its declared type, or raise for the first thing in it that is not of that type."""
    if found is None:
        return None
    if isinstance(kind, StructType) and isinstance(found, Members):
        declared = {field.name: field.dataType for field in kind.fields}
        read = {name: typed(declared[name], value) for name, value in found.pairs if name in declared}
        return {name: read.get(name) for name in declared}
    if isinstance(kind, MapType) and isinstance(found, Members):
        return [(name, typed(kind.valueType, value)) for name, value in found.pairs]
    if isinstance(kind, ArrayType) and isinstance(found, list):
        return [typed(kind.elementType, value) for value in found]
    if type(kind) not in LEAVES or not isinstance(found, LEAVES[type(kind)][0]):
        raise FieldError("type")
    return LEAVES[type(kind)][1](kind, found)
