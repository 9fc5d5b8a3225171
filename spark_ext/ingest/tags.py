"""Tell accepted rows from dead letters and accounts: every row out of a format carries what it is.

``source`` is a struct (topic, partition, offset, timestamp), ``dead`` is null unless the row is a bad record, ``range``
is null unless the row is the account of one range of offsets that was read.
"""

from __future__ import annotations

from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, DataType, IntegerType, LongType, StringType, StructField, StructType, TimestampType

__all__ = [
    "DEAD",
    "DEAD_LETTER_SCHEMA",
    "DEAD_TYPE",
    "EVENT_CLOCK",
    "RANGE",
    "RANGE_COUNTS",
    "RANGE_TYPE",
    "SOURCE",
    "SOURCE_TYPE",
    "TAGS",
    "accepted",
    "accounts",
    "is_accepted",
    "split",
]

SOURCE: Final = "source"
DEAD: Final = "dead"
RANGE: Final = "range"
EVENT_CLOCK: Final = "event_clock"  # of a source with a clock
TAGS: Final = (SOURCE, DEAD, RANGE, EVENT_CLOCK)
RANGE_COUNTS: Final = ("start", "end", "read", "decoded", "filtered", "dead", "lost", "absent", "drift", "bytes")


def _struct(**types: DataType) -> StructType:
    return StructType([StructField(name, kind) for name, kind in types.items()])


SOURCE_TYPE: Final = _struct(topic=StringType(), partition=IntegerType(), offset=LongType(), timestamp=TimestampType())
DEAD_TYPE: Final = _struct(key=BinaryType(), value=BinaryType(), reason=StringType(), detail=StringType())
RANGE_TYPE: Final = _struct(**{name: LongType() for name in RANGE_COUNTS})
DEAD_LETTER_SCHEMA: Final = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in (*SOURCE_TYPE, *DEAD_TYPE))


def is_accepted() -> Column:
    """Tell whether a row is a good record."""
    return F.col(DEAD).isNull() & F.col(RANGE).isNull()


def accepted(tagged: DataFrame) -> DataFrame:
    """Return the good rows, with ``source`` and without the tags."""
    return tagged.where(is_accepted()).drop(DEAD, RANGE)


def split(tagged: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Return the good rows and the bad ones (``source`` and ``dead``); persist the frame first if both are used."""
    return accepted(tagged), tagged.where(F.col(DEAD).isNotNull()).select(SOURCE, DEAD)


def accounts(tagged: DataFrame) -> DataFrame:
    """Return what became of every offset that was read: one row per range.

    Guarantee: ``end - start = read + absent + lost`` and ``read = decoded + dead``; the rows given out are ``decoded - filtered``.

    Returns
    -------
    DataFrame
        ``topic``, ``partition`` and, as bigint, ``start``, ``end`` (not included), ``read`` (records), ``decoded`` (good ones),
        ``filtered`` (good, but not asked for), ``dead``, ``lost`` (gone from the broker before they were read), ``absent``
        (offsets that never were records: compaction, transactions), ``drift`` (good records whose names are not
        the declared ones: one more, or one left out),
        ``bytes`` (of keys and values). No rows with Spark's own connector, which cannot count.
    """
    return tagged.where(F.col(RANGE).isNotNull() & F.col(SOURCE).isNotNull()).select(f"{SOURCE}.topic", f"{SOURCE}.partition", f"{RANGE}.*")
