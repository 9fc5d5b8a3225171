"""What is looked at before a pipeline starts: checkpoint, ledger and tables must speak of the same past.

Each of them can be deleted, restored or exchanged without the others. The stream would then read rows twice or skip them, and Delta would
take new batches for replays. So the start is refused, with what was found and the command that resolves it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from deltalake import DeltaTable

from spark_ext.epochs import offsets
from spark_ext.epochs.ledger import EpochRow, Ledger
from spark_ext.epochs.offsets import Span
from spark_ext.epochs.sinks import Sink
from spark_ext.errors import CheckpointMismatchError, EpochError
from spark_ext.queries import owner
from spark_ext.queries.checkpoint import Checkpoint

__all__ = ["check", "check_start", "rewind_command"]

RECENT: Final = 200  # epochs in which the last rows of a sink are looked for
NONE: Final = -1  # before the first batch
REPLACING: Final = ("REPLACE TABLE", "CREATE OR REPLACE TABLE", "CREATE OR REPLACE TABLE AS SELECT", "REPLACE TABLE AS SELECT")


def check(checkpoint: Checkpoint, ledger: Ledger, pipeline: str, sinks: Mapping[str, Sink]) -> int:
    """Refuse to start a pipeline whose parts do not agree; call it before anything is read.

    Guarantee: a start that is let through goes on exactly where the ledger ends. Nothing is changed but the note of who drives the
    checkpoint, which `spark_ext.queries.owner.release` takes back.

    Parameters
    ----------
    checkpoint : Checkpoint
        Claimed by the pipeline, which compares the ids of its topics.
    ledger : Ledger
        Of the pipeline; may be empty, or not there yet.
    pipeline : str
        Name of the pipeline.
    sinks : mapping of str to Sink
        As for `spark_ext.epochs.Pipeline`. One that the ledger does not know yet is taken as it is.

    Returns
    -------
    int
        Number of the epoch of the checkpoint's batch 0.

    Raises
    ------
    CheckpointMismatchError
        The checkpoint is new, another one, older or newer than the ledger, or was changed.
    EpochError
        Another driver is alive on this machine; or a table was restored, made anew or taken away, or is ahead of the ledger.

    Not supported: tables that were changed in place by another program, other than by RESTORE or by being overwritten.
    """
    is_new = owner.take(checkpoint)
    try:
        return _Guard(checkpoint, ledger, pipeline).first_epoch(sinks)
    except BaseException:
        if is_new:
            owner.release(checkpoint)
        raise


def check_start(checkpoint: Checkpoint, ledger: Ledger, spans: Sequence[Span]) -> None:
    """Refuse a first batch that does not start where the rewind before it said.

    Parameters
    ----------
    spans : sequence of Span
        What batch 0 reads.

    Raises
    ------
    CheckpointMismatchError
        The job was not started with the position of `spark_ext.epochs.starting`.
    """
    row = ledger.last(checkpoint.pipeline)
    if row is None or row.checkpoint_id != checkpoint.checkpoint_id or row.batch_id != NONE:
        return
    wanted = {(one.topic, one.partition): one for one in row.ranges}
    for one in spans:
        there = wanted.get((one.topic, one.partition))
        if there is None:
            continue
        again = rewind_command(checkpoint, ledger, "<where>")
        if None not in (there.topic_id, one.topic_id) and there.topic_id != one.topic_id:
            raise CheckpointMismatchError(
                "start",
                "pipeline",
                checkpoint.pipeline,
                expected=f"topic {one.topic} with id {there.topic_id}, as the rewind says",
                got=f"id {one.topic_id}",
                why="the topic was made anew; offsets of the old one mean nothing in it",
                todo=f"choose where to start in the new one: {again}",
            )
        if there.end != one.start:
            raise CheckpointMismatchError(
                "start",
                "pipeline",
                checkpoint.pipeline,
                expected=f"{one.topic}[{one.partition}] from {there.end}, as the rewind says",
                got=f"from {one.start}",
                why="the job does not ask where it is to start",
                todo=f"read with starting=spark_ext.epochs.starting(checkpoint), then repeat the rewind: {again}",
            )


def rewind_command(checkpoint: Checkpoint, ledger: Ledger, to: str, *, restore_tables: bool = False) -> str:
    """Return the command that makes a new checkpoint which starts at `to`."""
    words = ["millrace", "rewind", checkpoint.pipeline, "--ledger", ledger.path, "--checkpoint", checkpoint.path, "--to", to]
    return shlex.join([*words, "--restore-tables"] if restore_tables else words)


class _Guard:
    def __init__(self, checkpoint: Checkpoint, ledger: Ledger, pipeline: str) -> None:
        self._checkpoint, self._ledger, self._pipeline = checkpoint, ledger, pipeline
        planned, committed = checkpoint.last_planned(), checkpoint.last_committed()
        self._planned = NONE if planned is None else planned
        self._committed = NONE if committed is None else committed

    def first_epoch(self, sinks: Mapping[str, Sink]) -> int:
        last = self._ledger.last(self._pipeline) if self._ledger.exists() else None
        done = NONE if last is None else last.batch_id
        if last is None:
            if self._committed > NONE:
                raise self._no_ledger()
        else:
            if last.checkpoint_id != self._checkpoint.checkpoint_id:
                raise self._other_checkpoint(last)
            self._check_progress(last)
            self._check_plan(last)
        known = {} if last is None else {one.name: one for one in last.sinks}
        written = {} if last is None else self._last_writes(last)
        for name, sink in sinks.items():
            row = known.get(name)
            if not DeltaTable.is_deltatable(sink.path):
                if row is not None and row.table_id:
                    raise self._table(name, f"table {row.table_id} at {sink.path}", "none", "it was deleted or moved", last)
                continue
            table = DeltaTable(sink.path)
            if row is not None and row.table_id:
                self._check_table(name, table, row.table_id, row.version, last)
            if sink.delivery == "exactly_once":
                self._check_txn(name, table, written.get(name), done, last)
        return 0 if last is None else last.epoch - last.batch_id

    def _check_progress(self, last: EpochRow) -> None:
        """Spark commits batch N right after the ledger has it, so they are never more than one apart."""
        if last.batch_id < self._committed:
            raise self._checkpoint_error(
                expected=f"a ledger with the epoch of batch {self._committed}",
                got=f"one that ends with {_batch(last.batch_id)}",
                why="the ledger was restored to an older version, or is another one",
                todo=f"restore the newer ledger, or read again from where this one ends: {self._command(last)}",
            )
        if last.batch_id > self._committed + 1:
            raise self._checkpoint_error(
                expected=f"a checkpoint with batch {last.batch_id}, which is in the ledger",
                got=f"one that ends with {_batch(self._committed)}",
                why="it was restored from an older copy, or emptied; batches would be cut in another way, and then skipped",
                todo=f"restore the newer checkpoint, or go on where the ledger ends: {self._command(last)}",
            )
        if last.batch_id > self._planned:
            raise self._checkpoint_error(
                expected=f"spark/offsets/{last.batch_id}, as the ledger has that batch",
                got="no such file",
                why="it was deleted, or the checkpoint restored from an older copy",
                todo=f"restore it, or go on where the ledger ends: {self._command(last)}",
            )

    def _check_plan(self, last: EpochRow) -> None:
        """Compare the ledger's ranges with the offset log, digit by digit."""
        if last.batch_id == NONE:
            if self._planned > NONE:
                check_start(self._checkpoint, self._ledger, offsets.of_batch(self._checkpoint, 0) or [])
            return
        spans = offsets.ranges([], offsets.planned(self._checkpoint, last.batch_id)) or []
        found = {(one.topic, one.partition): one for one in spans}
        known = {(one.topic, one.partition): one for one in last.ranges}
        for at in sorted({*found, *known} if known else ()):
            here, there = found.get(at), known.get(at)
            if here is not None and there is not None and (here.end, here.topic_id) == (there.end, there.topic_id):
                continue
            raise self._checkpoint_error(
                expected=f"{at[0]}[{at[1]}] up to {_place(there)}, as in the ledger's epoch {last.epoch}",
                got=f"{_place(here)} in spark/offsets/{last.batch_id}",
                why="one of them was changed, or the topic was made anew",
                todo=f"restore the one that was changed, or go on where the ledger ends: {self._command(last)}",
            )

    def _last_writes(self, last: EpochRow) -> dict[str, int]:
        """Return the last batch of this checkpoint that wrote rows, for each sink, if it was not long ago."""
        recent = self._ledger.rows(self._pipeline, since=last.epoch - RECENT)
        ours = [row for row in recent if row.checkpoint_id == self._checkpoint.checkpoint_id]
        return {one.name: row.batch_id for row in ours for one in row.sinks if one.writer is not None}

    def _check_table(self, name: str, table: DeltaTable, table_id: str, version: int, last: EpochRow | None) -> None:
        found = str(table.metadata().id)
        if found != table_id:
            raise self._table(name, f"table {table_id}", f"table {found}", "it was deleted and made anew, or is another one", last)
        if table.version() < version:
            why = "it was restored from an older copy: rows are missing"
            raise self._table(name, f"version {version} or later", f"version {table.version()}", why, last)
        for at, commit in _replacements(table, since=version):
            to = commit["operationParameters"].get("version") if commit["operation"] == "RESTORE" else None
            got, why = f"those of version {at}", "another program replaced them"
            if commit["operation"] == "RESTORE":
                got, why = f"those of {f'version {to}' if to else 'an earlier time'}", "it was restored"
            raise self._table(name, f"the rows of version {version}", got, why, last)

    def _check_txn(self, name: str, table: DeltaTable, written: int | None, done: int, last: EpochRow | None) -> None:
        found = table.transaction_version(self._checkpoint.app_id)
        if written is not None and written > NONE and (found is None or found < written):
            got = "none" if found is None else f"batch {found}"
            raise self._table(name, f"a table with batch {written}", got, "it was restored from an older copy: rows are missing", last)
        if found is not None and found > min(done + 1, max(done, self._planned)):
            if found == done + 1:
                why = f"spark/offsets/{found} is gone: the batch would be cut in another way, and skipped here"
            else:
                why = "the ledger was restored to an older version, or is another one"
            raise self._table(name, f"a table that ends with {_batch(done)}, as the ledger does", f"batch {found}", why, last)

    def _command(self, last: EpochRow | None, *, as_they_are: bool = False) -> str:
        """Return how to go on; tables are set back to the ledger's end, as they may hold rows of an epoch that was cut off."""
        if last is None:
            return rewind_command(self._checkpoint, self._ledger, "checkpoint")
        return rewind_command(self._checkpoint, self._ledger, f"epoch:{last.epoch}", restore_tables=not as_they_are)

    def _no_ledger(self) -> CheckpointMismatchError:
        return self._checkpoint_error(
            expected=f"a ledger with the epoch of batch {self._committed}",
            got=f"no epoch of {self._pipeline!r} in {self._ledger.path}",
            why="the ledger was deleted, or the job ran without one",
            todo=f"restore the ledger, or begin one where the checkpoint ends: {self._command(None)}",
        )

    def _other_checkpoint(self, last: EpochRow) -> CheckpointMismatchError:
        ours = [row.epoch for row in self._ledger.rows(self._pipeline) if row.checkpoint_id == self._checkpoint.checkpoint_id]
        if ours:
            got, why = f"the one of epochs {ours[0]} to {ours[-1]}", "another one took its place later, and would be forgotten"
        else:
            got = "one that the ledger does not know"
            why = "it was deleted, or another folder was given: rows would be read, and written, again"
        return self._checkpoint_error(
            expected=f"checkpoint {last.checkpoint_id} of the ledger's last epoch {last.epoch}",
            got=f"{self._checkpoint.checkpoint_id}, {got}",
            why=why,
            todo=f"give the job the folder it had, or go on where the ledger ends: {self._command(last)}",
        )

    def _checkpoint_error(self, *, expected: str, got: str, why: str, todo: str) -> CheckpointMismatchError:
        return CheckpointMismatchError("go on with", "checkpoint", self._checkpoint.path, expected=expected, got=got, why=why, todo=todo)

    def _table(self, name: str, expected: str, got: str, why: str, last: EpochRow | None) -> EpochError:
        command = self._command(last, as_they_are=True)
        todo = f"restore the table, or take all tables as they are and go on where the ledger ends: {command}"
        return EpochError("go on with", "sink", name, expected=expected, got=got, why=why, todo=todo)


def _batch(number: int) -> str:
    return "no batch" if number == NONE else f"batch {number}"


def _place(one: Any) -> str:
    return "nothing" if one is None else f"{one.end}" + (f" of id {one.topic_id}" if one.topic_id else "")


def _replacements(table: DeltaTable, *, since: int) -> list[tuple[int, Mapping[str, Any]]]:
    """Return commits behind version `since` without whose undoing rows of that version are missing, newest first."""
    version = table.version()
    commits = {int(one["version"]): one for one in table.history(version - since)} if version > since else {}
    while version > since:
        commit = commits.get(version)
        if commit is not None and commit["operation"] == "RESTORE":
            to = _restored_to(commit)
            if to is None or to < since:
                return [(version, commit)]
            version = to  # the rows are those of that version; what came between does not count
        elif commit is not None and _replaces(commit):
            return [(version, commit)]
        else:
            version -= 1
    return []


def _restored_to(commit: Mapping[str, Any]) -> int | None:
    try:
        return int(commit["operationParameters"]["version"])
    except (KeyError, TypeError, ValueError):
        return None


def _replaces(commit: Mapping[str, Any]) -> bool:
    if "millrace" in commit or "millrace" in str(commit.get("userMetadata", "")):
        return False
    parameters = commit.get("operationParameters") or {}
    overwrites = commit["operation"] == "WRITE" and parameters.get("mode") == "Overwrite" and not parameters.get("predicate")
    return overwrites or commit["operation"] in REPLACING
