"""Hypothesis strategies for records that were sound JSON before somebody edited them, or never were."""

from __future__ import annotations

import re
from typing import Final

from hypothesis import strategies as st

from tests.json_catalogue import BASE, CASES
from tests.json_events import WIDE

__all__ = ["NUMBERS", "POOL", "edited", "soup"]

WIDE_TEXT: Final = (
    '{"flag":true,"small":-32768,"ratio":0.1,"big":1234567890123456789012345678.0123456789,"day":"2012-02-29","größe \\"x\\"":5,'
    '"visits":[{"at":"2013-01-01T10:15:00.5+01:00","on":"1678-01-01","fee":-0.5},null,{}],"by_name":{"a":[1.5,null],"":[],"ü":null},'
    '"id":"\\u00fc\\ud83d\\ude00é\\n","ts":"2013-01-01 10:15:00Z","z":[{"y":{"x":[1e5,"}",null]}}],"user":-9223372036854775808}'
).encode()
PLACES: Final = b'{"ts" : "2013-01-01T00:00:00Z",\n\t"id": "\\/\\b",\r "place":{"codes":[ ],"city":null}, "counts":{} ,"tags":[\t] }'
POOL: Final = [WIDE_TEXT, WIDE_TEXT, BASE, WIDE_TEXT, PLACES] * 40 + [
    case.value for case in CASES if case.value is not None and len(case.value) < 1500
]
TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|[{}\[\]:,]|[ \t\r\n]+|.', re.DOTALL)

WRITTEN: Final = """
    0 -0 -0.0 7.0 1e3 1E+2 1.5e-3 32767 32768 -32769 2147483647 -2147483649 0e5 0.0 00 1. - 9223372036854775807
    9223372036854775808 -9223372036854775809 18446744073709551616 10000000000000000000 9007199254740993 0.1 0.30000000000000004
    5e-324 2.4703282292062327e-324 2.4703282292062328e-324 1e-400 1e400 -1e309 1e22 1e23 1.7976931348623157e308
    1.7976931348623158e308 1.7976931348623159e308 2.2250738585072011e-308 8.5e-1 1e999999999999 3.4028234663852886e38
    3.4028235677973362e38 3.4028235677973366e38 1e-46 7.038531e-26 16777217 0.999999970197678 1.005 1.50 1.500 12345678.90
    9999999999.99 10000000000 99999999999.9e-1 100e-2 100e-3 9999.9 10000.0 9999999999999999999999999999.9999999999
    10000000000000000000000000000 0.00000000001 123456789012345678.9012345678 8.41e21 9.109383632e-31 6.9294956446009195e15
    1.448997445238699 9007199254740992.5 4503599627370497.5
"""
NUMBERS: Final = (
    *WRITTEN.split(),
    *("1" * 1000, "1" * 1001, "0." + "3" * 999, "0." + "3" * 1000, "1" * 400, "0." + "0" * 400 + "1", "1e" + "0" * 998 + "5"),
    *("1e99999999999999999999", "1.5e-99999999999999999999", "0e99999999999999999999", "0e-99999999999999999999"),
)
DATES: Final = (
    "1678-01-01|1677-12-31|2261-12-31|2262-01-01|1678-01-01T00:00:00Z|1678-01-01T00:00:00+00:01|+12013-01-01T10:15:00Z|"
    "2261-12-31T23:59:59.999999999Z|2261-12-31T23:59:59-00:01|2262-01-01T00:59:59+01:00|1677-12-31T23:00:00-01:00|"
    "2013-01-01|2000-02-29|1900-02-29|2013-04-31|0000-01-01|0000-02-29|9999-12-31|10000-01-01|-001-01-01|2013-1-01|"
    "2013-01-01T10:15:00Z|2013-01-01T10:15:00|2013-01-01T10:15Z|2013-01-01T24:00:00Z|2013-01-01T10:60:00Z|2013-01-01T10:15:60Z|"
    "2013-01-01T10:15:00.Z|2013-01-01T10:15:00.1Z|2013-01-01T10:15:00.123456789Z|2013-01-01T10:15:00.1234567890Z|"
    "2013-01-01t10:15:00Z|2013-01-01T10:15:00+1|2013-01-01T10:15:00+01|2013-01-01T10:15:00-0130|2013-01-01T10:15:00+18:00|"
    "2013-01-01T10:15:00+18:01|2013-01-01T10:15:00+01:60|2013-01-01T10:15:00-00:00|1969-12-31T23:59:59.9999999Z|"
    "0001-01-01T00:00:00+00:01|2013-01-01T10:15:00 Z|9999-12-31T23:59:59.999999Z|9999-12-31T23:00:00-01:00|"
    "0000-12-31T23:59:59-01:00|2000-01-01T00:00:00Z|2013-01-03T00:00:00.000001Z|2013-01-01T10:15:00Z |٢013-01-01T10:15:00Z|"
    "2013-13-01T00:00:00Z|2013-00-10T00:00:00Z|2013-01-00"
)
TIMES: Final = (*DATES.split("|"), "\\u0032013-01-01T10:15:00Z", "")
TEXTS: Final = (
    *(
        "x",
        "\\u0000",
        "\\ud800",
        "\\udc00",
        "\\ud83d\\ude00",
        "\\uD83D\\u0041",
        "\\ud83d\\u00",
        "\\ud83d\\n",
        "\\x",
        "\\",
        "\\u12g4",
        "\\\\",
        '\\"',
    ),
    *(
        "é",
        "€",
        "😀",
        "\x7f",
        "\x00",
        "\x1f",
        "\n",
        "\udcff",
        "\udcc3",
        "\udce2\udc82",
        "\udcc0\udc80",
        "\udced\udca0\udc80",
        "\udcf4\udc90\udc80\udc80",
    ),
    *(
        "\udcf0\udc9f\udc98",
        "\udcf8\udc88\udc80\udc80\udc80",
        "\udce0\udc80\udc80",
        "\udcbf",
        "a" * 40,
        "{",
        "}",
        "]",
        "/*",
        "//",
        "\ufeff",
        "\u2028",
    ),
)
NAMES: Final = (
    *WIDE.names,
    "at",
    "on",
    "fee",
    "city",
    "codes",
    "z",
    "ID",
    "i\\u0064",
    "\\u0075ser",
    "gr\\u00f6\\u00dfe \\u0022x\\u0022",
    "",
    "Tags",
)
QUOTED: Final = tuple(
    f'"{text}"' for text in (*TIMES, *TEXTS, *(name.replace('"', '\\"') if name.endswith('"') else name for name in NAMES))
)
MEMBERS: Final = tuple(f",{name}:0" for name in QUOTED[-len(NAMES) :])
MARKS: Final = (
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        '"',
        "'",
        " ",
        "\t",
        "\n",
        "\r",
        "\x0b",
        "\x0c",
        "\xa0",
        "\x00",
        "\ufeff",
        "\udcff",
        "\udc80",
        "#",
        "//",
        "/**/",
    ),
    *(
        "null",
        "true",
        "false",
        "nul",
        "True",
        "NaN",
        "Infinity",
        "-Infinity",
        "{}",
        "[]",
        "[null]",
        "{{",
        "[[",
        "}}",
        '{"a":1,"a":2}',
        '[{"a":[]}]',
    ),
    *("[" * 62 + "]" * 62, "[" * 63 + "]" * 63, "[" * 64 + "]" * 64, '{"a":' * 70),
)
PAYLOADS: Final = [text.encode("utf-8", "surrogateescape") for text in (*NUMBERS, *QUOTED, *MARKS, *MEMBERS)]


def looks(token: bytes) -> bytes:
    """Return what a token is: a number, a string, or something else."""
    first = token[:1]
    return b"0" if first in b"-0123456789" else first if first == b'"' else b"x" if first.isalpha() else b"?"


ALIKE: Final = {sort: [one for one in PAYLOADS if looks(one) == sort] for sort in (b"0", b'"', b"x")}


def edit(text: bytes, kind: int, at: int, other: int) -> bytes:
    """Change a record in one place; any two places, whatever the length."""
    tokens = TOKEN.findall(text) or [b""]
    first, second = at % len(tokens), other % len(tokens)
    place = at % (len(text) + 1)
    before, one, behind = text[:place], text[place : place + 1], text[place + 1 :]
    payload = PAYLOADS[other % len(PAYLOADS)]
    if kind == 0:  # a number for a number, a string or name for another: the most likely to stay JSON
        values = [index for index, token in enumerate(tokens) if looks(token) in ALIKE] or [0]
        first = values[at % len(values)]
        alike = ALIKE.get(looks(tokens[first]), PAYLOADS)
        tokens[first] = alike[other % len(alike)]
    elif kind == 1:
        tokens[first] = payload
    elif kind == 2:
        tokens[first], tokens[second] = tokens[second], tokens[first]
    elif kind == 3:
        tokens[first:first] = tokens[first : first + 1 + other % 12]
    elif kind == 4:  # another member in front of one
        commas = [index for index, token in enumerate(tokens) if token == b","] or [0]
        tokens[commas[at % len(commas)]] = MEMBERS[other % len(MEMBERS)].encode("utf-8", "surrogateescape") + b","
    else:
        changed = {
            5: before,
            6: before + behind[other % 8 :],
            7: before + bytes(byte ^ 1 << other % 8 for byte in one) + behind,
            8: before + payload + one + behind,
            9: before + (b"\\u%04x" % one[0] if one.isalnum() else one) + behind,
        }
        return changed[kind]
    return b"".join(tokens)


edits = st.lists(
    st.tuples(st.sampled_from([0] * 12 + [4, 9] * 3 + list(range(10))), st.integers(0, 2**20), st.integers(0, 2**20)), max_size=3
)


@st.composite
def edited(draw: st.DrawFn) -> bytes:
    """Draw a record that was sound, or one of the catalogue, after some edits."""
    text = draw(st.sampled_from(POOL))
    for kind, at, other in draw(edits):
        text = edit(text, kind, at, other)
    return text


def soup() -> st.SearchStrategy[bytes]:
    """Draw bytes without sense, some with a touch of JSON."""
    words = st.lists(st.sampled_from(PAYLOADS), max_size=12).map(b"".join)
    return st.binary(max_size=40) | words | words.map(lambda inner: b"{" + inner + b"}")
