"""Where a topology is cut: into sub-topologies, each one query with at most one operator that has state.

A node whose records cannot be made anew out of a stream (an operator with state, a lookup) is a *leaf*: who needs them in another query
reads them from a table that the node's own query keeps. Steps without state are done wherever they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from spark_ext.errors import SettingsError
from spark_ext.streams.nodes import Fold, Lookup, Node, Port, Process, Sink, Slide, Source, Stateful, Step, StreamJoin, To

__all__ = ["SubTopology", "cut", "leaves_of"]

Key = Stateful | frozenset[Node]


@dataclass(eq=False)
class SubTopology:
    """One query.

    Attributes
    ----------
    number : int
        Its place in an order in which each comes behind those it reads.
    name : str
        What its checkpoint and tables are kept under.
    head : Stateful or None
        The operator that has state.
    inputs : tuple of tuple of Node
        Leaves that it reads as streams: for each input of the head; without one, one input.
    sinks : list of Sink
        What it writes.
    kept : list of Node
        Leaves of its own that others read, each kept as a table.
    needs_time : bool
        Whether it, or one that reads it, waits for a watermark; others run without one, and so without batches that have no rows.
    reads : list of SubTopology
        Those whose tables it reads.
    """

    name: str
    head: Stateful | None
    inputs: tuple[tuple[Node, ...], ...]
    sinks: list[Sink] = field(default_factory=list)
    kept: list[Node] = field(default_factory=list)
    number: int = -1
    needs_time: bool = False
    reads: list[SubTopology] = field(default_factory=list)

    @property
    def leaves(self) -> tuple[Node, ...]:
        """What it reads, each once."""
        return tuple(dict.fromkeys(leaf for leaves in self.inputs for leaf in leaves))

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes whose work it does, without the leaves that it reads from tables; parents first."""
        found: dict[Node, None] = {}

        def visit(node: Node) -> None:
            if node in found or (node in self.leaves and not isinstance(node, Source)):
                return
            for parent in node.parents:
                visit(parent)
            found[node] = None

        for node in (*(self.head.parents if self.head else ()), *([self.head] if self.head else []), *self.kept, *self.sinks):
            visit(node)
        return tuple(found)

    @property
    def waits(self) -> bool:
        """Tell whether it holds results back until a time."""
        head = self.head
        return isinstance(head, StreamJoin | Slide) or (isinstance(head, Fold) and head.window is not None)

    @property
    def takes_what_it_reads(self) -> bool:
        """Tell whether no record comes to the head that was not read as such: then what the head rejects are rows that were read."""

        def is_read(node: Node) -> bool:
            return node in self.leaves or (not (isinstance(node, Step) and node.makes_more) and all(map(is_read, node.parents)))

        return self.head is not None and all(map(is_read, self.head.parents))

    @property
    def lookups(self) -> tuple[Lookup, ...]:
        """Tables that it looks into."""
        return tuple(node for node in self.nodes if isinstance(node, Lookup))


def cut(nodes: Sequence[Node]) -> list[SubTopology]:
    """Return the sub-topologies, each behind those whose tables it reads.

    Raises
    ------
    SettingsError
        What one writes comes back to it through another.
    """
    found: dict[Key, SubTopology] = {}

    def query(key: Key) -> SubTopology:
        if key not in found:
            if isinstance(key, Stateful):
                found[key] = SubTopology(key.name, key, tuple(tuple(leaves_of(parent)) for parent in key.parents))
            else:
                leaves = tuple(node for node in nodes if node in key)
                found[key] = SubTopology("+".join(leaf.name for leaf in leaves), None, (leaves,))
        return found[key]

    for node in nodes:
        if isinstance(node, Stateful):
            query(node)
        elif isinstance(node, Lookup):
            query(_home(node))
        elif isinstance(node, Sink):
            query(_key(node.parents[0])).sinks.append(node)
    for one in list(found.values()):
        for leaf in one.leaves:
            if not isinstance(leaf, Source) and leaf not in (home := query(_home(leaf))).kept:
                home.kept.append(leaf)
    return _ordered(list(found.values()), nodes)


def leaves_of(node: Node) -> Iterator[Node]:
    """Give the leaves that a node's records are made of, each once."""
    if isinstance(node, Source | Port | Lookup) or (isinstance(node, Stateful) and not isinstance(node, Process)):
        yield node
        return
    yield from dict.fromkeys(leaf for parent in node.parents for leaf in leaves_of(parent))


def _home(leaf: Node) -> Key:
    """Return the query that makes a leaf's records."""
    if isinstance(leaf, Stateful):
        return leaf
    if isinstance(leaf, Port):
        (parent,) = leaf.parents
        assert isinstance(parent, Stateful), "ports are those of a processor"  # noqa: S101
        return parent
    assert isinstance(leaf, Lookup), "a source is read, not made"  # noqa: S101
    return _key(leaf.parents[0])


def _key(node: Node) -> Key:
    """Return the query in which a node's records are at hand: that of its leaves if it is one, else one that reads them."""
    leaves = frozenset(leaves_of(node))
    if not any(isinstance(leaf, Source) for leaf in leaves):
        homes = {_home(leaf) for leaf in leaves}
        if len(homes) == 1:
            return homes.pop()
    return leaves


def _ordered(queries: list[SubTopology], nodes: Sequence[Node]) -> list[SubTopology]:
    makes: dict[object, SubTopology] = {}
    for one in queries:
        makes |= dict.fromkeys(one.kept, one)
        for sink in one.sinks:
            makes[sink] = one
            if isinstance(sink, To):
                makes[sink.topic] = one
    order: list[SubTopology] = []
    open_: list[SubTopology] = []

    def visit(one: SubTopology) -> None:
        if one in order:
            return
        if one in open_:
            raise SettingsError(
                "cut", "topology at", one.name, expected="records that go one way", got=" -> ".join(each.name for each in (*open_, one)),
                why="what it writes comes back to it", todo="write it to a topic of another application, and read that",
            )  # fmt: skip
        open_.append(one)
        read: list[object] = [leaf.topic if isinstance(leaf, Source) and leaf.consumed is None else leaf for leaf in one.leaves]
        one.reads = [makes[each] for each in read if each in makes]
        # A table that the same query keeps is looked up as it was after the batch before.
        tables = [makes[node.table] for node in one.lookups if makes.get(node.table, one) is not one]
        for each in (*one.reads, *tables):
            visit(each)
        open_.pop()
        order.append(one)

    place = {node: at for at, node in enumerate(nodes)}
    for one in sorted(queries, key=lambda each: min(place[node] for node in (each.nodes or each.leaves))):
        visit(one)
    for number, one in enumerate(order):
        one.number = number
    for one in reversed(order):
        one.needs_time = one.needs_time or one.waits or isinstance(one.head, Process)
        for each in one.reads:
            each.needs_time = each.needs_time or one.needs_time
    return order
