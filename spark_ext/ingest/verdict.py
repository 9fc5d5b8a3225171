"""The questions that decide whether a record is good, as Spark expressions, cheapest form first."""

from __future__ import annotations

from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DateType

__all__ = ["BLANKS", "is_object", "is_one_document", "is_outside_pandas", "time_of"]

BLANKS: Final = " \t\r\n"  # what JSON takes for blank
DATE_LENGTH: Final = len("2013-01-01")
SHORTEST_TIME: Final = len("2013-01-01T10:15:00Z")
OFFSET: Final = r"[+-]\d\d:\d\d$"
PANDAS_YEARS: Final = ("1678-01-01", "2262-01-01")  # whole years within its nanoseconds


def is_object(text: Column) -> Column:
    """Tell whether this is one JSON object, whatever it holds; for the few records that could not be read."""
    return F.btrim(text, F.lit(BLANKS)).startswith("{") & F.try_parse_json(text).isNotNull() & is_one_document(text)


def is_one_document(text: Column) -> Column:
    """Tell whether nothing stands behind the first document: at once for flat objects, exactly for all others."""

    # As the only element of an array, and as the first of two: a bracket in the text can end the one or the other
    # array early, but never both after the right number of elements.
    def elements(behind: str) -> Column:
        return F.json_array_length(F.concat(F.lit("["), text, F.lit(behind)))

    exactly = (elements("]") == 1) & (elements(",0]") == 2)  # noqa: PLR2004 (the document and the 0)
    # The fastest way in Spark to see that the first brace is the last byte; instr() takes three times as long.
    at_once = F.octet_length(F.substring_index(text, "}", 1)) + 1 == F.octet_length(text)
    return F.when(at_once, F.lit(True)).otherwise(F.coalesce(exactly, F.lit(False)))


def time_of(text: Column, kind: DataType) -> Column:
    """Return a timestamp with date, time and zone, or a whole date; null for anything less.

    Spark's cast alone would complete half of one: from today's date, the session's zone, or the first of January.
    """
    length = F.octet_length(text)
    if isinstance(kind, DateType):
        return F.when(length == DATE_LENGTH, text.try_cast("date"))
    whole = (length >= SHORTEST_TIME) & (F.substring(text, DATE_LENGTH + 1, 1) == "T")
    return F.when(whole & (text.endswith("Z") | text.rlike(OFFSET)), text.try_cast("timestamp"))


def is_outside_pandas(time: Column) -> Column:
    """Tell whether a time would break every pandas-based operator behind us."""
    first, last = (F.lit(day).cast("date").cast("timestamp") for day in PANDAS_YEARS)
    return (time < first) | (time >= last)
