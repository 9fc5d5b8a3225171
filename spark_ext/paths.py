"""Where a path points: Python and the JVM may stand in different folders."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["absolute"]


def absolute(path: str | Path) -> str:
    """Return a URI as it is and a local path as an absolute one, seen from Python's folder.

    Examples
    --------
    >>> absolute("s3a://bucket/table")
    's3a://bucket/table'
    >>> absolute("hdfs:/x/y")
    'hdfs:/x/y'
    >>> absolute("/data/../table")
    '/table'
    """
    text = str(path)
    return text if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", text) else str(Path(text).resolve())
