"""Keep one current row per key in a Delta table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame

from spark_ext.delta import by_driver, by_spark
from spark_ext.delta.conflicts import settle
from spark_ext.delta.txn import Txn, Written
from spark_ext.paths import absolute

__all__ = ["upsert"]


def upsert(
    rows: pa.Table | DataFrame, path: str, *, keys: Sequence[str], sequence: str | None = None, txn: Txn | None, evolve: bool = False
) -> Written:
    """Replace the rows of the Delta table at `path` that have the keys of `rows`, and add the new ones.

    Guarantee: one commit. With a sequence the table afterwards holds for each key the row with the highest sequence that it was ever
    given, in whatever order and batches the rows came; without one it holds the rows of the last batch that had the key. Doing it
    again changes nothing, as long as batches come in order or have a sequence; with a transaction a replay is not even tried.

    Parameters
    ----------
    rows : pyarrow.Table or DataFrame
        As for `append`. Columns of the table that they lack become null, also in rows that are replaced. A frame is gone through
        more than once: persist it.
    path : str
        As for `append`.
    keys : sequence of str
        Columns that identify a row, at least one, not of type float. A null key equals a null key.
    sequence : str, optional
        Column that orders the rows of a key: a row replaces one that is not newer than itself. A null is older than any value. Of
        rows of one batch with an equal sequence the one wins whose other columns are the highest, compared in the table's order, null
        lowest. Without it two rows of one key in a batch are refused.
    txn, evolve
        As for `append`.

    Raises
    ------
    SettingsError
        No key is given.
    SchemaError
        Rows, keys and table do not fit; nothing was written.
    EpochError
        Several rows of one key without a sequence; or as for `append`.

    Not supported: rows with an equal sequence in different batches whose order should not count (the later batch wins); equal rows but
    for lists, structs or maps may be told apart differently by the two writers.
    """
    path = absolute(path)
    if isinstance(rows, pa.Table):
        driver = partial(by_driver.upsert, rows, path, keys=keys, sequence=sequence, txn=txn, evolve=evolve)
        return settle(driver, path=path, txn=txn, writer="driver")
    spark = partial(by_spark.upsert, rows, path, keys=keys, sequence=sequence, txn=txn, evolve=evolve)
    return settle(spark, path=path, txn=txn, writer="spark")
