"""Batches into Delta tables, each once: by the transaction of the batch, or as an epoch with a row in a ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import NullType, StructType

from spark_ext import queries
from spark_ext.delta import Txn, create_table
from spark_ext.dstream.batch import Batch
from spark_ext.dstream.errors import StreamArgumentError
from spark_ext.dstream.rows import Rows
from spark_ext.epochs import Append, Ledger, Outbox, Pipeline, Sink, Sketches, guard
from spark_ext.epochs.commit import Committer, write
from spark_ext.epochs.pipeline import DRIVER_ROWS
from spark_ext.queries import Checkpoint

if TYPE_CHECKING:
    from spark_ext.dstream.dstream import DStream

__all__ = ["save_to", "streaming_frame"]

PIPELINE: Final = "dstream"
SINK: Final = "rows"
NO_WATERMARK: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True, eq=False)
class Save:
    """An output: the frames of a stream into a table.

    Attributes
    ----------
    frame : callable
        Makes the frame of a batch of its rows.
    sink : Sink
        The table, and how rows get into it.
    ledger : str or None
        Path of the ledger in which each batch is an epoch.
    pipeline : str
        Name of the epochs' pipeline.
    """

    frame: Callable[[Batch, Rows], DataFrame]
    sink: Sink
    ledger: str | None
    pipeline: str
    _committer: Committer | None = field(default=None, init=False)

    def __call__(self, batch: Batch, rows: Rows) -> None:
        """Write one batch."""
        checkpoint = Checkpoint.find(batch.store.path.removesuffix("/store"), pipeline=PIPELINE)
        frame = self.frame(batch, rows)
        if self.ledger is None:
            self._write(batch, frame, checkpoint)
        else:
            self._commit(batch, frame, replace(checkpoint, pipeline=self.pipeline), self.ledger)

    def _write(self, batch: Batch, frame: DataFrame, checkpoint: Checkpoint) -> None:
        if not _has_types(frame):  # no element has come yet
            return
        told = {"pipeline": PIPELINE, "batch": str(batch.plan.number), "time_ms": str(batch.time_ms)}
        txn = None if self.sink.delivery == "at_least_once" else Txn(checkpoint.app_id, batch.plan.number, told)
        kept = frame.persist()
        try:
            few = kept.limit(DRIVER_ROWS + 1).toArrow()
            if few.num_rows:
                write(self.sink, few if few.num_rows <= DRIVER_ROWS else kept, txn)
        finally:
            kept.unpersist()

    def _commit(self, batch: Batch, frame: DataFrame, checkpoint: Checkpoint, path: str) -> None:
        if self._committer is None:
            self._committer = _committer(checkpoint, self.sink, path)
        self._committer(
            queries.Batch(batch.plan.number, frame, NO_WATERMARK, checkpoint.app_id, datetime.fromtimestamp(batch.time_ms / 1000, UTC))
        )


def save_to(stream: DStream[Any], frame: Callable[[Batch, Rows], DataFrame], to: str | Sink, *, ledger: str | None, pipeline: str) -> None:
    """Let each batch of a stream be written into a table; see `DStream.saveToDelta`."""
    sink = to if isinstance(to, Sink) else Append(to, counts_as="accepted")
    graph, node = stream.context()._graph, stream._node
    name = pipeline or f"{PIPELINE}/{sink.path.rstrip('/').rpartition('/')[2]}"
    site = node.site
    for output in graph.outputs:
        other = output.run
        if isinstance(other, Save) and other.sink.path == sink.path:
            raise _refused(site, "a table for each output", f"a second one into {sink.path}", "Delta would take the second for a replay")
        if isinstance(other, Save) and ledger is not None and (other.ledger, other.pipeline) == (ledger, name):
            raise _refused(site, "a pipeline's name for each output in a ledger", repr(name), "each has a lease and epochs of its own")
    if ledger is None and (isinstance(sink, Outbox | Sketches) or sink.delivery == "at_most_once"):
        raise _refused(site, "a ledger for such a sink", "none", f"{type(sink).__name__} with {sink.delivery} goes by epochs")
    if ledger is not None and node.slide_ms != graph.interval_ms:
        got = f"one each {node.slide_ms} ms, and a batch each {graph.interval_ms} ms"
        raise _refused(site, "an epoch for each batch", got, "a ledger has each batch of its checkpoint")
    graph.add_output(node, Save(frame, sink, ledger, name), "saveToDelta")


def streaming_frame(stream: DStream[Any], frame: Callable[[Batch, Rows], DataFrame], path: str, schema: StructType) -> DataFrame:
    """Write a stream into a table, and return the table as a streaming DataFrame; see `DStream.toStreamingDF`."""
    session = SparkSession(stream.context().sparkContext)
    create_table(session, path, schema.toDDL())
    sink = Append(path, counts_as="accepted")
    save_to(stream, frame, sink, ledger=None, pipeline="")
    return session.readStream.format("delta").load(sink.path)


def _committer(checkpoint: Checkpoint, sink: Sink, path: str) -> Committer:
    """Return what commits epochs, once checkpoint, ledger and table agree."""
    pipeline = Pipeline(checkpoint, path, {SINK: sink})
    ledger = Ledger(path)
    ledger.create()
    first_epoch = guard.check(checkpoint, ledger, pipeline.name, pipeline.sinks)
    token = ledger.take_lease(pipeline.name)
    return Committer(
        pipeline,
        lambda epoch: {SINK: epoch.rows} if _has_types(epoch.rows) else {},
        ledger=ledger,
        token=token,
        first_epoch=first_epoch,
        planned=lambda _: [],
    )


def _has_types(frame: DataFrame) -> bool:
    return bool(frame.schema.fields) and not any(isinstance(one.dataType, NullType) for one in frame.schema)


def _refused(site: str, expected: str, got: str, why: str) -> StreamArgumentError:
    return StreamArgumentError("save", "stream", site, expected=expected, got=got, why=why, todo="change the call of saveToDelta")
