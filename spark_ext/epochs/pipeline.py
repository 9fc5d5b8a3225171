"""A pipeline: one stream, a pure function that routes its batches, sinks, and a ledger that accounts for every row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, get_args

from pyspark.sql import DataFrame

from spark_ext.epochs.lookups import Lookup, check_lookups
from spark_ext.epochs.maintenance import Rules
from spark_ext.epochs.sinks import Sink, check_sinks
from spark_ext.errors import SettingsError
from spark_ext.paths import absolute
from spark_ext.queries.checkpoint import Checkpoint

__all__ = ["DRIVER_ROWS", "Epoch", "OnImbalance", "Pipeline", "Route"]

OnImbalance = Literal["warn", "stop"]
DRIVER_ROWS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Epoch:
    """A batch, as the routing function gets it; all of it is the same at a replay.

    Attributes
    ----------
    epoch : int
        Number of the epoch in the pipeline's life; goes on when a new checkpoint is begun.
    batch_id : int
        Number of the batch in Spark's checkpoint.
    rows : DataFrame
        The batch, persisted: it is computed once, however many frames are made of it.
    watermark : datetime
        Watermark at the start of the batch.
    tables : mapping of str to DataFrame
        What `Pipeline.tables` declares, at the versions of this epoch.
    versions : mapping of str to int
        These versions.
    """

    epoch: int
    batch_id: int
    rows: DataFrame
    watermark: datetime
    tables: Mapping[str, DataFrame] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)

    def table(self, name: str) -> DataFrame:
        """Return a table at the version that the ledger names for this epoch; the same frame for as long as that version is in use.

        Raises
        ------
        SettingsError
            The pipeline does not declare it.
        """
        if name not in self.tables:
            known = ", ".join(map(repr, self.tables)) or "no tables"
            raise SettingsError("read", "table", name, expected=f"one of Pipeline(tables=...): {known}", got=repr(name), todo="declare it")
        return self.tables[name]


Route = Callable[[Epoch], Mapping[str, DataFrame]]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What belongs to a pipeline but its stream.

    Attributes
    ----------
    checkpoint : Checkpoint
        Claimed for the pipeline; its name is the pipeline's.
    ledger : str
        Path of the ledger, a Delta table; several pipelines may share it.
    sinks : mapping of str to Sink
        Written in this order. A sink that the route gives no frame for gets nothing in that epoch.
    event_time : str, optional
        Column of the batch whose bounds the ledger notes.
    on_imbalance : str
        ``warn``: an epoch that does not balance is committed and says so in the log and in the ledger. ``stop``: it is refused before
        anything is written, and the query fails.
    driver_rows : int
        A sink with at most so many rows in an epoch is written by the driver.
    maintenance : Rules, optional
        When small files are united and old ones go, between two epochs; None for never.
    tables : mapping of str to Lookup
        Tables that the route reads, by the name that `Epoch.table` takes. The version of each is decided and written to the ledger
        before the route is called, so every attempt at the epoch reads the same; the ledger's row names it.
    """

    checkpoint: Checkpoint
    ledger: str
    sinks: Mapping[str, Sink]
    event_time: str | None = None
    on_imbalance: OnImbalance = "warn"
    driver_rows: int = DRIVER_ROWS
    maintenance: Rules | None = field(default_factory=Rules)
    tables: Mapping[str, Lookup] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ledger", absolute(self.ledger))
        if not self.sinks or "" in self.sinks:
            raise _refused("sinks", "at least one, each with a name", repr(list(self.sinks)))
        if self.on_imbalance not in get_args(OnImbalance):
            raise _refused("on_imbalance", "warn or stop", repr(self.on_imbalance))
        if self.driver_rows < 0:
            raise _refused("driver_rows", "0 or more", repr(self.driver_rows))
        check_sinks(dict(self.sinks))
        check_lookups(self.tables)

    @property
    def name(self) -> str:
        """Name of the pipeline."""
        return self.checkpoint.pipeline

    @property
    def is_derived(self) -> bool:
        """Tell whether no sink holds accepted rows one by one, so that the ledger can only derive their number."""
        return not any(sink.counts_as == "accepted" for sink in self.sinks.values())


def _refused(name: str, expected: str, got: str) -> SettingsError:
    return SettingsError("use", "pipeline setting", name, expected=expected, got=got, todo="correct it")
