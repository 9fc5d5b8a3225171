"""Windows by key, of one partition, against dictionaries that follow Spark's rules."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.dstream.checks import check_program
from spark_ext.dstream.columns.blocks import decode, encode, pack, unpack
from spark_ext.dstream.errors import StreamArgumentError
from spark_ext.dstream.graph import Graph
from spark_ext.dstream.inputs.queue import QueueInput
from spark_ext.dstream.state.reduced_window import ReducedWindowNode
from spark_ext.dstream.state.window_kernel import filtered, folded, joined, turned
from spark_ext.dstream.state.windows import checked_window

Pairs = list[tuple[Any, Any]]
BIG = 2**63 - 1


def add(a: Any, b: Any) -> Any:
    return [a, b][0] + b  # nothing that is recognised


def subtract(a: Any, b: Any) -> Any:
    return [a, b][0] - b


FUNCTIONS = st.sampled_from(
    [(operator.add, operator.sub), (lambda a, b: a + b, lambda a, b: a - b), (add, subtract), (operator.add, subtract)]
)
KEYS = st.sampled_from(
    [
        st.integers(-3, 3),
        st.text("abé", max_size=2),
        st.binary(max_size=1),
        st.sampled_from([0, 1, 2.0, "a", None]),
        st.tuples(st.integers(0, 2)),
    ]
)
NUMBERS = [
    st.integers(-4, 4),
    st.integers(-BIG - 1, BIG),
    st.integers(-(2**70), 2**70),
    st.floats(-1e9, 1e9, width=32),
    st.integers(0, 1) | st.booleans(),
]


def batches(keys: st.SearchStrategy[Any], values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Pairs]]:
    return st.lists(st.lists(st.tuples(keys, values), max_size=8), min_size=1, max_size=9)


def reduced(pairs: Pairs, function: Callable[[Any, Any], Any]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        found[key] = function(found[key], value) if key in found else value
    return found


def exactly(pairs: Any) -> list[tuple[str, str]]:
    """Pairs without an order, with their types."""
    return sorted((repr(key), repr(value)) for key, value in pairs)


@settings(max_examples=150, deadline=None)
@given(st.data(), FUNCTIONS, st.integers(1, 6), st.integers(1, 3), st.sampled_from([None, lambda pair: pair[1] != 0]))
def test_turns_are_what_dictionaries_are(
    data: st.DataObject, functions: Any, window: int, slide: int, keep_if: Callable[[tuple[Any, Any]], bool] | None
) -> None:
    function, inverse = functions
    given_batches = data.draw(batches(data.draw(KEYS), data.draw(st.sampled_from(NUMBERS))))
    per_batch = [reduced(pairs, function) for pairs in given_batches]
    blocks = [decode(encode(pack(list(one.items())))) for one in per_batch]
    result, model = pack([]), {}
    for now in range(slide, len(blocks) + 1, slide):  # the batches before `now` have been
        left = slice(max(0, now - window - slide), max(0, now - window))
        entered = slice(now - slide, now)
        result = turned(result, folded(blocks[left], function), folded(blocks[entered], function), function, inverse, keep_if)
        for key, value in reduced([pair for one in per_batch[left] for pair in one.items()], function).items():
            if key in model:
                model[key] = inverse(model[key], value)
        for key, value in reduced([pair for one in per_batch[entered] for pair in one.items()], function).items():
            model[key] = function(model[key], value) if key in model else value
        if keep_if is not None:
            model = {key: value for key, value in model.items() if keep_if((key, value))}
        assert exactly(unpack(result)) == exactly(model.items())
        result = decode(encode(result))


@settings(max_examples=100, deadline=None)
@given(batches(st.integers(0, 4), st.integers(-9, 9)), st.integers(2, 5), st.integers(1, 2))
def test_sums_are_those_of_the_rows_in_the_window_and_keys_that_were_there_stay(all_rows: list[Pairs], window: int, slide: int) -> None:
    blocks = [pack(list(reduced(pairs, operator.add).items())) for pairs in all_rows]
    result = pack([])
    for now in range(slide, len(blocks) + 1, slide):
        left = folded(blocks[max(0, now - window - slide) : max(0, now - window)], operator.add)
        entered = folded(blocks[now - slide : now], operator.add)
        result = turned(result, left, entered, operator.add, operator.sub)
        in_window = [pair for pairs in all_rows[max(0, now - window) : now] for pair in pairs]
        ever = {key for pairs in all_rows[:now] for key, _ in pairs}
        assert dict(unpack(result)) == {key: sum(value for other, value in in_window if other == key) for key in ever}


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([operator.add, add, lambda a, b: a + b]))
def test_folds_are_reductions_in_the_order_of_time(data: st.DataObject, function: Callable[[Any, Any], Any]) -> None:
    kinds = st.sampled_from([*NUMBERS, st.floats(), st.text("xy", max_size=1)])
    per_batch = [reduced(pairs, function) for pairs in data.draw(batches(data.draw(KEYS), data.draw(kinds)))]
    found = folded([pack(list(one.items())) for one in per_batch], function)
    assert exactly(unpack(found)) == exactly(reduced([pair for one in per_batch for pair in one.items()], function).items())


def test_functions_are_called_for_keys_that_leave_or_enter_only() -> None:
    calls: Counter[str] = Counter()

    def put(a: int, b: int) -> int:
        calls["put"] += 1
        return a + b

    def take(a: int, b: int) -> int:
        calls["take"] += 1
        return a - b

    def keep_if(pair: tuple[int, int]) -> bool:
        calls["keep_if"] += 1
        return pair[1] > 0

    previous = pack([(key, 10) for key in range(100_000)])
    left, entered = pack([(5, 10), (6, 1), (-1, 1)]), pack([(6, 2), (7, 3), (100_000, 4)])
    after = turned(previous, left, entered, put, take, keep_if)
    assert calls == {"take": 2, "put": 2, "keep_if": 4}  # 5, 6; 6, 7; 5, 6, 7, 100000
    assert isinstance(after, pa.Array)
    expected = {key: 10 for key in range(100_000) if key != 5} | {6: 11, 7: 13, 100_000: 4}
    assert dict(unpack(after)) == expected


def test_none_that_leaves_takes_nothing_out() -> None:
    def fail(a: Any, b: Any) -> Any:
        raise AssertionError((a, b))

    for key in (1, "a", (1, 2)):  # columns with nulls, and objects
        after = turned(pack([(key, None)]), pack([(key, None)]), pack([]), fail, fail)
        assert unpack(after) == [(key, None)]


def test_lists_of_batches_stay_as_they_are() -> None:
    def extend(a: list[int], b: list[int]) -> list[int]:
        a.extend(b)
        return a

    entered = [("a", [3])]
    first = [("a", [1]), ("b", [2])]
    result = turned(decode(encode(first)), [], entered, extend, lambda a, b: a[len(b) :])
    assert dict(result) == {"a": [1, 3], "b": [2]}
    assert entered == [("a", [3])]
    assert dict(turned(result, first, [], extend, lambda a, b: a[len(b) :])) == {"a": [3], "b": []}


def test_a_known_function_may_give_another_type() -> None:
    after = turned(pack([("a", 4), ("b", 1)]), pack([("a", 2)]), pack([]), operator.add, operator.truediv)
    assert exactly(unpack(after)) == exactly([("a", 2.0), ("b", 1)])


def test_the_sum_that_int64_has_no_room_for_is_pythons() -> None:
    after = turned(pack([("a", BIG), ("b", 1)]), pack([]), pack([("a", 1)]), operator.add, operator.sub)
    assert dict(unpack(after)) == {"a": 2**63, "b": 1}
    back = turned(after, pack([("a", 1)]), pack([]), operator.add, operator.sub)
    assert isinstance(back, pa.Array)
    assert dict(unpack(back)) == {"a": BIG, "b": 1}


@pytest.mark.parametrize("rows", [[], [("a", 1)], [("a", 1), ("b", None), (None, "c")]])
def test_joined_and_filtered_keep_all_elements(rows: Pairs) -> None:
    assert unpack(joined([pack(rows), pack([]), pack([("z", 0)])])) == [*rows, ("z", 0)]
    assert unpack(filtered(pack(rows), lambda pair: pair[0] == "a")) == [pair for pair in rows if pair[0] == "a"]


@pytest.mark.parametrize(
    ("given_s", "match"),
    [
        ((3, 1), "windowDuration must be multiple of the parent dstream's slide \\(batch\\) duration \\(2000 ms\\)"),
        ((4, 3), "slideDuration must be multiple of the parent dstream's slide \\(batch\\) duration \\(2000 ms\\)"),
        ((0, 2), "expected windowDuration as a multiple of 2 s, at least one, got 0 s"),
        ((-2, 2), "got -2 s; a window of no length"),
        ((2, 0), "expected slideDuration .* got 0 s; .* one that does not move is never due"),
    ],
)
def test_windows_that_cannot_be_are_refused(given_s: tuple[float, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        checked_window(*given_s, QueueInput([], 2000, one_at_a_time=True, default=None), "window")


def test_durations_are_ms() -> None:
    parent = QueueInput([], 500, one_at_a_time=True, default=None)
    assert checked_window(1.5, None, parent, "window") == (1500, 500)
    assert checked_window(3, 2.5, parent, "window") == (3000, 2500)


@pytest.mark.parametrize(
    ("inverse", "has_checkpoint", "is_local", "match"),
    [
        (operator.sub, False, True, "checkpoint directory has not been set"),
        (None, False, True, None),
        (None, False, False, "a temporary folder of the driver is not there for executors"),
        (operator.sub, True, False, None),
    ],
)
def test_what_a_window_needs_is_said_at_start(inverse: Any, has_checkpoint: bool, is_local: bool, match: str | None) -> None:
    graph = Graph(1000)
    parent = graph.add(QueueInput([], 1000, one_at_a_time=True, default=None))
    lengths = {"window_ms": 5000, "slide_ms": 1000, "partitions": None, "default_partitions": 2}
    node = graph.add(ReducedWindowNode(parent, operator.add, inverse, None, **lengths))
    graph.add_output(node, lambda batch, rows: None, "pprint")
    if match is None:
        check_program(graph, has_checkpoint=has_checkpoint, is_local=is_local)
        return
    with pytest.raises(StreamArgumentError, match=match):
        check_program(graph, has_checkpoint=has_checkpoint, is_local=is_local)
