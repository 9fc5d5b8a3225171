"""Make the tables that a stream writes to before it writes."""

from __future__ import annotations

from typing import cast

from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from spark_ext.paths import absolute

__all__ = ["create_table"]


def create_table(spark: SparkSession, path: str, schema: str) -> None:
    """Create an empty Delta table at `path`; an existing table is left as it is.

    A stream that reads the table can then start at version 0, before any row, and follow it commit by commit.

    Parameters
    ----------
    path : str
        Where the table lives.
    schema : str
        Its columns as DDL, such as ``"origin string, departures bigint"``.
    """
    columns = cast("StructType", StructType.fromDDL(schema))
    DeltaTable.createIfNotExists(spark).location(absolute(path)).addColumns(columns).execute()
