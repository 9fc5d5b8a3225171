"""The commit protocol: how a batch becomes an epoch.

1. Ask the ledger whether the epoch is in it: then a crash came between the ledger and Spark's own commit, and nothing is left to do.
2. Decide which version of each table the route reads, and write that down before the route is called: a replay must read the same.
3. Persist and count, before anything is written: what does not add up, or does not fit a table, is refused with every table as it was.
4. Mark the attempt, if a sink is at most once: such a sink is written in the first attempt only, so the mark must come before it.
5. Write the sinks in their order, each in one commit with the epoch's transaction id; those that have it are skipped.
   A crash here leaves tables that disagree; readers do not see it, as they follow the ledger, and the replay completes it.
6. Commit the ledger's row, with the lease: from now on readers see the epoch. It must come after all sinks, as it names their versions,
   and before Spark's commit, as a batch that Spark takes for done is never replayed.
7. Now and then, tidy up: nothing of the stream is being written now, and a crash here has the epoch in the ledger already.
8. Return, so that Spark notes the batch as done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_ext.delta import Txn, Written, append, apply_changes, history, upsert
from spark_ext.delta.commits import is_done, open_table
from spark_ext.delta.fit import fit, schema_of, schema_of_frame
from spark_ext.delta.rules import OWN, without_sign
from spark_ext.epochs.accounting import AccountedFor, account_for
from spark_ext.epochs.counting import Counted, look
from spark_ext.epochs.guard import rewind_command
from spark_ext.epochs.ledger import EpochRow, Ledger, SinkRow
from spark_ext.epochs.maintenance import maintain
from spark_ext.epochs.offsets import Span
from spark_ext.epochs.pins import OpenTables, Pins
from spark_ext.epochs.pipeline import Epoch, Pipeline, Route
from spark_ext.epochs.points import reach
from spark_ext.epochs.scope import epoch_scope
from spark_ext.epochs.sinks import History, Outbox, Sink, Sketches, Table, Upsert
from spark_ext.epochs.sketch_sinks import check_sketch_frame, check_sketch_rows, merge_sketches
from spark_ext.errors import EpochError, SettingsError

if TYPE_CHECKING:
    from spark_ext.queries import Batch

__all__ = ["Committer", "write"]

MS: Final = 1_000
EPOCH_COLUMN: Final = "epoch"
SEQ_COLUMN: Final = "seq"

_log = logging.getLogger(__name__)


class Committer:
    """Commits the batches of one query, one after the other. Made by `spark_ext.epochs.start`; called by the query.

    Parameters
    ----------
    pipeline, route
        As for `spark_ext.epochs.start`.
    ledger : Ledger
        The pipeline's.
    token : int
        Of the lease that was taken.
    first_epoch : int
        Number of the epoch of batch 0.
    planned : callable
        Gives the offsets of a batch by its number; empty if the source has none.
    replay_of : str, optional
        What the ledger says was replayed, for rows that do not come from the source.
    now : callable
        The clock, for what the ledger says about times.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        route: Route,
        *,
        ledger: Ledger,
        token: int,
        first_epoch: int,
        planned: Callable[[int], Sequence[Span]],
        replay_of: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pipeline, self._route, self._ledger = pipeline, route, ledger
        self._token, self._first_epoch, self._planned = token, first_epoch, planned
        self._replay_of, self._now = replay_of, now
        self._app_id = pipeline.checkpoint.app_id
        self._release = version("millrace")
        self._has_attempts = any(sink.delivery == "at_most_once" for sink in pipeline.sinks.values())
        self._looked: dict[str, datetime] = {}
        self._fitting: set[str] = set()
        self._ids: dict[str, str] = {}  # of the tables, by sink
        self._versions: dict[str, int] = {}  # after the last epoch, by sink
        self._pins = Pins(pipeline.name, self._app_id, ledger, pipeline.tables)
        self._tables = OpenTables(pipeline.tables)
        self._rewind = rewind_command(pipeline.checkpoint, ledger, "<where>")

    def __call__(self, batch: Batch) -> None:
        """Make an epoch of a batch; steps as in the module's text."""
        with epoch_scope():
            self._commit(batch)

    def _commit(self, batch: Batch) -> None:
        started, lasted = self._now(), _Durations()
        # 1. Already in the ledger?
        if self._ledger.is_committed(self._app_id, batch.batch_id):
            _log.info("%s: batch %d is in the ledger already", self._pipeline.name, batch.batch_id)
            # Computed all the same: watermark and state of the next batch go by what this one has read.
            batch.rows.write.format("noop").mode("overwrite").save()
            return
        # 2. The versions of the tables.
        tables = self._pins.of_batch(batch.batch_id, batch.planned_at or started)
        self._tables.turn_to(tables, batch.rows.sparkSession)
        epoch = Epoch(self._first_epoch + batch.batch_id, batch.batch_id, batch.rows.persist(), batch.watermark, self._tables, {
            row.name: row.version for row in tables
        })  # fmt: skip
        held: list[DataFrame] = []
        try:
            # 3. Persist and count, and see whether rows and tables fit.
            frames = self._frames(epoch)
            self._check_tables(frames)
            planned = self._planned(batch.batch_id)
            if sum(one.end - one.start for one in planned) > self._pipeline.driver_rows:
                self._hold(frames, held, [name for name in frames if isinstance(self._pipeline.sinks[name], Sketches)])
            with lasted("read"):
                counted = self._look(epoch, frames, planned)
                self._check_sketches(frames, counted, held)
            reach("after_read", batch.batch_id)
            given_up = self._given_up(batch.batch_id)
            account = account_for(counted, planned, self._pipeline, given_up=given_up)
            self._check_balance(account, epoch)
            # 4. Mark the attempt.
            if self._has_attempts:
                self._ledger.mark_attempt(self._app_id, batch.batch_id)
            # 5. The sinks.
            rows: list[SinkRow] = []
            for name, sink in self._pipeline.sinks.items():
                reach("before_sink", batch.batch_id, name)
                with lasted(name):
                    few_or_many = None if name in given_up else counted.few.get(name, frames.get(name))
                    rows.append(self._write(name, sink, epoch, few_or_many, counted.by_sink.get(name, 0)))
                reach("after_sink", batch.batch_id, name)
            reach("after_sinks", batch.batch_id)
        finally:
            for frame in (*held, epoch.rows):
                frame.unpersist()
        # 6. The ledger.
        reach("before_ledger", batch.batch_id)
        row = EpochRow(
            pipeline=self._pipeline.name,
            checkpoint_id=self._pipeline.checkpoint.checkpoint_id,
            epoch=epoch.epoch,
            batch_id=batch.batch_id,
            token=self._token,
            started_at=started,
            committed_at=self._now(),
            watermark=batch.watermark,
            first_event=counted.first_event,
            last_event=counted.last_event,
            **account.counts,
            is_derived=self._pipeline.is_derived,
            ranges=account.ranges,
            sinks=rows,
            durations_ms=lasted.milliseconds,
            replay_of=self._replay_of,
            release=self._release,
            tables=tables,
        )
        self._ledger.append(row, app_id=self._app_id)
        reach("after_ledger", batch.batch_id)
        # 7. Maintenance.
        rules = self._pipeline.maintenance
        if rules is not None and (epoch.epoch + 1) % rules.every == 0:
            done = maintain(
                self._pipeline.sinks,
                self._ledger,
                rules,
                pipeline=self._pipeline.name,
                now=self._now(),
                looked=self._looked,
                batch_id=batch.batch_id,
            )
            self._versions.clear()  # compaction makes new ones
            _log.info("%s: maintenance: %s", self._pipeline.name, done)

    def _frames(self, epoch: Epoch) -> dict[str, DataFrame]:
        frames = dict(self._route(epoch))
        unknown = sorted(set(frames) - set(self._pipeline.sinks))
        if unknown:
            expected = f"names of sinks: {', '.join(self._pipeline.sinks)}"
            raise SettingsError(
                "route", "rows of pipeline", self._pipeline.name, expected=expected, got=repr(unknown), todo="declare the sink"
            )
        return frames

    def _check_tables(self, frames: dict[str, DataFrame]) -> None:
        """Refuse a table that is not the one it was, and rows that do not fit their table, before any row is read."""
        for name, frame in frames.items():
            sink, table = self._pipeline.sinks[name], open_table(self._pipeline.sinks[name].path)
            known, found = self._ids.get(name), None if table is None else str(table.metadata().id)
            if known is not None and found != known:
                raise EpochError(
                    "write to",
                    "sink",
                    name,
                    expected=f"table {known} in {sink.path}",
                    got="none" if found is None else f"table {found}",
                    why="it was taken away or made anew while the pipeline ran; its rows would be missing",
                    todo=f"put it back and start again, or start from where it is whole: {self._rewind}",
                )
            if isinstance(sink, Sketches) and (table is None or name not in self._fitting):
                check_sketch_frame(name, sink, frame)
                table = open_table(sink.path)
                found = None if table is None else str(table.metadata().id)
            rows = schema_of_frame(frame)
            rows = without_sign(rows) if isinstance(sink, Table) else rows
            if table is None:
                continue
            self._ids[name] = str(found)
            if name not in self._fitting:  # a later change is found by the writers
                own = {Outbox: (EPOCH_COLUMN, SEQ_COLUMN), History: OWN}.get(type(sink), ())
                fit(rows, schema_of(table), path=sink.path, evolve=sink.evolve, own=own)
                self._fitting.add(name)

    def _look(self, epoch: Epoch, frames: dict[str, DataFrame], planned: Sequence[Span]) -> Counted:
        counting = [name for name, sink in self._pipeline.sinks.items() if sink.counts_as is not None]
        return look(
            epoch.rows,
            frames,
            counting=counting,
            event_time=self._pipeline.event_time,
            offsets=sum(one.end - one.start for one in planned) if planned else None,
            most=self._pipeline.driver_rows,
        )

    def _check_sketches(self, frames: dict[str, DataFrame], counted: Counted, held: list[DataFrame]) -> None:
        """Refuse sketches that cannot be merged into their table; frames that were gone through are held, and used later."""
        for name, sink in self._pipeline.sinks.items():
            if isinstance(sink, Sketches) and counted.by_sink.get(name, 0):
                if name not in counted.few and all(one is not frames[name] for one in held):
                    self._hold(frames, held, [name])
                check_sketch_rows(sink, counted.few.get(name, frames[name]))

    @staticmethod
    def _hold(frames: dict[str, DataFrame], held: list[DataFrame], names: Sequence[str]) -> None:
        """Let frames be computed once: they are counted, checked and written."""
        for name in names:
            frames[name] = frames[name].persist()
            held.append(frames[name])

    def _check_balance(self, account: AccountedFor, epoch: Epoch) -> None:
        if account.is_balanced:
            return
        if self._pipeline.on_imbalance == "stop":
            raise EpochError(
                "commit",
                "epoch",
                f"{epoch.epoch} of {self._pipeline.name}",
                expected="read = accepted + filtered + late + dead + duplicate + shed",
                got=account.text,
                why="rows were lost or came out twice between source and sinks",
                todo="correct the route; nothing of this epoch was written, it is replayed at the next start",
            )
        _log.warning("%s: epoch %d does not balance: %s", self._pipeline.name, epoch.epoch, account.text)

    def _given_up(self, batch_id: int) -> set[str]:
        """Return the sinks at most once that an earlier attempt did not reach: they get nothing any more."""
        if not self._has_attempts or not self._ledger.was_attempted(self._app_id, batch_id):
            return set()
        txn = Txn(self._app_id, batch_id)
        sinks = {name: sink for name, sink in self._pipeline.sinks.items() if sink.delivery == "at_most_once"}
        return {name for name, sink in sinks.items() if (table := open_table(sink.path)) is None or not is_done(table, txn)}

    def _write(self, name: str, sink: Sink, epoch: Epoch, rows: DataFrame | pa.Table | None, expected: int) -> SinkRow:
        if rows is None or not expected:
            return self._sink_row(name, sink, 0, None)
        metadata = {"pipeline": self._pipeline.name, "epoch": str(epoch.epoch)}
        txn = None if sink.delivery == "at_least_once" else Txn(self._app_id, epoch.batch_id, metadata)
        written = write(sink, _numbered(rows, epoch.epoch) if isinstance(sink, Outbox) else rows, txn)
        self._versions[name] = int(written.version)
        return self._sink_row(name, sink, expected, written.writer)

    def _sink_row(self, name: str, sink: Sink, rows: int, writer: str | None) -> SinkRow:
        if (name not in self._versions or name not in self._ids) and (table := open_table(sink.path)) is not None:
            self._versions.setdefault(name, table.version())
            self._ids[name] = str(table.metadata().id)
        table_id, at = self._ids.get(name, ""), self._versions.get(name, -1)
        return SinkRow(name, sink.path, table_id, type(sink).__name__.lower(), sink.counts_as, rows, at, writer)


def write(sink: Sink, rows: DataFrame | pa.Table, txn: Txn | None) -> Written:
    """Write rows into the table of a sink in its own way, in one commit."""
    match sink:
        case Upsert():
            return upsert(rows, sink.path, keys=sink.keys, sequence=sink.sequence, txn=txn, evolve=sink.evolve)
        case History():
            return history(rows, sink.path, keys=sink.keys, sequence=sink.sequence, txn=txn, evolve=sink.evolve)
        case Table():
            return apply_changes(rows, sink.path, keys=sink.keys, sequence=sink.sequence, txn=txn, evolve=sink.evolve)
        case Sketches():
            return merge_sketches(sink, rows, txn)
        case _:
            return append(rows, sink.path, txn=txn, evolve=sink.evolve)


def _numbered(rows: DataFrame | pa.Table, epoch: int) -> DataFrame | pa.Table:
    """Add what the relay goes by: the epoch, and the order within it."""
    if isinstance(rows, pa.Table):
        numbers = pa.array(np.arange(len(rows), dtype=np.int64))
        return rows.append_column(EPOCH_COLUMN, pa.array(np.full(len(rows), epoch, np.int64))).append_column(SEQ_COLUMN, numbers)
    return rows.withColumns({EPOCH_COLUMN: F.lit(epoch).cast("bigint"), SEQ_COLUMN: F.monotonically_increasing_id()})


class _Durations:
    """How long each part of an epoch took, in milliseconds."""

    def __init__(self) -> None:
        self.milliseconds: dict[str, int] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.milliseconds[part] = round((time.monotonic() - began) * MS)
