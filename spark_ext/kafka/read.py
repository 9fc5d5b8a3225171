"""Read topics as a streaming DataFrame of raw records.

What flows in: addresses and topic names. What flows out: one row per Kafka record with its bytes and its place
(topic, partition, offset), which is the row's identity all the way to the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pyspark.sql import DataFrame, SparkSession

from spark_ext.errors import SettingsError
from spark_ext.kafka.topics import topic_ids

__all__ = ["RECORD_COLUMNS", "read"]

RECORD_COLUMNS: Final = ("key", "value", "topic", "partition", "offset", "timestamp")


def read(
    spark: SparkSession,
    *,
    bootstrap_servers: str,
    topics: str | Sequence[str],
    starting: str = "earliest",
    max_offsets_per_trigger: int = 100_000,
    options: Mapping[str, str] | None = None,
) -> DataFrame:
    """Return a streaming DataFrame with one row per record of the topics.

    Guarantee: every record between the starting and the current end of each partition comes once per run of
    a checkpoint, in offset order within its partition; a record that the broker dropped before it was read
    stops the query with Spark's KAFKA_DATA_LOSS instead of passing in silence.

    Parameters
    ----------
    bootstrap_servers : str
        Addresses as ``host:port``, separated by commas.
    topics : str or sequence of str
        Topics that exist.
    starting : {"earliest", "latest"} or str
        Where a new checkpoint starts, or Spark's JSON of offsets; an old checkpoint goes on where it was.
    max_offsets_per_trigger : int, > 0
        Most records of one batch over all partitions. Always set: without it the first batch after a long
        stop would be everything, and a crash in it would start everything again.
    options : mapping of str to str, optional
        Further options of Spark's Kafka source; client settings start with ``kafka.``.

    Returns
    -------
    DataFrame
        ``key`` and ``value`` binary (nullable), ``topic`` string, ``partition`` int, ``offset`` long,
        ``timestamp`` timestamp (the record's).

    Raises
    ------
    BrokerUnavailableError
        Nobody answers at the address within 10 s, or a topic does not exist.
    SettingsError
        `max_offsets_per_trigger` is not positive, or no topic is given.

    State: none beyond the offsets in the checkpoint.
    """
    names = [topics] if isinstance(topics, str) else list(topics)
    if max_offsets_per_trigger <= 0 or not names:
        raise SettingsError(
            "read",
            "topics",
            ",".join(names),
            expected="at least one topic and max_offsets_per_trigger > 0",
            got=f"{names!r} and {max_offsets_per_trigger!r}",
            todo="give both",
        )
    given = dict(options or {})
    topic_ids(spark, bootstrap_servers, names, given)  # fail now: Spark's source waits for a missing broker far too long
    reader = (
        spark.readStream.format("kafka")
        .option("subscribe", ",".join(names))
        .option("startingOffsets", starting)
        .option("maxOffsetsPerTrigger", max_offsets_per_trigger)
        .option("failOnDataLoss", "true")
        .options(**given)
        .option("kafka.bootstrap.servers", bootstrap_servers)
    )
    return reader.load().select(*RECORD_COLUMNS)
