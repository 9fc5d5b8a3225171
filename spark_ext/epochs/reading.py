"""Several tables at one point of the stream: the versions that the ledger names for an epoch.

Without Spark, `versions` is all there is to know: ``DeltaTable(path, version=version)`` of delta-rs, and its Arrow dataset in DuckDB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from spark_ext.epochs.ledger import EpochRow, Ledger
from spark_ext.errors import EpochError
from spark_ext.names import quoted

__all__ = ["TableVersion", "create_views", "epoch_at", "read", "versions"]

LEDGER: Final = "ledger"


class TableVersion(NamedTuple):
    """A Delta table as it was at one of its versions."""

    path: str
    version: int


def epoch_at(ledger: Ledger, pipeline: str, as_of_epoch: int | None = None) -> EpochRow:
    """Return the ledger's row of an epoch, the newest one by default.

    Raises
    ------
    EpochError
        The epoch has not been committed yet, or the ledger does not have it any more.
    """
    if as_of_epoch is None:
        row = ledger.last(pipeline)
        if row is None:
            raise _unknown(ledger, pipeline, "an epoch", "none yet", "start the pipeline, or correct its name or the ledger's path")
        return row
    found = ledger.rows(pipeline, since=as_of_epoch, until=as_of_epoch)
    if found:
        return found[-1]
    known = [row.epoch for row in ledger.rows(pipeline)]
    got = f"epochs {known[0]} to {known[-1]}" if known else "none yet"
    raise _unknown(ledger, pipeline, f"epoch {as_of_epoch}", got, "read as of one of those")


def versions(ledger: Ledger, pipeline: str, *, as_of_epoch: int | None = None) -> dict[str, TableVersion]:
    """Return the version of each sink's table that holds the epochs up to one, and no later ones; without Spark.

    Guarantee: all of them are of the same point of the stream, whatever is being written meanwhile. They can be read for as long as
    the ledger has the epoch, if only `spark_ext.epochs.maintenance` cleans the tables up.

    Parameters
    ----------
    ledger : Ledger
        Of the pipeline.
    pipeline : str
        Its name.
    as_of_epoch : int, optional
        An epoch of the ledger; the newest by default.

    Returns
    -------
    dict of str to TableVersion
        By sink; a sink whose table was not there yet is left out.

    Raises
    ------
    EpochError
        As for `epoch_at`.

    Not supported: rows that other programs, other pipelines or replays added to a table between two epochs are in the later one.
    """
    row = epoch_at(ledger, pipeline, as_of_epoch)
    return {one.name: TableVersion(one.path, one.version) for one in row.sinks if one.version >= 0}


def read(spark: SparkSession, sink: str, *, ledger: Ledger, pipeline: str, as_of_epoch: int | None = None) -> DataFrame:
    """Return a sink's table as of an epoch.

    Parameters
    ----------
    sink : str
        Name of the sink.
    ledger, pipeline, as_of_epoch
        As for `versions`. Two reads "as of the newest" may see different epochs: give both the same number, or use `create_views`.

    Raises
    ------
    EpochError
        As for `versions`; or the pipeline has no such sink.
    """
    return _load(spark, sink, versions(ledger, pipeline, as_of_epoch=as_of_epoch), pipeline)


def create_views(spark: SparkSession, *, ledger: Ledger, pipeline: str, as_of_epoch: int | None = None, prefix: str = "") -> dict[str, str]:
    """Make a temporary view of each sink, and one of the pipeline's epochs in the ledger, all as of the same epoch.

    Parameters
    ----------
    ledger, pipeline, as_of_epoch
        As for `versions`.
    prefix : str
        Put before the names of the sinks, and before ``ledger``.

    Returns
    -------
    dict of str to str
        Name of each view, in backticks if SQL needs them, by sink; the ledger's has the key ``ledger``, unless a sink is called so.
    """
    row = epoch_at(ledger, pipeline, as_of_epoch)
    known = versions(ledger, pipeline, as_of_epoch=row.epoch)
    frames = {name: _load(spark, name, known, pipeline) for name in known}
    epochs = spark.read.format("delta").load(ledger.path)
    frames.setdefault(LEDGER, epochs.where((F.col("pipeline") == pipeline) & (F.col("epoch") <= row.epoch)))
    views = {name: _quoted(prefix + name) for name in frames}
    for name, frame in frames.items():
        frame.createOrReplaceTempView(views[name])
    return views


def _load(spark: SparkSession, sink: str, known: Mapping[str, TableVersion], pipeline: str) -> DataFrame:
    if sink not in known:
        names = ", ".join(map(repr, known)) or "none with a table"
        todo = "correct the name, or read as of a later epoch"
        raise EpochError("read", "sink", sink, expected=f"a sink of {pipeline!r}: {names}", got=repr(sink), todo=todo)
    path, version = known[sink]
    return spark.read.format("delta").option("versionAsOf", version).load(path)


def _quoted(name: str) -> str:
    return name if name.isidentifier() and name.isascii() else quoted(name)


def _unknown(ledger: Ledger, pipeline: str, expected: str, got: str, todo: str) -> EpochError:
    return EpochError("read", "pipeline", pipeline, expected=f"{expected} in {ledger.path}", got=got, todo=todo)
