"""Append one micro-batch to several Delta tables, each exactly once."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import DataFrame

from spark_ext.paths import absolute

__all__ = ["append"]


def append(frames: Mapping[str, DataFrame], *, app_id: str, batch_id: int) -> None:
    """Append each DataFrame to the Delta table at its path.

    Guarantee: with the same `app_id` and `batch_id`, a second call adds nothing to a table that the first one
    reached: a batch that was cut off between two tables is completed by replaying it. Needs frames that are the
    same at the replay. Between the tables there is no common commit: until the replay they may disagree.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        Table path to rows; written in this order.
    app_id : str
        Who writes: one name per pipeline and checkpoint. A new checkpoint must use a new name, or Delta takes its
        first batches for replays and skips them.
    batch_id : int
        Number of the micro-batch, growing.

    State: one (`app_id`, `batch_id`) entry per table, in the table's log.

    References
    ----------
    Delta Transaction Log Protocol, "Transaction Identifiers".
    """
    for path, frame in frames.items():
        frame.write.format("delta").mode("append").option("txnAppId", app_id).option("txnVersion", batch_id).save(absolute(path))
