"""Records that are lines of CSV, decoded in blocks."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np

from spark_ext.errors import SettingsError
from spark_ext.ingest.fields import Fields
from spark_ext.ingest.format import Format
from spark_ext.ingest.records import Records
from spark_ext.ingest.scanner import Found, Scanner
from spark_ext.ingest.schema import check_flat

__all__ = ["CsvFormat"]


@dataclass(frozen=True)
class CsvFormat(Format):
    """What a good record of a topic of CSV lines looks like, and how to read it.

    Guarantee: as for `Format`. A row is good if and only if its value is one line after RFC 4180, in UTF-8, of at most
    `max_value_bytes`, with or without a line end (CRLF or LF) behind it, with one field for each of the schema's in their
    order, each field has its type, no required field is null, each number and time is in range, ``earliest <= event_time <=
    record timestamp + ahead``, and no rule of `refuse` holds. Reasons are those of `JsonFormat`: ``tombstone``, ``too_large``,
    ``empty`` (nothing, or a line end alone), ``utf8``, ``malformed`` (another number of fields, a quote within a field, anything
    behind a closing quote, a carriage return alone), ``trailing_bytes`` (a second line), ``type``, ``range``, ``required_field``,
    ``event_time_range``.

    Parameters
    ----------
    schema : StructType
        One field per column, in their order; no structs, arrays or maps. Numbers and times are written as in JSON,
        booleans ``true`` or ``false``; no blanks around them. Quotes say nothing about a type: ``"12"`` is a number too.
    event_time, earliest, ahead, max_value_bytes, refuse
        As for `JsonFormat`.
    delimiter : str
        One ASCII character.
    quote : str
        One ASCII character. A quoted field may hold delimiters, line ends and, doubled, quotes.
    null : str
        A field that is exactly this, without quotes, is null; in quotes it is text, so ``""`` is an empty string.

    Raises
    ------
    SchemaError
        The schema cannot be used, see `JsonFormat`; or it has nested fields.
    SettingsError
        Delimiter, quote or null cannot be told apart.

    Not supported: header lines, comments, several records in one value, Spark's own connector (``engine="spark"``).

    State: none.

    Examples
    --------
    >>> from pyspark.sql.types import LongType, StringType, StructField, StructType
    >>> from spark_ext.ingest.records import Bytes, Records
    >>> lines = [b'7,"say ""a"", b"', b",", b'8,""', b"x,y"]
    >>> stamps = np.full(len(lines), -1)
    >>> records = Records(np.arange(len(lines)), stamps, Bytes.of([None] * len(lines)), Bytes.of(lines))
    >>> decoded = CsvFormat(StructType([StructField("n", LongType()), StructField("name", StringType())])).decoder().decode(records)
    >>> decoded.columns.to_pydict()
    {'n': [7, None, 8], 'name': ['say "a", b', None, '']}
    >>> decoded.reasons, decoded.details
    (['type'], ['n'])
    """

    kind: ClassVar[str] = "csv"

    _: KW_ONLY
    delimiter: str = ","
    quote: str = '"'
    null: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flat(self.schema)
        ends = "\r\n"
        single = all(len(one) == 1 and one.isascii() and one not in ends for one in (self.delimiter, self.quote))
        if not single or self.delimiter == self.quote or any(one in self.null for one in (self.delimiter, self.quote, *ends)):
            raise SettingsError(
                "use",
                "format",
                self.kind,
                expected="delimiter and quote: two different ASCII characters; null: text without them; no line ends",
                got=f"delimiter={self.delimiter!r}, quote={self.quote!r}, null={self.null!r}",
                todo="choose others",
            )

    def _scanner(self) -> Scanner:
        delimiter, quote = ord(self.delimiter), ord(self.quote)
        null = np.frombuffer(self.null.encode() + b"\0", np.uint8)

        def judge(fields: Fields, records: Records, max_value_bytes: int, found: Found) -> None:
            values = records.values
            from spark_ext.ingest.csv_kernel import scan  # noqa: PLC0415 (loads numba, which processes that only plan do not need)

            scan(
                values.data, values.offsets, values.valid, fields.kinds, fields.lows, fields.highs, fields.required, delimiter, quote, null,
                max_value_bytes, *found,
            )  # fmt: skip

        return judge
