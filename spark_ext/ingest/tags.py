"""Tell accepted rows from dead letters: every parsed row carries its source and, if it is bad, its bytes.

``source`` is a struct (topic, partition, offset, timestamp). ``dead`` is null for a good row, else a struct
(key, value) with the record's bytes as they came.
"""

from __future__ import annotations

from typing import Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

__all__ = ["DEAD", "DEAD_LETTER_SCHEMA", "SOURCE", "accepted"]

SOURCE: Final = "source"
DEAD: Final = "dead"
DEAD_LETTER_SCHEMA: Final = (
    "topic string, partition int, offset bigint, timestamp timestamp, key binary, value binary, reason string, detail string"
)


def accepted(parsed: DataFrame) -> DataFrame:
    """Return the good rows of a parsed DataFrame, with ``source`` and without ``dead``."""
    return parsed.where(F.col(DEAD).isNull()).drop(DEAD)
