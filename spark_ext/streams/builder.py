"""Where a topology begins: sources, stores, and the names of nodes."""

from __future__ import annotations

from spark_ext.epochs.lookups import EveryBatch, Refresh
from spark_ext.errors import SettingsError
from spark_ext.streams.kstream import KStream
from spark_ext.streams.ktable import GlobalKTable, KTable, is_windowed
from spark_ext.streams.nodes import Changes, Consumed, Node, Source, Store
from spark_ext.streams.stores import StoreSpec
from spark_ext.streams.topology import Topology

__all__ = ["StreamsBuilder"]


class StreamsBuilder:
    """Builds a topology out of streams and tables. Nothing runs, and no Spark is needed, before `Topology.run`."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._stores: dict[str, StoreSpec] = {}
        self._changes: dict[Node, Node] = {}
        self._count = 0

    def stream(self, topic: str, consumed: Consumed | None = None, *, name: str | None = None) -> KStream:
        """Return the records of a topic; without `consumed` it is one that this topology writes with `KStream.to`."""
        return KStream(self, self.add(Source(self.named("KSTREAM-SOURCE", name), (), topic, consumed)))

    def table(self, topic: str, consumed: Consumed | None = None, *, store: str | None = None, name: str | None = None) -> KTable:
        """Return a topic as a table: each record is the newest value of its key, a null value its end."""
        return KTable.of(self, self.add(Source(self.named("KTABLE-SOURCE", name), (), topic, consumed)), store)

    def globalTable(
        self,
        topic: str,
        consumed: Consumed | None = None,
        *,
        refresh: Refresh | None = None,
        store: str | None = None,
        name: str | None = None,
    ) -> GlobalKTable:
        """Return a topic as a table that streams look up by any key.

        Parameters
        ----------
        refresh : Refresh, optional
            When a newer version of it is taken: `spark_ext.epochs.EveryBatch` (default), ``ByAge``, ``OnRequest``, ``Pinned``.
        """
        return GlobalKTable(self.table(topic, consumed, store=store or f"{topic}-global-store", name=name), refresh or EveryBatch())

    def addStateStore(self, store: StoreSpec) -> StreamsBuilder:
        """Make a store known, for processors to be connected to; see `Stores`.

        Raises
        ------
        SettingsError
            There is one of this name.
        """
        if store.name in self._stores:
            raise _refused("add", "store", store.name, "a name of its own", "one that is taken", "rename it")
        self._stores[store.name] = store
        return self

    def build(self) -> Topology:
        """Return the topology, checked.

        Raises
        ------
        SettingsError
            There is nothing to run; a topic is read that nobody writes; two stores or sinks have one place; or what is written comes
            back to where it came from.
        """
        return Topology(tuple(self._nodes.values()))

    # for streams and tables ------------------------------------------------------------------------------------------

    def add(self, node: Node) -> Node:
        """Take a node in."""
        if node.name in self._nodes:
            raise _refused("add", "node", node.name, "a name of its own", "one that is taken", "give another name=")
        self._nodes[node.name] = node
        return node

    def named(self, kind: str, name: str | None) -> str:
        """Return the name of the next node: the given one, or its kind and number as Kafka Streams counts."""
        number, self._count = self._count, self._count + 1
        if name is not None and (not name or not all(one.isalnum() or one in "._-" for one in name)):
            raise _refused("name", "node", name, "letters, digits, '.', '_' and '-'", repr(name), "it is part of paths: rename it")
        return name or f"{kind}-{number:010d}"

    def store_named(self, name: str) -> StoreSpec:
        """Return a store that was added."""
        if name not in self._stores:
            raise _refused("connect", "store", name, f"one of {list(self._stores)}", "none", "add it: builder.addStateStore(...)")
        return self._stores[name]

    def store_of(self, node: Node) -> Store | None:
        """Return the store that keeps a table, if there is one."""
        return next((one for one in self._nodes.values() if isinstance(one, Store) and one.parents == (node,)), None)

    def changes_of(self, node: Node) -> Node:
        """Return a table's updates as rows that come and go; one node for all who need them."""
        if node not in self._changes:
            self._changes[node] = self.add(Changes(self.named("KTABLE-CHANGES", None), (node,)))
        return self._changes[node]

    def check_suppress(self, node: Node, suppressed: str) -> None:
        """Refuse what cannot be suppressed."""
        if suppressed != "until_window_closes":
            todo = "leave it out, and start the application with the time between two batches: every='10 seconds'"
            raise _refused("suppress", "updates of", node.name, "'until_window_closes'", repr(suppressed), todo)
        if not is_windowed(node):
            todo = "sessions and sliding windows come out once anyway; of tables without windows no result is final"
            raise _refused("suppress", "updates of", node.name, "a table of time windows", "none", todo)


def _refused(action: str, kind: str, name: str, expected: str, got: str, todo: str) -> SettingsError:
    return SettingsError(action, kind, name, expected=expected, got=got, todo=todo)
