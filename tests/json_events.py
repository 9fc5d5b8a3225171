"""Typed events as Python objects: a Hypothesis strategy, how they look as JSON, and what a reader must make of them."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from hypothesis import strategies as st
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
    StructField,
    StructType,
    TimestampType,
)

__all__ = ["WIDE", "as_read", "to_json", "typed_events"]

VISIT: Final = StructType([StructField("at", TimestampType()), StructField("on", DateType()), StructField("fee", DecimalType(5, 1))])
WIDE: Final = StructType(
    [
        StructField("id", StringType(), nullable=False),
        StructField("user", LongType()),
        StructField("amount", DoubleType()),
        StructField("price", DecimalType(12, 2)),
        StructField("ts", TimestampType(), nullable=False),
        StructField("qty", IntegerType()),
        StructField("tags", ArrayType(StringType())),
        StructField("place", StructType([StructField("city", StringType()), StructField("codes", ArrayType(IntegerType()))])),
        StructField("counts", MapType(StringType(), LongType())),
        StructField("flag", BooleanType()),
        StructField("small", ShortType()),
        StructField("ratio", FloatType()),
        StructField("big", DecimalType(38, 10)),
        StructField("day", DateType()),
        StructField('größe "x"', IntegerType()),
        StructField("visits", ArrayType(VISIT)),
        StructField("by_name", MapType(StringType(), ArrayType(DoubleType()))),
    ]
)


def to_json(found: Any, *, ascii_only: bool = True, comma: str = ",", colon: str = ":") -> str:
    """Write an event; times with their zone, decimals with their scale."""
    if isinstance(found, dict):
        members = (
            f"{json.dumps(name, ensure_ascii=ascii_only)}{colon}{to_json(one, ascii_only=ascii_only)}" for name, one in found.items()
        )
        return "{" + comma.join(members) + "}"
    if isinstance(found, list):
        return "[" + comma.join(to_json(one, ascii_only=ascii_only) for one in found) + "]"
    if isinstance(found, Decimal):
        return format(found, "f")
    return json.dumps(found.isoformat() if isinstance(found, date) else found, ensure_ascii=ascii_only)


def as_read(kind: DataType, found: Any) -> Any:
    """Return a value of an event as the reference gives it."""
    if found is None:
        return None
    if isinstance(kind, StructType):
        return {field.name: as_read(field.dataType, found.get(field.name)) for field in kind.fields}
    if isinstance(kind, MapType):
        return [(name, as_read(kind.valueType, one)) for name, one in found.items()]
    if isinstance(kind, ArrayType):
        return [as_read(kind.elementType, one) for one in found]
    if isinstance(found, datetime):
        return (found - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return found


def shortened(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    return st.integers(-(10**precision) + 1, 10**precision - 1).map(lambda unscaled: Decimal(f"{unscaled}e-{scale}"))


def floats32() -> st.SearchStrategy[float]:
    return st.floats(width=32, allow_nan=False, allow_infinity=False)


text = st.text(st.characters(codec="utf-8"), max_size=8)
doubles = st.floats(allow_nan=False, allow_infinity=False)
instants = st.datetimes(datetime(1678, 1, 1), datetime(2261, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
days = st.dates(date(1678, 1, 1), date(2261, 12, 31))
plausible = st.datetimes(datetime(2000, 1, 1), datetime(2013, 1, 2), timezones=st.just(UTC))  # noqa: DTZ001


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def typed_events() -> st.SearchStrategy[dict[str, Any]]:
    """Draw good records of the schema `WIDE` as Python objects; a field that is missing is null."""
    visit = st.fixed_dictionaries({}, optional={"at": maybe(instants), "on": maybe(days), "fee": maybe(shortened(5, 1))})
    optional: dict[str, st.SearchStrategy[Any]] = {
        "user": st.integers(-(2**63), 2**63 - 1),
        "amount": doubles,
        "price": shortened(12, 2),
        "qty": st.integers(-(2**31), 2**31 - 1),
        "tags": st.lists(maybe(text), max_size=3),
        "place": st.fixed_dictionaries({"city": maybe(text)}, optional={"codes": st.lists(st.integers(-9, 9), max_size=2)}),
        "counts": st.dictionaries(text, maybe(st.integers(-(2**63), 2**63 - 1)), max_size=2),
        "flag": st.booleans(),
        "small": st.integers(-(2**15), 2**15 - 1),
        "ratio": floats32(),
        "big": shortened(38, 10),
        "day": days,
        'größe "x"': st.integers(0, 9),
        "visits": st.lists(maybe(visit), max_size=2),
        "by_name": st.dictionaries(text, maybe(st.lists(doubles, max_size=2)), max_size=2),
    }
    return st.fixed_dictionaries({"id": text, "ts": plausible}, optional={name: maybe(one) for name, one in optional.items()})
