"""Where keys are in what a stream kept depends on the hash: another one is refused, or counts as not placed."""

from __future__ import annotations

import operator
from typing import Any

import pytest

from spark_ext.dstream.graph import Graph, Node
from spark_ext.dstream.inputs.queue import QueueInput
from spark_ext.dstream.shape import agree, shape_of
from spark_ext.dstream.state.notes import hashed_by
from spark_ext.dstream.state.reduced_window import ReducedWindowNode
from spark_ext.dstream.state.update import UpdateNode
from spark_ext.errors import CheckpointMismatchError


def reduced(parent: Node) -> Node:
    return ReducedWindowNode(parent, operator.add, operator.sub, None, window_ms=3000, slide_ms=1000, partitions=2, default_partitions=2)


def updated(parent: Node) -> Node:
    return UpdateNode(parent, lambda new, old: old, 2, 2, None)


@pytest.mark.parametrize("make", [reduced, updated])
def test_another_seed_of_hashes_is_refused_by_name(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph(1000)
    node = graph.add(make(graph.add(QueueInput([], 1000, one_at_a_time=True, default=None))))
    graph.add_output(node, lambda *_: None, "out")
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    before, said_before = shape_of(graph, 0), hashed_by()
    assert agree(before, shape_of(graph, 0), folder="") == set()
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    assert hashed_by() != said_before
    with pytest.raises(CheckpointMismatchError, match=rf"'{node.name}' .* had hash '{said_before}' and has '{hashed_by()}'"):
        agree(before, shape_of(graph, 0), folder="")
