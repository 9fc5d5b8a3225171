"""Keep tables and ledger small between two epochs, without taking from readers what they may still read.

Done in the driver by delta-rs, in the thread that writes, so it never meets a write of its own pipeline; where it meets another pipeline's,
it lets that one win and tries again next time. None of it changes a row, but old epochs leave the ledger.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, WriterProperties
from deltalake.exceptions import DeltaError

from spark_ext.delta.arrow import read_arrow
from spark_ext.delta.rules import CHANGE_FEED, ROW_GROUP
from spark_ext.epochs.ledger import Ledger
from spark_ext.epochs.points import reach
from spark_ext.epochs.sinks import Sink
from spark_ext.errors import SettingsError
from spark_ext.paths import file_system

__all__ = ["Done", "Rules", "maintain"]

LEDGER: Final = "ledger"
RETENTION: Final = {"delta.logRetentionDuration": 30, "delta.deletedFileRetentionDuration": 7}  # days without the property
SLACK: Final = timedelta(days=1)  # between the age of an epoch and that of the files it needs
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
HISTORY: Final = 1_000  # commits
RETAINED_AT_ONCE: Final = 10  # a tenth of the epochs that stay must be due to leave
VACUUM: Final = "VACUUM END"
FAST_BY_KEY: Final = WriterProperties(compression="ZSTD", compression_level=1, max_row_group_size=ROW_GROUP)
FAST: Final = WriterProperties(compression="ZSTD", compression_level=1)  # half the time of delta-rs's level 4, files as small

Work = Literal["retention", "compact", "vacuum", "log checkpoint", "retain epochs", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When something is done.

    Attributes
    ----------
    every : int
        Epochs between two looks; for the caller.
    keep : timedelta
        For how long epochs stay in the ledger, and can be read as of.
    keep_epochs : int
        As many newest epochs stay whatever their age.
    small_bytes, small_files : int
        A table with at least so many files below this size is compacted.
    target_bytes : int
        Size of the files that compaction makes. A table whose small files together are as large is compacted, too, so one compaction
        rewrites about this much, and what came in `every` epochs: the stream waits for it. Larger files read faster.
    vacuum_every : timedelta
        Time between two looks for files that no version within `keep` needs.
    log_commits : int
        Commits after which the state of a table's log is written down, so that it opens fast.
    """

    every: int = 10
    keep: timedelta = timedelta(days=30)
    keep_epochs: int = 1_000
    small_bytes: int = 8 * 1024 * 1024
    small_files: int = 50
    target_bytes: int = 16 * 1024 * 1024
    vacuum_every: timedelta = timedelta(days=1)
    log_commits: int = 50

    def __post_init__(self) -> None:
        numbers = (self.every, self.keep_epochs, self.small_bytes, self.small_files - 1, self.target_bytes, self.log_commits)
        if min(numbers) < 1 or min(self.keep, self.vacuum_every) <= timedelta(0):
            expected = "numbers and times above zero, and at least 2 small_files"
            raise SettingsError("use", "rules", "maintenance", expected=expected, got=repr(self), todo="correct them")


@dataclass(frozen=True, slots=True)
class Done:
    """What was done to a table: `work`, and in words how much."""

    name: str
    work: Work
    text: str


def maintain(
    sinks: Mapping[str, Sink],
    ledger: Ledger,
    rules: Rules,
    *,
    pipeline: str,
    now: datetime,
    looked: dict[str, datetime] | None = None,
    batch_id: int = -1,
) -> list[Done]:
    """Look at each sink's table and at the ledger, and do what the rules say is due; call it after the ledger's commit.

    Guarantee: every epoch that the ledger has afterwards can be read as of, and a version that the last epoch of a pipeline in this
    ledger reads (`Pipeline.tables`) stays. Rows, and the order of batches that a stream sees which
    follows a table, stay as they are. A crash at any moment leaves all tables whole.

    Parameters
    ----------
    sinks : mapping of str to Sink
        The pipeline's.
    ledger : Ledger
        Of the pipeline; only this pipeline's epochs leave it.
    rules : Rules
        When and how much.
    pipeline : str
        Name of the pipeline.
    now : datetime
        The time, with its zone.
    looked : dict, optional
        When each table was last looked through for files to take away; give the same dict at each call.
    batch_id : int
        For the crash points of tests.

    Returns
    -------
    list of Done
        Empty if nothing was due.

    Not supported: streams that follow a table, or begin at its version 0, later than `Rules.keep` behind it. Their files are gone; they
    must begin with the table as it is.
    """
    known = {} if looked is None else looked
    aged = _aged(ledger, pipeline, now - rules.keep)
    newest = ledger.last(pipeline)
    first_kept = 0 if newest is None else newest.epoch - rules.keep_epochs + 1
    found = _guarded(LEDGER, lambda: _retain(ledger, pipeline, [one for one in aged if one < first_kept], rules, now))
    in_use = _in_use(ledger)
    kept = ledger.rows(pipeline, since=first_kept, until=max(aged)) if aged else []
    for name, sink in sinks.items():
        if DeltaTable.is_deltatable(sink.path):
            old = [one.version for row in kept for one in row.sinks if one.name == name] + in_use.get(sink.path, [])
            found += _table(name, DeltaTable(sink.path), rules, now, known, old)
            reach("in_maintenance", batch_id, name)
    found += _table(LEDGER, ledger.table(), rules, now, known, ())  # as of an epoch it is read by its rows, not by its versions
    reach("in_maintenance", batch_id, LEDGER)
    return found


def _table(name: str, table: DeltaTable, rules: Rules, now: datetime, looked: dict[str, datetime], old: Sequence[int]) -> list[Done]:
    return [
        *_guarded(name, lambda: _protect(table, rules)),
        *_guarded(name, lambda: _compact(table, rules)),
        *_guarded(name, lambda: _vacuum(table, rules, now, looked, old)),
        *_guarded(name, lambda: _write_log(table, rules)),
    ]


def _guarded(name: str, work: Callable[[], tuple[Work, str] | None]) -> list[Done]:
    try:
        done = work()
    except (DeltaError, OSError) as error:  # another writer was faster, or the table cannot be touched now: its rows are as they were
        return [Done(name, "skipped", f"{type(error).__name__}: {str(error)[:200]}")]
    return [] if done is None else [Done(name, *done)]


def _in_use(ledger: Ledger) -> dict[str, list[int]]:
    """Return by path the versions of tables that the pipelines of a ledger go on with."""
    names = pc.unique(read_arrow(ledger.table(), columns=["pipeline"]).column("pipeline")).to_pylist()
    found: dict[str, list[int]] = {}
    for row in filter(None, map(ledger.last, names)):
        for one in row.tables:
            found.setdefault(one.path, []).append(one.version)
    return found


def _aged(ledger: Ledger, pipeline: str, before: datetime) -> list[int]:
    """Return the epochs that are older than a time; files without any are not opened."""
    filters = [("pipeline", "=", pipeline), ("committed_at", "<", before)]
    return sorted(read_arrow(ledger.table(), columns=["epoch"], filters=filters).column("epoch").to_pylist())


def _retain(ledger: Ledger, pipeline: str, gone: Sequence[int], rules: Rules, now: datetime) -> tuple[Work, str] | None:
    if len(gone) * RETAINED_AT_ONCE < rules.keep_epochs or not gone:  # each time rewrites a file
        return None
    name, before = pipeline.replace("'", "''"), (now - rules.keep).astimezone(UTC).isoformat()
    ledger.table().delete(f"pipeline = '{name}' AND epoch <= {gone[-1]} AND committed_at < '{before}'")
    return "retain epochs", f"{len(gone)} epochs up to {gone[-1]} left"


def _protect(table: DeltaTable, rules: Rules) -> tuple[Work, str] | None:
    """Let the table itself say how long it keeps what readers as of an epoch need: others clean up too."""
    days = -(-(rules.keep + SLACK) // DAY)
    known = table.metadata().configuration
    short = [name for name, default in RETENTION.items() if _days(known.get(name)) in range(days) or (name not in known and default < days)]
    if not short:
        return None
    table.alter.set_table_properties(dict.fromkeys(short, f"interval {days} days"))
    return "retention", f"{days} days of {', '.join(short)}"


def _days(text: str | None) -> int | None:
    """Return the length of an interval in whole days, None if it is not one of days."""
    match = re.fullmatch(r"interval (\d+) days?", text or "")
    return int(match[1]) if match else None


def _compact(table: DeltaTable, rules: Rules) -> tuple[Work, str] | None:
    sizes = pa.table(table.get_add_actions()).column("size_bytes")
    small = sizes.filter(pc.less(sizes, rules.small_bytes))
    if len(small) <= 1 or (len(small) < rules.small_files and pc.sum(small).as_py() < rules.target_bytes):
        return None
    is_read_by_key = table.metadata().configuration.get(CHANGE_FEED, "").lower() == "true"
    done = table.optimize.compact(target_size=rules.target_bytes, writer_properties=FAST_BY_KEY if is_read_by_key else FAST)
    if not done["numFilesRemoved"]:
        return None
    return "compact", f"{done['numFilesRemoved']} files are {done['numFilesAdded']} now"


def _vacuum(table: DeltaTable, rules: Rules, now: datetime, looked: dict[str, datetime], old: Sequence[int]) -> tuple[Work, str] | None:
    last = looked.get(table.table_uri) or _last_vacuum(table)
    if now - last < rules.vacuum_every:
        return None
    # delta-rs has a clock of its own, and counts back from that.
    hours = max(0, -((now - rules.keep - SLACK - datetime.now(UTC)) // HOUR))
    versions = sorted({version for version in old if version >= 0})
    files = table.vacuum(retention_hours=hours, dry_run=False, enforce_retention_duration=False, keep_versions=versions or None)
    looked[table.table_uri] = now
    return ("vacuum", f"{len(files)} files taken away") if files else None


def _last_vacuum(table: DeltaTable) -> datetime:
    """Return when it was last vacuumed, else when it was made; or, of a long history, a time after that."""
    entries = table.history(HISTORY)
    times = [one["timestamp"] for one in entries if one["operation"] == VACUUM] or [entries[-1]["timestamp"]]
    return datetime.fromtimestamp(times[0] / 1000, UTC)


def _write_log(table: DeltaTable, rules: Rules) -> tuple[Work, str] | None:
    files, root = file_system(table.table_uri)
    try:
        with files.open_input_stream(f"{root.rstrip('/')}/_delta_log/_last_checkpoint") as opened:
            written = int(json.loads(opened.readall())["version"])
    except (FileNotFoundError, KeyError, ValueError):
        written = 0
    if table.version() - written < rules.log_commits:
        return None
    table.create_checkpoint()
    return "log checkpoint", f"version {table.version()}"
