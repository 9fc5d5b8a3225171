"""What the JSON decoder must say of a record, decided slowly and obviously; shares no code with the decoder.

First the text becomes a tree by RFC 8259, which is where structural reasons come from, first met first. Only a record
with a sound structure is held against the schema: types and ranges in reading order, then required fields, then time.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pyspark.sql.types import ArrayType, DataType, MapType, StructType

from tests.reference_types import FieldError, Members, Number, typed

__all__ = ["Bad", "Good", "Reference"]

MAX_DEPTH: Final = 64
MAX_FIELDS: Final = 1000
MAX_DIGITS: Final = 1000
YEAR_9999_MS: Final = datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC).timestamp() * 1000
BLANK: Final = b" \t\n\r"
PLAIN: Final = re.compile(rb"[\x20\x21\x23-\x5b\x5d-\x7f]+")
NUMBER: Final = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
HEX: Final = re.compile(rb"[0-9a-fA-F]{4}")
ESCAPES: Final = {
    ord('"'): '"',
    ord("\\"): "\\",
    ord("/"): "/",
    ord("b"): "\b",
    ord("f"): "\f",
    ord("n"): "\n",
    ord("r"): "\r",
    ord("t"): "\t",
}
WORDS: Final = {b"true": True, b"false": False, b"null": None}


class StructureError(Exception):
    """The text is not one sound JSON object; the message is the reason."""


@dataclass(frozen=True)
class Good:
    """A record's declared fields: times as microseconds since 1970, structs as dicts, maps as lists of pairs."""

    values: dict[str, Any]
    drift: bool = False


@dataclass(frozen=True)
class Bad:
    """Why a record is not taken."""

    reason: str
    detail: str | None = None


class Text:
    """A reader of one value, from left to right."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = 0
        self.depth = 0
        self.twice = False  # a name inside a declared struct or map, which counts where nothing else is wrong with the structure

    def document(self, schema: StructType) -> Members:
        if self.text.startswith(b"\xef\xbb\xbf"):
            self.at = 3
        if self.next() is None:
            raise StructureError("empty")
        if self.next() != b"{":
            raise StructureError("malformed")
        found = self.object(schema, top=True)
        if self.next() is not None:
            raise StructureError("trailing_bytes")
        if self.twice:
            raise StructureError("duplicate_key")
        return found

    def next(self) -> bytes | None:
        """Return the next byte that is not blank, without taking it; None at the end."""
        while self.at < len(self.text) and self.text[self.at] in BLANK:
            self.at += 1
        return self.text[self.at : self.at + 1] or None

    def take(self, wanted: bytes) -> bytes:
        """Take the next byte that is not blank, which must be one of these."""
        found = self.next()
        if found is None or found not in wanted:
            raise StructureError("malformed")
        self.at += 1
        return found

    def open(self, bracket: bytes) -> None:
        self.take(bracket)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise StructureError("too_deep")

    def object(self, kind: DataType | None, *, top: bool = False) -> Members:
        declared = {field.name: field.dataType for field in kind.fields} if isinstance(kind, StructType) else {}
        pairs: list[tuple[str, Any]] = []
        seen = set()
        self.open(b"{")
        closed = self.next() == b"}" and self.take(b"}") == b"}"
        while not closed:
            self.take(b'"')
            name = self.string()
            if isinstance(kind, StructType | MapType) and name in seen:
                if top:
                    raise StructureError("duplicate_key")
                self.twice = True
            seen.add(name)
            if top and len(seen) > MAX_FIELDS:
                raise StructureError("too_many_fields")
            self.take(b":")
            pairs.append((name, self.value(kind.valueType if isinstance(kind, MapType) else declared.get(name))))
            closed = self.take(b",}") == b"}"
        self.depth -= 1
        return Members(pairs)

    def array(self, kind: DataType | None) -> list[Any]:
        found: list[Any] = []
        self.open(b"[")
        closed = self.next() == b"]" and self.take(b"]") == b"]"
        while not closed:
            found.append(self.value(kind.elementType if isinstance(kind, ArrayType) else None))
            closed = self.take(b",]") == b"]"
        self.depth -= 1
        return found

    def value(self, kind: DataType | None) -> Any:
        """Read a value. The type declared for it says only in which objects a name may not come twice."""
        first = self.next()
        if first == b"{":
            return self.object(kind)
        if first == b"[":
            return self.array(kind)
        if first == b'"':
            self.at += 1
            return self.string()
        for word, meaning in WORDS.items():
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return meaning
        number = NUMBER.match(self.text, self.at)
        if number is None or sum(byte in b"0123456789" for byte in number[0]) > MAX_DIGITS:
            raise StructureError("malformed")
        self.at = number.end()
        return Number(number[0].decode())

    def string(self) -> str:
        """Read the rest of a string, its first quote already taken."""
        parts = []
        while True:
            plain = PLAIN.match(self.text, self.at)
            if plain is not None:
                parts.append(plain[0].decode())
                self.at = plain.end()
            first = self.text[self.at] if self.at < len(self.text) else 0  # the end is as bad as a control character
            self.at += 1
            if first == ord('"'):
                return "".join(parts)
            if first == ord("\\"):
                parts.append(self.escape())
            elif first >= 0x80:
                parts.append(self.character(first))
            else:
                raise StructureError("malformed")

    def character(self, lead: int) -> str:
        """Read one character of two to four bytes, the first already taken."""
        length = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
        start, self.at = self.at - 1, self.at - 1 + length
        try:
            return self.text[start : self.at].decode()
        except UnicodeDecodeError:
            raise StructureError("utf8") from None

    def escape(self) -> str:
        """Read what stands behind a backslash."""
        kind = self.text[self.at] if self.at < len(self.text) else 0
        self.at += 1
        if kind in ESCAPES:
            return ESCAPES[kind]
        if kind != ord("u"):
            raise StructureError("malformed")
        unit = self.hex4()
        if 0xD800 <= unit <= 0xDBFF and self.text.startswith(b"\\u", self.at):
            self.at += 2
            low = self.hex4()
            if 0xDC00 <= low <= 0xDFFF:
                return chr(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00))
            raise StructureError("utf8")
        if 0xD800 <= unit <= 0xDFFF:
            raise StructureError("utf8")
        return chr(unit)

    def hex4(self) -> int:
        found = HEX.match(self.text, self.at)
        if found is None:
            raise StructureError("malformed")
        self.at = found.end()
        return int(found[0], 16)


class Reference:
    """The contract, word by word; parameters as those of the decoder."""

    def __init__(
        self,
        schema: StructType,
        event_time: str,
        earliest: datetime,
        ahead: timedelta = timedelta(days=1),
        max_value_bytes: int = 1_000_000,
    ) -> None:
        self.schema = schema
        self.event_time = event_time
        self.earliest_us = (earliest - datetime.fromisoformat("1970-01-01T00:00:00Z")) // timedelta(microseconds=1)
        self.ahead_us = ahead // timedelta(microseconds=1)
        self.max_value_bytes = max_value_bytes

    def judge(self, value: bytes | None, timestamp_ms: int) -> Good | Bad:
        """Decide on one record; `timestamp_ms` is -1 where it has none."""
        if value is None:
            return Bad("tombstone")
        if len(value) > self.max_value_bytes:
            return Bad("too_large")
        try:
            pairs = Text(value).document(self.schema).pairs
        except StructureError as problem:
            return Bad(str(problem))
        return self._fields(pairs, timestamp_ms)

    def _fields(self, pairs: list[tuple[str, Any]], timestamp_ms: int) -> Good | Bad:
        values: dict[str, Any] = dict.fromkeys(self.schema.names)
        for name, found in pairs:
            if name in values:
                try:
                    values[name] = typed(self.schema[name].dataType, found)
                except FieldError as problem:
                    reason = "event_time_range" if (name, str(problem)) == (self.event_time, "range") else str(problem)
                    return Bad(reason, name)
        for field in self.schema.fields:
            if not field.nullable and values[field.name] is None:
                return Bad("required_field", field.name)
        latest_us = timestamp_ms * 1000 + self.ahead_us if 0 <= timestamp_ms <= YEAR_9999_MS else math.inf
        if not self.earliest_us <= values[self.event_time] <= latest_us:
            return Bad("event_time_range", self.event_time)
        return Good(values, drift={name for name, _ in pairs} != set(values))
