"""Keep every version of a key's row in a Delta table, with the time it held: a slowly changing dimension of type 2."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame

from spark_ext.delta import by_driver, by_spark
from spark_ext.delta.conflicts import settle
from spark_ext.delta.txn import Txn, Written
from spark_ext.paths import absolute

__all__ = ["history"]


def history(rows: pa.Table | DataFrame, path: str, *, keys: Sequence[str], sequence: str, txn: Txn | None, evolve: bool = False) -> Written:
    """Put versions of rows into the history at `path`.

    Guarantee: one commit. Afterwards the table holds each (key, sequence) that it was ever given once; ``valid_from`` is its sequence,
    ``valid_to`` the next sequence of the key (null: still) and ``is_current`` tells whether there is none. This is so in whatever
    order and batches they came: a late version is put between its neighbours. So at each time from its first version on a key
    has exactly one row with ``valid_from <= time`` and ``time < valid_to or valid_to is null``.

    Parameters
    ----------
    rows : pyarrow.Table or DataFrame
        As for `append`, several versions of a key if need be. A version equal to the one before is kept as well. A (key, sequence)
        that the table has is replaced; of several in one batch the one wins that `upsert` would take.
    path : str
        As for `append`; the table has the columns of the rows and ``valid_from`` timestamp, ``valid_to`` timestamp, ``is_current``
        boolean.
    keys : sequence of str
        As for `upsert`.
    sequence : str
        Column of type timestamp, without nulls: from when a row holds.
    txn, evolve
        As for `append`.

    Returns
    -------
    Written
        Its `rows` counts the versions of the batch and those before them that now end at another time.

    Raises
    ------
    SettingsError, SchemaError
        As for `upsert`; or the table is no history.
    EpochError
        A version without a time; or as for `append`.
    """
    path = absolute(path)
    if isinstance(rows, pa.Table):
        driver = partial(by_driver.history, rows, path, keys=keys, sequence=sequence, txn=txn, evolve=evolve)
        return settle(driver, path=path, txn=txn, writer="driver")
    spark = partial(by_spark.history, rows, path, keys=keys, sequence=sequence, txn=txn, evolve=evolve)
    return settle(spark, path=path, txn=txn, writer="spark")
