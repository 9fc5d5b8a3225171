"""Add rows to a Delta table, each batch once."""

from __future__ import annotations

from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame

from spark_ext.delta import by_driver, by_spark
from spark_ext.delta.conflicts import settle
from spark_ext.delta.txn import Txn, Written
from spark_ext.paths import absolute

__all__ = ["append"]


def append(rows: pa.Table | DataFrame, path: str, *, txn: Txn | None, evolve: bool = False) -> Written:
    """Append rows to the Delta table at `path`; a table that is not there is made.

    Guarantee: all rows in one commit or none. With a transaction a second call adds nothing, whichever writer made the first; several
    tables are several commits, and a batch cut off between two is completed by its replay. Needs rows that are the same at the replay.

    Parameters
    ----------
    rows : pyarrow.Table or DataFrame
        An Arrow table is written in this process by delta-rs, a frame by Spark. The effect is the same.
    path : str
        Local path or URI of the table.
    txn : Txn or None
        What makes the write happen once; None to write whenever called.
    evolve : bool
        Whether columns that the table lacks are added to it, null in its older rows. Columns that the rows lack are null in any case.

    Returns
    -------
    Written
        The commit, or that it was there already.

    Raises
    ------
    SchemaError
        Rows and table do not fit; nothing was written.
    EpochError
        Another writer uses the transaction's id, or conflicts do not end.

    State: one (`app_id`, `version`) entry in the table's log.

    References
    ----------
    Delta Transaction Log Protocol, "Transaction Identifiers".
    """
    path = absolute(path)
    if isinstance(rows, pa.Table):
        return settle(partial(by_driver.append, rows, path, txn=txn, evolve=evolve), path=path, txn=txn, writer="driver")
    return settle(partial(by_spark.append, rows, path, txn=txn, evolve=evolve), path=path, txn=txn, writer="spark")
