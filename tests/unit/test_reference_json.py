"""The reference itself, against expectations written by hand and against Python's json."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql.types import DateType, DecimalType, DoubleType, FloatType, IntegerType, LongType, ShortType, TimestampType

from tests.json_catalogue import AHEAD, BASE, BASE_VALUES, CASES, EARLIEST, SCHEMA, TIMESTAMP_MS, Case, base
from tests.json_events import WIDE, as_read, to_json, typed_events
from tests.json_mutations import edited, soup
from tests.reference_json import Bad, Good, Reference
from tests.reference_types import FieldError, Number, typed

NARROW = Reference(SCHEMA, "ts", EARLIEST, AHEAD)
BROAD = Reference(WIDE, "ts", EARLIEST, AHEAD)
LIMITS = {"duplicate_key", "too_deep", "too_many_fields"}


def test_the_catalogue_is_whole() -> None:
    assert {case.number for case in CASES} == set(range(1, 57))
    assert len({(case.number, case.name) for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number} {case.name}"[:60])
def test_catalogue(case: Case) -> None:
    expected = Bad(case.reason, case.detail) if case.reason else Good({**BASE_VALUES, **case.values}, case.drift)
    assert repr(NARROW.judge(case.value, TIMESTAMP_MS)) == repr(expected), "repr tells -0.0 from 0.0 and True from 1"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'{"id":"\xff\x01"}', Bad("utf8")),
        (b'{"id":"\x01\xff"}', Bad("malformed")),
        (b'{"z":1,"z":nul}', Bad("duplicate_key")),
        (b'{"z":1,"z"', Bad("duplicate_key")),
        (b'{"z":nul,"z":1}', Bad("malformed")),
        (b'{"z":1,"z":1} x', Bad("duplicate_key")),
        (b'{"user":"7","id":1,"z":1,"z":1}', Bad("duplicate_key")),
        (b'{"user":"7","id":1} x', Bad("trailing_bytes")),
        (b'{"user":"7","qty":2147483648}', Bad("type", "user")),
        (b'{"qty":2147483648,"user":"7"}', Bad("range", "qty")),
        (b'{"qty":2147483648,"id":null}', Bad("range", "qty")),
        (b'{"place":{"codes":[2147483648,"x"]}}', Bad("range", "place")),
        (b'{"place":{"city":1,"city":"x"}}', Bad("duplicate_key")),
        (b'{"place":[{"city":1,"city":"x"}]}', Bad("type", "place")),
        (b'{"id":{"a":1,"a":1}}', Bad("type", "id")),
        (b'{"id":"x"}', Bad("required_field", "ts")),
        (b'{"ts":null}', Bad("required_field", "id")),
        (b'{"z":"\\ud800\\u12"}', Bad("malformed")),
        (b'{"z":"\\ud800\\', Bad("utf8")),
        (b'{"z":"\\', Bad("malformed")),
        (b" " * 1_000_001, Bad("too_large")),
        (b"[" * 70, Bad("malformed")),
        (b'{"z":' * 65, Bad("too_deep")),
        (b'{"z":' * 64, Bad("malformed")),
    ],
)
def test_the_first_reason_wins(value: bytes, expected: Bad) -> None:
    assert NARROW.judge(value, TIMESTAMP_MS) == expected


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (ShortType(), "-32768", -32768),
        (ShortType(), "32768", "range"),
        (IntegerType(), "1E2", "type"),
        (LongType(), "9" * 1000, "range"),
        (DoubleType(), "1e23", 1e23),
        (DoubleType(), "1" + "0" * 309, "range"),
        (FloatType(), "0.1", 0.10000000149011612),
        (FloatType(), "3.4028235677973362e38", 3.4028234663852886e38),
        (FloatType(), "3.4028235677973366e38", "range"),
        (FloatType(), "-1e-46", -0.0),
        (DecimalType(3, 1), "-99.9", Decimal("-99.9")),
        (DecimalType(3, 1), "999e-1", Decimal("99.9")),
        (DecimalType(3, 1), "9.9e1", Decimal("99.0")),
        (DecimalType(3, 1), "100", "range"),
        (DecimalType(3, 1), "1.00", "range"),
        (DecimalType(3, 1), "0.00", "range"),
        (DecimalType(3, 1), "-0", Decimal("0.0")),
        (DecimalType(3, 1), "0e999999999", Decimal("0.0")),
        (DecimalType(3, 3), "0.999", Decimal("0.999")),
        (DecimalType(3, 3), "1", "range"),
        (DecimalType(38, 0), "9" * 38, Decimal("9" * 38)),
        (DecimalType(38, 0), "1e38", "range"),
    ],
)
def test_numbers(kind: Any, text: str, expected: Any) -> None:
    if isinstance(expected, str):
        with pytest.raises(FieldError, match=expected):
            typed(kind, Number(text))
    else:
        assert repr(typed(kind, Number(text))) == repr(expected)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (TimestampType(), "1970-01-01T00:00:00Z", 0),
        (TimestampType(), "1970-01-01 01:30:00+0130", 0),
        (TimestampType(), "1969-12-31T23:59:59.9999999Z", -1),
        (TimestampType(), "1678-01-01T00:00:00Z", -9_214_560_000_000_000),
        (TimestampType(), "2261-12-31T23:59:59.999999Z", 9_214_646_399_999_999),
        (TimestampType(), "1678-01-01T00:00:00+00:01", "range"),
        (TimestampType(), "2261-12-31T23:59:59-00:01", "range"),
        (TimestampType(), "9999-12-31T23:59:59Z", "range"),
        (TimestampType(), "294247-01-10T04:00:54Z", "range"),
        (TimestampType(), "-0001-01-01T00:00:00Z", "range"),
        (TimestampType(), "9999-12-32T23:59:59Z", "type"),
        (TimestampType(), "0000-12-31T23:59:59-01:00", "range"),
        (TimestampType(), "0000-02-29T00:00:00Z", "range"),
        (TimestampType(), "0000-02-30T00:00:00Z", "type"),
        (TimestampType(), "2013-01-01T00:00:00Z\n", "type"),
        (TimestampType(), "٢٠١٣-01-01T00:00:00Z", "type"),
        (DateType(), "2012-02-29", date(2012, 2, 29)),
        (DateType(), "1900-02-29", "type"),
        (DateType(), "1678-01-01", date(1678, 1, 1)),
        (DateType(), "2261-12-31", date(2261, 12, 31)),
        (DateType(), "1677-12-31", "range"),
        (DateType(), "2262-01-01", "range"),
        (DateType(), "0000-01-01", "range"),
        (DateType(), "2012-02-29T00:00:00Z", "type"),
    ],
)
def test_times(kind: Any, text: str, expected: Any) -> None:
    if isinstance(expected, str):
        with pytest.raises(FieldError, match=expected):
            typed(kind, text)
    else:
        assert typed(kind, text) == expected


def test_a_record_without_timestamp_is_not_bounded_from_above() -> None:
    far = base(ts='"2261-12-31T23:59:59Z"')
    assert isinstance(NARROW.judge(far, -1), Good)
    assert NARROW.judge(base(ts='"1999-01-01T00:00:00Z"'), -1) == Bad("event_time_range", "ts")
    assert NARROW.judge(BASE, 0) == Bad("event_time_range", "ts")


@settings(max_examples=150, deadline=None)
@given(event=typed_events(), ascii_only=st.booleans(), blank=st.sampled_from(["", " ", "\n\t", "\r\n"]))
def test_what_was_written_is_read(event: dict[str, Any], ascii_only: bool, blank: str) -> None:
    value = to_json(event, ascii_only=ascii_only, comma=f"{blank},{blank}", colon=f"{blank}:{blank}").encode()
    expected = Good(as_read(WIDE, event), drift=set(event) != set(WIDE.names))
    assert repr(BROAD.judge(blank.encode() + value + blank.encode(), TIMESTAMP_MS)) == repr(expected)


def refuse(text: str) -> Any:
    raise ValueError(text)


class Pairs(list[tuple[str, object]]):
    """An object with every name that is written, also those that come twice."""


def sound(value: bytes) -> bool:
    """Whether Python's json finds one object, without what it allows beyond the RFC."""
    try:
        text = value.decode().removeprefix("\ufeff")
        found = json.loads(text, parse_constant=refuse, parse_int=str, parse_float=str, object_pairs_hook=Pairs)
        json.dumps(found, ensure_ascii=False).encode()  # lone surrogates
    except ValueError:
        return False
    return isinstance(found, Pairs)


@settings(max_examples=300, deadline=None)
@given(values=st.lists(edited() | soup(), min_size=1, max_size=20))
def test_structure_as_pythons_json_sees_it(values: list[bytes]) -> None:
    for value in values:
        found = NARROW.judge(value, TIMESTAMP_MS)
        structural = isinstance(found, Bad) and found.reason in {"empty", "malformed", "utf8", "trailing_bytes"}
        too_long = max(
            (len(run) for run in "".join(c if c in "0123456789.eE+-" else " " for c in value.decode("latin-1")).split()), default=0
        )
        if too_long <= 1000 and not (isinstance(found, Bad) and found.reason in LIMITS):
            assert sound(value) != structural, value
