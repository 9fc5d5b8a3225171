"""A topology: what was built, checked, cut into sub-topologies, told as text, and run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from spark_ext.errors import SettingsError
from spark_ext.streams.cut import SubTopology, cut
from spark_ext.streams.nodes import Fold, Lookup, Node, Process, Sink, Source, Step, Store, To
from spark_ext.streams.records import only_final

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from spark_ext.streams.run import Application

__all__ = ["Topology"]


@dataclass(frozen=True)
class Topology:
    """Streams, tables and what is done to them; made by `StreamsBuilder.build`.

    Attributes
    ----------
    nodes : tuple of Node
        Parents first.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        if not any(isinstance(node, Sink | Process) for node in self.nodes):
            raise _refused("nothing", "records that go somewhere", "no sink, store or processor", "add to(...), or a store=")
        written = Counter(node.topic for node in self.nodes if isinstance(node, To))
        kept = Counter(node.store for node in self.nodes if isinstance(node, Store))
        kept.update(one for node in self.nodes if isinstance(node, Process) for one in {spec.name for spec in node.keeps})
        for what, found in (("topic", written), ("store", kept)):
            twice = [name for name, times in found.items() if times > 1]
            if twice:
                todo = "merge the streams before, or rename one" if what == "topic" else "keep it for one of them, or rename one"
                raise _refused(twice[0], f"one node that writes a {what}", f"{found[twice[0]]}", todo)
        for node in self.nodes:
            if isinstance(node, Source) and node.consumed is None and node.topic not in written:
                raise _refused(node.topic, "a topic with Consumed(...), or one that is written here", "neither", "say how to read it")
            outboxed = [one for one in self.nodes if isinstance(one, To) and one.topic == getattr(node, "topic", None) and one.produced]
            if isinstance(node, Source) and node.consumed is None and outboxed:
                todo = "read it from Kafka with Consumed(...), or write it without produced="
                raise _refused(node.topic, "a topic that is a table", "an outbox for Kafka", todo)
        _ = self.sub_topologies

    @cached_property
    def sub_topologies(self) -> list[SubTopology]:
        """The queries, each behind those whose tables it reads."""
        return cut(self._final_where_only_final())

    def describe(self) -> str:
        """Return the sub-topologies as text, as Kafka Streams writes them; a table between two is a topic ``<node>-repartition``."""
        return "\n".join(["Topologies:", *(line for one in self.sub_topologies for line in _described(one))])

    def run(
        self, spark: SparkSession, application_id: str, folder: str, *, every: str | None = None, buckets: int | None = None
    ) -> Application:
        """Start the topology: one query per sub-topology, with epochs, a checkpoint and tables of its own.

        Guarantee: each record that a source gives has its effect once in every store, topic and table, whatever crashed in between. What is
        late, invalid or too much is in a table of rejected rows. A checkpoint is tied to the nodes' names and settings.

        Parameters
        ----------
        spark : SparkSession
            Where it runs.
        application_id : str
            Name of the application, first part of its pipelines' names.
        folder : str
            Local path or URI, for this application alone: ``topics/``, ``stores/``, ``internal/``, ``rejected/``, ``checkpoints/``,
            ``control/``, ``ledger``.
        every : str, optional
            Time between two batches, such as ``"1 second"``. Without it the queries take what is there now, one after the other, and the
            application has ended when this returns.
        buckets : int, optional
            Number of buckets of each operator with state, fixed for the life of a checkpoint; default that of 100,000 keys.

        Raises
        ------
        SettingsError, SchemaError
            Columns do not fit what is done to them.
        CheckpointMismatchError, EpochError
            Checkpoint, ledger and tables do not agree.
        QueryError
            A query failed; it goes on from there at the next start.
        """
        from spark_ext.streams.run import Application  # noqa: PLC0415 (needs Spark)

        application = Application(self, spark, application_id, folder, every=every, buckets=buckets)
        application.start()
        return application

    def _final_where_only_final(self) -> tuple[Node, ...]:
        """Let windows whose every reader waits for the final result give out nothing else."""
        readers: dict[Node, list[Node]] = {}
        for node in self.nodes:
            for parent in node.parents:
                readers.setdefault(parent, []).append(node)
        new: dict[Node, Node] = {}
        for node in self.nodes:
            changed: dict[str, Any] = {}
            parents = tuple(new[parent] for parent in node.parents)
            if parents != node.parents:
                changed["parents"] = parents
            if isinstance(node, Lookup) and new.get(node.table, node.table) is not node.table:
                changed["table"] = new[node.table]
            is_suppressed = [isinstance(one, Step) and one.change is only_final for one in readers.get(node, [])]
            if isinstance(node, Fold) and node.window is not None and is_suppressed and all(is_suppressed):
                changed["only_final"] = True
            new[node] = replace(node, **changed) if changed else node
        return tuple(new.values())


def _described(one: SubTopology) -> Iterator[str]:
    yield f"  Sub-topology: {one.number}"
    own = {*one.nodes, *one.leaves}
    after: dict[Node, list[str]] = {node: [] for node in own}
    for node in one.nodes:
        for parent in node.parents:
            after.setdefault(parent, []).append(node.name)
    for node in one.kept:
        after[node].append(f"{node.name}-repartition-sink")
    for leaf in one.leaves:
        topic = leaf.topic if isinstance(leaf, Source) else f"{leaf.name}-repartition"
        name = leaf.name if isinstance(leaf, Source) else f"{leaf.name}-repartition-source"
        yield f"    Source: {name} (topics: [{topic}])"
        yield f"      --> {', '.join(after[leaf]) or 'none'}"
    for node in one.nodes:
        if node in one.leaves:
            continue
        before = ", ".join(_as_read(parent, one) for parent in node.parents)
        if isinstance(node, To):
            yield f"    Sink: {node.name} (topic: {node.topic})"
        else:
            stores = [*node.stores, *([node.table.store] if isinstance(node, Lookup) else [])]
            yield f"    Processor: {node.name} (stores: [{', '.join(stores)}])"
            yield f"      --> {', '.join(after[node]) or 'none'}"
        yield f"      <-- {before}"
    for node in one.kept:
        yield f"    Sink: {node.name}-repartition-sink (topic: {node.name}-repartition)"
        yield f"      <-- {node.name}"


def _as_read(node: Node, one: SubTopology) -> str:
    return f"{node.name}-repartition-source" if node in one.leaves and not isinstance(node, Source) else node.name


def _refused(name: str, expected: str, got: str, todo: str) -> SettingsError:
    return SettingsError("build", "topology with", name, expected=expected, got=got, todo=todo)
