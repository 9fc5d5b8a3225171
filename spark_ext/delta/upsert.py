"""Keep one current row per key in a Delta table."""

from __future__ import annotations

from collections.abc import Sequence

from delta.tables import DeltaTable
from pyspark.sql import DataFrame

from spark_ext.errors import SettingsError
from spark_ext.paths import absolute

__all__ = ["upsert"]


def upsert(frame: DataFrame, path: str, *, keys: Sequence[str]) -> None:
    """Replace the rows of the Delta table at `path` that have the keys of `frame`, and add the new ones.

    Guarantee: afterwards the table holds exactly the row of `frame` for each of its keys and is otherwise as before.
    Doing it again changes nothing, so a replayed batch is harmless as long as batches come in order.

    Parameters
    ----------
    frame : DataFrame
        The table's columns; at most one row per key, or Delta refuses the merge.
    path : str
        An existing table.
    keys : sequence of str
        Columns that identify a row, at least one. A null key equals a null key.

    Raises
    ------
    SettingsError
        No key is given.
    """
    if not keys:
        raise SettingsError("upsert", "table", path, expected="at least one key", got=repr(keys), todo="name the columns of the key")
    quoted = ["`" + key.replace("`", "``") + "`" for key in keys]
    matches = " AND ".join(f"old.{key} <=> new.{key}" for key in quoted)
    table = DeltaTable.forPath(frame.sparkSession, absolute(path)).alias("old")
    table.merge(frame.alias("new"), matches).whenMatchedUpdateAll().whenNotMatchedInsertAll().execute()
