"""A table that changes: the operations of Kafka Streams' KTable, and GlobalKTable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_ext.streams import records
from spark_ext.streams.nodes import Change, Fold, ForeignJoin, How, Joiner, Node, Step, Store, TableJoin

if TYPE_CHECKING:
    from spark_ext.epochs import Refresh
    from spark_ext.streams.builder import StreamsBuilder
    from spark_ext.streams.grouped import KGroupedTable
    from spark_ext.streams.kstream import KStream

__all__ = ["GlobalKTable", "KTable"]


class KTable:
    """The newest value of each key. An update is a record; one with a null value says that the key is gone.

    A key is updated at most once per batch: with its newest value, as with caching in Kafka Streams. ``store`` keeps the table as a Delta
    table under this name, for `Application.store`.
    """

    def __init__(self, builder: StreamsBuilder, node: Node) -> None:
        self._builder, self._node = builder, node

    @classmethod
    def of(cls, builder: StreamsBuilder, node: Node, store: str | None) -> KTable:
        """Return a table, kept if it has a name."""
        table = cls(builder, node)
        if store is not None:
            table.stored(store)
        return table

    def filter(self, predicate: Callable[..., Any], *, store: str | None = None, name: str | None = None) -> KTable:
        """Keep keys whose value the predicate is true of; the others are gone from the result."""
        return self._step("FILTER", records.table_where(predicate), store, name)

    def filterNot(self, predicate: Callable[..., Any], *, store: str | None = None, name: str | None = None) -> KTable:
        """Keep keys whose value the predicate is not true of."""
        return self._step("FILTER", records.table_where(predicate, negated=True), store, name)

    def mapValues(self, mapper: Callable[..., Any], *, store: str | None = None, name: str | None = None) -> KTable:
        """Give each key another value; null: the key is gone from the result."""
        return self._step("MAPVALUES", records.table_map_values(mapper), store, name)

    def suppress(self, suppressed: str = "until_window_closes", *, name: str | None = None) -> KTable:
        """Give out one result per window, once it has closed, and nothing before.

        Parameters
        ----------
        suppressed : str
            ``until_window_closes`` is all there is: how often else a table is updated is the time between two batches.

        Raises
        ------
        SettingsError
            Something else is asked for, or the table has no windows.
        """
        self._builder.check_suppress(self._node, suppressed)
        return self._step("SUPPRESS", records.only_final, None, name)

    def toStream(self, mapper: Callable[[Any, Any], Any] | None = None, *, name: str | None = None) -> KStream:
        """Take each update as an event, perhaps with another key; a key that is gone is a record with a null value."""
        from spark_ext.streams.kstream import KStream  # noqa: PLC0415 (they make each other)

        node = Step(self._builder.named("KTABLE-TOSTREAM", name), (self._node,), change=records.as_stream)
        stream = KStream(self._builder, self._builder.add(node))
        return stream if mapper is None else stream.selectKey(mapper)

    def groupBy(self, mapper: Callable[[Any, Any], tuple[Any, Any]], *, name: str | None = None) -> KGroupedTable:
        """Group by a new key: ``lambda k, v: (key, value)``. A row whose new key changes leaves its old group."""
        from spark_ext.streams.grouped import KGroupedTable  # noqa: PLC0415 (they make each other)

        return KGroupedTable(self._builder, self._node, mapper, name)

    def join(
        self,
        other: KTable,
        *arguments: Any,
        store: str | None = None,
        name: str | None = None,
    ) -> KTable:
        """Join two tables: ``join(other, joiner)`` by key, ``join(other, foreign_key, joiner)`` by the key that ``foreign_key(v)`` names.

        ``joiner(v, other)`` makes the value. The result follows the changes of both sides.
        """
        return self._join("inner", other, *arguments, store=store, name=name)

    def leftJoin(self, other: KTable, *arguments: Any, store: str | None = None, name: str | None = None) -> KTable:
        """As `join`, but each row of this table has a result."""
        return self._join("left", other, *arguments, store=store, name=name)

    def outerJoin(self, other: KTable, joiner: Joiner, *, store: str | None = None, name: str | None = None) -> KTable:
        """As `join` by key, but each row of both tables has a result."""
        return self._join("outer", other, joiner, store=store, name=name)

    def queryableStoreName(self) -> str | None:
        """Return the name under which the table is kept, if it is."""
        found = self._builder.store_of(self._node)
        return None if found is None else found.store

    def stored(self, name: str | None = None) -> Store:
        """Return the store of the table; without one it gets one, of a given name or one that is made up."""
        found = self._builder.store_of(self._node)
        if found is None:
            found = Store(self._builder.named("KTABLE-STORE", None), (self._node,), name or f"{self._node.name}-store")
            self._builder.add(found)
        return found

    def _step(self, kind: str, change: Change, store: str | None, name: str | None) -> KTable:
        node = Step(self._builder.named(f"KTABLE-{kind}", name), (self._node,), change=change)
        return KTable.of(self._builder, self._builder.add(node), store)

    def _join(self, how: How, other: KTable, *arguments: Any, store: str | None, name: str | None) -> KTable:
        if len(arguments) == 1:
            named = self._builder.named(f"KTABLE-{'' if how == 'inner' else how.upper()}JOIN", name)
            node: Node = TableJoin(named, (self._node, other._node), joiner=arguments[0], how=how)
        else:
            foreign, joiner = arguments
            named = self._builder.named("KTABLE-FK-JOIN", name)
            changes = self._builder.changes_of(self._node)
            node = ForeignJoin(named, (changes, other._node), foreign=foreign, joiner=joiner, how=how)
        return KTable.of(self._builder, self._builder.add(node), store)


@dataclass(frozen=True, slots=True)
class GlobalKTable:
    """A table for lookups by any key; its `refresh` says when a newer version is taken."""

    table: KTable
    refresh: Refresh

    def stored(self) -> Store:
        """Return the store of the table."""
        return self.table.stored()

    def queryableStoreName(self) -> str | None:
        """Return the name under which the table is kept."""
        return self.table.queryableStoreName()


def is_windowed(node: Node) -> bool:
    """Tell whether a table's rows are windows that say when they are final."""
    while isinstance(node, Step):
        (node,) = node.parents
    return isinstance(node, Fold) and node.window is not None
