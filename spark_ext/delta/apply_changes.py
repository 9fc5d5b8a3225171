"""Keep the current rows of a table that changes in a Delta table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame

from spark_ext.delta import by_driver, by_spark
from spark_ext.delta.conflicts import settle
from spark_ext.delta.txn import Txn, Written
from spark_ext.paths import absolute

__all__ = ["apply_changes"]


def apply_changes(
    rows: pa.Table | DataFrame, path: str, *, keys: Sequence[str], sequence: str | None = None, txn: Txn | None, evolve: bool = False
) -> Written:
    """Bring rows with a sign into the Delta table at `path`: those that come replace the row of their key, those that only go are deleted.

    Guarantee: one commit, with the rows net: one that comes and goes does neither. A table that is not there is made with change data
    feed, by Spark in a commit before, so that `spark_ext.tables.read_changes` gives what each commit changed. With a transaction a replay
    is not even tried; without one it changes nothing either, as long as batches come in order or have a sequence.

    Parameters
    ----------
    rows : pyarrow.Table or DataFrame
        As for `append`, and ``sign``, tinyint: +1 or -1.
    path : str
        As for `append`.
    keys : sequence of str
        Columns that identify a row, at least one, not of type float. A null key equals a null key.
    sequence : str, optional
        Column that orders the rows of a key: a row is neither replaced nor deleted by an older one.
    txn, evolve
        As for `append`.

    Returns
    -------
    Written
        Its `rows` counts rows that were added, replaced or deleted.

    Raises
    ------
    SettingsError
        No key is given.
    SchemaError
        Rows, keys and table do not fit, or there is no sign; nothing was written.
    EpochError
        Two rows of one key come, without a sequence; or as for `append`.
    """
    path = absolute(path)
    if isinstance(rows, pa.Table):
        driver = partial(by_driver.apply_changes, rows, path, keys=keys, sequence=sequence, txn=txn, evolve=evolve)
        return settle(driver, path=path, txn=txn, writer="driver")
    spark = partial(by_spark.apply_changes, rows, path, keys=keys, sequence=sequence, txn=txn, evolve=evolve)
    return settle(spark, path=path, txn=txn, writer="spark")
