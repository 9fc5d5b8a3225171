"""The JSON decoder against the slow reference: reason, detail and values, whatever the bytes and however they are cut."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql.types import (
    ArrayType,
    DataType,
    DoubleType,
    FloatType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from spark_ext.errors import SchemaError
from spark_ext.ingest import JsonFormat
from spark_ext.ingest.decoded import Decoded
from spark_ext.ingest.records import Bytes, Records
from tests.json_catalogue import AHEAD, BASE, BASE_VALUES, CASES, EARLIEST, SCHEMA, TIMESTAMP_MS, Case, base
from tests.json_events import WIDE, as_read, to_json, typed_events
from tests.json_mutations import NUMBERS, POOL, edited, soup
from tests.reference_json import Bad, Good, Reference

LIMITS: dict[str, Any] = {"event_time": "ts", "earliest": EARLIEST, "ahead": AHEAD, "max_value_bytes": 1_000_000}
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
MANY = 20_000
MIDDLE = 10_000

narrow = JsonFormat(SCHEMA, **LIMITS).decoder()
broad = JsonFormat(WIDE, **LIMITS).decoder()
broad_reference = Reference(WIDE, **LIMITS)


def block(values: list[bytes | None], timestamps: list[int] | None = None) -> Records:
    count = len(values)
    times = np.full(count, TIMESTAMP_MS, np.int64) if timestamps is None else np.array(timestamps, np.int64)
    return Records(np.arange(count, dtype=np.int64), times, Bytes.of([None] * count), Bytes.of(values))


def part(records: Records, start: int, stop: int) -> Records:
    """Return some of the records, over the same buffer: those around them stay right next to them."""

    def cut(strings: Bytes) -> Bytes:
        return Bytes(strings.data, strings.offsets[start : stop + 1], strings.valid[start:stop])

    return Records(records.offsets[start:stop], records.timestamps[start:stop], cut(records.keys), cut(records.values))


def untimed(kind: pa.DataType) -> pa.DataType:
    """Return the type with int64 for timestamps, at any depth."""
    if pa.types.is_timestamp(kind):
        assert kind.unit == "us"
        return pa.int64()
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(one.name, untimed(one.type)) for one in kind])
    if pa.types.is_map(kind):
        return pa.map_(kind.key_type, untimed(kind.item_type))
    return pa.list_(untimed(kind.value_type)) if pa.types.is_list(kind) else kind


def verdicts(decoded: Decoded, count: int) -> list[Good | Bad]:
    """Return one verdict per record, in their order; without drift, which a block only counts."""
    columns = decoded.columns
    good, bad = decoded.good.tolist(), decoded.bad.tolist()
    assert sorted([*good, *bad]) == list(range(count)), "each record is in one place"
    assert good == sorted(good)
    assert bad == sorted(bad)
    assert columns.num_rows == len(good)
    assert len(decoded.reasons) == len(decoded.details) == len(bad)
    columns.validate(full=True)
    found: dict[int, Good | Bad] = {}
    rows = columns.cast(pa.schema([pa.field(one.name, untimed(one.type)) for one in columns.schema])).to_pylist()
    found.update({at: Good(row) for at, row in zip(good, rows, strict=True)})
    found.update({at: Bad(reason, detail) for at, reason, detail in zip(bad, decoded.reasons, decoded.details, strict=True)})
    return [found[at] for at in range(count)]


def check(values: list[bytes | None], timestamps: list[int] | None = None) -> None:
    """Compare a block with the reference."""
    records = block(values, timestamps)
    decoded = broad.decode(records)
    expected = [broad_reference.judge(value, int(time)) for value, time in zip(values, records.timestamps, strict=True)]
    assert decoded.drift == sum(isinstance(one, Good) and one.drift for one in expected)
    for value, found, one in zip(values, verdicts(decoded, len(values)), expected, strict=True):
        wanted = Good(one.values) if isinstance(one, Good) else one
        assert repr(found) == repr(wanted), value  # repr tells -0.0 from 0.0 and True from 1


def outcome(case: Case) -> Good | Bad:
    return Bad(case.reason, case.detail) if case.reason else Good({**BASE_VALUES, **case.values})


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number} {case.name}"[:60])
def test_catalogue_alone(case: Case) -> None:
    decoded = narrow.decode(block([case.value]))
    assert repr(verdicts(decoded, 1)) == repr([outcome(case)])
    assert decoded.drift == int(case.drift)


@pytest.fixture(scope="module")
def crowd() -> tuple[Records, pa.Table]:
    """Many good records, and what they say."""
    distinct: list[bytes | None] = [
        base(id=f'"{at}"', user=str(at), amount=f"{at}.25", **({} if at % 20 == 0 else {"tags": "null", "place": "null", "counts": "null"}))
        for at in range(500)
    ]
    records = block([distinct[at % 500] for at in range(MANY)])
    decoded = narrow.decode(records)
    assert len(decoded.bad) == 0
    expected = {"id": [str(at % 500) for at in range(MANY)], "user": [at % 500 for at in range(MANY)]}
    assert {name: decoded.columns.column(name).to_pylist() for name in expected} == expected
    return records, decoded.columns


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.number} {case.name}"[:60])
def test_catalogue_in_the_middle_of_good_records(case: Case, crowd: tuple[Records, pa.Table]) -> None:
    records, columns = crowd
    cut = int(records.values.offsets[MIDDLE])
    value = case.value or b""
    data = np.concatenate([records.values.data[:cut], np.frombuffer(value, np.uint8), records.values.data[cut:]])
    offsets = np.insert(records.values.offsets, MIDDLE, cut)
    offsets[MIDDLE + 1 :] += len(value)
    valid = np.insert(records.values.valid, MIDDLE, case.value is not None)
    empty = Bytes.of([None] * (MANY + 1))
    decoded = narrow.decode(Records(np.arange(MANY + 1), np.full(MANY + 1, TIMESTAMP_MS), empty, Bytes(data, offsets, valid)))
    bad = [MIDDLE] if case.reason else []
    assert decoded.bad.tolist() == bad
    assert list(zip(decoded.reasons, decoded.details, strict=True)) == [(case.reason, case.detail)] * len(bad)
    assert np.array_equal(decoded.good, np.delete(np.arange(MANY + 1), bad))
    assert decoded.columns.slice(0, MIDDLE).equals(columns.slice(0, MIDDLE))
    assert decoded.columns.slice(decoded.columns.num_rows - MIDDLE).equals(columns.slice(MIDDLE))


def test_the_whole_catalogue_in_one_block() -> None:
    records = block([case.value for case in CASES])
    assert repr(verdicts(narrow.decode(records), len(CASES))) == repr([outcome(case) for case in CASES])


def test_flaws_that_compete() -> None:
    check(
        [
            base(user="1e400", tags='"x"', place="1"),
            base(tags='"x"', place="[1]", counts='"{}"'),
            BASE[:-1] + b',"place":"x"}',
            base(place='{"city":1,"city":2}', counts="nul"),
            base(place='{"city":1,"city":2}', counts='{"\\udc00":1}'),
            base(place='{"city":1,"city":2}') + b"}",
            base(place='{"city":1,"city":2}', user='"x"'),
            base(place='{"codes":[2147483648,"x"]}', counts='{"a":true}'),
            base(id='{"a":1,"a":1}'),
            b'"\xc3"}',
            b'"\xc3',
        ]
    )


@settings(QUICK, max_examples=2_000)
@given(values=st.lists(edited(), min_size=1, max_size=30))
def test_edited_records(values: list[bytes | None]) -> None:
    check(values)


@pytest.mark.slow
@pytest.mark.timeout(3_000)
@settings(QUICK, max_examples=100_000)
@given(values=st.lists(edited() | soup(), min_size=1, max_size=30))
def test_edited_records_at_length(values: list[bytes | None]) -> None:
    check(values)


@settings(QUICK, max_examples=500)
@given(values=st.lists(st.none() | soup(), min_size=1, max_size=30))
def test_bytes_without_sense(values: list[bytes | None]) -> None:
    check(values)


@settings(QUICK, max_examples=200)
@given(events=st.lists(typed_events(), min_size=1, max_size=5), ascii_only=st.booleans())
def test_what_was_written_is_read(events: list[dict[str, Any]], ascii_only: bool) -> None:
    records = block([to_json(event, ascii_only=ascii_only).encode() for event in events])
    expected = [Good(as_read(WIDE, event)) for event in events]
    assert repr(verdicts(broad.decode(records), len(events))) == repr(expected)


DIGITS = st.text("0123456789", min_size=1, max_size=25)
decimals = st.builds(
    lambda sign, before, behind, power: f"{sign}{int(before)}.{behind}e{power}",
    st.sampled_from(["", "-"]),
    DIGITS,
    DIGITS,
    st.integers(-345, 312),
)


def halfway(one: float) -> str:
    """Return the decimal in the middle between a float and the next: the hardest to round."""
    numerator, denominator = one.as_integer_ratio()
    above, below = float(np.nextafter(one, np.inf)).as_integer_ratio()
    numerator, denominator = numerator * below + above * denominator, 2 * denominator * below
    whole, rest = divmod(numerator * 10**700, denominator)
    digits = str(whole)[:760] + ("1" if rest else "")
    return f"{digits[0]}.{digits[1:]}e{len(str(whole)) - 701}"


exact_halves = st.floats(1e-300, 1e300).map(halfway)


@settings(QUICK, max_examples=300)
@given(texts=st.lists(decimals | exact_halves | st.floats(allow_nan=False, allow_infinity=False).map(repr), min_size=20, max_size=60))
def test_floats_are_those_of_python(texts: list[str]) -> None:
    kinds = [StructField("ts", TimestampType(), nullable=False), StructField("x", DoubleType()), StructField("y", FloatType())]
    schema = StructType(kinds)
    decoder, reference = JsonFormat(schema, **LIMITS).decoder(), Reference(schema, **LIMITS)
    when = '"ts":"2013-01-01T00:00:00Z"'
    values: list[bytes | None] = [f'{{{when},"{name}":{text},"{other}":null}}'.encode() for text in texts for name, other in ("xy", "yx")]
    for text, found, expected in zip(
        [text for text in texts for _ in "xy"],
        verdicts(decoder.decode(block(values)), len(values)),
        [reference.judge(value, TIMESTAMP_MS) for value in values],
        strict=True,
    ):
        assert repr(found) == repr(expected), text


@pytest.mark.parametrize("name", ["user", "amount", "price", "qty", "small", "ratio", "big", "visits", "by_name"])
def test_awkward_numbers(name: str) -> None:
    template = {"visits": '[{{"fee":{}}}]', "by_name": '{{"a":[{}]}}'}.get(name, "{}")
    ts = '"ts":"2013-01-01T00:00:00Z","id":"a"'
    check([f'{{{ts},"{name}":{template.format(sign + number)}}}'.encode() for number in NUMBERS for sign in ("", "-")])


@settings(QUICK, max_examples=300)
@given(
    chosen=st.lists(st.sampled_from(range(len(POOL) + 1)), min_size=1, max_size=20),
    cuts=st.lists(st.integers(0, 20), max_size=5),
)
def test_blocks_may_be_cut_anywhere(chosen: list[int], cuts: list[int]) -> None:
    values: list[bytes | None] = [*POOL, None]
    records = block([values[at] for at in chosen])
    whole = verdicts(broad.decode(records), len(chosen))
    edges = sorted({0, len(chosen), *(cut for cut in cuts if cut < len(chosen))})
    pieces = [part(records, start, stop) for start, stop in pairwise(edges)]
    parts = [verdicts(broad.decode(piece), len(piece)) for piece in pieces]
    assert repr([one for piece in parts for one in piece]) == repr(whole)


@pytest.mark.parametrize("kind", [ArrayType(LongType(), containsNull=False), MapType(StringType(), LongType(), valueContainsNull=False)])
def test_what_may_not_hold_nulls_is_refused(kind: DataType) -> None:
    with pytest.raises(
        SchemaError, match=r"cannot parse field 'a.b'.*without nulls, a required value inside a field; let it contain nulls"
    ):
        JsonFormat(StructType([StructField("a", StructType([StructField("b", kind)]))]))


def test_an_earliest_time_before_1970_is_exact() -> None:
    earliest = datetime(1969, 12, 31, 23, 59, 58, 250_000, UTC)
    form = JsonFormat(StructType([StructField("ts", TimestampType(), False)]), event_time="ts", earliest=earliest)
    texts = ["23:59:58.249999", "23:59:58.25", "23:59:59"]
    found = form.decoder().decode(block([b'{"ts":"1969-12-31T%sZ"}' % text.encode() for text in texts]))
    assert (found.good.tolist(), found.reasons) == ([1, 2], ["event_time_range"])


@pytest.mark.parametrize("ahead", [timedelta(days=1), timedelta.max])
def test_a_time_stamp_that_is_no_time_bounds_nothing(ahead: timedelta) -> None:
    form = JsonFormat(StructType([StructField("ts", TimestampType(), False)]), event_time="ts", earliest=EARLIEST, ahead=ahead)
    stamps = [-1, 2**63 - 1, -(2**63), 9_223_372_036_854_776, 253_402_300_800_000, TIMESTAMP_MS]
    found = form.decoder().decode(block([b'{"ts":"2261-01-01T00:00:00Z"}'] * len(stamps), stamps))
    assert found.good.tolist() == [0, 1, 2, 3, 4] + [5] * (ahead == timedelta.max)


def test_a_record_cut_off_does_not_read_on_in_the_next() -> None:
    records = block([BASE[:cut] for cut in range(len(BASE) + 1)])
    for value, found in zip(range(len(BASE) + 1), verdicts(narrow.decode(records), len(BASE) + 1), strict=True):
        assert isinstance(found, Good) == (value == len(BASE))
    halves = block([half for cut in range(1, len(BASE)) for half in (BASE[:cut], BASE[cut:])])
    assert len(narrow.decode(halves).good) == 0


def test_no_records() -> None:
    decoded = broad.decode(block([]))
    assert (decoded.columns.num_rows, len(decoded.good), len(decoded.bad), decoded.drift) == (0, 0, 0, 0)
    assert decoded.columns.schema.names == WIDE.names


def test_the_verdict_does_not_depend_on_the_columns_asked_for() -> None:
    records = block([case.value for case in CASES])
    whole = narrow.decode(records)
    few = JsonFormat(SCHEMA, **LIMITS).decoder(["qty", "id"]).decode(records)
    assert few.columns.schema.names == ["qty", "id"]
    assert few.columns.equals(whole.columns.select(["qty", "id"]))
    assert (few.bad.tolist(), few.reasons, few.details, few.drift) == (whole.bad.tolist(), whole.reasons, whole.details, whole.drift)


def test_event_time_is_held_against_the_timestamp_of_its_record() -> None:
    far, near = base(ts='"2261-12-31T23:59:59Z"'), base(ts='"2013-01-01T00:00:00Z"')
    early = base(ts='"1999-12-31T23:59:59Z"')
    check([far, near, early] * 3, [-1] * 3 + [0] * 3 + [253_402_300_799_000] * 3)
    strict = JsonFormat(SCHEMA, **{**LIMITS, "ahead": timedelta(0)}).decoder()
    decoded = strict.decode(block([near, near], [1_356_998_400_000, 1_356_998_399_999]))
    assert (decoded.good.tolist(), decoded.reasons, decoded.details) == ([0], ["event_time_range"], ["ts"])


def test_the_buffer_may_be_writable() -> None:
    records = block([case.value for case in CASES if case.number < 50])
    copied = Bytes(records.values.data.copy(), records.values.offsets, records.values.valid)
    decoded = narrow.decode(Records(records.offsets, records.timestamps, records.keys, copied))
    assert decoded.columns.equals(narrow.decode(records).columns)
    assert np.array_equal(copied.data, records.values.data), "and stays as it was"
