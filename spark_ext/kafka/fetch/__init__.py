"""Fetch ranges of Kafka partitions as columns, with the fastest client that works here."""

from spark_ext.kafka.fetch.choose import open_fetcher
from spark_ext.kafka.fetch.protocol import DamagedRecordsError, Fetcher, FetcherUnusableError, OffsetOutOfRangeError
from spark_ext.kafka.fetch.settings import FetcherName, FetchSettings, Isolation
from spark_ext.kafka.fetch.worker import fetcher_for

__all__ = [
    "DamagedRecordsError",
    "FetchSettings",
    "Fetcher",
    "FetcherName",
    "FetcherUnusableError",
    "Isolation",
    "OffsetOutOfRangeError",
    "fetcher_for",
    "open_fetcher",
]
