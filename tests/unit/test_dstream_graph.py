"""The program as nodes: order, names, and what is refused before a start."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from spark_ext.dstream.checks import check_program
from spark_ext.dstream.closures import argument_count, unpicklable, users_functions
from spark_ext.dstream.columns.steps import FilterStep, MapStep, PartitionStep
from spark_ext.dstream.errors import StreamArgumentError, StreamStateError
from spark_ext.dstream.graph import Graph, Node
from spark_ext.dstream.nodes import RowsNode, StepNode, TransformNode, UnionNode
from tests.unit.test_dstream_shape import Input, Stateful

LOCK = threading.Lock()


def out(graph: Graph, node: Node) -> None:
    graph.add_output(node, lambda *_: None, "out")


def check(graph: Graph, *, has_checkpoint: bool = False, is_local: bool = True) -> None:
    check_program(graph, has_checkpoint=has_checkpoint, is_local=is_local)


def mapped(function: Callable[[Any], Any]) -> Graph:
    graph = Graph(1000)
    out(graph, graph.add(StepNode(graph.add(Input(1000)), MapStep(function), kind="map", keeps_places=False)))
    return graph


def test_names_are_kind_and_ordinal_and_sites_are_lines_of_the_program() -> None:
    graph = Graph(1000)
    first, second = graph.add(Input(1000)), graph.add(Input(1000))
    joined = graph.add(UnionNode([first, second]))
    assert [node.name for node in graph.nodes] == ["input-0", "input-1", "union-0"]
    assert joined.site.startswith("union at test_dstream_graph.py:")


def test_only_what_an_output_goes_back_to_is_needed_parents_first() -> None:
    graph = Graph(1000)
    source = graph.add(Input(1000))
    state, unused = graph.add(Stateful(source)), graph.add(Stateful(source))
    both = graph.add(UnionNode([state, source]))
    out(graph, both)
    assert graph.order() == [source, state, both]
    assert graph.keepers() == [state]
    assert unused not in graph.order()


def test_without_an_output_there_is_nothing_to_execute() -> None:
    graph = Graph(1000)
    graph.add(Input(1000))
    with pytest.raises(StreamArgumentError, match="requirement failed: No output operations registered, so nothing to execute"):
        check(graph)


@pytest.mark.parametrize(("state", "words"), [("active", "starting"), ("stopped", "stopping")])
def test_a_program_that_has_been_started_is_not_changed(state: str, words: str) -> None:
    graph = Graph(1000)
    source = graph.add(Input(1000))
    graph.state = state
    text = f"Adding new inputs, transformations, and output operations after {words} a context is not supported"
    with pytest.raises(StreamStateError, match=text):
        graph.add(Input(1000))
    with pytest.raises(StreamStateError, match=text):
        out(graph, source)


def test_two_streams_of_one_name_are_refused() -> None:
    graph = mapped(str)
    graph.nodes[1].name = "input-0"
    with pytest.raises(StreamArgumentError, match=r"cannot start stream 'input-0'.*two streams of that name"):
        check(graph)


@pytest.mark.parametrize("name", ["", "a/b", "..", "v1.2", "a\\b"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    graph = mapped(str)
    graph.nodes[1].name = name
    with pytest.raises(StreamArgumentError, match="expected a name without dots and slashes"):
        check(graph)


class NeedsCheckpoint(Stateful):
    needs_checkpoint = True


class NeedsShared(Stateful):
    needs_shared_store = True


def test_a_stream_that_needs_a_checkpoint_says_so_in_sparks_words() -> None:
    graph = Graph(1000)
    out(graph, graph.add(NeedsCheckpoint(graph.add(Input(1000)))))
    with pytest.raises(StreamArgumentError, match="The checkpoint directory has not been set"):
        check(graph)
    check(graph, has_checkpoint=True)


def test_a_temporary_folder_will_do_on_one_machine_only() -> None:
    graph = Graph(1000)
    out(graph, graph.add(NeedsShared(graph.add(Input(1000)))))
    check(graph)
    check(graph, has_checkpoint=True, is_local=False)
    with pytest.raises(StreamArgumentError, match="a temporary folder of the driver is not there for executors"):
        check(graph, is_local=False)


# Functions that travel ----------------------------------------------------------------------------------------------------


def test_a_function_that_cannot_be_pickled_is_refused_with_its_line_and_the_name_of_the_thing() -> None:
    connection = threading.Lock()
    with pytest.raises(StreamArgumentError) as caught:
        check(mapped(lambda x: (connection, x)))
    assert "'map at test_dstream_graph.py:" in str(caught.value)
    assert "got 'connection' (lock): cannot pickle '_thread.lock' object" in str(caught.value)


class Holds:
    def __init__(self) -> None:
        self.inner = threading.Lock()

    def method(self, x: Any) -> Any:
        return (self.inner, x)


def by_default(x: Any, _: Any = LOCK) -> Any:
    return x


def test_the_thing_is_found_through_functions_methods_defaults_and_globals() -> None:
    deep = threading.Lock()

    def inner(x: Any) -> Any:
        return (deep, x)

    def recursive(x: Any) -> Any:
        return recursive(x) if x else deep

    here = {"LOCK": LOCK}
    exec("def by_global(x): return [LOCK for _ in x]", here)  # noqa: S102 (our own text: a function of no module)
    named = {
        "inner": lambda x: inner(x),  # noqa: PLW0108 (two deep)
        "recursive": lambda x: recursive(x),  # noqa: PLW0108 (two deep)
        "method": Holds().method,
        "partial": partial(lambda lock, x: (lock, x), deep),
        "keyword": partial(lambda x, lock: (lock, x), lock=deep),
        "global": here["by_global"],
    }
    found = {name: unpicklable(function) for name, function in named.items()}
    assert all(str(said).endswith("cannot pickle '_thread.lock' object") for said in found.values())
    starts = {name: str(said).partition(":")[0] for name, said in found.items()}
    assert starts == {
        "inner": "'deep' (lock)",
        "recursive": "'deep' (lock)",
        "method": "'self' (Holds)",
        "partial": "'argument of partial 1' (lock)",
        "keyword": "'lock' (lock)",
        "global": "'LOCK' (lock)",
    }


def test_what_can_be_pickled_is_left_alone() -> None:
    table = {"a": 1}
    assert unpicklable(lambda x: table[x]) is None
    assert unpicklable(len) is None
    assert unpicklable(by_default) is None, "a function of a module travels by its name"
    check(mapped(lambda x: table[x]))


def test_the_users_functions_are_found_in_steps_and_in_functions_of_ours() -> None:
    def user(x: Any) -> Any:
        return x

    assert list(users_functions(FilterStep(user))) == [user]
    assert list(users_functions((1, "x", FilterStep(user), MapStep(len)))) == [user, len]
    assert list(users_functions(partial(user, 5))) == [user]
    graph = Graph(1000)
    node = RowsNode([graph.add(Input(1000))], lambda rows: rows, kind="rows")
    assert len(list(node.functions())) == 1
    assert list(StepNode(node, PartitionStep(user), kind="map", keeps_places=False).functions()) == [user]


def test_functions_that_run_in_the_driver_may_hold_anything() -> None:
    graph = Graph(1000)
    lock = threading.Lock()
    node = graph.add(TransformNode([graph.add(Input(1000))], lambda _, rdd: (lock, rdd)))  # type: ignore[arg-type, return-value]
    graph.add_output(node, lambda *_: (lock, None)[1], "out")
    check(graph)


class Handler:
    def method(self, time: Any, rdd: Any) -> None: ...

    def __call__(self, rdd: Any, more: int = 0) -> None: ...


def defaulted(rdd: Any, more: int = 0) -> None: ...


@functools.wraps(defaulted)
def decorated(*given: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (lambda rdd: rdd, 1), (lambda time, rdd: rdd, 2), (defaulted, 2), (decorated, 1), (Handler().method, 2), (Handler.method, 3),
        (Handler(), 1), (partial(defaulted, more=1), 1), (partial(Handler.method, Handler(), 1), 1), (lambda *rdds: rdds, 0),
    ],
)  # fmt: skip
def test_arguments_are_counted_as_spark_does_and_of_any_callable(function: Callable[..., Any], count: int) -> None:
    assert argument_count(function) == count
    with pytest.raises(TypeError, match="None is not a callable object"):
        argument_count(None)  # type: ignore[arg-type]
