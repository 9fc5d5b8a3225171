"""Which version of each table an epoch reads: decided before the route is called, and written down before anything else is.

The decision is a commit of the ledger without rows: marks with the batch, the version, a digest of the table's id and the time. A replay
finds the batch's marks and reads the same, whatever the table has become meanwhile. The epoch's row then names all of it, and the next
batch goes on from there. One mark more, per pipeline, counts the requests that have been served.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final, NamedTuple

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError
from pyspark.sql import DataFrame, SparkSession

from spark_ext.delta.commits import missing_files, open_table
from spark_ext.delta.fit import schema_of
from spark_ext.epochs.ledger import Ledger, TableRow
from spark_ext.epochs.lookups import ByAge, EveryBatch, Lookup, OnRequest, Pinned
from spark_ext.errors import EpochError

__all__ = ["Decision", "OpenTables", "Pins", "ask_refresh", "decide"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
FACTS: Final = ("batch", "version", "table", "refreshed_us")

_log = logging.getLogger(__name__)


class Decision(NamedTuple):
    """Version of a table, and when it was chosen."""

    version: int
    refreshed_at: datetime


def decide(lookup: Lookup, last: TableRow | None, *, newest: int, planned_at: datetime, is_asked: bool) -> Decision:
    """Return which version a batch reads that has not been tried before.

    Parameters
    ----------
    lookup : Lookup
        With its policy.
    last : TableRow or None
        What the epoch before read; None before the first.
    newest : int
        The table's newest version.
    planned_at : datetime
        When the batch was planned.
    is_asked : bool
        Whether somebody has asked for the newest version since the last one was chosen.

    Examples
    --------
    >>> at = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> last = TableRow("airlines", "/airlines", "id", 3, at)
    >>> hourly = Lookup("/airlines", refresh=ByAge(timedelta(hours=1)))
    >>> [decide(hourly, last, newest=7, planned_at=at + timedelta(minutes=m), is_asked=False).version for m in (59, 60)]
    [3, 7]
    """
    match lookup.refresh:
        case Pinned(version):
            kept = last is not None and last.version == version
            return Decision(version, last.refreshed_at if last is not None and kept else planned_at)
        case EveryBatch():
            is_due = True
        case ByAge(most):
            is_due = last is not None and planned_at - last.refreshed_at >= most
        case OnRequest():
            is_due = is_asked
    return Decision(newest, planned_at) if last is None or is_due else Decision(last.version, last.refreshed_at)


def ask_refresh(ledger: Ledger, pipeline: str, table: str) -> int:
    """Let the pipeline's next epoch that is not begun yet read the newest version of a table that is refreshed on request.

    Guarantee: a request counts once it has returned, for one epoch, also if the pipeline does not run now.

    Returns
    -------
    int
        Number of the request.
    """
    while True:
        name = asked_id(pipeline, table)
        number = (ledger.marked([name])[name] or 0) + 1
        try:
            ledger.mark({name: number})
        except CommitFailedError:
            continue
        return number


class Pins:
    """Decides the versions of a pipeline's tables, batch by batch; one per run of the pipeline.

    Parameters
    ----------
    pipeline : str
        Its name.
    app_id : str
        Of its checkpoint.
    ledger : Ledger
        Of the pipeline.
    tables : mapping of str to Lookup
        What the route reads.
    """

    def __init__(self, pipeline: str, app_id: str, ledger: Ledger, tables: Mapping[str, Lookup]) -> None:
        self._pipeline, self._app_id, self._ledger, self._tables = pipeline, app_id, ledger, tables
        self._last: dict[str, TableRow] | None = None
        self._checked: dict[str, tuple[str, int, int]] = {}  # table id, version in use and newest version, when the files were looked for
        self._schemas: dict[str, tuple[int, pa.Schema]] = {}  # of the version in use

    def of_batch(self, batch_id: int, planned_at: datetime) -> list[TableRow]:
        """Return what a batch reads: as it was decided in an earlier attempt, else as it is decided now.

        Guarantee: when it returns the decision is in the ledger, and each version is there with all its files.

        Raises
        ------
        EpochError
            A table is gone, was made anew, has lost columns, or has not the version or its files any more; or another driver of the
            pipeline is ahead.
        """
        if not self._tables:
            return []
        while True:
            opened = {name: self._opened(name, lookup) for name, lookup in self._tables.items()}
            rows, marks = self._decided(opened, batch_id, planned_at)
            try:
                if marks:
                    self._ledger.mark(marks)
            except CommitFailedError:
                continue  # somebody else has decided, or asks: look again
            for row in rows:
                self._check_version(row, newest=opened[row.name].version())
            self._last = {row.name: row for row in rows}
            return rows

    def _decided(self, opened: Mapping[str, DeltaTable], batch_id: int, planned_at: datetime) -> tuple[list[TableRow], dict[str, int]]:
        rows: list[TableRow] = []
        marks: dict[str, int] = {}
        known = self._known()
        found = self._ledger.marked([one for name in opened for one in self._ids(name)])
        for name, table in opened.items():
            lookup, last, table_id = self._tables[name], known.get(name), str(table.metadata().id)
            if last is not None and last.table_id != table_id:
                raise _made_anew(name, lookup.path, f"table {last.table_id}", f"table {table_id}")
            *facts, asked, served = (found[one] for one in self._ids(name))
            decision = self._pinned(name, table_id, batch_id, facts)
            if decision is None:
                is_asked = (asked or 0) > (served or 0)
                decision = decide(lookup, last, newest=table.version(), planned_at=planned_at, is_asked=is_asked)
                refreshed_us = (decision.refreshed_at - EPOCH) // MICROSECOND
                # The requests are set as well, so that one that comes in this moment makes the commit fail, and is seen.
                numbers = (batch_id, decision.version, _digest(table_id), refreshed_us, asked or 0, asked or 0)
                marks |= dict(zip(self._ids(name), numbers, strict=True))
            rows.append(TableRow(name, lookup.path, table_id, *decision))
        return rows, marks

    def _ids(self, name: str) -> list[str]:
        facts = [f"pin:{fact}:{name}:{self._app_id}" for fact in FACTS]
        return [*facts, asked_id(self._pipeline, name), served_id(self._pipeline, name)]

    def _pinned(self, name: str, table_id: str, batch_id: int, facts: Sequence[int | None]) -> Decision | None:
        batch, version, table, refreshed_us = facts
        if batch is None or version is None or refreshed_us is None or batch < batch_id:
            return None
        if batch > batch_id:
            raise EpochError(
                "read", "tables for batch", str(batch_id), expected=f"no later batch of {self._pipeline!r} in the ledger",
                got=f"versions for batch {batch}", why="another driver of this pipeline is ahead",
                todo="nothing is lost or written twice: let the other one run, or stop it and start this one again",
            )  # fmt: skip
        if table != _digest(table_id):
            raise _made_anew(name, self._tables[name].path, f"the table that batch {batch_id} was begun with", f"table {table_id}")
        return Decision(version, EPOCH + refreshed_us * MICROSECOND)

    def _known(self) -> dict[str, TableRow]:
        if self._last is None:
            row = self._ledger.last(self._pipeline)
            self._last = {} if row is None else {one.name: one for one in row.tables}
        return self._last

    @staticmethod
    def _opened(name: str, lookup: Lookup) -> DeltaTable:
        table = open_table(lookup.path)
        if table is None:
            raise EpochError(
                "read", "table", name, expected=f"a Delta table at {lookup.path}", got="none",
                why="the route reads it; nothing of the epoch was written", todo="put it back, or correct its path, and start again",
            )  # fmt: skip
        return table

    def _check_version(self, row: TableRow, *, newest: int) -> None:
        """Refuse a version that cannot be read any more, or whose columns are not what the route began with."""
        if self._checked.get(row.name) == (row.table_id, row.version, newest):
            return
        if row.version > newest:
            raise _gone(row, f"version {newest} as the newest one")
        try:
            table = DeltaTable(row.path, version=row.version)
            missing = 0 if row.version == newest else missing_files(table)
        except (DeltaError, OSError) as error:
            raise _gone(row, str(error).partition("\n")[0][:200]) from error
        if missing:
            raise _gone(row, f"{missing} of its files missing")
        self._check_schema(row, table)
        self._checked[row.name] = (row.table_id, row.version, newest)

    def _check_schema(self, row: TableRow, table: DeltaTable) -> None:
        schema = schema_of(table)
        assert schema is not None, "a table has one"  # noqa: S101
        version, before = self._schemas.get(row.name, (row.version, schema))
        wrong = [_difference(one, schema) for one in before if _difference(one, schema)]
        if wrong:
            raise EpochError(
                "read", "table", row.name, expected=f"in version {row.version} the columns of version {version}, which the run began with",
                got="; ".join(wrong), why="the route was written for those; nothing of the epoch was written",
                todo=f"start again if the route can do with the new ones, else read the old ones: refresh=Pinned({version})",
            )  # fmt: skip
        added = [one.name for one in schema if one.name not in before.names]
        if added:
            _log.warning("%s: table %s has new columns in version %d: %s", self._pipeline, row.name, row.version, ", ".join(added))
        self._schemas[row.name] = (row.version, schema)


class OpenTables(Mapping[str, DataFrame]):
    """Tables by name as frames, at the versions of the epoch; a frame stays the same object for as long as its version is in use."""

    def __init__(self, tables: Mapping[str, Lookup]) -> None:
        self._tables = tables
        self._rows: dict[str, TableRow] = {}
        self._frames: dict[str, tuple[TableRow, DataFrame]] = {}
        self._spark: SparkSession | None = None

    def turn_to(self, rows: Sequence[TableRow], spark: SparkSession) -> None:
        """Go on with the versions of the next epoch; frames of others are given up."""
        self._rows, self._spark = {row.name: row for row in rows}, spark
        for name, (row, frame) in list(self._frames.items()):
            now = self._rows.get(name)
            if now is None or (now.table_id, now.version) != (row.table_id, row.version):
                del self._frames[name]
                if self._tables[name].persist:
                    frame.unpersist()

    def __getitem__(self, name: str) -> DataFrame:
        row = self._rows[name]
        if name not in self._frames:
            assert self._spark is not None, "set with the rows"  # noqa: S101
            frame = self._spark.read.format("delta").option("versionAsOf", row.version).load(row.path)
            self._frames[name] = (row, frame.persist() if self._tables[name].persist else frame)
        return self._frames[name][1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def asked_id(pipeline: str, table: str) -> str:
    """Return the transaction id whose version is the number of requests for a newer version."""
    return f"refresh:{table}:{pipeline}"


def served_id(pipeline: str, table: str) -> str:
    """Return the transaction id whose version is the request that the version in use has served."""
    return f"refreshed:{table}:{pipeline}"


def _digest(table_id: str) -> int:
    """Return the id of a table as a number that a mark can hold."""
    return int.from_bytes(blake2b(table_id.encode(), digest_size=8).digest()) >> 1


def _difference(before: pa.Field, schema: pa.Schema) -> str:
    at = schema.get_field_index(before.name)
    if at < 0:
        return f"no column {before.name!r}"
    return "" if schema.field(at).type.equals(before.type) else f"column {before.name!r} {schema.field(at).type} where it was {before.type}"


def _made_anew(name: str, path: str, expected: str, got: str) -> EpochError:
    return EpochError(
        "read", "table", name, expected=f"{expected} at {path}", got=got,
        why="it was made anew; its versions say nothing of those in the ledger, and nothing of the epoch was written",
        todo="put the old one back, or give the new one another name in Pipeline(tables=...) to begin with it",
    )  # fmt: skip


def _gone(row: TableRow, got: str) -> EpochError:
    return EpochError(
        "read", "table", row.name, expected=f"version {row.version} at {row.path}, with all its files", got=got,
        why="the epoch was begun or the ledger goes on with it, and somebody has cleaned the table up; nothing more was written",
        todo="restore its files, let the table keep them for longer (delta.deletedFileRetentionDuration), and where another version may be "
        "read, give the table another name in Pipeline(tables=...)",
    )  # fmt: skip
