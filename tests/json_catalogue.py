"""Poisoned JSON records, numbered as in the catalogue of the reliability study, and what must become of each."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pyspark.sql.types import (
    ArrayType,
    DecimalType,
    DoubleType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

__all__ = ["AHEAD", "BASE", "BASE_VALUES", "CASES", "EARLIEST", "SCHEMA", "TIMESTAMP_MS", "Case", "base"]

SCHEMA: Final = StructType(
    [
        StructField("id", StringType(), nullable=False),
        StructField("user", LongType()),
        StructField("amount", DoubleType()),
        StructField("price", DecimalType(12, 2)),
        StructField("ts", TimestampType(), nullable=False),
        StructField("qty", IntegerType()),
        StructField("tags", ArrayType(StringType())),
        StructField(
            "place",
            StructType(
                [StructField("city", StringType()), StructField("lat", DoubleType()), StructField("codes", ArrayType(IntegerType()))]
            ),
        ),
        StructField("counts", MapType(StringType(), LongType())),
    ]
)
EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
AHEAD: Final = timedelta(days=1)
TIMESTAMP_MS: Final = 1_357_084_800_000  # 2013-01-02T00:00:00Z
PARTS: Final = MappingProxyType(
    {
        "id": '"a1"',
        "user": "7",
        "amount": "1.5",
        "price": "12.34",
        "ts": '"2013-01-01T10:15:00Z"',
        "qty": "3",
        "tags": '["x","y"]',
        "place": '{"city":"Ulm","lat":48.4,"codes":[1,2]}',
        "counts": '{"a":1}',
    }
)
TS_US: Final = 1_357_035_300_000_000
BASE_VALUES: Final[dict[str, Any]] = {
    "id": "a1",
    "user": 7,
    "amount": 1.5,
    "price": Decimal("12.34"),
    "ts": TS_US,
    "qty": 3,
    "tags": ["x", "y"],
    "place": {"city": "Ulm", "lat": 48.4, "codes": [1, 2]},
    "counts": [("a", 1)],
}


def base(**parts: str) -> bytes:
    """Return a good record, some of its values replaced by other JSON text; lone surrogates stand for raw bytes."""
    text = ",".join(f'"{name}":{value}' for name, value in {**PARTS, **parts}.items())
    return f"{{{text}}}".encode("utf-8", "surrogateescape")


BASE: Final = base()


class Case(NamedTuple):
    """A record; why it is bad, or None and those of its values that differ from `BASE_VALUES`."""

    number: int
    name: str
    value: bytes | None
    reason: str | None = None
    detail: str | None = None
    values: dict[str, Any] = {}  # noqa: RUF012 (never changed)
    drift: bool = False


def ts(number: int, name: str, text: str, reason: str | None, us: int = TS_US) -> Case:
    return Case(number, name, base(ts=text), reason, "ts" if reason else None, {} if reason else {"ts": us})


NESTED: Final = [(depth, b"[" * depth + b"]" * depth) for depth in (63, 64, 900, 5_000, 100_000)]
ODD: Final = "\"../../etc <script>\\r\\n\\u001b[31m\u202e=cmd()|'/C calc'!A0 $(rm) {{x}} %s\""

CASES: Final = [
    Case(1, "null value", None, "tombstone"),
    Case(2, "empty bytes", b"", "empty"),
    Case(3, "blanks only", b" \t\r\n", "empty"),
    Case(3, "BOM only", b"\xef\xbb\xbf", "empty"),
    Case(4, "null", b"null", "malformed"),
    Case(5, "number", b"42", "malformed"),
    Case(5, "string", b'"abc"', "malformed"),
    Case(6, "array of objects", b"[" + BASE + b"]", "malformed"),
    Case(7, "no fields", b"{}", "required_field", "id"),
    Case(8, "truncated object", BASE[:-1], "malformed"),
    Case(8, "truncated literal", b'{"id":nul', "malformed"),
    Case(8, "truncated number", b'{"id":-', "malformed"),
    Case(9, "truncated in a string", b'{"id":"a', "malformed"),
    Case(9, "truncated in an escape", b'{"id":"\\u00', "malformed"),
    Case(9, "truncated in a character", b'{"id":"\xc3', "utf8"),
    Case(10, "trailing comma", BASE[:-1] + b",}", "malformed"),
    Case(10, "trailing comma in an array", base(tags='["x",]'), "malformed"),
    Case(11, "single quotes", BASE.replace(b'"', b"'"), "malformed"),
    Case(12, "comment", BASE.replace(b"{", b"{/* x */", 1), "malformed"),
    Case(12, "unquoted key", BASE.replace(b'"id"', b"id"), "malformed"),
    Case(13, "two documents", BASE + BASE, "trailing_bytes"),
    Case(14, "two lines", BASE + b"\n" + BASE, "trailing_bytes"),
    Case(14, "newline behind", BASE + b"\r\n"),
    Case(15, "garbage behind", BASE + b"!", "trailing_bytes"),
    Case(15, "NUL behind", BASE + b"\x00", "trailing_bytes"),
    Case(15, "bracket behind", BASE + b"}", "trailing_bytes"),
    Case(16, "invalid UTF-8", base(id='"\udcff\udcfe"'), "utf8"),
    Case(16, "overlong UTF-8", base(id='"\udcc0\udcaf"'), "utf8"),
    Case(16, "invalid UTF-8 in a name", BASE[:-1] + b',"\xff":1}', "utf8"),
    Case(16, "surrogate in UTF-8", base(id='"\udced\udca0\udc80"'), "utf8"),
    Case(16, "beyond U+10FFFF", base(id='"\udcf4\udc90\udc80\udc80"'), "utf8"),
    Case(16, "outside of strings", base(user="\udcff"), "malformed"),
    Case(17, "lone high surrogate", base(id='"\\ud800"'), "utf8"),
    Case(17, "lone low surrogate", base(id='"\\udc00x"'), "utf8"),
    Case(17, "two high surrogates", base(id='"\\ud83d\\ud83d"'), "utf8"),
    Case(17, "lone surrogate where nobody looks", BASE[:-1] + b',"z":[{"\\uDFFF":1}]}', "utf8"),
    Case(17, "surrogate pair", base(id='"\\ud83d\\uDE00"'), values={"id": "\U0001f600"}),
    Case(18, "raw control byte", base(id='"a\x01"'), "malformed"),
    Case(18, "raw NUL", base(id='"a\x00"'), "malformed"),
    Case(18, "raw newline", base(id='"a\n"'), "malformed"),
    Case(18, "DEL", base(id='"a\x7f"'), values={"id": "a\x7f"}),
    Case(19, "escaped NUL", base(id='"a\\u0000b"'), values={"id": "a\x00b"}),
    Case(20, "BOM", b"\xef\xbb\xbf" + BASE),
    Case(20, "BOM behind a blank", b" \xef\xbb\xbf" + BASE, "malformed"),
    Case(20, "two BOMs", b"\xef\xbb\xbf" * 2 + BASE, "malformed"),
    Case(21, "UTF-16 with BOM", BASE.decode().encode("utf-16"), "malformed"),
    Case(21, "UTF-16", BASE.decode().encode("utf-16-le"), "malformed"),
    Case(22, "gzip", gzip.compress(BASE, mtime=0), "malformed"),
    Case(22, "random bytes", bytes.fromhex("9f3c00e1b7220a7d5b7b22ff"), "malformed"),
    Case(23, "Confluent header", b"\x00\x00\x00\x00\x07" + BASE, "malformed"),
    Case(24, "word for a number", base(user='"seven"'), "type", "user"),
    Case(24, "digits in quotes", base(user='"7"'), "type", "user"),
    *(Case(25, f"{text} for an integer", base(user=text), "type", "user") for text in ("7.9", "7.0", "1e3", "true", "1E400", "0e0")),
    Case(26, "2^63", base(user="9223372036854775808"), "range", "user"),
    Case(26, "2^63 - 1", base(user="9223372036854775807"), values={"user": 2**63 - 1}),
    Case(26, "-2^63", base(user="-9223372036854775808"), values={"user": -(2**63)}),
    Case(26, "-2^63 - 1", base(user="-9223372036854775809"), "range", "user"),
    Case(26, "300 digits", base(user="1" * 300), "range", "user"),
    Case(26, "2^31", base(qty="2147483648"), "range", "qty"),
    Case(26, "-2^31", base(qty="-2147483648"), values={"qty": -(2**31)}),
    Case(26, "2^64 + 1", base(user="18446744073709551617"), "range", "user"),
    Case(27, "1e400", base(amount="1e400"), "range", "amount"),
    Case(27, "-1e400", base(amount="-1e400"), "range", "amount"),
    Case(27, "1e-400", base(amount="1e-400"), values={"amount": 0.0}),
    *(Case(28, text, base(amount=text), "malformed") for text in ("NaN", "Infinity", "-Infinity", "+1", ".5", "1.")),
    *(Case(28, f"{text} in quotes", base(amount=f'"{text}"'), "type", "amount") for text in ("NaN", "Infinity", "1.5")),
    Case(29, "-0.0", base(amount="-0.0"), values={"amount": -0.0}),
    Case(29, "-0 for an integer", base(user="-0"), values={"user": 0}),
    Case(30, "1,200 digits", base(amount="1" * 1200), "malformed"),
    Case(30, "1,001 digits with point and exponent", base(amount="1." + "1" * 998 + "e00"), "malformed"),
    Case(30, "1,000 digits", base(amount="1." + "1" * 998 + "e1"), values={"amount": 11.11111111111111}),
    Case(30, "1,200 digits where nobody looks", BASE[:-1] + b',"z":' + b"1" * 1200 + b"}", "malformed"),
    *(Case(31, text, base(price=text), "range", "price") for text in ("1.005", "0.001", "1e-3", "1.500")),
    *(Case(32, text, base(price=text), "range", "price") for text in ("12345678901", "1e10", "-99999999990.1", "1e999999999999")),
    Case(32, "10 digits before the point", base(price="-9999999999.99"), values={"price": Decimal("-9999999999.99")}),
    Case(32, "exponent", base(price="1234e-1"), values={"price": Decimal("123.40")}),
    *(Case(33, text, base(qty=text), "malformed") for text in ("007", "-01", "0x1F", "00", "1_000", "1e", "--1")),
    Case(34, "object for a string", base(id='{"id":"a1"}'), "type", "id"),
    Case(35, "number for a string", base(id="123"), "type", "id"),
    Case(36, "scalar for an array", base(tags='"x"'), "type", "tags"),
    Case(36, "number in an array of strings", base(tags='["x",1]'), "type", "tags"),
    Case(36, "array for an object", base(place="[]"), "type", "place"),
    Case(36, "wrong deep inside", base(place='{"codes":[1,2.0]}'), "type", "place"),
    Case(36, "out of range deep inside", base(place='{"codes":[1,2147483648]}'), "range", "place"),
    Case(36, "wrong value in a map", base(counts='{"a":1,"b":true}'), "type", "counts"),
    Case(37, "array with null", base(tags='["x",null]'), values={"tags": ["x", None]}),
    Case(37, "map with null", base(counts='{"a":null}'), values={"counts": [("a", None)]}),
    Case(
        37,
        "empty containers",
        base(tags="[]", place="{}", counts="{}"),
        values={"tags": [], "place": {"city": None, "lat": None, "codes": None}, "counts": []},
    ),
    Case(38, "duplicate key", BASE[:-1] + b',"id":"a2"}', "duplicate_key"),
    Case(38, "duplicate key, escaped", BASE[:-1] + b',"\\u0069d":"a1"}', "duplicate_key"),
    Case(38, "duplicate key nobody declared", BASE[:-1] + b',"z":1,"z":1}', "duplicate_key"),
    Case(38, "duplicate key in a struct", base(place='{"city":"Ulm","city":"Ulm"}'), "duplicate_key"),
    Case(38, "duplicate unknown key in a struct", base(place='{"z":1,"z":2}'), "duplicate_key"),
    Case(38, "duplicate key in a map", base(counts='{"a":1,"\\u0061":1}'), "duplicate_key"),
    Case(38, "duplicate key in what is unknown", BASE[:-1] + b',"z":{"a":1,"a":2}}', drift=True),
    Case(39, "other case", BASE[:-1] + b',"ID":"a2","User":"x"}', drift=True),
    Case(39, "required field in other case", BASE.replace(b'"id"', b'"Id"'), "required_field", "id"),
    Case(40, "required field missing", BASE.replace(b'"id":"a1",', b""), "required_field", "id"),
    Case(40, "required field null", base(id="null"), "required_field", "id"),
    Case(40, "event time null", base(ts="null"), "required_field", "ts"),
    Case(40, "optional field missing", BASE.replace(b'"user":7,', b""), values={"user": None}, drift=True),
    Case(40, "optional fields null", base(user="null", tags="null", place="null"), values={"user": None, "tags": None, "place": None}),
    Case(41, "unknown field", BASE[:-1] + b',"z":[{"y":null},-1.5e3,"\\"}"]}', drift=True),
    Case(41, "unknown field in a struct", base(place='{"z":[1],"city":"Ulm","lat":48.4,"codes":[1,2]}')),
    ts(42, "seconds", "1357034400", "type"),
    ts(43, "milliseconds", "1357034400000", "type"),
    ts(44, "milliseconds in quotes", '"1357034400000"', "type"),
    ts(44, "empty string", '""', "type"),
    ts(45, "year -1", '"-0001-01-01T00:00:00Z"', "event_time_range"),
    ts(45, "year 0", '"0000-01-01T00:00:00Z"', "event_time_range"),
    ts(45, "year 0 by its zone", '"0001-01-01T00:00:00+00:01"', "event_time_range"),
    ts(45, "year 10000 by its zone", '"9999-12-31T23:59:59-00:01"', "event_time_range"),
    ts(45, "year 1", '"0001-01-01T00:00:00Z"', "event_time_range"),
    ts(45, "year 9999", '"9999-12-31T23:59:59Z"', "event_time_range"),
    ts(45, "year 294247", '"294247-01-10T04:00:54Z"', "event_time_range"),
    ts(45, "just too early", '"1999-12-31T23:59:59.999999Z"', "event_time_range"),
    ts(45, "earliest", '"2000-01-01T00:00:00Z"', None, 946_684_800_000_000),
    ts(45, "latest", '"2013-01-03T00:00:00Z"', None, (TIMESTAMP_MS + 86_400_000) * 1000),
    ts(45, "just too late", '"2013-01-03T00:00:00.000001Z"', "event_time_range"),
    ts(46, "year 300000", '"300000-01-01T00:00:00Z"', "event_time_range"),
    ts(46, "30 February", '"2013-02-30T00:00:00Z"', "type"),
    ts(46, "29 February", '"2013-02-29T00:00:00Z"', "type"),
    ts(46, "leap second", '"2012-06-30T23:59:60Z"', "type"),
    ts(46, "24 o'clock", '"2013-01-01T24:00:00Z"', "type"),
    ts(47, "no zone", '"2013-01-01T10:15:00"', "type"),
    ts(47, "no zone in a gap", '"2012-03-25T02:30:00"', "type"),
    ts(47, "zone", '"2013-01-01 11:15:00+01"', None),
    ts(47, "zone with minutes", '"2013-01-01T04:45:00-0530"', None),
    ts(47, "zone of 18 hours", '"2012-12-31T16:15:00-18:00"', None),
    ts(47, "zone beyond 18 hours", '"2012-12-31T16:14:00-18:01"', "type"),
    ts(47, "zone in lower case", '"2013-01-01T10:15:00z"', "type"),
    ts(47, "escaped", '"2013\\u002d01-01T10:15:00Z"', None),
    ts(48, "nanoseconds", '"2013-01-01T10:15:00.123456999Z"', None, TS_US + 123_456),
    ts(48, "ten digits", '"2013-01-01T10:15:00.1234567890Z"', "type"),
    *(
        Case(
            49 if depth < 5_000 else 50,
            f"{depth} deep",
            BASE[:-1] + b',"z":' + nested + b"}",
            "too_deep" if depth > 63 else None,
            drift=depth <= 63,
        )
        for depth, nested in NESTED
    ),
    Case(50, "100,000 deep and never closed", BASE[:-1] + b',"z":' + b"[" * 100_000, "too_deep"),
    Case(51, "1 MB", base(id='"' + "x" * 1_000_000 + '"'), "too_large"),
    Case(51, "just below 1 MB", base(id='"' + "x" * (1_000_000 - len(BASE) + 2) + '"'), values={"id": "x" * (1_000_000 - len(BASE) + 2)}),
    Case(51, "one byte more", base(id='"' + "x" * (1_000_000 - len(BASE) + 3) + '"'), "too_large"),
    Case(51, "1 MB of garbage", b"\x07\xf3" * 500_001, "too_large"),
    Case(52, "25 MB", base(id='"' + "x" * 25_000_000 + '"'), "too_large"),
    Case(53, "name of 60 kB", BASE[:-1] + b',"' + b"n" * 60_000 + b'":1}', drift=True),
    Case(54, "100,000 fields", BASE[:-1] + b"".join(b',"%x":0' % at for at in range(100_000)) + b"}", "too_many_fields"),
    Case(54, "1,000 fields", BASE[:-1] + b"".join(b',"%x":0' % at for at in range(991)) + b"}", drift=True),
    Case(54, "1,001 fields", BASE[:-1] + b"".join(b',"%x":0' % at for at in range(992)) + b"}", "too_many_fields"),
    Case(55, "names of ours", BASE[:-1] + b',"_corrupt_record":"x","__corrupt":"x","dead":{},"source":1}', drift=True),
    Case(56, "odd text", base(id=ODD), values={"id": "../../etc <script>\r\n\x1b[31m\u202e=cmd()|'/C calc'!A0 $(rm) {{x}} %s"}),
]
