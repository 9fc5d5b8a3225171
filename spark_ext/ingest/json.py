"""Parse JSON records in Spark SQL, once, into typed rows or dead letters.

What flows in: records as `spark_ext.kafka.read` gives them. What flows out: the same number of rows, each with
the schema's columns, ``source``, and ``dead`` (see `spark_ext.ingest.tags`).
Spark's ``from_json`` alone loses data in silence: an empty value, a missing field, a second document behind the
first. The checks around it turn each of these into a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, FloatType, StringType, StructField, StructType, TimestampType

from spark_ext.errors import SchemaError
from spark_ext.ingest.tags import DEAD, SOURCE

__all__ = ["parse_json"]

CORRUPT: Final = "__corrupt"
KEY: Final = "__key"
VALUE: Final = "__value"
STRICT: Final = {
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": CORRUPT,
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
}


def parse_json(
    records: DataFrame,
    schema: StructType,
    *,
    event_time: str,
    earliest: datetime,
    ahead: timedelta = timedelta(days=1),
    max_value_bytes: int = 1_048_576,
    refuse: Mapping[str, Column] | None = None,
) -> DataFrame:
    """Turn records into typed rows, or dead letters with a reason.

    Guarantee: one row out for each record in; never an exception in the query. A row is good if and only if its
    value is one UTF-8 JSON object of at most `max_value_bytes`, each field has its type, no required field is
    missing or null, no number is infinite, ``earliest <= event_time <= record timestamp + ahead``, and no rule of
    `refuse` holds. The verdict depends on the record alone, so a replay gives the same. Bad rows have a null `event_time`: a watermark
    defined on it cannot be poisoned.

    Parameters
    ----------
    records : DataFrame
        Columns ``key``, ``value`` (binary) and ``topic``, ``partition``, ``offset``, ``timestamp``; batch or stream.
    schema : StructType
        Fields to read; those with ``nullable=False`` are required. Fields of the value that it lacks are ignored.
    event_time : str
        Name of the required timestamp field that carries event time.
    earliest : datetime
        Smallest plausible event time, with a time zone.
    ahead : timedelta
        How far event time may lie after the record's own timestamp.
    max_value_bytes : int
        Largest value that is parsed, in bytes.
    refuse : mapping of str to Column, optional
        The job's own rules: a reason, and a condition over the schema's columns that is true for a bad row. They
        must depend on the row alone, or a replay may judge otherwise.

    Returns
    -------
    DataFrame
        The schema's columns (all nullable), ``source`` and ``dead``. Reasons, first match wins: ``tombstone``,
        ``too_large``, ``utf8``, ``empty``, ``malformed``, ``type``, ``trailing_bytes``, ``required_field`` (detail:
        its name), ``number_range`` (detail: its name), ``event_time_range``, then those of `refuse`.

    Raises
    ------
    SchemaError
        The schema cannot be used: event time is not a required timestamp, or a name is taken.

    Not supported: duplicate keys (the last one wins), a number in a string field (its text is taken), nanoseconds
    (cut to microseconds).

    State: none.
    """
    _check(schema, event_time, earliest)
    text = F.col(VALUE).cast("string")
    fits = F.octet_length(VALUE) <= max_value_bytes
    with_corrupt = StructType([*schema.fields, StructField(CORRUPT, StringType())])
    placed = records.select(
        F.struct("topic", "partition", "offset", "timestamp").alias(SOURCE), F.col("key").alias(KEY), F.col("value").alias(VALUE)
    )
    # inline() keeps the optimiser from parsing once per column that is used.
    parsed = placed.select("*", F.inline(F.array(F.from_json(F.when(fits, text), with_corrupt, STRICT))))

    missing = _first_name([field.name for field in schema.fields if not field.nullable], lambda column: column.isNull())
    infinite = _first_name(_float_names(schema), lambda column: F.abs(column) == float("inf"))
    # Nearly every record is good, so the good path asks as little as possible: where all required fields are there,
    # the value is neither null nor empty nor too large.
    reason = (
        F.when(missing.isNotNull(), F.coalesce(_reason_without_fields(text, fits), F.lit("required_field")))
        .when(~F.is_valid_utf8(text), "utf8")
        .when(F.col(CORRUPT).isNotNull(), _malformed_or_type(text))
        .when(~_is_one_document(text), "trailing_bytes")
        .when(infinite.isNotNull(), "number_range")
    )
    # In microseconds: adding an interval to a timestamp goes through the calendar.
    lead = F.unix_micros(event_time) - F.unix_micros(f"{SOURCE}.timestamp")
    plausible = (F.col(event_time) >= F.lit(earliest)) & (lead <= ahead // timedelta(microseconds=1))
    reason = reason.when(~plausible, "event_time_range")
    for name, condition in (refuse or {}).items():
        reason = reason.when(condition, name)

    judged = parsed.withColumn("__reason", reason)
    bad = F.col("__reason").isNotNull()
    detail = F.when(F.col("__reason") == "required_field", missing).when(F.col("__reason") == "number_range", infinite)
    dead = F.when(
        bad, F.struct(F.col("__reason").alias("reason"), detail.alias("detail"), F.col(KEY).alias("key"), F.col(VALUE).alias("value"))
    )
    columns: list[Column] = [
        F.when(~bad, F.col(field.name)).alias(field.name) if field.name == event_time else F.col(field.name) for field in schema.fields
    ]
    return judged.select(*columns, SOURCE, dead.alias(DEAD))


def _reason_without_fields(text: Column, fits: Column) -> Column:
    """Return why required fields are missing, or null if they simply are."""
    return (
        F.when(F.col(VALUE).isNull(), "tombstone")
        .when(~fits, "too_large")
        .when(~F.is_valid_utf8(text), "utf8")
        .when(F.btrim(text, F.lit(" \t\r\n")) == "", "empty")
        .when(F.col(CORRUPT).isNotNull(), _malformed_or_type(text))
        .when(~_is_one_document(text), "trailing_bytes")
    )


def _malformed_or_type(text: Column) -> Column:
    is_object = F.btrim(text, F.lit(" \t\r\n")).startswith("{") & F.try_parse_json(text).isNotNull()
    return F.when(is_object & _is_one_document(text), "type").otherwise("malformed")


def _is_one_document(text: Column) -> Column:
    """Tell whether nothing stands behind the first document: at once for flat objects, exactly for all others."""

    # As the only element of an array, and as the first of two: a bracket in the text can end the one or the other
    # array early, but never both after the right number of elements.
    def elements(behind: str) -> Column:
        return F.json_array_length(F.concat(F.lit("["), text, F.lit(behind)))

    exactly = (elements("]") == 1) & (elements(",0]") == 2)  # noqa: PLR2004 (the document and the 0)
    # The fastest way in Spark to see that the first brace is the last byte; instr() takes three times as long.
    at_once = F.octet_length(F.substring_index(text, "}", 1)) + 1 == F.octet_length(text)
    return F.when(at_once, F.lit(True)).otherwise(F.coalesce(exactly, F.lit(False)))


def _float_names(schema: StructType) -> list[str]:
    return [field.name for field in schema.fields if isinstance(field.dataType, DoubleType | FloatType)]


def _first_name(names: Sequence[str], is_bad: Callable[[Column], Column]) -> Column:
    """Return the name of the first column that is bad, or null."""
    found = F.lit(None).cast("string")
    for name in reversed(names):
        found = F.when(is_bad(F.col(name)), name).otherwise(found)
    return found


def _check(schema: StructType, event_time: str, earliest: datetime) -> None:
    names = schema.fieldNames()
    taken = sorted({name for name in names if name in {SOURCE, DEAD} or name.startswith("__")})
    if taken:
        raise SchemaError(
            "parse",
            "schema",
            ",".join(names),
            expected=f"fields other than {SOURCE!r}, {DEAD!r} and names with '__'",
            got=repr(taken),
            todo="rename them",
        )
    wanted = event_time in names and isinstance(schema[event_time].dataType, TimestampType) and not schema[event_time].nullable
    if not wanted or earliest.tzinfo is None:
        raise SchemaError(
            "parse",
            "event time",
            event_time,
            expected="a field of type timestamp with nullable=False, and earliest with a time zone",
            got=f"{schema[event_time] if event_time in names else 'no such field'}, {earliest!r}",
            todo="declare it so",
        )
