"""Make the tables that a stream writes to before it writes."""

from __future__ import annotations

from collections.abc import Sequence

from delta.tables import DeltaTable
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

__all__ = ["create_table"]


def create_table(spark: SparkSession, path: str, schema: StructType | str, *, partition_by: Sequence[str] = ()) -> None:
    """Create an empty Delta table at `path`; an existing table is left as it is.

    A stream that reads the table can then start at version 0, before any row, and follow it commit by commit.

    Parameters
    ----------
    path : str
        Where the table lives.
    schema : StructType or str
        Its columns, as a type or as DDL.
    partition_by : sequence of str
        Columns that become folders.
    """
    columns = schema if isinstance(schema, StructType) else StructType.fromDDL(schema)
    DeltaTable.createIfNotExists(spark).location(path).addColumns(columns).partitionedBy(*partition_by).execute()
