"""A stream of records: the operations of Kafka Streams' KStream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, overload

from spark_ext.epochs.lookups import EveryBatch
from spark_ext.errors import SettingsError
from spark_ext.streams import records
from spark_ext.streams.grouped import KGroupedStream
from spark_ext.streams.ktable import KTable
from spark_ext.streams.nodes import Change, How, Joiner, Lookup, Merge, Node, Port, Process, Produced, Step, StreamJoin, To
from spark_ext.streams.processor import checked_output

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from spark_ext.epochs import Refresh
    from spark_ext.streams.builder import StreamsBuilder
    from spark_ext.streams.ktable import GlobalKTable
    from spark_ext.streams.processor import Processor
    from spark_ext.streams.windows import JoinWindows

__all__ = ["BranchedKStream", "KStream"]

MAIN = ""
SECOND = timedelta(seconds=1)


class KStream:
    """Records, each an event of its own. Made by `StreamsBuilder.stream` and by operations; every operation gives a new one.

    Functions get Spark columns, ``k`` and ``v`` (fields of a struct as ``v.price``), and return columns; they run in the JVM. Those that
    take a value only may take key and value as well: ``mapValues(lambda k, v: ...)``. ``name`` gives a node a name of its own, which its
    state and tables are kept under.
    """

    def __init__(self, builder: StreamsBuilder, node: Node) -> None:
        self._builder, self._node = builder, node

    # one record at a time --------------------------------------------------------------------------------------------

    def filter(self, predicate: Callable[..., Any], *, name: str | None = None) -> KStream:
        """Keep records that the predicate is true of; null is not true."""
        return self._step("FILTER", records.where(predicate), name)

    def filterNot(self, predicate: Callable[..., Any], *, name: str | None = None) -> KStream:
        """Keep records that the predicate is not true of."""
        return self._step("FILTER", records.where(predicate, negated=True), name)

    def map(self, mapper: Callable[[Any, Any], tuple[Any, Any]], *, name: str | None = None) -> KStream:
        """Give each record a new key and value: ``lambda k, v: (key, value)``."""
        return self._step("MAP", records.map_both(mapper), name)

    def mapValues(self, mapper: Callable[..., Any], *, name: str | None = None) -> KStream:
        """Give each record a new value; for several fields ``F.struct(...)``."""
        return self._step("MAPVALUES", records.map_values(mapper), name)

    def flatMap(self, mapper: Callable[[Any, Any], Any], *, name: str | None = None) -> KStream:
        """Make records of each: a list of pairs ``[(key, value), ...]``, or, of any number, an array column of ``F.struct(key, value)``."""
        return self._step("FLATMAP", records.flat_map(mapper), name, makes_more=True)

    def flatMapValues(self, mapper: Callable[..., Any], *, name: str | None = None) -> KStream:
        """Make a record of each element of the array that the function returns; none of an empty or null one."""
        return self._step("FLATMAPVALUES", records.flat_map_values(mapper), name, makes_more=True)

    def selectKey(self, mapper: Callable[[Any, Any], Any], *, name: str | None = None) -> KStream:
        """Give each record a new key."""
        return self._step("KEY-SELECT", records.select_key(mapper), name)

    def mapValuesInPandas(self, function: Callable[[pd.DataFrame], pd.DataFrame], schema: str, *, name: str | None = None) -> KStream:
        """Give each record a new value by any Python, in workers.

        Parameters
        ----------
        function : callable
            Gets the values of a block of records as a DataFrame: the fields of a struct, or one column ``value``. Returns one with as many
            rows in the same order. Pure: it may be called again for the same records. Types are pandas': integers with nulls are floats.
        schema : str
            What it returns, as DDL. One column ``value`` is the value itself, else the columns are its fields.
        """
        return self._step("MAPVALUES", records.map_values_in_pandas(function, schema), name)

    def flatMapInPandas(self, function: Callable[[pd.DataFrame], pd.DataFrame], schema: str, *, name: str | None = None) -> KStream:
        """Make any number of records of a block of records by any Python, in workers.

        Parameters
        ----------
        function : callable
            Gets ``key``, ``timestamp`` and the fields of the value (or ``value``), returns a DataFrame of any length. Pure. Types are
            pandas': integers with nulls are floats, so a key that is a large one is better text.
        schema : str
            What it returns, as DDL: ``key``, ``timestamp`` and the fields of the new value.

        Raises
        ------
        SettingsError
            `schema` has no ``key`` or ``timestamp``.
        """
        checked_output("flatMapInPandas", schema, timed=True)
        return self._step("FLATMAP", records.flat_map_in_pandas(function, schema), name, makes_more=True)

    def peek(self, action: Callable[[pa.Table], None], *, name: str | None = None) -> KStream:
        """Show records to a function in the workers, in blocks; it may see a record more than once."""
        return self._step("PEEK", records.peek(action), name)

    def split(self, *, prefix: str = "") -> BranchedKStream:
        """Begin to part the stream; each record goes to the first branch whose predicate is true of it."""
        return BranchedKStream(self, prefix)

    def branch(self, *predicates: Callable[..., Any]) -> list[KStream]:
        """Part the stream; a record goes to the first stream whose predicate is true of it, or is left out if none is."""
        return [self._step("BRANCH", records.branch(predicates, at), None) for at in range(len(predicates))]

    def merge(self, other: KStream, *, name: str | None = None) -> KStream:
        """Unite two streams whose keys and values have the same types; in no order between them."""
        return KStream(self._builder, self._builder.add(Merge(self._builder.named("KSTREAM-MERGE", name), (self._node, other._node))))

    # state -----------------------------------------------------------------------------------------------------------

    def groupByKey(self) -> KGroupedStream:
        """Group by the key."""
        return KGroupedStream(self._builder, self._node)

    def groupBy(self, mapper: Callable[[Any, Any], Any], *, name: str | None = None) -> KGroupedStream:
        """Group by a new key."""
        return self.selectKey(mapper, name=name).groupByKey()

    def toTable(self, *, store: str | None = None, name: str | None = None) -> KTable:
        """Take each record as the new value of its key, a null value as its end; the newest wins."""
        return KTable.of(self._builder, self._step("TOTABLE", lambda rows: rows, name)._node, store)

    @overload
    def join(self, other: KStream, joiner: Joiner, windows: JoinWindows, *, name: str | None = ...) -> KStream: ...
    @overload
    def join(self, other: KTable, joiner: Joiner, *, refresh: Refresh = ..., name: str | None = ...) -> KStream: ...
    @overload
    def join(
        self, other: GlobalKTable, on: Callable[[Any, Any], Any], joiner: Callable[..., Any], *, name: str | None = ...
    ) -> KStream: ...
    def join(self, other: Any, *arguments: Any, **more: Any) -> KStream:
        """Join with a stream, a table or a global table; records without a partner are left out.

        ``join(stream, joiner, windows)``: records of equal keys that are near in time. ``join(table, joiner)``: with the table's value of
        the record's key. ``join(global_table, on, joiner)``: with the value of the key that ``on(k, v)`` says. ``joiner(v, other)``
        makes the value. A table is read at the version that the ledger names for the batch, the same at a replay.
        """
        return self._join("inner", other, *arguments, **more)

    def leftJoin(self, other: Any, *arguments: Any, **more: Any) -> KStream:
        """As `join`, but records without a partner come with a null one: of streams once the watermark proves it."""
        return self._join("left", other, *arguments, **more)

    def outerJoin(self, other: KStream, joiner: Joiner, windows: JoinWindows, *, name: str | None = None) -> KStream:
        """As `leftJoin` of both sides."""
        return self._join("outer", other, joiner, windows, name=name)

    @overload
    def process(
        self,
        supplier: Callable[[], Processor],
        output: str,
        *,
        stores: Sequence[str] = ...,
        ticks: timedelta | None = ...,
        name: str | None = ...,
    ) -> KStream: ...
    @overload
    def process(
        self,
        supplier: Callable[[], Processor],
        output: Mapping[str, str],
        *,
        stores: Sequence[str] = ...,
        ticks: timedelta | None = ...,
        name: str | None = ...,
    ) -> dict[str, KStream]: ...
    def process(
        self,
        supplier: Callable[[], Processor],
        output: str | Mapping[str, str],
        *,
        stores: Sequence[str] = (),
        ticks: timedelta | None = None,
        name: str | None = None,
    ) -> KStream | dict[str, KStream]:
        """Run a processor over the records, with state; see `spark_ext.streams.Processor`.

        Parameters
        ----------
        supplier : callable
            Makes the processor; sent to workers.
        output : str, or mapping of str to str
            Columns of what it forwards as DDL: ``key``, perhaps ``timestamp``, and the fields of the value (or ``value``). With several,
            ``context.forward(table, to=name)`` says which.
        stores : sequence of str
            Names of the stores that it uses; see `StreamsBuilder.addStateStore`.
        ticks : timedelta, optional
            Whole seconds: call every bucket that often, so that wall-clock punctuation takes place without records; only in a run with
            ``every``.

        Returns
        -------
        KStream, or dict of str to KStream
            One stream for each output.

        Raises
        ------
        SettingsError
            An output has no ``key``, a store is not known, or `ticks` are no seconds.
        """
        outputs = {MAIN: output} if isinstance(output, str) else dict(output)
        for schema in outputs.values():
            checked_output("process", schema, timed=False)
        if ticks is not None and (ticks < SECOND or ticks % SECOND):
            raise SettingsError("call", "processor", "by ticks", expected="whole seconds, 1 or more", got=repr(ticks), todo="correct it")
        keeps = tuple(self._builder.store_named(one) for one in stores)
        node = self._builder.add(
            Process(
                self._builder.named("KSTREAM-PROCESSOR", name), (self._node,), supplier=supplier, outputs=outputs, keeps=keeps, ticks=ticks
            )
        )
        ports = {
            port: KStream(self._builder, self._builder.add(Port(f"{node.name}-{port}" if port else f"{node.name}-OUT", (node,), port)))
            for port in outputs
        }
        return ports[MAIN] if isinstance(output, str) else ports

    # out -------------------------------------------------------------------------------------------------------------

    def to(self, topic: str, *, produced: Produced | None = None, name: str | None = None) -> None:
        """Write the records to a topic: a Delta table of the application, or with `produced` an outbox for Kafka."""
        self._builder.add(To(self._builder.named("KSTREAM-SINK", name), (self._node,), topic, produced))

    def through(self, topic: str) -> KStream:
        """Write the records to a topic of the application and go on from there, in another query."""
        self.to(topic)
        return self._builder.stream(topic)

    def _step(self, kind: str, change: Change, name: str | None, *, makes_more: bool = False) -> KStream:
        node = Step(self._builder.named(f"KSTREAM-{kind}", name), (self._node,), change=change, makes_more=makes_more)
        return KStream(self._builder, self._builder.add(node))

    def _join(self, how: How, other: Any, *arguments: Any, name: str | None = None, refresh: Refresh | None = None) -> KStream:
        kind = "KSTREAM-JOIN" if how == "inner" else f"KSTREAM-{how.upper()}JOIN"
        names = {"KStream": "joiner, windows", "KTable": "joiner", "GlobalKTable": "on, joiner"}.get(type(other).__name__)
        if names is None or len(arguments) != len(names.split(", ")):
            expected = f"arguments {names}" if names else "a KStream, KTable or GlobalKTable"
            got = f"{len(arguments)} arguments"
            raise SettingsError("join", "stream with", type(other).__name__, expected=expected, got=got, todo="see KStream.join")
        named = self._builder.named(kind, name)
        node: Node
        if isinstance(other, KStream):
            joiner, windows = arguments
            node = StreamJoin(
                named, (self._node, other._node), joiner=joiner, how=how,
                before=windows.before_, after=windows.after_, grace=windows.grace,
            )  # fmt: skip
        else:
            on, joiner = (None, arguments[0]) if isinstance(other, KTable) else arguments
            policy = refresh or getattr(other, "refresh", None) or EveryBatch()
            node = Lookup(named, (self._node,), table=other.stored(), joiner=joiner, refresh=policy, how=how, on=on)
        return KStream(self._builder, self._builder.add(node))


class BranchedKStream:
    """A stream on its way to be parted."""

    def __init__(self, stream: KStream, prefix: str) -> None:
        self._stream, self._prefix = stream, prefix
        self._branches: list[tuple[str, Callable[..., Any]]] = []

    def branch(self, predicate: Callable[..., Any], *, name: str | None = None) -> BranchedKStream:
        """Add a branch; default name its number, from 1."""
        self._branches.append((f"{self._prefix}{name or len(self._branches) + 1}", predicate))
        return self

    def defaultBranch(self, *, name: str | None = None) -> dict[str, KStream]:
        """Return the branches by name, and one with the records that are in none (default name ``0``)."""
        return self._parted([*(named for named, _ in self._branches), f"{self._prefix}{name or 0}"])

    def noDefaultBranch(self) -> dict[str, KStream]:
        """Return the branches by name; records that are in none are left out."""
        return self._parted([named for named, _ in self._branches])

    def _parted(self, names: list[str]) -> dict[str, KStream]:
        if len(set(names)) != len(names):
            raise SettingsError("part", "stream into branches", "", expected="names that differ", got=repr(names), todo="rename one")
        predicates = [predicate for _, predicate in self._branches]
        return {named: self._stream._step("BRANCH", records.branch(predicates, at), None) for at, named in enumerate(names)}
