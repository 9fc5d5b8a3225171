"""Conditions in a worker against the same conditions in a Spark plan: the same rows, whatever the type; wrong values are refused."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    ByteType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from spark_ext.errors import SettingsError
from spark_ext.ingest import JsonFormat
from spark_ext.ingest.filters import check_conditions, conditions_from_json, conditions_to_json, matches, to_column

pytestmark = pytest.mark.spark

TYPES: Final[dict[str, DataType]] = {
    "s": StringType(), "b": BooleanType(), "tiny": ByteType(), "n": LongType(), "f": FloatType(), "x": DoubleType(),
    "d": DecimalType(10, 2), "at": TimestampType(), "day": DateType(), "many": ArrayType(IntegerType()),
}  # fmt: skip
SCHEMA: Final = StructType([StructField(name, kind) for name, kind in TYPES.items()])
NOON: Final = datetime(2013, 1, 1, 12, tzinfo=UTC)
ROWS: Final[list[tuple[Any, ...]]] = [
    ("", True, -128, -(2**63), 0.1, 0.0, Decimal("-0.01"), NOON, date(2013, 1, 1), [1]),
    ("a", False, 0, 0, -0.0, -0.0, Decimal("1.25"), NOON + timedelta(microseconds=1), date(1969, 12, 31), []),
    ("ä", True, 127, 2**63 - 1, 16777217.0, 1e300, Decimal("99999999.99"), NOON - timedelta(days=20_000), date(2013, 1, 2), None),
    ("b", None, 1, 7, 1.5, 0.1, Decimal("1.00"), NOON, date(2013, 1, 1), None),
    (None, None, None, None, None, None, None, None, None, None),
]
VALUES: Final[dict[str, list[Any]]] = {
    "s": ["", "a", "z"],
    "b": [True, False],
    "tiny": [-128, 0, 127],
    "n": [-(2**63), 0, 7, 2**63 - 1],
    "f": [0.1, 0, -0.0, 1.5, 16777216],
    "x": [0.0, -0.0, 0.1, 7],
    "d": [1, Decimal("1.25"), Decimal("-0.010"), Decimal("99999999.99")],
    "at": [NOON, NOON.astimezone(timezone(timedelta(hours=5)))],
    "day": [date(2013, 1, 1), date(1969, 12, 31)],
}
SCALARS: Final = ("=", "!=", "<", "<=", ">", ">=")
SIMPLE: Final = [(name, operator, value) for name, values in VALUES.items() for operator in SCALARS for value in values]
LISTS: Final = [(name, operator, some) for name, values in VALUES.items() for operator in ("in", "not in") for some in (values, values[:1])]


def test_a_worker_and_a_plan_find_the_same_rows(spark: SparkSession) -> None:
    batch = pa.RecordBatch.from_pylist(
        [dict(zip(SCHEMA.names, row, strict=True)) for row in ROWS], schema=to_arrow_schema(SCHEMA, timezone="UTC")
    )
    columns = {name: batch.column(name) for name in batch.schema.names}
    conditions = [conditions_from_json(conditions_to_json(check_conditions([one], SCHEMA))) for one in [*SIMPLE, *LISTS]]
    ours = [matches(one, columns).to_pylist() for one in conditions]
    frame = spark.createDataFrame(ROWS, SCHEMA).coalesce(1)
    theirs = frame.select(*(to_column(one).alias(f"c{at}") for at, one in enumerate(conditions))).toArrow().to_pydict()
    different = [one for at, one in enumerate(conditions) if ours[at] != theirs[f"c{at}"]]
    assert different == []
    assert {any(found) for found in ours} == {True, False}, "or this test shows nothing"
    assert not any(found[-1] for found in ours), "a null matches nothing"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (("n", "=", 0.5), "a whole number of 64 bits for the field 'n' of type bigint"),
        (("n", "=", True), "a whole number of 64 bits"),
        (("n", "=", "1"), "a whole number of 64 bits"),
        (("n", "=", 2**63), "a whole number of 64 bits"),
        (("n", "in", [1, None]), "a whole number of 64 bits"),
        (("tiny", "<", 128), "a whole number of 8 bits"),
        (("s", "=", 1), "a text"),
        (("b", "=", 1), "True or False"),
        (("x", "<", float("nan")), "a finite number"),
        (("x", "<", 10**400), "a finite number"),
        (("d", ">", 1.25), r"a whole number or a Decimal that decimal\(10,2\) holds"),
        (("d", ">", Decimal("1.255")), r"a Decimal that decimal\(10,2\) holds"),
        (("d", ">", 10**8), r"a Decimal that decimal\(10,2\) holds"),
        (("d", ">", Decimal("NaN")), r"a Decimal that decimal\(10,2\) holds"),
        (("at", ">", 1356998400), "a datetime with a zone"),
        (("at", ">", datetime(2013, 1, 1)), "a datetime with a zone"),  # noqa: DTZ001 (the point)
        (("at", ">", date(2013, 1, 1)), "a datetime with a zone"),
        (("day", "=", NOON), "a date"),
        (("many", "=", [1]), "no condition at all"),
        (("n", "in", 1), "a list of values behind 'in'"),
        (("n", "is", 1), "one of "),
        (("m", "=", 1), "one of "),
        (("n", "="), r"\(field, operator, value\)"),
        ("n = 1", r"\(field, operator, value\)"),
    ],
)
def test_a_value_that_the_field_cannot_hold_is_refused(condition: Any, expected: str) -> None:
    with pytest.raises(SettingsError, match=f"cannot use filter .*expected .*{expected}"):
        check_conditions([condition], SCHEMA)


def test_a_format_keeps_its_rules_in_its_text() -> None:
    form = JsonFormat(SCHEMA, refuse={"odd": [("s", "in", {"a", "b"}), ("d", "<", 1), ("day", ">", date(2013, 1, 1))]})
    again = JsonFormat.from_json(form.to_json())
    assert again.to_json() == form.to_json()
    assert sorted(again.refuse["odd"][0][2]) == ["a", "b"]
    with pytest.raises(SettingsError, match="cannot use refuse 'never': expected at least one condition, got none"):
        JsonFormat(SCHEMA, refuse={"never": []})
