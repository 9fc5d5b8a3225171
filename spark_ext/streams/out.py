"""Records as Kafka's: key and value as bytes."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, MapType, StructType

from spark_ext.streams.nodes import Produced
from spark_ext.streams.records import KEY, VALUE

__all__ = ["outboxed"]


def outboxed(rows: DataFrame, topic: str, produced: Produced) -> DataFrame:
    """Return records as rows of an outbox; a null value stays null: a tombstone."""
    key = produced.key(F.col(KEY)).cast("binary") if produced.key else _as_bytes(rows, KEY)
    value = produced.value(F.col(VALUE)).cast("binary") if produced.value else _as_bytes(rows, VALUE)
    return rows.select(F.lit(topic).alias("topic"), key.alias("key"), value.alias("value"))


def _as_bytes(rows: DataFrame, name: str) -> Column:
    kind = rows.schema[name].dataType
    if isinstance(kind, BinaryType):
        return F.col(name)
    text = F.to_json(F.col(name)) if isinstance(kind, StructType | ArrayType | MapType) else F.col(name).cast("string")
    return text.cast("binary")
