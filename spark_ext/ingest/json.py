"""What a good JSON record is, and how to read it: in blocks by a `Decoder`, or in Spark SQL behind Spark's own connector.

What flows in: records. What flows out: the same number of rows, each with the schema's columns and the tags of
`spark_ext.ingest.tags`.
Spark's ``from_json`` alone loses data in silence: an empty value, a missing field, a second document behind the
first, a time without a date. So every record is asked whether it is good, as cheaply as that can be asked; only the
few that are not are read again to say why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from operator import or_
from typing import ClassVar, Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from spark_ext.ingest import verdict
from spark_ext.ingest.fields import Fields
from spark_ext.ingest.filters import to_column
from spark_ext.ingest.format import Format
from spark_ext.ingest.records import Records
from spark_ext.ingest.scanner import Found, Scanner
from spark_ext.ingest.schema import FLOATS, TIMES, check_for_spark
from spark_ext.ingest.tags import DEAD, RANGE, RANGE_TYPE, SOURCE
from spark_ext.names import column

__all__ = ["JsonFormat"]

CORRUPT: Final = "__corrupt"
KEY: Final = "__key"
VALUE: Final = "__value"
RAW: Final = "__raw_"
STRICT: Final = {
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": CORRUPT,
    "allowSingleQuotes": "false",
    "allowNonNumericNumbers": "false",
}


@dataclass(frozen=True)
class Rule:
    """One thing that makes a record bad: the reason, the field if it is about one, and a condition (null: not bad).

    A rule that `refines` holds only where a later one does too: it is needed for the reason, not for the verdict.
    """

    reason: str
    condition: Column
    detail: str | None = None
    refines: bool = False


@dataclass(frozen=True)
class JsonFormat(Format):
    """What a good record of a topic of JSON objects looks like, and how to read it.

    Guarantee: as for `Format`. A row is good if and only if its
    value is one UTF-8 JSON object of at most `max_value_bytes`, 64 open brackets and 1000 names, no name comes twice, each
    field has its type, no required field is missing or null, each number and time is in range,
    ``earliest <= event_time <= record timestamp + ahead``, and no rule of `refuse` holds.

    Parameters
    ----------
    schema : StructType
        Fields to read; those with ``nullable=False`` are required. Fields of the value that it lacks are ignored.
        A timestamp is text with date, time and zone, such as ``2013-01-01T10:15:00.25Z`` or ``...+01:00``, between 1678
        and 2261 (what pandas can hold); a date is ``2013-01-01``. A timestamp with metadata ``{"epoch": "ms"}`` (or ``s``,
        ``us``) is a whole number of these since 1970 instead, or text of one.
    event_time : str, optional
        Name of the required timestamp field that carries event time.
    earliest : datetime, optional
        Smallest plausible event time, with a time zone; needed where there is an event time.
    ahead : timedelta
        How far event time may lie after the record's own timestamp.
    max_value_bytes : int
        Largest value that is parsed, in bytes.
    refuse : mapping of str to conditions
        The job's own rules: a reason, and conditions over the schema's top-level fields which a bad row matches, such as
        ``{"negative": [("price", "<", 0)]}``; see `spark_ext.ingest.filters`.

    Raises
    ------
    SchemaError
        The schema cannot be used: event time is not a required timestamp, a name is taken, or a type is one whose
        values Spark would change in silence.

    Not supported behind Spark's own connector (`parse`): duplicate keys (the last one wins); a number, an object or half a
    surrogate pair in a string field (its text is taken); decimals are rounded to their scale and may stand in quotes; limits on
    brackets and names. Nanoseconds are cut by both.

    State: none.
    """

    kind: ClassVar[str] = "json"

    def _scanner(self) -> Scanner:
        return _judge

    def parse(self, records: DataFrame) -> DataFrame:
        """Turn records into rows, the bad ones marked.

        Parameters
        ----------
        records : DataFrame
            Columns ``key``, ``value`` (binary) and ``topic``, ``partition``, ``offset``, ``timestamp``; batch or stream.

        Returns
        -------
        DataFrame
            The schema's columns (all nullable), ``source``, ``dead`` (without the reason, which `dead_letters` works out) and
            ``range`` (always null).

        Raises
        ------
        SchemaError
            A type whose values Spark would change in silence.
        """
        check_for_spark(self.schema)
        # The conditions fit into one method that the JVM compiles; with all the reasons it would be too long, and slow.
        bad = reduce(or_, (F.coalesce(rule.condition, F.lit(False)) for rule in self._rules() if not rule.refines))
        judged = self._read(records).withColumn("__bad", bad)
        columns = {name: column(name) for name in self.schema.fieldNames()}
        if self.event_time is not None:
            columns[self.event_time] = F.when(~F.col("__bad"), column(self.event_time))
        unknown = F.lit(None).cast("string")
        letter = F.when(
            F.col("__bad"), F.struct(F.col(KEY).alias("key"), F.col(VALUE).alias("value"), unknown.alias("reason"), unknown.alias("detail"))
        )
        none = F.lit(None).cast(RANGE_TYPE)
        return judged.select(*(value.alias(name) for name, value in columns.items()), SOURCE, letter.alias(DEAD), none.alias(RANGE))

    def dead_letters(self, parsed: DataFrame) -> DataFrame:
        """Return the bad rows of a parsed DataFrame with the reason why.

        Returns
        -------
        DataFrame
            `spark_ext.ingest.tags.DEAD_LETTER_SCHEMA`. Reasons, first match wins: ``tombstone``, ``too_large``, ``utf8``,
            ``empty``, ``malformed``, ``type`` (detail: the field, where it is a time), ``trailing_bytes``, ``required_field``
            (detail: its name), ``range`` (detail: its name), ``event_time_range``, then those of `refuse`. A reason that the
            source gave is kept.
        """
        records = parsed.where(F.col(DEAD).isNotNull()).select(f"{DEAD}.*", f"{SOURCE}.*")
        explained = F.lit(None).cast("struct<reason: string, detail: string>")
        for rule in reversed(list(self._rules())):
            reason = F.struct(F.lit(rule.reason).alias("reason"), F.lit(rule.detail).cast("string").alias("detail"))
            explained = F.when(rule.condition, reason).otherwise(explained)
        return (
            self._read(records.where(F.col("reason").isNull()))
            .withColumn("__why", explained)
            .select(f"{SOURCE}.*", F.col(KEY).alias("key"), F.col(VALUE).alias("value"), "__why.*")
            .unionByName(records.where(F.col("reason").isNotNull()))
        )

    def _read(self, records: DataFrame) -> DataFrame:
        """Parse each value once: the schema's columns, times also as the text they were, key, value and source."""
        text = F.when(F.octet_length(VALUE) <= self.max_value_bytes, F.col(VALUE).cast("string"))
        source = F.struct("topic", "partition", "offset", "timestamp").alias(SOURCE)
        # Times as text, because from_json would take half of one for a whole.
        fields = [StructField(one.name, StringType() if isinstance(one.dataType, TIMES) else one.dataType) for one in self.schema.fields]
        as_read = StructType([*fields, StructField(CORRUPT, StringType())])
        placed = records.select(source, F.col("key").alias(KEY), F.col("value").alias(VALUE))
        # inline() keeps the optimiser from parsing once per column that is used.
        parsed = placed.select("*", F.inline(F.array(F.from_json(text, as_read, STRICT))))
        times = {one.name: one.dataType for one in self.schema.fields if isinstance(one.dataType, TIMES)}
        raw = parsed.withColumnsRenamed({name: RAW + name for name in times})
        return raw.withColumns({name: verdict.time_of(column(RAW + name), kind) for name, kind in times.items()})

    def _rules(self) -> Iterator[Rule]:
        """Yield what makes a record bad, in the order in which reasons are given, over the columns of `_read`."""
        text = F.col(VALUE).cast("string")
        times = [one.name for one in self.schema.fields if isinstance(one.dataType, TIMES)]
        # What is null, too large or empty has no event time either, which is required.
        yield Rule("tombstone", F.col(VALUE).isNull(), refines=True)
        yield Rule("too_large", F.octet_length(VALUE) > self.max_value_bytes, refines=True)
        yield Rule("utf8", ~F.is_valid_utf8(text))
        yield Rule("empty", F.btrim(text, F.lit(verdict.BLANKS)) == "", refines=True)
        yield Rule("type", F.col(CORRUPT).isNotNull() & verdict.is_object(text), refines=True)
        yield Rule("malformed", F.col(CORRUPT).isNotNull())
        for name in times:
            yield Rule("type", column(RAW + name).isNotNull() & column(name).isNull(), name)
        yield Rule("trailing_bytes", ~verdict.is_one_document(text))
        for one in self.schema.fields:
            if not one.nullable:
                yield Rule("required_field", column(one.name).isNull(), one.name)
        for one in self.schema.fields:
            if isinstance(one.dataType, FLOATS):
                yield Rule("range", F.abs(column(one.name)) == float("inf"), one.name)
        for name in times:
            yield Rule("range", verdict.is_outside_pandas(column(name)), name)
        if self.event_time is not None:
            yield self._plausible_event_time(self.event_time)
        for reason, conditions in self.refuse.items():
            yield Rule(reason, to_column(conditions))

    def _plausible_event_time(self, name: str) -> Rule:
        # In microseconds: adding an interval to a timestamp goes through the calendar.
        received_us = F.unix_micros(f"{SOURCE}.timestamp")
        early_enough = F.unix_micros(column(name)) - self.ahead // timedelta(microseconds=1) <= received_us
        plausible = (column(name) >= F.lit(self.earliest)) & early_enough
        return Rule("event_time_range", ~F.coalesce(plausible, F.lit(False)))


def _judge(fields: Fields, records: Records, max_value_bytes: int, found: Found) -> None:
    values = records.values
    from spark_ext.ingest.json_kernel import scan  # noqa: PLC0415 (loads numba, which processes that only plan do not need)

    scan(
        values.data, values.offsets, values.valid, fields.name_bytes, fields.name_offsets, fields.kinds, fields.lows, fields.highs,
        fields.required, max_value_bytes, *found,
    )  # fmt: skip
