"""The numbers by which scanning kernels tell columns and verdicts what they found; the same for every format."""

from __future__ import annotations

from typing import Final

__all__ = ["ABSENT", "DOUBLED", "ESCAPED", "HARD", "KINDS", "REASONS"]

ABSENT: Final = -1  # the length of a span: the field is missing or null
ESCAPED: Final = 1  # flag: a string with the escapes of JSON
HARD: Final = 2  # flag: the kernel leaves the value to whoever makes the column
DOUBLED: Final = 4  # flag: a string with doubled quotes; the byte before its span is the quote

KINDS: Final = ("string", "boolean", "integer", "double", "decimal", "timestamp", "date", "object", "array")
STRING, BOOLEAN, INTEGER, DOUBLE, DECIMAL, TIMESTAMP, DATE, OBJECT, ARRAY = range(9)

REASONS: Final = (
    "", "tombstone", "empty", "too_large", "utf8", "malformed", "trailing_bytes", "duplicate_key", "too_deep", "too_many_fields",
    "type", "range", "required_field", "event_time_range",
)  # fmt: skip
(
    GOOD, TOMBSTONE, EMPTY, TOO_LARGE, UTF8, MALFORMED, TRAILING, DUPLICATE, TOO_DEEP, TOO_MANY, TYPE, RANGE, REQUIRED, EVENT_TIME_RANGE,
) = range(14)  # fmt: skip
