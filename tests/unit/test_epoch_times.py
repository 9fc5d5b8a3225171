"""Timestamps that are a count of seconds, milliseconds or microseconds since 1970, in JSON; in CSV see test_csv_decode.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql.types import ArrayType, DataType, DateType, LongType, StructField, StructType, TimestampType

from spark_ext.errors import SchemaError
from spark_ext.ingest import JsonFormat
from spark_ext.ingest.records import Bytes, Records
from spark_ext.ingest.schema import check_for_spark


def schema(unit: Any, kind: DataType | None = None) -> StructType:
    return StructType([StructField("at", kind or TimestampType(), metadata={"epoch": unit})])


def read(texts: list[str], unit: str) -> tuple[list[int], list[str]]:
    values: list[bytes | None] = [f'{{"at":{text}}}'.encode() for text in texts]
    empty, stamps = Bytes.of([None] * len(texts)), np.full(len(texts), -1)
    decoded = JsonFormat(schema(unit)).decoder().decode(Records(np.arange(len(texts)), stamps, empty, Bytes.of(values)))
    assert set(decoded.details) <= {"at", None}
    return decoded.columns.column("at").cast(pa.int64()).to_pylist(), decoded.reasons


@pytest.mark.parametrize(("unit", "us"), [("s", 1_000_000), ("ms", 1_000), ("us", 1)])
def test_numbers_and_text_of_numbers(unit: str, us: int) -> None:
    least, most = -9_214_560_000_000_000, 9_214_646_399_999_999
    first, last = -(-least // us), most // us
    texts = ["0", "-0", "-1", '"17"', '"-17"', '"\\u0031"', " 5 ", "null", str(first), str(last), f'"{last}"']
    assert read(texts, unit) == ([0, 0, -us, 17 * us, -17 * us, us, 5 * us, None, first * us, last * us, last * us], [])
    assert read([str(first - 1), str(last + 1), f'"{last + 1}"', "9" * 30, "-" + "9" * 19, str(2**63)], unit) == ([], ["range"] * 6)
    bad = ["1.0", "1e3", '"1.5"', '""', '" 1"', '"1 "', '"+1"', '"01"', '"x"', "true", "{}", "[]", '"2013-01-01T00:00:00Z"']
    assert read(bad, unit) == ([], ["type"] * len(bad))
    assert read(["01", "1x", "+1", '"1', "-"], unit) == ([], ["malformed"] * 5)


@pytest.mark.parametrize(
    ("declared", "path"),
    [
        (schema("ns"), "at"),
        (schema(1000), "at"),
        (schema("ms", LongType()), "at"),
        (schema("ms", DateType()), "at"),
        (StructType([StructField("a", schema("ms"))]), "a.at"),
        (StructType([StructField("a", ArrayType(schema("ms")))]), "a.element.at"),
    ],
)
def test_a_unit_is_one_of_three_on_a_timestamp_at_the_top(declared: StructType, path: str) -> None:
    with pytest.raises(
        SchemaError, match=f"cannot parse field '{path}': .*got metadata 'epoch': .*; use one of s, ms, us, for a timestamp"
    ):
        JsonFormat(declared)


def test_spark_would_ignore_it() -> None:
    with pytest.raises(SchemaError, match=r"cannot parse field 'at': .*metadata 'epoch', which from_json ignores"):
        check_for_spark(schema("ms"))
