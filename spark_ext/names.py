"""Names of columns in Spark's expressions: a dot, a backtick or a space in one is part of it."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

__all__ = ["column", "quoted"]


def quoted(name: str) -> str:
    """Return a name as it stands in SQL.

    Examples
    --------
    >>> quoted("a.b")
    '`a.b`'
    >>> quoted("it`s")
    '`it``s`'
    """
    return "`" + name.replace("`", "``") + "`"


def column(name: str) -> Column:
    """Return the column of exactly this name."""
    return F.col(quoted(name))
