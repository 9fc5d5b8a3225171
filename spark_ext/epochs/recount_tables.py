"""How many rows the sinks of the ledger took, counted from the logs of their tables."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from deltalake import DeltaTable

from spark_ext.epochs.ledger import EpochRow, SinkRow
from spark_ext.epochs.recount_finding import UNCHECKED, Finding
from spark_ext.paths import file_system

__all__ = ["recount_sinks"]

COUNTED: Final = ("append", "outbox")  # kinds whose commits add their rows and nothing else


class _Entry(NamedTuple):
    """An epoch's row about one sink, and which transaction wrote it."""

    epoch: int
    app_id: str
    batch_id: int
    sink: SinkRow


def recount_sinks(rows: Sequence[EpochRow]) -> Iterator[Finding]:
    """Yield the sinks whose tables took another number of rows in an epoch's commit than the ledger says.

    The commit is the one with the epoch's transaction id; without one (at least once) it is all that was added since the epoch before. What
    the log does not have any more cannot be checked.

    Parameters
    ----------
    rows : sequence of EpochRow
        Of one pipeline, in order.
    """
    by_path: dict[str, list[_Entry]] = defaultdict(list)
    for row in rows:
        for sink in row.sinks:
            by_path[sink.path].append(_Entry(row.epoch, f"{row.pipeline}:{row.checkpoint_id}", row.batch_id, sink))
    for path, entries in sorted(by_path.items()):
        yield from _recount(path, entries)


def _recount(path: str, entries: Sequence[_Entry]) -> Iterator[Finding]:
    newest = entries[-1]
    if not DeltaTable.is_deltatable(path):
        if any(entry.sink.rows for entry in entries):
            yield Finding(newest.epoch, "table", path, f"table {newest.sink.table_id}", "no Delta table")
        return
    table = DeltaTable(path)
    table_id, version = str(table.metadata().id), table.version()
    others = [entry for entry in entries if entry.sink.rows and entry.sink.table_id != table_id]
    if others:
        yield Finding(others[-1].epoch, "table", path, f"table {others[-1].sink.table_id}", table_id)
    log = _Log(path)
    before: _Entry | None = None
    gone: list[_Entry] = []
    for entry in entries:
        if entry.sink.table_id == table_id:
            if entry.sink.version > version:
                yield Finding(entry.epoch, "version", path, f"version {entry.sink.version}", f"{version} is the newest")
            elif entry.sink.rows:
                try:
                    yield from _recount_epoch(log, entry, before)
                except FileNotFoundError:
                    gone.append(entry)
            before = entry
    if gone:
        where = f"{path}, {len(gone)} epochs from {gone[0].epoch} to {gone[-1].epoch}"
        yield Finding(gone[-1].epoch, UNCHECKED, where, "the commits in the table's log", "cleaned up")


def _recount_epoch(log: _Log, entry: _Entry, before: _Entry | None) -> Iterator[Finding]:
    first = before.sink.version + 1 if before is not None else 0
    span = range(entry.sink.version, first - 1, -1)
    commit = next((found for found in map(log.commit, span) if found.transactions.get(entry.app_id) == entry.batch_id), None)
    where = entry.sink.path
    expected = f"{entry.sink.rows} rows"
    if entry.sink.kind not in COUNTED:
        if commit is None:
            yield Finding(entry.epoch, "version", where, f"a commit of batch {entry.batch_id} up to version {entry.sink.version}", "none")
        return
    if commit is not None:
        added = commit.added
    elif before is not None:
        counts = [log.commit(version).added for version in span]
        known = [count for count in counts if count is not None]
        added = sum(known) if len(known) == len(counts) else None
    else:
        yield Finding(entry.epoch, UNCHECKED, where, expected, "no commit with its transaction id, and no version before")
        return
    if added is None:
        yield Finding(entry.epoch, UNCHECKED, where, expected, "a commit without statistics")
    elif added != entry.sink.rows:
        yield Finding(entry.epoch, "rows", where, expected, str(added))


class _Commit(NamedTuple):
    """What a version of the table did: rows it added (null: its files do not say), and its transactions."""

    added: int | None
    transactions: dict[str, int]


class _Log:
    """The log of a table, commit by commit; a commit that was read is remembered."""

    def __init__(self, path: str) -> None:
        self._files, self._root = file_system(path)
        self._known: dict[int, _Commit] = {}

    def commit(self, version: int) -> _Commit:
        """Return a commit.

        Raises
        ------
        FileNotFoundError
            The log was cleaned up.
        """
        if version not in self._known:
            with self._files.open_input_stream(f"{self._root}/_delta_log/{version:020d}.json") as stream:
                actions = [json.loads(line) for line in stream.read().splitlines() if line.strip()]
            self._known[version] = _read(actions)
        return self._known[version]


def _read(actions: Sequence[dict[str, Any]]) -> _Commit:
    added: int | None = 0
    for action in actions:
        if "add" in action and action["add"].get("dataChange", True):
            rows = json.loads(action["add"].get("stats") or "{}").get("numRecords")
            added = None if rows is None or added is None else added + rows
    return _Commit(added, {one["txn"]["appId"]: one["txn"]["version"] for one in actions if "txn" in one})
