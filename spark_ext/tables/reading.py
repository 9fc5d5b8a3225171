"""Tables read again: the changes of one in Delta, for the next query, and the rows in the state of a query that runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.delta.commits import open_table
from spark_ext.delta.rules import CHANGE_FEED
from spark_ext.errors import SettingsError
from spark_ext.paths import absolute
from spark_ext.state.inspect import entries
from spark_ext.state.packing import BUCKET
from spark_ext.state.signed import SIGN
from spark_ext.tables.layout import HASH, KEPT

__all__ = ["current", "read_changes"]

KIND: Final = "_change_type"
COMES: Final = ("insert", "update_postimage")
OWN: Final = (KIND, "_commit_version", "_commit_timestamp")


def read_changes(
    spark: SparkSession, path: str, *, starting_version: int | None = None, options: Mapping[str, str] | None = None
) -> DataFrame:
    """Read the changes of a Delta table as a stream: its rows as they are at the start, then what changes with each commit.

    Guarantee: rows summed by ``sign`` are the table. A batch may hold several commits, so that a row comes and goes within it; operators
    and sinks here take them net.

    Parameters
    ----------
    spark : SparkSession
        Where to read.
    path : str
        A table with the change data feed, such as a sink `spark_ext.epochs.Table` makes.
    starting_version : int, optional
        Only what changes from this version on; its files must still be there. Default: all rows that are there when the stream starts
        are given first, as ``+1``.
    options : mapping of str to str, optional
        More of Delta's, such as ``maxFilesPerTrigger``.

    Returns
    -------
    DataFrame
        A stream: the columns of the table, and ``sign``, tinyint.

    Raises
    ------
    SettingsError
        There is no such table, or it has no change data feed.
    """
    path = absolute(path)
    table = open_table(path)
    if table is None or table.metadata().configuration.get(CHANGE_FEED, "").lower() != "true":
        got = "no table" if table is None else "a table without one"
        todo = "write it with the sink spark_ext.epochs.Table; an old one gets it from then on with ALTER TABLE ... SET TBLPROPERTIES"
        raise SettingsError("read changes of", "table", path, expected="a table with change data feed", got=got, todo=todo)
    reader = spark.readStream.format("delta").option("readChangeFeed", "true")
    if starting_version is not None:
        reader = reader.option("startingVersion", starting_version)
    rows = reader.options(**dict(options or {})).load(path)
    return rows.withColumn(SIGN, F.when(F.col(KIND).isin(*COMES), 1).otherwise(-1).cast("tinyint")).drop(*OWN)


def current(spark: SparkSession, checkpoint: str, *, batch_id: int | None = None) -> DataFrame:
    """Return the rows of the table that a query with `changes` holds, out of its state; the query may be running.

    Parameters
    ----------
    spark, batch_id
        As in `spark_ext.state.inspect.entries`.
    checkpoint : str
        Path of the query's checkpoint.

    Returns
    -------
    DataFrame
        The columns of the changelog, as the last batch that was committed left them; bounded.

    Raises
    ------
    StateError
        There is no such checkpoint, no row came yet, or the query is another.
    """
    return entries(spark, checkpoint, KEPT, batch_id=batch_id).drop(BUCKET, HASH)
