"""Parse JSON records in Spark SQL, once, into typed rows or dead letters.

What flows in: records as `spark_ext.kafka.read` gives them. What flows out: the same number of rows, each with
the schema's columns, ``source``, and ``dead`` (see `spark_ext.ingest.tags`).
Spark's ``from_json`` alone loses data in silence: an empty value, a missing field, a second document behind the
first, a time without a date. So every record is asked whether it is good, as cheaply as that can be asked; only the
few that are not are read again to say why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import reduce
from operator import or_
from types import MappingProxyType
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from spark_ext.ingest import verdict
from spark_ext.ingest.schema import FLOATS, TIMES, check_schema, column
from spark_ext.ingest.tags import DEAD, SOURCE

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
class JsonFormat:
    """What a good record of a topic looks like, and how to read it.

    Guarantee: one row out for each record in; never an exception in the query. A row is good if and only if its
    value is one UTF-8 JSON object of at most `max_value_bytes`, each field has its type, no required field is
    missing or null, each number and time is in range, ``earliest <= event_time <= record timestamp + ahead``, and no
    rule of `refuse` holds. The verdict depends on the record alone, so a replay gives the same. Bad rows have a null
    `event_time`: a watermark defined on it cannot be poisoned.

    Parameters
    ----------
    schema : StructType
        Fields to read; those with ``nullable=False`` are required. Fields of the value that it lacks are ignored.
        A timestamp is text with date, time and zone, such as ``2013-01-01T10:15:00.25Z`` or ``...+01:00``, between 1678
        and 2261 (what pandas can hold); a date is ``2013-01-01``.
    event_time : str
        Name of the required timestamp field that carries event time.
    earliest : datetime
        Smallest plausible event time, with a time zone.
    ahead : timedelta
        How far event time may lie after the record's own timestamp.
    max_value_bytes : int
        Largest value that is parsed, in bytes.
    refuse : mapping of str to str
        The job's own rules: a reason, and a SQL condition over the schema's columns that is true for a bad row. They
        must depend on the row alone, or a replay may judge otherwise.

    Raises
    ------
    SchemaError
        The schema cannot be used: event time is not a required timestamp, a name is taken, or a type is one whose
        values Spark would change in silence.

    Not supported: duplicate keys (the last one wins); a number, an object or half a surrogate pair in a string field
    (its text is taken); decimals are rounded to their scale and may stand in quotes; nanoseconds are cut.

    State: none.
    """

    schema: StructType
    event_time: str
    earliest: datetime
    ahead: timedelta = timedelta(days=1)
    max_value_bytes: int = 1_048_576
    refuse: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        check_schema(self.schema, self.event_time, self.earliest)

    def parse(self, records: DataFrame) -> DataFrame:
        """Turn records into rows, the bad ones marked.

        Parameters
        ----------
        records : DataFrame
            Columns ``key``, ``value`` (binary) and ``topic``, ``partition``, ``offset``, ``timestamp``; batch or stream.

        Returns
        -------
        DataFrame
            The schema's columns (all nullable), ``source`` and ``dead``.
        """
        # The conditions fit into one method that the JVM compiles; with all the reasons it would be too long, and slow.
        bad = reduce(or_, (F.coalesce(rule.condition, F.lit(False)) for rule in self._rules() if not rule.refines))
        judged = self._read(records).withColumn("__bad", bad)
        columns = {name: column(name) for name in self.schema.fieldNames()}
        columns[self.event_time] = F.when(~F.col("__bad"), column(self.event_time))
        letter = F.when(F.col("__bad"), F.struct(F.col(KEY).alias("key"), F.col(VALUE).alias("value")))
        return judged.select(*(value.alias(name) for name, value in columns.items()), SOURCE, letter.alias(DEAD))

    def dead_letters(self, parsed: DataFrame) -> DataFrame:
        """Return the bad rows of a parsed DataFrame with the reason why.

        Returns
        -------
        DataFrame
            `spark_ext.ingest.tags.DEAD_LETTER_SCHEMA`. Reasons, first match wins: ``tombstone``, ``too_large``, ``utf8``,
            ``empty``, ``malformed``, ``type`` (detail: the field, where it is a time), ``trailing_bytes``, ``required_field``
            (detail: its name), ``range`` (detail: its name), ``event_time_range``, then those of `refuse`.
        """
        records = parsed.where(F.col(DEAD).isNotNull()).select(f"{DEAD}.*", f"{SOURCE}.*")
        explained = F.lit(None).cast("struct<reason: string, detail: string>")
        for rule in reversed(list(self._rules())):
            reason = F.struct(F.lit(rule.reason).alias("reason"), F.lit(rule.detail).cast("string").alias("detail"))
            explained = F.when(rule.condition, reason).otherwise(explained)
        return (
            self._read(records)
            .withColumn("__why", explained)
            .select(f"{SOURCE}.*", F.col(KEY).alias("key"), F.col(VALUE).alias("value"), "__why.*")
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
        # In microseconds: adding an interval to a timestamp goes through the calendar.
        received_us = F.unix_micros(f"{SOURCE}.timestamp")
        early_enough = F.unix_micros(column(self.event_time)) - self.ahead // timedelta(microseconds=1) <= received_us
        plausible = (column(self.event_time) >= F.lit(self.earliest)) & early_enough
        yield Rule("event_time_range", ~F.coalesce(plausible, F.lit(False)))
        for reason, condition in self.refuse.items():
            yield Rule(reason, F.expr(condition))
