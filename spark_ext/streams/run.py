"""A topology that runs: a query with epochs for each sub-topology, and tables between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import TYPE_CHECKING, Any, Final

from deltalake import DeltaTable, Schema
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import ArrayType, DataType, MapType, StructField, StructType

from spark_ext import epochs
from spark_ext.errors import SettingsError
from spark_ext.names import column
from spark_ext.paths import absolute
from spark_ext.queries import Checkpoint, Outcome, Query
from spark_ext.queries import run as run_queries
from spark_ext.state.control import Control
from spark_ext.state.inspect import entries
from spark_ext.state.packing import BUCKET
from spark_ext.streams.asked import QueryableStore
from spark_ext.streams.cut import SubTopology
from spark_ext.streams.frames import CLOCK, Frames, from_source, from_table, looked_up
from spark_ext.streams.nodes import (
    Changes,
    Fold,
    ForeignJoin,
    Lookup,
    Node,
    Port,
    Process,
    Slide,
    Source,
    Stateful,
    Store,
    StreamJoin,
    TableFold,
    TableJoin,
    To,
)  # fmt: skip
from spark_ext.streams.operators import FoldOperator, JoinOperator, Operator, ProcessOperator, Settings, SlideOperator
from spark_ext.streams.out import outboxed
from spark_ext.streams.processor import table_of
from spark_ext.streams.records import KEY, SEQUENCE
from spark_ext.streams.store_table import key_columns, to_rows
from spark_ext.streams.table_operators import ChangesOperator, ForeignJoinOperator, TableFoldOperator, TableJoinOperator

if TYPE_CHECKING:
    from spark_ext.streams.topology import Topology

__all__ = ["Application"]

ORIGIN: Final = "origin"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
OPERATORS: Final[Mapping[type[Stateful], type[Operator[Any]]]] = {
    Fold: FoldOperator, Slide: SlideOperator, StreamJoin: JoinOperator, Process: ProcessOperator,
    Changes: ChangesOperator, TableFold: TableFoldOperator, TableJoin: TableJoinOperator, ForeignJoin: ForeignJoinOperator,
}  # fmt: skip
KINDS: Final[Mapping[str, tuple[epochs.CountsAs | None, tuple[str, ...]]]] = {
    "late": ("late", ("late", "stale")),
    "partly_late": (None, ("late in part",)),
    "shed": ("shed", ("excess",)),
    "dead": ("dead", ()),  # whatever else
}


class Application:
    """A topology in a folder: its queries, its stores, its rejected rows. Made by `Topology.run`.

    Parameters
    ----------
    topology, spark, application_id, folder, every
        See `Topology.run`.
    buckets : int, optional
        Number of buckets of each operator with state; default `spark_ext.state.buckets_for` of 100,000 keys.
    """

    def __init__(
        self,
        topology: Topology,
        spark: SparkSession,
        application_id: str,
        folder: str,
        *,
        every: str | None = None,
        buckets: int | None = None,
    ) -> None:
        if not application_id:
            raise SettingsError("run", "application", "", expected="a name", got="none", todo="give application_id")
        self._topology, self._spark, self._every, self._buckets = topology, spark, every, buckets
        self.application_id, self.folder = application_id, absolute(folder)
        self._queries: list[Query] = []
        self._types: dict[str, DataType] = {}  # of the keys of stores

    # the run ---------------------------------------------------------------------------------------------------------

    @property
    def queries(self) -> Sequence[Query]:
        """One query per sub-topology, in their order; for `spark_ext.queries.run`."""
        return tuple(self._queries)

    @property
    def ledger(self) -> epochs.Ledger:
        """The ledger of all sub-topologies; a pipeline's name is ``<application>/<sub-topology>``."""
        return epochs.Ledger(f"{self.folder}/ledger")

    def start(self) -> None:
        """Start all queries; without `every` run each to the end of what is there, in their order, and return then."""
        self._queries = []
        for one in self._topology.sub_topologies:
            query = self._started(one)
            self._queries.append(query)
            if self._every is None:
                query.await_end()

    def processAllAvailable(self) -> None:
        """Wait until everything that is there now has gone through all sub-topologies.

        Raises
        ------
        QueryError
            A query failed.
        """
        for query in self._queries:
            if query.is_active():
                query.spark_query.processAllAvailable()
            else:
                query.await_end()

    def closeWindows(self, until: datetime) -> None:
        """Let windows and joins give out everything up to an event time, as the input has ended.

        One sub-topology after the other, each once it has read what those before it gave out. Of a run without `every` what has been read
        so far counts.
        """
        again: set[SubTopology] = set()
        for at, one in enumerate(self._topology.sub_topologies):
            if self._every is None and again.intersection(one.reads):
                self._run_again(at, one)
                again.add(one)
            if one.waits:
                self._control(one).close(until)
                if self._every is None:
                    self._run_again(at, one)
                    again.add(one)
            if self._every is not None:
                self._queries[at].spark_query.processAllAvailable()

    def await_end(self, timeout_s: float | None = None) -> bool:
        """Wait until all queries have ended, or for so long each; raises the error of one that failed."""
        ended = [query.await_end(timeout_s) for query in self._queries]
        return all(ended)

    def run(self) -> Outcome:
        """Wait until the application ends or is asked to stop, as `spark_ext.queries.run`."""
        return run_queries(self._queries)

    def stop(self, *, timeout_s: float = 600.0) -> bool:
        """Stop each query behind its batch; tell whether all were whole."""
        whole = [query.stop(timeout_s=timeout_s) for query in self._queries]  # each, also if one was not
        return all(whole)

    # what is there ---------------------------------------------------------------------------------------------------

    def store(self, name: str, *, max_age: timedelta | None = timedelta(0)) -> QueryableStore:
        """Return a store for point lookups, read without Spark; close it when it is not needed any more.

        Parameters
        ----------
        name : str
            Of the store.
        max_age : timedelta, optional
            How old the version may be that it answers of; default the newest at each call. None: no call waits for a newer one.

        Raises
        ------
        SettingsError
            There is none of this name.
        """
        if name not in self._types:
            known = ", ".join(map(repr, self._types)) or "none"
            todo = "give the table store=...; stores of processors are read with processorStore(...)"
            raise SettingsError("ask", "store", name, expected=f"one of {known}", got=repr(name), todo=todo)
        return QueryableStore(self.store_path(name), self._types[name], max_age=max_age)

    def processorStore(self, name: str) -> DataFrame:
        """Return the rows of a processor's store, as the last batch that was committed left them; read out of the checkpoint, bounded.

        Raises
        ------
        SettingsError
            No processor has it.
        StateError
            No row came yet.
        """
        for one in self._topology.sub_topologies:
            if isinstance(one.head, Process) and name in one.head.stores:
                return entries(self._spark, self._checkpoint_path(one), table_of(name)).drop(BUCKET)
        todo = "tables are asked with store(...)"
        raise SettingsError("read", "store", name, expected="a store of a processor", got=repr(name), todo=todo)

    def store_path(self, name: str) -> str:
        """Return where a store's table is."""
        return f"{self.folder}/stores/{name}"

    def topic(self, name: str) -> str:
        """Return the path of the table of a topic that is written with `KStream.to`."""
        return f"{self.folder}/topics/{name}"

    def rejected(self, sub_topology: str | None = None) -> DataFrame | None:
        """Return the rows that were not accepted: by one sub-topology (its name), or all; None if there are none.

        Returns
        -------
        DataFrame
            ``sub_topology``, ``kind`` (late, partly_late, dead, shed), ``input``, ``reason``, ``key``, ``value`` (as text), ``timestamp``,
            ``lateness_ms``, ``missed``, ``windows``, ``epoch``.
        """
        found = []
        for one in self._topology.sub_topologies:
            for kind in KINDS if one.head is not None and sub_topology in (None, one.name) else ():
                path = self._rejected_path(one, kind)
                if DeltaTable.is_deltatable(path):
                    rows = self._spark.read.format("delta").load(path)
                    found.append(rows.select(F.lit(one.name).alias("sub_topology"), F.lit(kind).alias("kind"), "*"))
        return reduce(DataFrame.unionAll, found) if found else None

    def _run_again(self, at: int, one: SubTopology) -> None:
        self._queries[at] = self._started(one)
        self._queries[at].await_end()

    # how it is built -------------------------------------------------------------------------------------------------

    def _started(self, one: SubTopology) -> Query:
        grace = one.head.grace if isinstance(one.head, StreamJoin) else timedelta(0)
        streams = {leaf: self._stream(leaf, grace if one.needs_time else None) for leaf in one.leaves}
        if one.head is None:
            operator, frame = None, _united(streams)
        else:
            operator = self._operator(one, one.head)
            frame = operator.plan([Frames(streams)[parent] for parent in one.head.parents])
        empty = self._spark.createDataFrame([], frame.schema)
        # The columns of whatever it writes, so that others can read it before there is a row.
        records = Frames(self._leaves(one, operator, empty, 0), lambda node, rows: self._looked_up(node, rows, None))
        tables = {}
        for leaf in one.kept:
            tables[self._internal(leaf)] = _clocked(records[leaf], None).schema
        for sink in one.sinks:
            rows = records[sink.parents[0]]
            if isinstance(sink, Store):
                self._types[sink.store] = rows.schema[KEY].dataType
                tables[self.store_path(sink.store)] = to_rows(rows).schema
            elif isinstance(sink, To) and sink.produced is None:
                tables[self.topic(sink.topic)] = _clocked(rows, None).schema
        for path, schema in tables.items():
            _create(path, schema)
        name = f"{self.application_id}/{one.name}"
        sources = sorted(leaf.topic if isinstance(leaf, Source) else leaf.name for leaf in one.leaves)
        pipeline = epochs.Pipeline(
            checkpoint=Checkpoint.claim(self._checkpoint_path(one), pipeline=name, sources=sources),
            ledger=f"{self.folder}/ledger",
            sinks=self._sinks(one),
            tables={node.table.store: epochs.Lookup(self.store_path(node.table.store), refresh=node.refresh) for node in one.lookups},
        )
        return epochs.start(frame, lambda epoch: self._route(one, operator, epoch), pipeline=pipeline, every=self._every)

    def _route(self, one: SubTopology, operator: Operator[Any] | None, epoch: epochs.Epoch) -> Mapping[str, DataFrame]:
        """Return the rows of each table of an epoch."""
        records = Frames(
            self._leaves(one, operator, epoch.rows, epoch.epoch),
            lambda node, rows: self._looked_up(node, rows, epoch),
        )
        clock = epoch.watermark - (operator.hold if operator is not None else timedelta(0))
        out = {f"internal {leaf.name}": _clocked(records[leaf], clock) for leaf in one.kept}
        for sink in one.sinks:
            rows = records[sink.parents[0]]
            if isinstance(sink, Store):
                out[f"store {sink.store}"] = to_rows(rows)
            elif isinstance(sink, To):
                name = f"topic {sink.topic}"
                out[name] = _clocked(rows, clock) if sink.produced is None else outboxed(rows, sink.topic, sink.produced)
        rejected = None if operator is None else operator.rejected(epoch.rows)
        if rejected is not None:
            numbered = rejected.withColumn("epoch", F.lit(epoch.epoch).cast("bigint"))
            elsewhere = [reason for _, reasons in KINDS.values() for reason in reasons]
            for kind, (_, reasons) in KINDS.items():
                mine = F.col("reason").isin(*reasons) if reasons else ~F.col("reason").isin(*elsewhere)
                out[f"rejected {kind}"] = numbered.where(mine)
        return out

    def _sinks(self, one: SubTopology) -> dict[str, epochs.Sink]:
        found: dict[str, epochs.Sink] = {f"internal {leaf.name}": epochs.Append(self._internal(leaf)) for leaf in one.kept}
        for sink in one.sinks:
            if isinstance(sink, Store):
                path, keys = self.store_path(sink.store), key_columns(self._types[sink.store])
                found[f"store {sink.store}"] = epochs.Upsert(path, keys=keys, sequence=SEQUENCE)
            elif isinstance(sink, To):
                kept = sink.produced is None
                path = self.topic(sink.topic) if kept else f"{self.folder}/outbox/{sink.topic}"
                found[f"topic {sink.topic}"] = epochs.Append(path) if kept else epochs.Outbox(path)
        if one.head is not None:
            counts = one.takes_what_it_reads and all(
                isinstance(leaf, Source) and leaf.consumed is not None and leaf.consumed.has_offsets for leaf in one.leaves
            )
            for kind, (counts_as, _) in KINDS.items():
                found[f"rejected {kind}"] = epochs.Append(self._rejected_path(one, kind), counts_as=counts_as if counts else None)
        return found

    def _leaves(self, one: SubTopology, operator: Operator[Any] | None, rows: DataFrame, epoch: int) -> dict[Node, DataFrame]:
        """Return the records of the leaves that a batch has: what it read, or what its operator made."""
        if operator is None or one.head is None:
            return _parted(rows, one.leaves)
        outputs = operator.outputs(rows, epoch)
        if one.head in outputs:
            return {one.head: outputs[one.head]}
        return {node: outputs[node.port] for node in one.nodes if isinstance(node, Port)}

    def _looked_up(self, node: Lookup, rows: DataFrame, epoch: epochs.Epoch | None) -> DataFrame:
        store = node.table.store
        if epoch is None:
            empty = self._spark.createDataFrame([], self._spark.read.format("delta").load(self.store_path(store)).schema)
            epoch = epochs.Epoch(0, 0, rows, EPOCH, {store: empty})
        return looked_up(node, rows, epoch, self._types[store])

    def _operator(self, one: SubTopology, head: Stateful) -> Operator[Any]:
        return OPERATORS[type(head)](head, Settings(self._buckets, control=self._control(one)))

    def _stream(self, leaf: Node, grace: timedelta | None) -> DataFrame:
        if isinstance(leaf, Source):
            if leaf.consumed is not None:
                return from_source(leaf, self._spark, more_lateness=grace)
            return from_table(self._spark, self.topic(leaf.topic), more_lateness=grace)
        return from_table(self._spark, self._internal(leaf), more_lateness=grace)

    def _internal(self, leaf: Node) -> str:
        return f"{self.folder}/internal/{leaf.name}"

    def _rejected_path(self, one: SubTopology, kind: str) -> str:
        return f"{self.folder}/rejected/{one.name}/{kind}"

    def _checkpoint_path(self, one: SubTopology) -> str:
        return f"{self.folder}/checkpoints/{one.name}"

    def _control(self, one: SubTopology) -> Control:
        return Control(f"{self.folder}/control/{one.name}")


def _united(streams: Mapping[Node, DataFrame]) -> DataFrame:
    """Return several streams as one, each row in a column of its own stream."""
    if len(streams) == 1:
        return next(iter(streams.values()))
    kinds = {at: frame.schema for at, frame in enumerate(streams.values())}
    parts = []
    for at, frame in enumerate(streams.values()):
        whole = F.struct(*map(column, frame.columns))
        own = [(whole if other == at else F.lit(None).cast(kind)).alias(f"r{other}") for other, kind in kinds.items()]
        parts.append(frame.select(F.lit(at).alias(ORIGIN), *own))
    return reduce(DataFrame.unionAll, parts)


def _parted(rows: DataFrame, leaves: Sequence[Node]) -> dict[Node, DataFrame]:
    if len(leaves) == 1:
        return {leaves[0]: rows}
    return {leaf: rows.where(F.col(ORIGIN) == at).select(f"r{at}.*") for at, leaf in enumerate(leaves)}


def _clocked(rows: DataFrame, clock: datetime | None) -> DataFrame:
    return rows.withColumn(CLOCK, F.lit(clock).cast("timestamp"))


def _create(path: str, schema: StructType) -> None:
    """Make a table, so that a stream can read it from its first row on."""
    if not DeltaTable.is_deltatable(path):
        DeltaTable.create(path, Schema.from_arrow(to_arrow_schema(_nullable(schema), timezone="UTC")), mode="ignore")


def _nullable(kind: Any) -> Any:
    """Return a type all parts of which may be null: so it is written, whatever the plan knew about it."""
    if isinstance(kind, StructType):
        return StructType([StructField(one.name, _nullable(one.dataType), nullable=True) for one in kind])
    if isinstance(kind, ArrayType):
        return ArrayType(_nullable(kind.elementType), containsNull=True)
    if isinstance(kind, MapType):
        return MapType(_nullable(kind.keyType), _nullable(kind.valueType), valueContainsNull=True)
    return kind
