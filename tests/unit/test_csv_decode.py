"""The CSV decoder against Python's csv module and a slow typed model: reason, detail and values, however blocks are cut."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.ingest import CsvFormat, format_from_json
from spark_ext.ingest.records import Bytes, Records
from tests.reference_json import MAX_DIGITS, Bad, Good, Reference

TIMESTAMP_MS = 1_400_000_000_000
QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
SCHEMA = StructType(
    [
        StructField("id", StringType(), nullable=False),
        StructField("n", LongType()),
        StructField("x", DoubleType()),
        StructField("price", DecimalType(12, 2)),
        StructField("ts", TimestampType(), nullable=False),
        StructField("flag", BooleanType()),
        StructField("small", ShortType()),
        StructField("ratio", FloatType()),
        StructField("big", DecimalType(38, 10)),
        StructField("day", DateType()),
        StructField("qty", IntegerType()),
        StructField("note", StringType()),
    ]
)
LIMITS: dict[str, Any] = {
    "event_time": "ts", "earliest": datetime(2000, 1, 1, tzinfo=UTC), "ahead": timedelta(days=1), "max_value_bytes": 5_000,
}  # fmt: skip
FORMAT = CsvFormat(SCHEMA, **LIMITS)
reference = Reference(SCHEMA, **LIMITS)
GOOD_LINE = b'a,7,1.5,2.25,2013-01-01T00:00:00Z,true,3,0.5,12345678901234567890.5,2013-02-03,-4,"say ""x"", y"'
GOOD_VALUES: dict[str, Any] = {
    "id": "a", "n": 7, "x": 1.5, "price": Decimal("2.25"), "ts": 1_356_998_400_000_000, "flag": True, "small": 3, "ratio": 0.5,
    "big": Decimal("12345678901234567890.5000000000"), "day": date(2013, 2, 3), "qty": -4, "note": 'say "x", y',
}  # fmt: skip


def block(values: Sequence[bytes | None]) -> Records:
    count = len(values)
    stamps = np.full(count, TIMESTAMP_MS, np.int64)
    return Records(np.arange(count, dtype=np.int64), stamps, Bytes.of([None] * count), Bytes.of(list(values)))


def verdicts(form: CsvFormat, values: Sequence[bytes | None]) -> list[Good | Bad]:
    decoded = form.decoder().decode(block(values))
    assert decoded.drift == 0
    decoded.columns.validate(full=True)
    plain = [pa.field(one.name, pa.int64() if pa.types.is_timestamp(one.type) else one.type) for one in decoded.columns.schema]
    rows = decoded.columns.cast(pa.schema(plain)).to_pylist()
    found: dict[int, Good | Bad] = {at: Good(row) for at, row in zip(decoded.good.tolist(), rows, strict=True)}
    for at, reason, detail in zip(decoded.bad.tolist(), decoded.reasons, decoded.details, strict=True):
        assert at not in found
        found[at] = Bad(reason, detail)
    return [found[at] for at in range(len(values))]


def changed(**fields: bytes) -> bytes:
    """The good line with other fields."""
    texts = dict(zip(SCHEMA.names, GOOD_LINE.split(b",", len(SCHEMA.names) - 1), strict=True))
    return b",".join((texts | fields).values())


def good(**values: Any) -> Good:
    return Good(GOOD_VALUES | values)


CASES: list[tuple[bytes | None, Good | Bad]] = [
    (GOOD_LINE, good()),
    (GOOD_LINE + b"\r\n", good()),
    (GOOD_LINE + b"\n", good()),
    (b"\xef\xbb\xbf" + GOOD_LINE, good()),
    (None, Bad("tombstone", None)),
    (b"", Bad("empty", None)),
    (b"\r\n", Bad("empty", None)),
    (b"\xef\xbb\xbf\n", Bad("empty", None)),
    (changed(note=b"x" * 5_000), Bad("too_large", None)),
    (changed(note=b"\xff"), Bad("utf8", None)),
    (changed(note=b'"\xc3"'), Bad("utf8", None)),
    (changed(note=b"\xed\xa0\x80"), Bad("utf8", None)),
    (changed(id=b"\xc0\x80", n=b"x"), Bad("utf8", None)),
    (changed(note="größe €😀".encode()), good(note="größe €😀")),
    (changed(note='"größe €😀"""'.encode()), good(note='größe €😀"')),
    (changed(note=b'"two\r\nlines\n"'), good(note="two\r\nlines\n")),
    (changed(note=b'""'), good(note="")),
    (changed(note=b""), good(note=None)),
    (changed(note=b'""""'), good(note='"')),
    (changed(note=b" a "), good(note=" a ")),
    (changed(note=b"\t\0'"), good(note="\t\0'")),
    (changed(n=b"", x=b"", price=b"", flag=b"", small=b"", ratio=b"", big=b"", day=b"", qty=b"", note=b""),
     Good({name: GOOD_VALUES[name] if name in {"id", "ts"} else None for name in SCHEMA.names})),
    (changed(n=b'"7"', x=b'"1.5"', ts=b'"2013-01-01T00:00:00Z"', flag=b'"true"', big=b'"12345678901234567890.5"'), good()),
    (changed(n=b'""'), Bad("type", "n")),
    (changed(n=b'"7"""'), Bad("type", "n")),
    (changed(n=b" 7"), Bad("type", "n")),
    (changed(n=b"+7"), Bad("type", "n")),
    (changed(n=b"07"), Bad("type", "n")),
    (changed(n=b"7.0"), Bad("type", "n")),
    (changed(n=b"7" * 1_001), Bad("type", "n")),
    (changed(n=b"9223372036854775807"), good(n=2**63 - 1)),
    (changed(n=b"9223372036854775808"), Bad("range", "n")),
    (changed(n=b"-9223372036854775808"), good(n=-(2**63))),
    (changed(small=b"32768"), Bad("range", "small")),
    (changed(price=b"2.255"), Bad("range", "price")),
    (changed(price=b"1e3"), good(price=Decimal("1000.00"))),
    (changed(big=b"1" * 29), Bad("range", "big")),
    (changed(big=b"x", qty=b"y"), Bad("type", "big")),
    (changed(big=b"1" * 29, qty=b"y"), Bad("range", "big")),
    (changed(x=b"1e400"), Bad("range", "x")),
    (changed(x=b"1e400", price=b"x"), Bad("range", "x")),
    (changed(x=b"0.30000000000000004441", ratio=b"-0"), good(x=0.30000000000000004, ratio=-0.0)),
    (changed(x=b"NaN"), Bad("type", "x")),
    (changed(ratio=b"3.5e38"), Bad("range", "ratio")),
    (changed(flag=b"True"), Bad("type", "flag")),
    (changed(flag=b"false"), good(flag=False)),
    (changed(flag=b"falsE"), Bad("type", "flag")),
    (changed(flag=b"1"), Bad("type", "flag")),
    (changed(day=b"2013-02-29"), Bad("type", "day")),
    (changed(day=b"1677-12-31"), Bad("range", "day")),
    (changed(ts=b"2013-01-01T00:00:00"), Bad("type", "ts")),
    (changed(ts=b"2013-01-01 01:00:00.5+01"), good(ts=1_356_998_400_500_000)),
    (changed(ts=b"9999-01-01T00:00:00Z"), Bad("event_time_range", "ts")),
    (changed(ts=b"1999-01-01T00:00:00Z"), Bad("event_time_range", "ts")),
    (changed(ts=b""), Bad("required_field", "ts")),
    (changed(id=b"", ts=b""), Bad("required_field", "id")),
    (changed(id=b"", n=b"x"), Bad("type", "n")),
    (changed(id=b'""'), good(id="")),
    (GOOD_LINE + b",", Bad("malformed", None)),
    (GOOD_LINE.rsplit(b",", 2)[0], Bad("malformed", None)),
    (b"a", Bad("malformed", None)),
    (b"  ", Bad("malformed", None)),
    (changed(n=b"x") + b",", Bad("malformed", None)),
    (changed(note=b'"open'), Bad("malformed", None)),
    (changed(note=b'"open\r\n'), Bad("malformed", None)),
    (changed(note=b'"open""'), Bad("malformed", None)),
    (changed(note=b'"a"b'), Bad("malformed", None)),
    (changed(note=b'a"b'), Bad("malformed", None)),
    (changed(note=b'a"b"'), Bad("malformed", None)),
    (changed(id=b'"a" '), Bad("malformed", None)),
    (changed(note=b"a\rb"), Bad("malformed", None)),
    (GOOD_LINE + b"\r", Bad("malformed", None)),
    (changed(id=b"a\nb"), Bad("malformed", None)),
    (GOOD_LINE + b"\n\n", Bad("trailing_bytes", None)),
    (GOOD_LINE + b"\r\n" + GOOD_LINE, Bad("trailing_bytes", None)),
    (changed(note=b"") + b"\n" + GOOD_LINE + b"\n", Bad("trailing_bytes", None)),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), CASES, ids=[f"{at} {value!r}"[:60] for at, (value, _) in enumerate(CASES)])
def test_cases(value: bytes | None, expected: Good | Bad) -> None:
    assert repr(verdicts(FORMAT, [value])) == repr([expected])
    crowd = [changed(id=b"%d" % at, n=b"%d" % at) for at in range(200)]
    around = verdicts(FORMAT, [*crowd, value, *crowd])
    assert repr(around[200]) == repr(expected)
    assert around[:200] == around[201:] == [good(id=str(at), n=at) for at in range(200)]


def test_all_cases_in_one_block_however_it_is_cut() -> None:
    values, expected = [value for value, _ in CASES], [one for _, one in CASES]
    assert repr(verdicts(FORMAT, values)) == repr(expected)
    whole = block(values)
    for size in (1, 3, 17):
        found: list[tuple[int, str, str | None]] = []
        for start, stop in pairwise([*range(0, len(values), size), len(values)]):
            held = whole.values
            part = Bytes(held.data, held.offsets[start : stop + 1], held.valid[start:stop])
            keys = Bytes.of([None] * (stop - start))
            decoded = FORMAT.decoder().decode(Records(whole.offsets[start:stop], whole.timestamps[start:stop], keys, part))
            found += [(start + at, *why) for at, *why in zip(decoded.bad.tolist(), decoded.reasons, decoded.details, strict=True)]
        assert found == [(at, one.reason, one.detail) for at, one in enumerate(expected) if isinstance(one, Bad)]


def test_a_record_cut_off_does_not_read_on_in_the_next() -> None:
    halves = [half for cut in range(1, len(GOOD_LINE)) for half in (GOOD_LINE[:cut], GOOD_LINE[cut:])]
    check(halves)


# A slow reader: fields one by one, then each as the JSON value it stands for, judged by the reference of JSON.
def fields_of(text: str, delimiter: str, quote: str) -> list[tuple[bool, str]] | str:
    """The fields of one line, and whether they were quoted; or why it is none."""
    text = text.removesuffix("\r\n" if text.endswith("\r\n") else "\n")
    if not text:
        return "empty"
    found: list[tuple[bool, str]] = []
    while True:
        if quoted := text.startswith(quote):
            broken, value, text = quoted_text(text[1:], quote)
            if broken:
                return broken
        else:
            length = next((at for at, one in enumerate(text) if one in {delimiter, quote, "\r", "\n"} or is_stray(one)), len(text))
            value, text = text[:length], text[length:]
            if text and is_stray(text[0]):
                return "utf8"
        found.append((quoted, value))
        whole = len(found) == len(SCHEMA.names)
        if not text:
            return found if whole else "malformed"
        if text.startswith(("\n", "\r\n")):
            return "trailing_bytes" if whole else "malformed"
        if whole or not text.startswith(delimiter):
            return "malformed"
        text = text[1:]


def is_stray(one: str) -> bool:
    """Whether this stands for a byte that is no text."""
    return "\udc80" <= one <= "\udcff"


def quoted_text(text: str, quote: str) -> tuple[str, str, str]:
    """Why it is broken, what stands before the closing quote and what behind it."""
    value = ""
    while True:
        head, closing, text = text.partition(quote)
        if any(map(is_stray, head)):
            return "utf8", "", ""
        if not closing:
            return "malformed", "", ""
        value += head
        if not text.startswith(quote):
            return "", value, text
        value, text = value + quote, text[1:]


def as_json(kind: Any, text: str) -> str:
    """What JSON would have in the place of a field; text where it is no number and no boolean."""
    if isinstance(kind, StringType | TimestampType | DateType):
        return json.dumps(text)
    if isinstance(kind, BooleanType):
        return text if text in {"true", "false"} else '"?"'
    try:
        number = json.loads(text, parse_constant=lambda _: "no", parse_int=lambda _: 0, parse_float=lambda _: 0)
    except ValueError:
        return '"?"'
    digits = sum(letter in "0123456789" for letter in text)
    return text if number == 0 and number is not False and text == text.strip() and digits <= MAX_DIGITS else '"?"'


def judged(value: bytes | None, form: CsvFormat) -> Good | Bad:
    if value is None or len(value) > form.max_value_bytes:
        return Bad("tombstone" if value is None else "too_large", None)
    fields = fields_of(value.decode(errors="surrogateescape").removeprefix("\ufeff"), form.delimiter, form.quote)
    if isinstance(fields, str):
        return Bad(fields, None)
    members = [
        f'"{one.name}":{as_json(one.dataType, text)}'
        for one, (quoted, text) in zip(SCHEMA.fields, fields, strict=True)
        if quoted or text != form.null
    ]
    return reference.judge(f"{{{','.join(members)}}}".encode(), TIMESTAMP_MS)


def check(values: Sequence[bytes | None], form: CsvFormat = FORMAT) -> None:
    for value, found in zip(values, verdicts(form, values), strict=True):
        wanted = judged(value, form)
        wanted = Good(wanted.values) if isinstance(wanted, Good) else wanted
        assert repr(found) == repr(wanted), value


def test_the_model_is_right_about_the_cases() -> None:
    check([value for value, _ in CASES])


POOL = [value for value, _ in CASES if value is not None and len(value) < 2_000]
FRAGMENTS = [b",", b'"', b'""', b"\r\n", b"\n", b"\r", b" ", b"", b"0", b"-", b".", b"e1", b"\xff", b"\xc3\xa9", b"\0", b"true", b"x" * 9]


@st.composite
def edited(draw: st.DrawFn) -> bytes:
    """A known line with a few bytes changed."""
    value = draw(st.sampled_from(POOL))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(value)))
        stop = start + draw(st.integers(0, 3))
        value = value[:start] + draw(st.sampled_from(FRAGMENTS)) + value[stop:]
    return value


@settings(QUICK, max_examples=1_000)
@given(values=st.lists(st.none() | edited(), min_size=1, max_size=30))
def test_edited_lines(values: list[bytes | None]) -> None:
    check(values)


@pytest.mark.parametrize("digits", [999, 1_000, 1_001, 4_500])
@pytest.mark.parametrize("sign", [b"", b"-"])
def test_an_integer_of_very_many_digits_is_out_of_range_or_no_number(digits: int, sign: bytes) -> None:
    number = sign + b"7" * digits
    check([b"a," + number + b',1.5,2.25,2013-01-01T00:00:00Z,true,3,0.5,12345678901234567890.5,2013-02-03,-4,"x"'])


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\ufeff"), max_size=20) | st.text("\",\r\n\\;'aé€😀", max_size=20)


@settings(QUICK, max_examples=500)
@given(
    rows=st.lists(st.lists(st.none() | TEXTS, min_size=3, max_size=3), min_size=1, max_size=20),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quote=st.sampled_from(['"', "'"]),
    ending=st.sampled_from([b"\r\n", b"\n", b""]),
)
def test_what_python_s_csv_writes_is_read(rows: list[list[str | None]], quoting: Any, delimiter: str, quote: str, ending: bytes) -> None:
    form = CsvFormat(StructType([StructField(name, StringType()) for name in "abc"]), delimiter=delimiter, quote=quote, null="\\N")
    lines, expected = [], []
    for row in rows:
        out = io.StringIO()
        csv.writer(out, quoting=quoting, delimiter=delimiter, quotechar=quote, lineterminator="\r\n").writerow(
            ["\\N" if one is None else one for one in row]
        )
        lines.append(out.getvalue().encode().removesuffix(b"\r\n") + ending)
        # The writer does not tell text that looks like null, and quotes a null with QUOTE_ALL.
        plain = ["\\N" if one is None else one for one in row]
        expected.append([None if one == "\\N" and quoting == csv.QUOTE_MINIMAL else one for one in plain])
    assert [one.values if isinstance(one, Good) else one for one in verdicts(form, lines)] == [
        dict(zip("abc", row, strict=True)) for row in expected
    ]


def test_there_and_back_as_text() -> None:
    form = CsvFormat(SCHEMA, **LIMITS, refuse={"negative": [("n", "<", 0)]}, delimiter=";", quote="'", null="-")
    again = format_from_json(form.to_json())
    assert again.to_json() == form.to_json()
    assert isinstance(again, CsvFormat)
    decoded = again.decoder(["n"]).decode(block([GOOD_LINE.replace(b",", b";", 10).replace(b',"say ""x"", y"', b";'it''s'")] * 2))
    assert decoded.columns.to_pydict() == {"n": [7, 7]}
    assert decoded.reasons == []


def test_own_rules_and_filters() -> None:
    form = CsvFormat(SCHEMA, **LIMITS, refuse={"negative": [("n", "<", 0)]})
    decoded = form.decoder(["id"], [("n", ">", 5)]).decode(block([GOOD_LINE, changed(n=b"-1"), changed(n=b"5"), changed(n=b"x")]))
    assert (decoded.columns.to_pydict(), decoded.filtered, decoded.reasons) == ({"id": ["a"]}, 1, ["negative", "type"])


def test_a_timestamp_may_be_a_count() -> None:
    form = CsvFormat(StructType([StructField("at", TimestampType(), False, {"epoch": "ms"})]))
    values = {b"1356998400001": 1_356_998_400_001_000, b"-1": -1_000, b"0": 0, b'"5"': 5_000}
    assert verdicts(form, list(values)) == [Good({"at": one}) for one in values.values()]
    least, most = -9_214_560_000_000, 9_214_646_399_999
    assert verdicts(form, [b"%d" % least, b"%d" % most]) == [Good({"at": least * 1000}), Good({"at": most * 1000})]
    assert verdicts(form, [b"%d" % (least - 1), b"%d" % (most + 1), b"9" * 30]) == [Bad("range", "at")] * 3
    assert verdicts(form, [b"1.5", b"1e3", b"2013-01-01T00:00:00Z", b'""', b"x"]) == [Bad("type", "at")] * 5


@pytest.mark.parametrize(
    "given", [{"delimiter": '"'}, {"delimiter": ""}, {"delimiter": "é"}, {"quote": "\n"}, {"null": "a,b"}, {"null": "\r"}, {"null": '"'}]
)
def test_what_cannot_be_told_apart_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="cannot use format 'csv': expected delimiter and quote: two different ASCII characters"):
        CsvFormat(SCHEMA, **given)


def test_nested_fields_are_refused() -> None:
    with pytest.raises(SchemaError, match=r"cannot parse field 'tags'.*array<string>, which has no form in a line; declare it as string"):
        CsvFormat(StructType([StructField("tags", ArrayType(StringType()))]))


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="no format is called 'xml', only bytes, csv, json"):
        format_from_json('{"kind": "xml"}')
