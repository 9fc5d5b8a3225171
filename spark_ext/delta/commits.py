"""Commits of a Delta table, read from its log without Spark: who wrote what, in which version."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from deltalake import DeltaTable
from pyarrow import fs

from spark_ext.delta.txn import Txn, Writer, Written, read_stamp
from spark_ext.paths import absolute, file_system

__all__ = ["Commit", "commits", "is_done", "missing_files", "open_table", "skipped", "version_times", "written_by"]

BACK: Final = 1000  # commits that are looked through for one
# Rows that a commit added or changed, by writer and operation; all that are there are added up.
ROWS: Final = (
    ("num_added_rows",),
    ("numTargetRowsInserted", "numTargetRowsUpdated", "numTargetRowsDeleted"),
    ("num_target_rows_inserted", "num_target_rows_updated", "num_target_rows_deleted"),
    ("numOutputRows",),
)


@dataclass(frozen=True, slots=True)
class Commit:
    """One version of a table.

    Attributes
    ----------
    version : int
        Of the table.
    rows : int
        Rows added or changed, as far as the writer says.
    txns : mapping of str to int
        Version by application id.
    metadata : mapping of str to str
        What this package put into it; `Txn.metadata` is in it.
    """

    version: int
    rows: int
    txns: Mapping[str, int]
    metadata: Mapping[str, str]


def open_table(path: str) -> DeltaTable | None:
    """Return the table as it is now, None if there is none."""
    return DeltaTable(path) if DeltaTable.is_deltatable(path) else None


def missing_files(table: DeltaTable) -> int:
    """Return how many files of a version are not there any more."""
    by_system = [file_system(absolute(uri.replace("file://", "", 1) if uri.startswith("file://") else uri)) for uri in table.file_uris()]
    if not by_system:
        return 0
    found = by_system[0][0].get_file_info([path for _, path in by_system])
    return sum(one.type == fs.FileType.NotFound for one in found)


def version_times(table: DeltaTable, *, newest: int | None = None) -> list[tuple[int, int]]:
    """Return the versions that the log still has, up to `newest`, oldest first, each with the microsecond since 1970 it was committed in.

    Times are those that the writers noted, made to ascend: a version whose clock was behind counts from the one before it on.
    """
    found: list[tuple[int, int]] = []
    for entry in reversed(table.history()):
        version, at_us = int(entry["version"]), int(entry.get("timestamp") or 0) * 1_000
        if newest is None or version <= newest:
            found.append((version, max(at_us, found[-1][1]) if found else at_us))
    return found


def is_done(table: DeltaTable, txn: Txn) -> bool:
    """Tell whether the table has this version of the transaction or a higher one; 0 is a version."""
    done = table.transaction_version(txn.app_id)
    return done is not None and done >= txn.version


def skipped(table: DeltaTable | None, path: str, txn: Txn | None, writer: Writer) -> Written | None:
    """Return what to say of a write that the table has already, None if it has to be done."""
    if txn is None or table is None or not is_done(table, txn):
        return None
    version = int(table.version())
    found = written_by(path, txn, newest=version)
    return Written(version, found.rows if found else 0, True, writer)


def written_by(path: str, txn: Txn, *, newest: int | None = None) -> Commit | None:
    """Return the commit that carries exactly this transaction, None if the log does not have it (any more).

    Parameters
    ----------
    path : str
        The table.
    txn : Txn
        Its `app_id` and `version` are looked for.
    newest : int, optional
        Version to go back from; default the current one.
    """
    for commit in commits(path, newest=newest):
        found = commit.txns.get(txn.app_id)
        if found is not None and found <= txn.version:
            return commit if found == txn.version else None
    return None


def commits(path: str, *, newest: int | None = None) -> Iterator[Commit]:
    """Yield the commits of a table from the newest back, until the log was cleaned, at most a thousand."""
    path = absolute(path)
    version = int(DeltaTable(path).version()) if newest is None else newest
    files, root = file_system(path)
    for at in range(version, max(-1, version - BACK), -1):
        try:
            with files.open_input_stream(f"{root.rstrip('/')}/_delta_log/{at:020d}.json") as opened:
                text = opened.read()
        except FileNotFoundError:
            return
        yield _parse(at, text)


def _parse(version: int, text: bytes) -> Commit:
    info: dict[str, Any] = {}
    txns: dict[str, int] = {}
    for line in text.splitlines():
        if b'"commitInfo"' in line or b'"txn"' in line:  # the other lines may be many and long
            action = json.loads(line)
            info = action.get("commitInfo") or info
            if "txn" in action:
                txns[action["txn"]["appId"]] = int(action["txn"]["version"])
    return Commit(version, _rows(info.get("operationMetrics") or {}), txns, read_stamp(info))


def _rows(metrics: Mapping[str, Any]) -> int:
    for names in ROWS:
        if any(name in metrics for name in names):
            return sum(int(metrics.get(name, 0)) for name in names)
    return 0
