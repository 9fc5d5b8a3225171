"""Where a path points: Python and the JVM may stand in different folders."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from pyarrow import fs

__all__ = ["absolute", "file_system", "write_whole"]


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


def file_system(path: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of an absolute path or URI, and the path in it; Hadoop's ``s3a`` is pyarrow's ``s3``.

    What follows ``file:`` is a path as it is written, as Hadoop reads it: a space may be in it, ``%20`` is none.

    Examples
    --------
    >>> file_system("file:/data/table")[1]
    '/data/table'
    >>> file_system("file:///data/my table%20")[1]
    '/data/my table%20'
    """
    if path.startswith("file:"):
        return fs.LocalFileSystem(), re.sub(r"^file:(//[^/]*)?(?=/)", "", path)
    if "://" in path:
        files, root = fs.FileSystem.from_uri("s3" + path.removeprefix("s3a") if path.startswith("s3a://") else path)
        return files, root
    return fs.LocalFileSystem(), path


def write_whole(files: fs.FileSystem, path: str, content: bytes) -> None:
    """Write a file of a folder that is there, or replace it: who looks sees the old one or the new one, and a kill leaves one of them.

    Two may write at once; one of them is the last. On a local disk a kill may leave a hidden file beside it.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(fs.LocalFileSystem(), f"{folder}/file", b"new")
    ...     [one.name for one in Path(folder).iterdir()]
    ['file']
    """
    if not isinstance(files, fs.LocalFileSystem):  # there a file appears when it is whole
        with files.open_output_stream(path) as opened:
            opened.write(content)
        return
    folder, _, name = path.rpartition("/")
    aside = f"{folder}/.{name}.{uuid.uuid4().hex}"
    with files.open_output_stream(aside) as opened:
        opened.write(content)
    files.move(aside, path)
