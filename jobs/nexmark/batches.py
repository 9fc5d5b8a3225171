"""The events as Spark gets them: one bounded frame for each kind, or Delta tables to which a batch at a time is appended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from deltalake import write_deltalake
from pyspark.sql import DataFrame, SparkSession

from jobs.nexmark.events import SCHEMAS, events
from jobs.nexmark.numbering import DEFAULT, EventSettings

__all__ = ["append", "batches", "follow", "frames"]


def batches(sizes: Iterable[int], *, first: int = 0, settings: EventSettings = DEFAULT) -> Iterator[dict[str, Any]]:
    """Make the events batch by batch.

    Guarantee: one behind the other, the batches are ``events(first, sum(sizes))``.

    Parameters
    ----------
    sizes : iterable of int, each 0 to 3,000,000
        How many events arrive in each batch.
    first : int, >= 0
        The place in the order of arrival at which the first batch begins.
    settings : EventSettings
        What they are like.

    Yields
    ------
    dict of str to pyarrow.Table
        As `jobs.nexmark.events.events`; any of the tables may be empty.
    """
    for size in sizes:
        yield events(first, size, settings=settings)
        first += size


def append(tables: Mapping[str, Any], folder: str) -> None:
    """Append a batch to the Delta tables ``<folder>/<name>``, made if need be: one commit to each, also without rows."""
    for name, table in tables.items():
        write_deltalake(f"{folder}/{name}", table, mode="append")


def frames(spark: SparkSession, tables: Mapping[str, Any]) -> dict[str, DataFrame]:
    """Return bounded frames of the tables, by name; times are timestamps."""
    # In one piece: at a chunk without rows Spark takes the table to be at its end.
    return {name: spark.createDataFrame(table.combine_chunks()) for name, table in tables.items()}


def follow(spark: SparkSession, folder: str, *, files_per_batch: int = 1) -> dict[str, DataFrame]:
    """Return streams of the Delta tables that `append` wrote, by name, from their first commit on.

    A commit is one file, or none if it has no rows; a micro-batch takes at most `files_per_batch` of each table.
    """
    options = {"startingVersion": 0, "maxFilesPerTrigger": files_per_batch}
    return {name: spark.readStream.format("delta").options(**options).load(f"{folder}/{name}") for name in SCHEMAS}
