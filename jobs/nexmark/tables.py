"""Which tables the Nexmark queries keep: each stage is a query with checkpoint, epochs and sinks; one may read what another has written.

events -- stage --+-- <stage>          what it gives out
                  +-- <stage>_refused  rows that are late, invalid or too many, tagged as they were
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.nexmark import batches, queries
from jobs.nexmark.queries import Spans
from spark_ext import epochs, joins, tables
from spark_ext.epochs import Append, Epoch, Pipeline, Route, Table
from spark_ext.ingest.tags import EVENT_CLOCK
from spark_ext.paths import absolute
from spark_ext.queries import Checkpoint, Query
from spark_ext.state.control import Control
from spark_ext.state.packing import TAG
from spark_ext.time import with_watermark

__all__ = ["QUERIES", "STAGES", "Place", "Stage", "close_auctions", "start"]

ZERO: Final = timedelta(0)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the queries read and write, and what they go by.

    Attributes
    ----------
    folder : str
        Holds ``events/<name>``, which `jobs.nexmark.batches.append` writes; ``tables/``, ``checkpoints/`` and ``control/`` are made.
    spans : Spans
        What is known of the events.
    lateness : timedelta
        How far the watermark of persons, auctions and bids stays behind the latest of them.
    files_per_batch : int
        Most files of a table that one batch reads.
    """

    folder: str
    spans: Spans
    lateness: timedelta
    files_per_batch: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", absolute(self.folder))

    @property
    def control(self) -> Control:
        """Where the end of input is told."""
        return Control(f"{self.folder}/control")

    def table(self, name: str) -> str:
        """Return the path of a table."""
        return f"{self.folder}/tables/{name}"


@dataclass(frozen=True, slots=True)
class _Streams:
    """What a stage reads, as streams."""

    spark: SparkSession
    place: Place

    def events(self, name: str) -> DataFrame:
        """Persons, auctions or bids, without a watermark: for tables, where time plays no part."""
        return batches.follow(self.spark, f"{self.place.folder}/events", files_per_batch=self.place.files_per_batch)[name]

    def timed(self, name: str) -> DataFrame:
        """Return the same with a watermark."""
        return with_watermark(self.events(name), event_time="date_time", lateness=self.place.lateness)

    def rows(self, stage: str) -> DataFrame:
        """Return what a stage gave out."""
        options = {"startingVersion": 0, "maxFilesPerTrigger": self.place.files_per_batch}
        return self.spark.readStream.format("delta").options(**options).load(self.place.table(stage))

    def valid_bids(self) -> DataFrame:
        """Return what `queries.in_time` gave out, with its watermark: one by these rows could be ahead of it, as it is of two streams."""
        return with_watermark(self.rows("in_time"), event_time="bid_date_time", lateness=ZERO)

    def changes(self, stage: str) -> DataFrame:
        """Return the changes of the table of a stage."""
        return tables.read_changes(self.spark, self.place.table(stage))


@dataclass(frozen=True, slots=True)
class Stage:
    """One query.

    Attributes
    ----------
    reads : tuple of str
        Names of the tables, which its checkpoint knows it by.
    build : callable
        From streams to tagged rows.
    answer : callable
        From tagged rows to what is kept.
    good : str
        Tag of the rows that are in the answer; all others are kept beside it.
    keys : tuple of str
        Of a table that changes; none: rows are only added.
    """

    reads: tuple[str, ...]
    build: Callable[[_Streams], DataFrame]
    answer: Callable[[DataFrame], DataFrame]
    good: str
    keys: tuple[str, ...] = ()


STAGES: Final[Mapping[str, Stage]] = {
    "q3": Stage(
        ("persons", "auctions"),
        lambda streams: queries.q3(streams.events("persons"), streams.events("auctions")),
        queries.q3_answer, good="changed", keys=("id",),
    ),
    "q8": Stage(
        ("persons", "auctions"),
        lambda streams: queries.q8(streams.timed("persons"), streams.timed("auctions")),
        queries.q8_answer, good="joined",
    ),
    "q20": Stage(
        ("bids", "auctions"),
        lambda streams: queries.q20(streams.timed("bids"), streams.timed("auctions"), spans=streams.place.spans),
        queries.q20_answer, good="joined",
    ),
    "in_time": Stage(
        ("auctions", "bids"),
        lambda streams: queries.in_time(streams.timed("auctions"), streams.timed("bids"), spans=streams.place.spans),
        queries.valid_bids, good="joined",
    ),
    "q9": Stage(
        ("in_time", "control"),
        lambda streams: queries.q9(streams.valid_bids(), control=streams.place.control),
        queries.q9_answer, good="window",
    ),
    "closing": Stage(
        ("in_time",),
        lambda streams: queries.closing(streams.rows("in_time")),
        queries.closing_changes, good="changed", keys=("id", "category"),
    ),
    "q4": Stage(
        ("closing",),
        lambda streams: queries.q4(streams.changes("closing")),
        queries.q4_answer, good="changed", keys=("category",),
    ),
    "pairs": Stage(
        ("bids", "auctions"),
        lambda streams: queries.pairs(streams.timed("bids"), streams.timed("auctions"), spans=streams.place.spans),
        joins.joined, good="joined",
    ),
    "q23": Stage(
        ("pairs", "persons"),
        lambda streams: queries.q23(streams.rows("pairs"), streams.events("persons")),
        queries.q23_answer, good="changed", keys=queries.Q23_KEYS,
    ),
}  # fmt: skip
# The stages of each query, in the order in which they can be started.
QUERIES: Final[Mapping[str, tuple[str, ...]]] = {
    "q3": ("q3",),
    "q4": ("in_time", "closing", "q4"),
    "q8": ("q8",),
    "q9": ("in_time", "q9"),
    "q20": ("q20",),
    "q23": ("pairs", "q23"),
}


def start(spark: SparkSession, name: str, place: Place, *, every: str | None = None) -> Query:
    """Start a stage; those before it have run once, so that their tables are there.

    Parameters
    ----------
    spark : SparkSession
        Where.
    name : str
        One of `STAGES`.
    place : Place
        Where its tables are.
    every : str, optional
        Time between two batches; without it the query takes what is there, and ends.
    """
    stage = STAGES[name]
    checkpoint = Checkpoint.claim(
        f"{place.folder}/checkpoints/{name}", pipeline=f"nexmark/{name}", sources=[f"table {table}" for table in stage.reads]
    )
    kept = Table(place.table(name), keys=stage.keys) if stage.keys else Append(place.table(name))
    sinks = {name: kept, f"{name}_refused": Append(place.table(f"{name}_refused"))}
    pipeline = Pipeline(checkpoint, ledger=place.table("ledger"), sinks=sinks)
    return epochs.start(stage.build(_Streams(spark, place)), _route(name, stage), pipeline=pipeline, every=every)


def close_auctions(spark: SparkSession, place: Place) -> None:
    """Say that the input has ended: the next batch of q9 tells the winners of all auctions that are open.

    Called when q9 has read all that `in_time` gave out.
    """
    found = spark.read.format("delta").load(place.table("in_time")).agg(F.max("expires")).head()
    if found is not None and found[0] is not None:
        place.control.close(found[0].astimezone() + queries.TICK)


def _route(name: str, stage: Stage) -> Route:
    def route(epoch: Epoch) -> Mapping[str, DataFrame]:
        kept = stage.answer(epoch.rows)
        if name == "in_time":
            kept = kept.withColumn(EVENT_CLOCK, F.lit(epoch.watermark))
        return {name: kept, f"{name}_refused": epoch.rows.where(F.col(TAG) != stage.good)}

    return route
