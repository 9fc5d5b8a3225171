"""What a program must be before it starts; what `pyspark.streaming` says for the same mistake is part of each text."""

from __future__ import annotations

import re
from collections import Counter

from spark_ext.dstream.closures import unpicklable
from spark_ext.dstream.errors import StreamArgumentError
from spark_ext.dstream.graph import Graph, Node

__all__ = ["check_program"]


def check_program(graph: Graph, *, has_checkpoint: bool, is_local: bool) -> None:
    """Refuse a program that cannot run.

    Raises
    ------
    StreamArgumentError
        Nothing goes out, a stream needs a checkpoint that is not there, two have one name, or a function cannot be pickled.
    """
    if not graph.outputs:
        raise StreamArgumentError(
            "start",
            "streaming context",
            "",
            expected="an output operation, such as pprint or foreachRDD",
            got="none",
            why="requirement failed: No output operations registered, so nothing to execute",
            todo="call one on a stream before start()",
        )
    doubled = {name for name, count in Counter(node.name for node in graph.nodes).items() if count > 1}
    for node in graph.nodes:
        _check_name(node, doubled)
    for node in graph.order():
        _check_store(node, has_checkpoint=has_checkpoint, is_local=is_local)
        _check_functions(node)


def _check_name(node: Node, doubled: set[str]) -> None:
    if node.name in doubled:
        raise StreamArgumentError(
            "start",
            "stream",
            node.name,
            expected="a name of its own for each stream",
            got="two streams of that name",
            why="the checkpoint knows streams by name",
            todo="give another name to setName",
        )
    if not node.name or re.search(r"[./\\\0]", node.name):
        raise StreamArgumentError(
            "start",
            "stream",
            node.site,
            expected="a name without dots and slashes",
            got=repr(node.name),
            why="the checkpoint has a folder of that name",
            todo="give another name to setName",
        )


def _check_store(node: Node, *, has_checkpoint: bool, is_local: bool) -> None:
    if node.needs_checkpoint and not has_checkpoint:
        raise StreamArgumentError(
            "start",
            "stream",
            node.site,
            expected="a checkpoint directory",
            got="none",
            why="requirement failed: The checkpoint directory has not been set. Please set it by StreamingContext.checkpoint().",
            todo="call checkpoint(directory) before start(), or make the context by getOrCreate",
        )
    if node.needs_shared_store and not (has_checkpoint or is_local):
        raise StreamArgumentError(
            "start",
            "stream",
            node.site,
            expected="a checkpoint directory that all executors reach, or a local master",
            got="neither",
            why="it leaves rows for later batches, and a temporary folder of the driver is not there for executors",
            todo="call checkpoint(directory) before start()",
        )


def _check_functions(node: Node) -> None:
    for function in node.functions():
        culprit = unpicklable(function)
        if culprit is not None:
            raise StreamArgumentError(
                "start",
                "stream",
                node.site,
                expected="functions that can be pickled, as they travel to workers",
                got=culprit,
                why="what a function refers to travels with it",
                todo="make it inside the function, once per partition in mapPartitions for instance, or refer to plain values only",
            )
