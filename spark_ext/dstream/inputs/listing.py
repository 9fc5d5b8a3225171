"""Files of a folder as Hadoop sees them, and which of them are new."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from py4j.java_gateway import JavaObject
from pyspark import SparkContext

__all__ = ["File", "escaped", "files_in", "folders", "next_plan"]

STATUS: Final = re.compile(
    r"FileStatus\{path=(?P<path>.*?); isDirectory=(?:true|false; length=(?P<size>\d+);).*?; modification_time=(?P<time>\d+);", re.DOTALL
)


class File(NamedTuple):
    """A file: whole path with scheme, bytes, time of change in ms since 1970."""

    path: str
    size: int
    changed_ms: int


def next_plan(listed: Iterable[File], planned: dict[str, Any] | None, *, since_ms: int, until_ms: int, remember_ms: int) -> dict[str, Any]:
    """Return what the next batch reads: the files that are new and not younger than its time.

    Guarantee: a file that stays as it is, is in exactly one plan, unless it appears with a time of change that is
    `remember_ms` or more before that of the newest file that has been read, or not after the start; then it is in none.
    A file that is changed after it was read may be read again.

    Parameters
    ----------
    listed : iterable of File
        All that is there.
    planned : dict or None
        The plan before; None: this is the first.
    since_ms : int
        For the first plan: files must have changed after it, ms since 1970.
    until_ms : int
        Time of the batch.
    remember_ms : int
        For how long, in the files' own times, names are kept.

    Returns
    -------
    dict
        ``since``, ``until`` (ms), ``files`` (path, size, ms; in the order of their times), ``seen`` (path, ms: read by batches before
        and after ``since``).
    """
    seen: dict[str, int] = {}
    if planned is not None:
        seen = dict(planned["seen"]) | {path: changed for path, _, changed in planned["files"]}
        newest = max((changed for _, _, changed in planned["files"]), default=0)
        since_ms = max(planned["since"], newest - remember_ms)
        seen = {path: changed for path, changed in seen.items() if changed > since_ms}
    new = [file for file in listed if since_ms < file.changed_ms <= until_ms and file.path not in seen]
    new.sort(key=lambda file: (file.changed_ms, file.path))
    return {"since": since_ms, "until": until_ms, "files": [list(file) for file in new], "seen": [list(pair) for pair in seen.items()]}


def folders(context: SparkContext, pattern: str) -> list[str]:
    """Return the folders that a path or a glob pattern of Hadoop means now; none where nothing is."""
    system, path = _opened(context, pattern)
    return [path for path, size, _ in _statuses(context, system.globStatus(path)) if size is None]


def files_in(context: SparkContext, paths: Sequence[str]) -> list[File]:
    """Return the files directly in some folders, without those that Hadoop hides or has not finished.

    One question per folder, whatever the number of files. Names that begin with ``.`` or ``_`` or end with ``._COPYING_`` are left out.
    """
    found = []
    for one in paths:
        system, path = _opened(context, one)
        statuses = _statuses(context, system.listStatus(path))
        found += [File(name, size, changed) for name, size, changed in statuses if size is not None and not _is_hidden(name)]
    return found


def escaped(paths: Iterable[str]) -> str:
    r"""Return paths as one text for Hadoop's input formats, which take commas and glob patterns for their own.

    Examples
    --------
    >>> print(escaped(["/a/b", "/a/[1],x"]))
    /a/b,/a/\[1\]{\,}x
    """
    return ",".join(re.sub(r"[\\*?\[\]{}]", r"\\\g<0>", path).replace(",", r"{\,}") for path in paths)


def _opened(context: SparkContext, path: str) -> tuple[JavaObject, JavaObject]:
    jvm = context._jvm  # noqa: SLF001 (no public way)
    assert jvm is not None, "a context has a JVM"  # noqa: S101 (a fact)
    where = jvm.org.apache.hadoop.fs.Path(path)
    return where.getFileSystem(context._jsc.hadoopConfiguration()), where  # noqa: SLF001 (no public way)


def _statuses(context: SparkContext, statuses: JavaObject | None) -> list[tuple[str, int | None, int]]:
    """Return path, size (None: a folder) and time of change of each; asked one by one, a file would cost four calls of 0.1 ms."""
    if statuses is None:
        return []
    jvm = context._jvm  # noqa: SLF001 (no public way)
    assert jvm is not None, "a context has a JVM"  # noqa: S101 (a fact)
    text = jvm.scala.runtime.ScalaRunTime.stringOf(statuses)
    found = [(one["path"], None if one["size"] is None else int(one["size"]), int(one["time"])) for one in STATUS.finditer(text)]
    assert len(found) == len(statuses), f"not the text of FileStatus: {text[:500]}"  # noqa: S101 (a fact)
    return found


def _is_hidden(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith((".", "_")) or name.endswith("._COPYING_")
