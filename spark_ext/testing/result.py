"""What a script left behind, read without Spark."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from spark_ext.delta.arrow import read_arrow
from spark_ext.epochs.ledger import EpochRow, Ledger, SinkRow
from spark_ext.queries import Query
from spark_ext.testing.crashes import Attempt, Hit
from spark_ext.testing.steps import Crash, CrashInOperator, Step

__all__ = ["JobUnderTest", "Result", "ledger_facts", "read_tables", "sink_fact"]

Build = Callable[[SparkSession, DataFrame, Path], Query]
LEDGER_FACTS: Final = (
    "pipeline", "epoch", "batch_id", "watermark", "first_event", "last_event", "read", "accepted", "filtered", "late", "dead", "duplicate",
    "shed", "absent", "lost", "is_balanced", "is_derived", "replay_of",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class JobUnderTest:
    """A job that the kit can start in a folder, crash, and start again.

    Attributes
    ----------
    schema : pyarrow.Schema
        Columns of the stream.
    build : callable
        ``build(spark, stream, folder)`` starts the job on the stream and returns its `spark_ext.queries.Query`; called once for each
        start, as a driver does, with the same folder. Everything that the job keeps, with its checkpoint, is below the folder. The
        query goes on until it is stopped: give ``every="0 seconds"``. `Clock.of` the folder is the script's clock.
    tables : mapping of str to str
        Delta tables to compare, by name: paths below the folder. One that is not there counts as empty.
    ledger : str, optional
        Path of the job's ledger below the folder; None for a job without epochs.
    keys : mapping of str to sequence of str
        Columns that identify a row of a table: with them a row with another content is told as altered, not as lost and unexpected.
    volatile : mapping of str to collection of str
        Columns of a table that may differ between two runs, such as times of processing.
    """

    schema: pa.Schema
    build: Build
    tables: Mapping[str, str]
    ledger: str | None = None
    keys: Mapping[str, Sequence[str]] = field(default_factory=dict)
    volatile: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What a script left behind, and how it went.

    Attributes
    ----------
    job : JobUnderTest
        What was run.
    steps : sequence of Step
        The script.
    folder : Path
        Where it ran.
    tables : mapping of str to pyarrow.Table
        Tables by name, read by delta-rs; rows in no order.
    ledger : sequence of EpochRow
        Epochs in order; empty without a ledger.
    facts : sequence of mapping
        The ledger without what another run may have otherwise; see `ledger_facts`.
    attempts : sequence of Attempt
        Each attempt at a batch with the points that it reached.
    hits : sequence of Hit
        Crashes that happened.
    missed : sequence
        Optional crashes whose point was not reached.
    starts : int
        How many times the job was started.
    offsets, progress, plan : str
        Of the last run: where the source stands, Spark's last progress, the plan of the last batch.
    """

    job: JobUnderTest
    steps: Sequence[Step]
    folder: Path
    tables: Mapping[str, pa.Table]
    ledger: Sequence[EpochRow]
    facts: Sequence[Mapping[str, Any]]
    attempts: Sequence[Attempt] = ()
    hits: Sequence[Hit] = ()
    missed: Sequence[Crash | CrashInOperator] = ()
    starts: int = 0
    offsets: str = ""
    progress: str = ""
    plan: str = ""

    @property
    def batches(self) -> int:
        """How many different batches reached a point."""
        return len({attempt.batch_id for attempt in self.attempts})

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table as dictionaries, in no order."""
        found: list[dict[str, Any]] = self.tables[table].to_pylist()
        return found


def read_tables(job: JobUnderTest, folder: Path) -> dict[str, pa.Table]:
    """Read the tables of a job in its folder, through delta-rs."""
    return {name: _read(str(folder / path)) for name, path in job.tables.items()}


def read_ledger(job: JobUnderTest, folder: Path) -> list[EpochRow]:
    """Return the epochs of a job in its folder."""
    ledger = Ledger(str(folder / job.ledger)) if job.ledger else None
    return ledger.rows() if ledger is not None and ledger.exists() else []


def ledger_facts(rows: Sequence[EpochRow], *, compared: Collection[str]) -> list[dict[str, Any]]:
    """Return what two runs of the same stream must have in common in their ledgers.

    Left out is what belongs to a run: the id of the checkpoint, the fencing token (a restart takes the next one), times and durations of
    the commit, the release, paths and ids of tables, who wrote a sink, ids of topics, the lag. The version of a table may differ too, as
    maintenance and other programs make versions; in its place stands what it means to a reader: the number of rows and a digest of the
    content of the table at that version.

    Parameters
    ----------
    rows : sequence of EpochRow
        A ledger.
    compared : collection of str
        Paths of the tables whose content is compared; of the other sinks only what the ledger says of the epoch.
    """
    seen: dict[tuple[str, int], list[Mapping[str, Any]]] = {}

    def content(one: SinkRow) -> list[Mapping[str, Any]] | None:
        if one.path in compared and (one.path, one.version) not in seen:
            seen[one.path, one.version] = _read(one.path, version=one.version).to_pylist()
        return seen.get((one.path, one.version))

    found = []
    for row in rows:
        sinks = {f"sink {one.name}": sink_fact(one.rows, content(one)) for one in row.sinks}
        ranges = [(one.topic, one.partition, one.start, one.end, one.read, one.absent, one.lost) for one in row.ranges]
        found.append({name: getattr(row, name) for name in LEDGER_FACTS} | {"ranges": ranges, **sinks})
    return found


def canonical(value: object) -> Any:
    """Return a value that can be compared, sorted as text and put into a set.

    Examples
    --------
    >>> canonical({"b": [1, float("nan")], "a": None})
    (('a', None), ('b', (1, 'NaN')))
    """
    if isinstance(value, dict):
        return tuple(sorted((name, canonical(one)) for name, one in value.items()))
    if isinstance(value, list | tuple):
        return tuple(canonical(one) for one in value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)  # zones have many names
    return "NaN" if isinstance(value, float) and value != value else value  # noqa: PLR0124 (only NaN is not itself)


def sink_fact(rows: int, content: Sequence[Mapping[str, Any]] | None) -> str:
    """Return what a ledger says of a sink in an epoch: its rows, and all rows of the table as of the epoch, as number and digest.

    Examples
    --------
    >>> sink_fact(1, [{"id": 1}, {"id": 2}])
    '1 of 2 rows, digest b71b9c0ed5f7'
    """
    if content is None:
        return f"{rows} rows"
    lines = "\n".join(sorted(repr(canonical(row)) for row in content))
    return f"{rows} of {len(content)} rows, digest {hashlib.blake2s(lines.encode(), digest_size=6).hexdigest()}"


def _read(path: str, *, version: int | None = None) -> pa.Table:
    if version == -1 or not DeltaTable.is_deltatable(path):
        return pa.table({})
    return read_arrow(DeltaTable(path, version=version))
