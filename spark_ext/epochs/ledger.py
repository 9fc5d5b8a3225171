"""The ledger: a Delta table with one row per epoch that says where every row that was read went.

Read and written without Spark, by delta-rs: a commit costs a few milliseconds, and anybody can check it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError

from spark_ext.delta.arrow import read_arrow
from spark_ext.errors import EpochError
from spark_ext.paths import absolute

__all__ = ["COUNTS", "KINDS", "SCHEMA", "EpochRow", "Ledger", "RangeRow", "SinkRow", "TableRow", "balances"]

STAMP: Final = pa.timestamp("us", "UTC")
RANGE: Final = pa.struct([
    ("topic", pa.string()), ("topic_id", pa.string()), ("partition", pa.int32()), ("start", pa.int64()), ("end", pa.int64()),
    ("read", pa.int64()), ("absent", pa.int64()), ("lost", pa.int64()), ("latest", pa.int64()),
])  # fmt: skip
SINK: Final = pa.struct([
    ("name", pa.string()), ("path", pa.string()), ("table_id", pa.string()), ("kind", pa.string()), ("counts_as", pa.string()),
    ("rows", pa.int64()), ("version", pa.int64()), ("writer", pa.string()),
])  # fmt: skip
TABLE: Final = pa.struct([
    ("name", pa.string()), ("path", pa.string()), ("table_id", pa.string()), ("version", pa.int64()), ("refreshed_at", STAMP),
])  # fmt: skip
KINDS: Final = ("accepted", "filtered", "late", "dead", "duplicate", "shed")  # what a row that was read becomes
COUNTS: Final = ("read", *KINDS, "absent", "lost")
SCHEMA: Final = pa.schema([
    ("pipeline", pa.string()), ("checkpoint_id", pa.string()), ("epoch", pa.int64()), ("batch_id", pa.int64()), ("token", pa.int64()),
    ("started_at", STAMP), ("committed_at", STAMP), ("watermark", STAMP), ("first_event", STAMP), ("last_event", STAMP),
    *((name, pa.int64()) for name in COUNTS), ("is_balanced", pa.bool_()), ("is_derived", pa.bool_()), ("replay_of", pa.string()),
    ("ranges", pa.list_(RANGE)), ("sinks", pa.list_(SINK)), ("durations_ms", pa.map_(pa.string(), pa.int64())), ("release", pa.string()),
    ("tables", pa.list_(TABLE)),
])  # fmt: skip


@dataclass(frozen=True, slots=True)
class RangeRow:
    """Offsets of one partition that an epoch read: from `start` up to, not including, `end`.

    `absent` offsets never were records (compaction, transactions), `lost` ones were gone from the broker. `latest` is where the partition
    ended when the epoch was planned, for a reader of committed records its last stable offset; null if the source does not say, as
    Spark's connector: ``latest - end`` is the lag.
    """

    topic: str
    topic_id: str | None
    partition: int
    start: int
    end: int
    read: int
    absent: int = 0
    lost: int = 0
    latest: int | None = None

    @property
    def is_balanced(self) -> bool:
        """Tell whether each offset was read, never was a record, or is lost."""
        return self.end - self.start == self.read + self.absent + self.lost


def balances(counts: Mapping[str, int], ranges: Sequence[RangeRow]) -> bool:
    """Tell whether both equations of the ledger hold.

    What was read is the sum of what it became, none of which is below zero: ``accepted`` that is derived is, where more rows came out
    than were read. And each range is balanced.

    Parameters
    ----------
    counts : mapping of str to int
        ``read`` and each of `KINDS`.
    ranges : sequence of RangeRow
        What was read.
    """
    became = [counts[kind] for kind in KINDS]
    return counts["read"] == sum(became) and min(became) >= 0 and all(one.is_balanced for one in ranges)


@dataclass(frozen=True, slots=True)
class SinkRow:
    """What an epoch did to one sink.

    `version` is the table's version with the epoch in it, also when the epoch had no rows for it (`writer` is null then).
    """

    name: str
    path: str
    table_id: str
    kind: str
    counts_as: str | None
    rows: int
    version: int
    writer: str | None


@dataclass(frozen=True, slots=True)
class TableRow:
    """A table that an epoch's route read: which version, and when that was chosen.

    `refreshed_at` is the time at which the batch was planned that chose this version.
    """

    name: str
    path: str
    table_id: str
    version: int
    refreshed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRow:
    """One epoch; field by field a row of the ledger.

    ``read = accepted + filtered + late + dead + duplicate + shed``, none below zero, in a balanced one. `is_derived`: accepted is what is
    left of the rest, as the pipeline gives out aggregates, not rows. `replay_of`: what was replayed, for an epoch that was not read from
    the source. `tables`: what the route read; empty in rows of releases that did not note it.
    """

    pipeline: str
    checkpoint_id: str
    epoch: int
    batch_id: int
    token: int
    started_at: datetime
    committed_at: datetime
    watermark: datetime | None = None
    first_event: datetime | None = None
    last_event: datetime | None = None
    read: int = 0
    accepted: int = 0
    filtered: int = 0
    late: int = 0
    dead: int = 0
    duplicate: int = 0
    shed: int = 0
    absent: int = 0
    lost: int = 0
    is_derived: bool = False
    ranges: Sequence[RangeRow]
    sinks: Sequence[SinkRow]
    durations_ms: Mapping[str, int] = field(default_factory=dict)
    replay_of: str | None = None
    release: str = ""
    tables: Sequence[TableRow] = ()

    @property
    def is_balanced(self) -> bool:
        """Tell whether both equations hold; see `balances`."""
        return balances({name: getattr(self, name) for name in COUNTS}, self.ranges)

    def to_arrow(self) -> pa.Table:
        """Return a table of one row."""
        row = asdict(self) | {"is_balanced": self.is_balanced, "durations_ms": list(self.durations_ms.items())}
        return pa.Table.from_pylist([row], schema=SCHEMA)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> EpochRow:
        """Read a row that `pa.Table.to_pylist` gave."""
        known = {each.name: row[each.name] for each in fields(cls) if each.name != "tables"}
        ranges = [RangeRow(**one) for one in row["ranges"] or ()]
        sinks = [SinkRow(**one) for one in row["sinks"] or ()]
        tables = [TableRow(**one) for one in row.get("tables") or ()]
        return cls(**{**known, "ranges": ranges, "sinks": sinks, "tables": tables, "durations_ms": dict(row["durations_ms"] or ())})


class Ledger:
    """The ledger at a path; several pipelines may share one.

    Not supported: file systems on which delta-rs cannot put a file if it is absent.
    """

    def __init__(self, path: str) -> None:
        self.path = absolute(path)
        self._table: DeltaTable | None = None

    def exists(self) -> bool:
        """Tell whether the table is there."""
        return bool(DeltaTable.is_deltatable(self.path))

    def create(self) -> None:
        """Make the table; one that is there is left as it is."""
        write_deltalake(self.path, SCHEMA.empty_table(), mode="ignore", name="millrace ledger")

    def table(self) -> DeltaTable:
        """Return the table as it is now."""
        if self._table is None:
            if not self.exists():
                raise EpochError(
                    "open", "ledger", self.path, expected="a Delta table", got="none", todo="correct the path, or start the pipeline once"
                )
            self._table = DeltaTable(self.path)
        else:
            self._table.update_incremental()
        return self._table

    def rows(
        self, pipeline: str | None = None, *, last: int | None = None, since: int | None = None, until: int | None = None
    ) -> list[EpochRow]:
        """Return epochs in order, oldest first: of one pipeline or all, from `since` up to `until`, and only the `last` ones if given."""
        bounds: list[tuple[str, str, Any]] = [("pipeline", "=", pipeline), ("epoch", ">=", since), ("epoch", "<=", until)]
        found = self._read([one for one in bounds if one[2] is not None] or None)
        return found if last is None else found[max(0, len(found) - last) :]

    def last(self, pipeline: str) -> EpochRow | None:
        """Return the newest epoch of a pipeline, None before the first."""
        files = pa.table(self.table().get_add_actions(flatten=True))
        ours = files.filter((pc.field("min.pipeline") <= pipeline) & (pc.field("max.pipeline") >= pipeline))
        newest = pc.max(ours.column("max.epoch")).as_py()
        if newest is None:
            return None
        found = self._read([("pipeline", "=", pipeline), ("epoch", ">=", newest)])
        if not found:  # a compacted file holds other pipelines as well, which are further
            epochs = read_arrow(self.table(), columns=["epoch"], filters=[("pipeline", "=", pipeline)]).column("epoch")
            found = self._read([("pipeline", "=", pipeline), ("epoch", "=", pc.max(epochs).as_py())]) if len(epochs) else []
        return found[-1] if found else None

    def _read(self, filters: list[tuple[str, str, Any]] | None) -> list[EpochRow]:
        found = read_arrow(self.table(), filters=filters).sort_by([("pipeline", "ascending"), ("epoch", "ascending")])
        return [EpochRow.from_dict(row) for row in found.to_pylist()]

    def token(self, pipeline: str) -> int:
        """Return the fencing token of the pipeline's lease, 0 before the first."""
        return int(self.table().transaction_version(lease_id(pipeline)) or 0)

    def take_lease(self, pipeline: str) -> int:
        """Take the pipeline's lease from whoever has it, and return the new token.

        Raises
        ------
        EpochError
            Another driver took it in the same moment.
        """
        table = self.table()
        token = self.token(pipeline) + 1
        try:
            self._commit(table, SCHEMA.empty_table(), [Transaction(lease_id(pipeline), token)])
        except CommitFailedError as error:
            raise overtaken(pipeline, token, self.token(pipeline)) from error
        return token

    def is_committed(self, app_id: str, batch_id: int) -> bool:
        """Tell whether the epoch of a batch is in the ledger."""
        done = self.table().transaction_version(app_id)
        return done is not None and done >= batch_id

    def was_attempted(self, app_id: str, batch_id: int) -> bool:
        """Tell whether a batch was tried before, as `mark_attempt` noted."""
        known = self.table().transaction_version(attempt_id(app_id))
        return known is not None and known >= batch_id

    def mark_attempt(self, app_id: str, batch_id: int) -> None:
        """Note that a batch is being tried."""
        if not self.was_attempted(app_id, batch_id):
            self._commit(self.table(), SCHEMA.empty_table(), [Transaction(attempt_id(app_id), batch_id)])

    def published(self, relay: str) -> int | None:
        """Return the epoch that a relay is known to have reached at least, None if it never started."""
        return self.table().transaction_version(relay_id(relay))

    def mark_published(self, relay: str, epoch: int) -> None:
        """Note how far a relay is at least. What counts is its mark in Kafka; this is to notice when that is lost."""
        self._commit(self.table(), SCHEMA.empty_table(), [Transaction(relay_id(relay), epoch)])

    def marked(self, names: Iterable[str]) -> dict[str, int | None]:
        """Return the numbers of marks, all as of one moment; None for one that was never set."""
        table = self.table()
        return {name: table.transaction_version(name) for name in names}

    def mark(self, marks: Mapping[str, int]) -> None:
        """Set marks, all in one commit; a number may be lower than the one before.

        Raises
        ------
        deltalake.exceptions.CommitFailedError
            Somebody has set one of them since `marked` was called; nothing was set.
        """
        self._commit(self._table or self.table(), SCHEMA.empty_table(), [Transaction(name, number) for name, number in marks.items()])

    def append(self, row: EpochRow, *, app_id: str) -> None:
        """Commit an epoch; doing it again changes nothing.

        Guarantee: fails, and commits nothing, if another driver has taken the lease since `row.token` was given.

        Raises
        ------
        EpochError
            The lease is gone.
        """
        while True:
            if self.is_committed(app_id, row.batch_id):
                return
            table = self.table()
            held = self.token(row.pipeline)
            if held != row.token:
                raise overtaken(row.pipeline, row.token, held)
            try:
                # The lease's id is in both commits, so Delta lets only one of two drivers through.
                marks = [Transaction(app_id, row.batch_id), Transaction(lease_id(row.pipeline), row.token)]
                self._commit(table, row.to_arrow(), marks)
            except CommitFailedError:
                continue  # look again who it was
            return

    @staticmethod
    def _commit(table: DeltaTable, rows: pa.Table, marks: list[Transaction]) -> None:
        # A ledger that a release without a column has made gets it with the first commit of this one.
        marked = CommitProperties(app_transactions=marks)
        write_deltalake(table, rows, mode="append", schema_mode="merge", commit_properties=marked)


def lease_id(pipeline: str) -> str:
    """Return the transaction id whose version is the fencing token."""
    return f"lease:{pipeline}"


def relay_id(relay: str) -> str:
    """Return the transaction id whose version is the first epoch that a relay may not have published."""
    return f"relay:{relay}"


def attempt_id(app_id: str) -> str:
    """Return the transaction id whose version is the last batch that was tried."""
    return f"attempt:{app_id}"


def overtaken(pipeline: str, ours: int, theirs: int) -> EpochError:
    """Return the error of a driver that was overtaken."""
    return EpochError(
        "commit",
        "epoch of pipeline",
        pipeline,
        expected=f"lease {ours}",
        got=f"lease {theirs}",
        why="another driver of this pipeline was started",
        todo="nothing is lost or written twice: let the other one run, or stop it and start this one again",
    )
