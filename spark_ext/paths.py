"""Where a path points: Python and the JVM may stand in different folders."""

from __future__ import annotations

from pathlib import Path

__all__ = ["absolute"]


def absolute(path: str | Path) -> str:
    """Return a URI as it is and a local path as an absolute one, seen from Python's folder.

    Examples
    --------
    >>> absolute("s3a://bucket/table")
    's3a://bucket/table'
    >>> absolute("/data/../table")
    '/table'
    """
    text = str(path)
    return text if "://" in text or text.startswith("file:") else str(Path(text).resolve())
