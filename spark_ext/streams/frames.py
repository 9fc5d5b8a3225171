"""Nodes as DataFrames: what a node's records are, over a stream or over a batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType

from spark_ext.errors import SchemaError
from spark_ext.ingest.tags import DEAD, RANGE, accepted
from spark_ext.joins.lookup import lookup
from spark_ext.joins.lookup_keys import lookup_keys
from spark_ext.names import column
from spark_ext.streams.nodes import Consumed, Lookup, Merge, Node, Source, Step
from spark_ext.streams.records import KEY, RECORD, SEQUENCE, TIMESTAMP, VALUE
from spark_ext.streams.store_table import key_columns, key_parts
from spark_ext.time import with_watermark
from spark_ext.time.sources import WATERMARK_TIME

if TYPE_CHECKING:
    from spark_ext.epochs import Epoch

__all__ = ["CLOCK", "Frames", "from_source", "from_table", "looked_up"]

CLOCK = "clock"  # of a table between two queries: no later record is older than this
FOUND = "_found"


class Frames:
    """Gives the records of nodes, each made once.

    Parameters
    ----------
    known : mapping of Node to DataFrame
        Records of leaves.
    look_up : callable, optional
        Makes the records of a lookup out of those it joins.
    """

    def __init__(self, known: Mapping[Node, DataFrame], look_up: Callable[[Lookup, DataFrame], DataFrame] | None = None) -> None:
        self._made, self._look_up = dict(known), look_up

    def __getitem__(self, node: Node) -> DataFrame:
        """Return the records of a node."""
        if node not in self._made:
            self._made[node] = self._make(node)
        return self._made[node]

    def _make(self, node: Node) -> DataFrame:
        if isinstance(node, Step):
            try:
                return node.change(self[node.parents[0]])
            except AttributeError as error:
                raise SchemaError(
                    "make",
                    "records of",
                    node.name,
                    expected="functions from columns to columns",
                    got=str(error),
                    todo="correct the function",
                ) from error
        if isinstance(node, Merge):
            return reduce(DataFrame.unionByName, [self[parent].select(*RECORD) for parent in node.parents])
        assert isinstance(node, Lookup), f"{node.name} is read or made by its operator"  # noqa: S101
        assert self._look_up is not None, "lookups are made in batches"  # noqa: S101
        return self._look_up(node, self[node.parents[0]])


def from_source(node: Source, spark: SparkSession, *, more_lateness: timedelta | None) -> DataFrame:
    """Return the records of a topic that is read from outside, with its watermark, or with none."""
    consumed = node.consumed
    assert consumed is not None, "topics of the application are tables"  # noqa: S101
    rows = consumed.read(spark)
    if WATERMARK_TIME not in rows.columns and more_lateness is not None:
        rows = with_watermark(rows, event_time=consumed.timestamp, lateness=consumed.lateness + more_lateness)
    if {DEAD, RANGE} <= set(rows.columns):  # of a source of ours: bad records and accounts are for whoever keeps them
        rows = accepted(rows)
    return _records(rows, consumed)


def from_table(spark: SparkSession, path: str, *, more_lateness: timedelta | None) -> DataFrame:
    """Return the records of a table between two queries, with the watermark that its clock gives, or with none."""
    rows = spark.readStream.format("delta").load(path)
    if more_lateness is None:
        return rows.drop(CLOCK)
    return with_watermark(rows, event_time=CLOCK, lateness=more_lateness).drop(CLOCK, WATERMARK_TIME)


def looked_up(node: Lookup, rows: DataFrame, epoch: Epoch, kind: DataType) -> DataFrame:
    """Join records with the rows of a store at the version of an epoch; `kind` is the type of its key."""
    key = F.col(KEY) if node.on is None else node.on(F.col(KEY), F.col(VALUE))
    sought = {f"_on{at}": part(key) for at, part in enumerate(key_parts(kind))}
    asked = rows.select(*RECORD, *(value.alias(name) for name, value in sought.items()))
    on = dict(zip(sought, key_columns(kind), strict=True))
    # Of a global table workers have a copy for as long as its version is in use; of one that changes only the batch's keys are read.
    look = lookup if node.on is not None else lookup_keys
    found = look(asked, epoch.table(node.table.store), on=on, how="left", columns={VALUE: FOUND})
    if node.how == "inner":
        found = found.where(F.col(FOUND).isNotNull())
    value = _joined(node.joiner, F.col(KEY), F.col(VALUE), F.col(FOUND))
    return found.select(KEY, value.alias(VALUE), TIMESTAMP, SEQUENCE)


def _joined(joiner: Callable[..., Any], key: Column, value: Column, other: Column) -> Column:
    takes_key = len(inspect.signature(joiner).parameters) == 3  # noqa: PLR2004 (key, value, other)
    found: Column = joiner(key, value, other) if takes_key else joiner(value, other)
    return found


def _records(rows: DataFrame, consumed: Consumed) -> DataFrame:
    names = [name for name in rows.columns if name != WATERMARK_TIME]
    whole = F.struct(*map(column, names))

    def made(what: str | Callable[[Column], Column] | None, otherwise: Column) -> Column:
        return otherwise if what is None else column(what) if isinstance(what, str) else what(whole)

    time = column(consumed.timestamp)
    sequence = F.unix_micros(time) if consumed.sequence is None else column(consumed.sequence).cast("bigint")
    return rows.select(
        made(consumed.key, F.lit(None).cast("string")).alias(KEY),
        made(consumed.value, whole).alias(VALUE),
        time.alias(TIMESTAMP),
        sequence.alias(SEQUENCE),
    )
