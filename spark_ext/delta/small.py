"""Append a few rows from the driver, without a Spark job for the write: some 50 ms where Spark's commit takes a second."""

from __future__ import annotations

from typing import Final

from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from pyspark.sql import DataFrame

from spark_ext.delta.append import append
from spark_ext.paths import absolute

__all__ = ["append_small"]

FILE: Final = "file://"


def append_small(frame: DataFrame, path: str, *, app_id: str, batch_id: int) -> None:
    """Append rows that fit into the driver to the Delta table at `path`.

    Guarantee: that of `append`, with which it may be mixed: the same entry in the table's log tells a replay. A table that
    is not there yet, or not on a local file system, is written by Spark.

    Parameters
    ----------
    frame : DataFrame
        A few thousand rows at most; they are collected.
    path : str
        Table path.
    app_id, batch_id
        As for `append`.

    State: one (`app_id`, `batch_id`) entry, in the table's log.
    """
    path = absolute(path)
    local = path.removeprefix(FILE)
    if "://" in local or not DeltaTable.is_deltatable(local):
        append({path: frame}, app_id=app_id, batch_id=batch_id)
        return
    table = DeltaTable(local)
    done = table.transaction_version(app_id)
    if done is not None and done >= batch_id:
        return  # asked first: delta-rs takes an older version without a word
    properties = CommitProperties(app_transactions=[Transaction(app_id, batch_id)])
    write_deltalake(table, frame.toArrow(), mode="append", commit_properties=properties)
