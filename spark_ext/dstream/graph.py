"""The program: streams as nodes, what goes out, and the checks before a start."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from pyspark import StorageLevel

from spark_ext.dstream.batch import Batch
from spark_ext.dstream.closures import users_functions
from spark_ext.dstream.errors import StreamStateError
from spark_ext.dstream.rows import Rows

__all__ = ["Graph", "InputNode", "Node", "Output", "call_site"]

HERE: Final = str(Path(__file__).parent)


class Node(ABC):
    """A stream: how to get its rows at a batch time from its parents' rows.

    Parameters
    ----------
    parents : sequence of Node
        Streams that it is made of.
    slide_ms : int
        It has rows each so many ms.

    Attributes
    ----------
    kind : str
        The operation, in Spark's words.
    site : str
        Where the user called it, such as ``"window at job.py:12"``.
    name : str
        Its name in the checkpoint: what the user set, else kind and ordinal.
    keeps : bool
        Whether it leaves something in the store for later batches.
    needs_checkpoint : bool
        Whether Spark refuses to start it without a checkpoint directory.
    needs_shared_store : bool
        Whether its tasks use the store, which without a checkpoint is a folder of this machine.
    storage_level : StorageLevel or None
        How its rows are persisted; None: not.
    remember_ms : int
        How long its rows can be asked for by `slice`.
    """

    kind: ClassVar[str]
    keeps: ClassVar[bool] = False
    needs_checkpoint: ClassVar[bool] = False
    needs_shared_store: ClassVar[bool] = False

    def __init__(self, parents: Sequence[Node], slide_ms: int) -> None:
        self.parents = tuple(parents)
        self.slide_ms = slide_ms
        self.site = call_site(self.kind)
        self.name = ""
        self.storage_level: StorageLevel | None = None
        self.remember_ms = slide_ms

    @abstractmethod
    def compute(self, batch: Batch) -> Rows | None:
        """Return the rows at the batch's time, lazily; called at most once per batch, and only when they are due."""

    def keep(self, batch: Batch) -> None:  # noqa: B027 (most streams have nothing to do there)
        """Leave in ``batch.store`` under `name` what later batches need; called once per batch before any output.

        Called when this stream or one of its parents is due, parents first. A retried batch calls it again.
        """

    def shape(self) -> dict[str, Any]:
        """Return what must be the same for the store to be of use after a restart, as JSON values."""
        return {}

    def restore(self, shape: dict[str, Any]) -> None:  # noqa: B027 (most streams have nothing to do there)
        """Take over from the checkpoint what the program left open, such as a number of partitions."""

    def needed_from(self, time_ms: int) -> int:
        """Return the oldest batch time that a batch at `time_ms`, tried again, reads from the store."""
        return time_ms

    def stores(self, time_ms: int) -> dict[str, int]:
        """Return its names in the store, and the oldest batch time of each that is needed as in `needed_from`."""
        return {self.name: self.needed_from(time_ms)}

    def functions(self) -> Iterable[Any]:
        """Return the user's functions that travel to workers: by default all that this object holds."""
        return users_functions(tuple(vars(self).values()))


class InputNode(Node):
    """A stream from outside. A plan says what it gives to a batch, in its own JSON words."""

    def __init__(self, slide_ms: int) -> None:
        super().__init__((), slide_ms)

    def start(self, folder: str, planned: Any | None) -> None:
        """Begin to receive; `folder` is for what it must write down, `planned` the last plan before a restart."""

    @abstractmethod
    def plan(self, planned: Any | None, time_ms: int) -> Any:
        """Say what the batch at `time_ms` gets; `planned` is what the batch before got, None for the first."""

    def has_news(self, planned: Any | None) -> bool:
        """Tell whether a plan made now would give rows."""
        return False

    def row_count(self, planned: Any) -> int | None:
        """Return how many rows a plan gives; None if that is not known, and listeners are told nothing about this input."""
        return None

    def describe(self, planned: Any) -> dict[str, Any]:
        """Return what a listener is told about a plan besides the number of rows."""
        return {}

    def finished(self, planned: Any) -> None:
        """Take note that the batch of this plan is done and committed."""

    def ended(self, planned: Any) -> None:
        """Take note that the program has been stopped, behind the batch of this plan, which is done and committed."""

    def stop(self, *, graceful: bool) -> None:
        """End receiving; called once. Graceful: what has been received is planned by one more batch."""

    def functions(self) -> Iterable[Any]:  # noqa: D102 (Node's)
        return ()  # what reads, reads where it likes


@dataclass(frozen=True, slots=True)
class Output:
    """An output operation."""

    node: Node
    run: Callable[[Batch, Rows], None]
    site: str


class Graph:
    """All nodes and outputs of one context."""

    def __init__(self, interval_ms: int) -> None:
        self.interval_ms = interval_ms
        self.nodes: list[Node] = []
        self.outputs: list[Output] = []
        self.remember_ms = 0
        self.state = "initialized"

    def add(self, node: Node) -> Node:
        """Take in a stream."""
        self.check_open()
        node.name = f"{node.kind}-{sum(other.kind == node.kind for other in self.nodes)}"
        self.nodes.append(node)
        return node

    def add_output(self, node: Node, run: Callable[[Batch, Rows], None], kind: str) -> None:
        """Take in an output operation."""
        self.check_open()
        self.outputs.append(Output(node, run, call_site(kind)))

    def inputs(self) -> list[InputNode]:
        """Return all streams from outside, in the order they were made."""
        return [node for node in self.nodes if isinstance(node, InputNode)]

    def order(self) -> list[Node]:
        """Return the streams that some output needs, parents first."""
        needed: set[Node] = set()
        ahead = [output.node for output in self.outputs]
        while ahead:
            node = ahead.pop()
            if node not in needed:
                needed.add(node)
                ahead.extend(node.parents)
        return [node for node in self.nodes if node in needed]  # a node is made after its parents

    def keepers(self) -> list[Node]:
        """Return the streams that leave something in the store."""
        return [node for node in self.order() if node.keeps]

    def check_open(self) -> None:
        """Refuse a change of a program that runs, or has run."""
        if self.state == "initialized":
            return
        after = "starting" if self.state == "active" else "stopping"
        raise StreamStateError(
            "change",
            "streaming context",
            "",
            expected="a context that has not been started",
            got=f"one that is {self.state}",
            why=f"Adding new inputs, transformations, and output operations after {after} a context is not supported",
            todo="define all streams before start(); for another program make a new StreamingContext",
        )


def call_site(kind: str) -> str:
    """Return the operation and the line of the user's program that asked for it."""
    frame = sys._getframe(1)  # noqa: SLF001 (how traceback does it)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(HERE):
        frame = frame.f_back
    return f"{kind} at {Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
