"""Columns as DDL: their names without Spark, their types with it."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

__all__ = ["arrow_schema", "column_names", "spark_schema"]


def column_names(ddl: str) -> list[str]:
    """Return the names of the columns; types are not looked at.

    Examples
    --------
    >>> column_names("key string, `at it` struct<a: int, b: decimal(3, 1)>, n: bigint")
    ['key', 'at it', 'n']
    """
    parts, depth = [""], 0
    for one in ddl:
        depth += (one in "<(") - (one in ">)")
        if one == "," and not depth:
            parts.append("")
        else:
            parts[-1] += one
    return [_name(part.strip()) for part in parts if part.strip()]


def spark_schema(ddl: str) -> StructType:
    """Return the columns; needs a session."""
    found = StructType.fromDDL(ddl)
    assert isinstance(found, StructType)  # noqa: S101
    return found


def arrow_schema(ddl: str) -> pa.Schema:
    """Return the columns as Arrow has them, time stamps in UTC; needs a session."""
    return to_arrow_schema(spark_schema(ddl), timezone="UTC")


def _name(part: str) -> str:
    return part[1:].split("`", maxsplit=1)[0] if part.startswith("`") else part.replace(":", " ").split()[0]
