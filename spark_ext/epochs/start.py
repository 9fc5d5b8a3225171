"""Start a stream whose batches become epochs."""

from __future__ import annotations

from typing import Literal

from pyspark.sql import DataFrame

from spark_ext import queries
from spark_ext.epochs import guard, offsets
from spark_ext.epochs.commit import Committer
from spark_ext.epochs.ledger import Ledger
from spark_ext.epochs.offsets import Span
from spark_ext.epochs.pipeline import Pipeline, Route
from spark_ext.epochs.sketch_sinks import check_sketch_tables
from spark_ext.queries import Query, owner

__all__ = ["start"]


def start(
    frame: DataFrame,
    route: Route,
    *,
    pipeline: Pipeline,
    output_mode: Literal["append", "update", "complete"] = "append",
    every: str | None = None,
) -> Query:
    """Start a query that commits each batch to all sinks of a pipeline, and to its ledger.

    Guarantee: each epoch is in every sink, as its `delivery` says, and in the ledger, whatever crashed in between; with
    ``exactly_once`` each row is there once. Readers that follow the ledger (`spark_ext.epochs.read`) see an epoch in all sinks or in
    none. The ledger says of every row that was read what became of it.

    Parameters
    ----------
    frame : DataFrame
        A streaming DataFrame.
    route : callable
        Gets an `Epoch`, returns the rows for each sink by its name; pure: the same epoch gives the same rows. Called once per attempt.
    pipeline : Pipeline
        Checkpoint, ledger, sinks.
    output_mode : {"append", "update", "complete"}
        As in Structured Streaming.
    every : str, optional
        Time between two batches, such as ``"1 second"``; without it the query takes what is there now, in batches, and ends.

    Raises
    ------
    CheckpointMismatchError, EpochError
        Checkpoint, ledger and tables do not agree, or another driver of the pipeline is alive; nothing has been read.
    SchemaError
        The table of a sink of sketches is none, or has other keys.
    """
    check_sketch_tables(pipeline.sinks)
    ledger, checkpoint = Ledger(pipeline.ledger), pipeline.checkpoint
    ledger.create()
    first_epoch = guard.check(checkpoint, ledger, pipeline.name, pipeline.sinks)

    def planned(batch_id: int) -> list[Span]:
        spans = offsets.of_batch(checkpoint, batch_id) or []
        if batch_id == 0:
            guard.check_start(checkpoint, ledger, spans)
        return spans

    def release() -> None:
        owner.release(checkpoint)

    try:
        token = ledger.take_lease(pipeline.name)
        committer = Committer(pipeline, route, ledger=ledger, token=token, first_epoch=first_epoch, planned=planned)
        return queries.start(frame, committer, checkpoint=checkpoint, output_mode=output_mode, every=every, on_end=release)
    except BaseException:
        release()
        raise
