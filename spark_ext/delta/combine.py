"""Keep one row per key in a Delta table, made of all rows that the key ever had: counts, bounds, sketches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame

from spark_ext.delta import by_driver, by_spark
from spark_ext.delta.combining import Combine
from spark_ext.delta.conflicts import settle
from spark_ext.delta.txn import Txn, Written
from spark_ext.paths import absolute

__all__ = ["combine"]


def combine(
    rows: pa.Table | DataFrame, path: str, *, keys: Sequence[str], with_: Combine, txn: Txn | None, evolve: bool = False
) -> Written:
    """Put the rows of each key together with the one that the Delta table at `path` has, and add the keys that it lacks.

    Guarantee: one commit. Old rows are read from the snapshot that the commit is checked against, so a row that another writer changed
    meanwhile is a conflict, and is read and combined again: no change is lost. With a transaction each batch is combined once, whatever
    crashed; without one a second call combines the rows a second time, as nothing in a sum says what is in it.

    Parameters
    ----------
    rows : pyarrow.Table or DataFrame
        As for `append`; a key may come several times. A frame is gone through more than once: persist it.
    path : str
        As for `append`.
    keys : sequence of str
        Columns that identify a row, at least one, not of type float. A null key equals a null key.
    with_ : callable
        ``with_(known, rows)`` gets two Arrow tables with the table's columns and returns one row for each key in them, in any order.
        `known` has at most one row for a key; `rows` has the others. It sees only keys with two rows or more: a row alone stays as it
        is. It must be pure, go to workers where a frame is written, and give the same in whatever steps it puts rows together.
    txn, evolve
        As for `append`.

    Returns
    -------
    Written
        Its `rows` counts keys.

    Raises
    ------
    SettingsError
        No key is given.
    SchemaError
        Rows, keys and table do not fit, or `with_` returned something else; nothing was written.
    EpochError
        The table has two rows of one of the keys; or as for `append`.

    Examples
    --------
    >>> import tempfile
    >>> from deltalake import DeltaTable
    >>> def add(known, rows):
    ...     both = pa.concat_tables([known, rows]).group_by("page").aggregate([("views", "sum")])
    ...     return both.rename_columns(["page", "views"])
    >>> path = tempfile.mkdtemp() + "/views"
    >>> for batch in ({"page": ["a", "b"], "views": [1, 1]}, {"page": ["a", "a"], "views": [5, 10]}):
    ...     done = combine(pa.table(batch), path, keys=["page"], with_=add, txn=None)
    >>> sorted(DeltaTable(path).to_pyarrow_table().to_pylist(), key=lambda row: row["page"])
    [{'page': 'a', 'views': 16}, {'page': 'b', 'views': 1}]
    """
    path = absolute(path)
    if isinstance(rows, pa.Table):
        driver = partial(by_driver.combine, rows, path, keys=keys, with_=with_, txn=txn, evolve=evolve)
        return settle(driver, path=path, txn=txn, writer="driver")
    spark = partial(by_spark.combine, rows, path, keys=keys, with_=with_, txn=txn, evolve=evolve)
    return settle(spark, path=path, txn=txn, writer="spark")
