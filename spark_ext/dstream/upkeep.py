"""Where a checkpoint's program stands: what it continues from, and what of it is lost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from spark_ext.dstream.graph import Graph
from spark_ext.dstream.plans import Plan, PlanLog
from spark_ext.dstream.shape import Shape, agree, shape_of
from spark_ext.dstream.store import Store
from spark_ext.errors import CheckpointMismatchError
from spark_ext.queries import Checkpoint

__all__ = ["Begun", "take_up"]


@dataclass(frozen=True, slots=True)
class Begun:
    """Where a program begins or goes on.

    Attributes
    ----------
    zero_ms : int
        The time one interval before its very first batch, ms since 1970.
    last : Plan or None
        The last batch that is done; None: there is none yet.
    """

    zero_ms: int
    last: Plan | None = None


def take_up(
    graph: Graph, checkpoint: Checkpoint, plans: PlanLog, store: Store, *, folder: str, now_ms: int, forget: Collection[str]
) -> Begun:
    """Find where to go on, refuse what cannot, and write the program's shape down.

    A checkpoint in which no batch has been planned begins now: its first batch is at the next multiple of the interval.

    Raises
    ------
    CheckpointMismatchError
        Names each stream that cannot go on, or the file that is missing.
    """
    committed = checkpoint.last_committed()
    last = None if committed is None else plans.read(committed)
    if committed is not None and last is None:
        raise _missing(folder, f"plans/{committed}.json")
    unfinished = plans.read(0 if committed is None else committed + 1)
    if last is None and unfinished is None:
        begun = Begun(zero_ms=now_ms // graph.interval_ms * graph.interval_ms)
        shape_of(graph, begun.zero_ms).write(folder)
        return begun
    found = Shape.read(folder)
    if found is None:
        raise _missing(folder, "graph.json")
    for node in (*graph.inputs(), *graph.keepers()):
        before = found.streams.get(node.name)
        if before is not None and before["kind"] == node.kind:
            node.restore(dict(before))
    wanted = shape_of(graph, found.zero_ms)
    lost = agree(found, wanted, folder=folder, forget=forget)
    # The shape is last: until it is there, a start that is cut off is done again.
    for name in lost:
        store.remove(name)
    if unfinished is not None and lost & unfinished.inputs.keys():
        plans.write(_without(unfinished, lost))
    wanted.write(folder)
    return Begun(found.zero_ms, last and _without(last, lost))


def _without(plan: Plan, lost: Collection[str]) -> Plan:
    return replace(plan, inputs={name: gives for name, gives in plan.inputs.items() if name not in lost})


def _missing(folder: str, name: str) -> CheckpointMismatchError:
    return CheckpointMismatchError(
        "continue from",
        "checkpoint",
        folder,
        expected=f"{name}, as batches have been done",
        got="no such file",
        why="somebody removed it",
        todo="restore it from a copy, or start with another checkpoint",
    )
