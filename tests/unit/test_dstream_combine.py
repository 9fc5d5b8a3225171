"""By key, on blocks: partitions as PySpark's, results as those of a dict."""

from __future__ import annotations

import math
import operator
from collections import defaultdict
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.core.rdd import portable_hash

from spark_ext.dstream.columns import cogroup, folds
from spark_ext.dstream.columns.blocks import decode, gathered, pack, pair_columns, unpack
from spark_ext.dstream.columns.cogroup import How, matched
from spark_ext.dstream.columns.exchange import pieces
from spark_ext.dstream.columns.folds import Combining, Fold, Grouping, Reducing, folded
from spark_ext.dstream.columns.keys import coded, partitions_of

INTS = st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**61 - 1, -(2**61 - 1), 2**61, 2**62, 1 - 2**61])
TEXTS = st.text(max_size=3)
SIMPLE_KEYS = [INTS, TEXTS, st.booleans(), st.binary(max_size=2)]
PAIRS_OF_KEYS = st.tuples(st.sampled_from(SIMPLE_KEYS), st.sampled_from(SIMPLE_KEYS)).flatmap(lambda two: st.tuples(*two))
NESTED_KEYS = st.tuples(st.integers(-2, 2), st.tuples(st.sampled_from("ab"), st.none() | st.integers(0, 2)))
ODD_KEYS = st.sampled_from([1, True, 1.0, None, "a", 2**70, (1, None), (), 0.0, -0.0, math.inf, (1.0, "a")])
KEYS = st.sampled_from([*SIMPLE_KEYS, PAIRS_OF_KEYS, NESTED_KEYS, ODD_KEYS, st.floats(allow_nan=False)])
VALUES = st.sampled_from(
    [st.integers(-3, 3), st.integers(-(2**63), 2**63 - 1), st.floats(), st.floats(-1, 1), st.text(max_size=2), st.booleans(),
     st.tuples(st.integers(0, 9), st.floats(0, 1)), st.sampled_from([1, 1.5, True, 2**65])]
)  # fmt: skip
PAIRS = st.tuples(KEYS, VALUES).flatmap(lambda two: st.lists(st.tuples(*two), max_size=30))


@pytest.fixture(autouse=True)
def _hash_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")  # portable_hash asks for it


def shown(pairs: Any) -> list[str]:
    return sorted(map(repr, pairs))  # tells 1, True and 1.0, zeros, and NaN from NaN no more


@settings(max_examples=200, deadline=None)
@given(KEYS.flatmap(lambda one: st.lists(one, min_size=1, max_size=20)), st.sampled_from([1, 2, 7, 1000]))
def test_partitions_are_those_of_pyspark(keys: list[Any], partitions: int) -> None:
    column = pack(keys)
    if isinstance(column, pa.Array):
        assert partitions_of(column, partitions).tolist() == [portable_hash(key) % partitions for key in keys]


def test_partitions_of_ints_at_the_edges() -> None:
    near = [2**61 - 1, 2**61, 2**62, 2**63 - 1, 2**62 - 2, 1, 0]
    keys = [sign * one + off for one in near for sign in (1, -1) for off in (-1, 0, 1) if -(2**63) <= sign * one + off < 2**63]
    assert partitions_of(pack([*keys, -(2**63)]), 1_000_003).tolist() == [hash(key) % 1_000_003 for key in [*keys, -(2**63)]]


@settings(max_examples=200, deadline=None)
@given(KEYS.flatmap(lambda one: st.lists(one, min_size=1, max_size=20)))
def test_codes_tell_equal_keys(keys: list[Any]) -> None:
    column = pack(keys)
    found = coded(column) if isinstance(column, pa.Array) else None
    if found is not None:
        places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
        assert found.codes.tolist() == [places[key] for key in keys]
        assert unpack(found.keys) == list(places)


@settings(max_examples=100, deadline=None)
@given(PAIRS, st.sampled_from([1, 3]))
def test_pieces_hold_each_pair_once_in_its_partition(pairs: list[Any], partitions: int) -> None:
    found = [(partition, pair) for partition, content in pieces(pairs, partitions) for pair in unpack(decode(content))]
    assert shown(found) == shown((portable_hash(key) % partitions, (key, value)) for key, value in pairs)
    for key, _ in pairs:
        there = [repr(value) for _, (other, value) in found if other == key]
        assert there == [repr(value) for other, value in pairs if other == key]


def least_of_both(a: Any, b: Any) -> Any:
    return min(a, b)


FUNCTIONS: list[Callable[[Any, Any], Any]] = [operator.add, lambda a, b: a + b, max, least_of_both, lambda a, b: (a, b), lambda a, _: a,
             lambda a, b: (a[0] + b[0], max(a[1], b[1])), operator.sub]  # fmt: skip


def model(pairs: list[Any], function: Callable[[Any, Any], Any]) -> list[Any]:
    values = defaultdict(list)
    for key, value in pairs:
        values[key].append(value)
    return [(key, reduce(function, some)) for key, some in values.items()]


@settings(max_examples=400, deadline=None)
@given(PAIRS, st.sampled_from(FUNCTIONS), st.integers(1, 31), st.booleans())
def test_reducing_is_what_a_dict_gives(pairs: list[Any], function: Callable[[Any, Any], Any], rows: int, packs: bool) -> None:
    cuts = [pairs[start : start + rows] for start in range(0, len(pairs), rows)]
    blocks = [pack(one) if packs else one for one in cuts]
    try:
        expected = shown(model(pairs, function))
    except (TypeError, IndexError) as error:
        with pytest.raises(type(error)):
            list(folded(blocks, Reducing(function), sends_on=False))
        return
    assert shown(pair for block in folded(blocks, Reducing(function), sends_on=False) for pair in unpack(block)) == expected


@settings(max_examples=100, deadline=None)
@given(PAIRS, st.integers(1, 31), st.booleans())
def test_grouping_and_combining_are_what_a_dict_gives(pairs: list[Any], rows: int, packs: bool) -> None:
    cuts = [pairs[start : start + rows] for start in range(0, len(pairs), rows)]
    expected = shown(model([(key, [value]) for key, value in pairs], operator.add))
    for fold in (Grouping(), Combining(lambda value: [value], lambda some, value: [*some, value])):
        blocks = [pack(one) if packs else one for one in cuts]
        assert shown(pair for block in folded(blocks, fold, sends_on=False) for pair in unpack(block)) == expected


def columns_only(pairs: list[Any], function: Callable[[Any, Any], Any]) -> list[Any] | None:
    keys, values = pair_columns(pack(pairs)) or (None, None)
    found = coded(keys)
    kind = Reducing(function).kind
    assert found is not None
    made = None if kind is None else folds.fold_column(kind, found.codes, len(found.keys), values)
    return None if made is None else list(zip(unpack(found.keys), unpack(made), strict=True))


@pytest.mark.parametrize(
    ("values", "function", "expected"),
    [
        ([1, 2, -5], operator.add, -2),
        ([1, 2, -5], min, -5),
        ([1.5, 2.0, 0.0], max, 2.0),
        ([0.1, 0.2, 0.3], operator.add, 0.1 + 0.2 + 0.3),
        ([(1, 0.5), (2, 0.25), (3, 4.0)], lambda a, b: (a[0] + b[0], max(a[1], b[1])), (6, 4.0)),
    ],
)
def test_known_functions_of_numbers_work_on_columns(values: list[Any], function: Callable[[Any, Any], Any], expected: Any) -> None:
    assert columns_only([("k", value) for value in values], function) == [("k", expected)]


@pytest.mark.parametrize(
    ("values", "function"),
    [
        ([2**62, 2**62], operator.add),
        ([True, True], operator.add),
        ([-0.0, -0.0], operator.add),
        ([0.0, -0.0], min),
        ([1.0, math.nan], max),
        (["a", "b"], operator.add),
        ([(1, 2, 3), (1, 2, 3)], lambda a, b: (a[0] + b[0], a[1] + b[1])),
        ([1, 2], operator.sub),
        ([1, 2], lambda a, b: a * b),
    ],
)
def test_what_columns_cannot_give_exactly_is_handed_back(values: list[Any], function: Callable[[Any, Any], Any]) -> None:
    assert columns_only([("k", value) for value in values], function) is None


def test_what_is_sent_on_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "KEYS_HELD", 10)
    for function in (operator.add, lambda a, b: a - -b):
        blocks: list[Any] = [[(key, 1) for key in range(start, start + 8)] for start in range(0, 80, 8)] * 2
        if function is operator.add:
            monkeypatch.setattr(folds, "gathered", iter)
        parts = list(folded(blocks, Reducing(function), sends_on=True))
        assert max(map(len, parts)) <= 18
        assert shown(pair for block in folded(parts, Reducing(function), sends_on=False) for pair in unpack(block)) == shown(
            (key, 2) for key in range(80)
        )


def test_columns_of_one_type_are_laid_together() -> None:
    parts = [pack([1]), pack([2]), ["a"], pack(["b"]), pack(["c"]), pack([3])]
    assert [unpack(one) for one in gathered(parts)] == [[1, 2], ["a"], ["b", "c"], [3]]
    assert [len(one) for one in gathered([pack([1, 2])] * 3, rows=3)] == [4, 2]


def test_a_stop_of_the_users_function_is_an_error() -> None:
    def stop(_: Any, __: Any) -> Any:
        raise StopIteration

    fold: Fold = Reducing(stop)
    with pytest.raises(RuntimeError):
        list(folded([[("k", 1), ("k", 2)]], fold, sends_on=False))


def test_codes_are_numbers_of_64_bits() -> None:
    found = coded(pack(["a", "b", "a"]))
    assert found is not None
    assert found.codes.dtype == np.int64


def joined_model(left: list[Any], right: list[Any], how: How) -> list[Any]:
    found = [(key, (value, other)) for key, value in left for other_key, other in right if key == other_key]
    if how in {"left", "full"}:
        found += [(key, (value, None)) for key, value in left if key not in [other for other, _ in right]]
    if how in {"right", "full"}:
        found += [(key, (None, value)) for key, value in right if key not in [other for other, _ in left]]
    return found


SIDES = st.tuples(KEYS, VALUES, VALUES).flatmap(
    lambda three: st.tuples(
        st.lists(st.tuples(three[0], three[1]), max_size=12), st.lists(st.tuples(three[0], three[2]), max_size=12), st.booleans()
    )
)


@settings(max_examples=200, deadline=None)
@given(SIDES, st.sampled_from(["inner", "left", "right", "full"]), st.sampled_from([3, 1 << 18]))
def test_joins_are_what_two_loops_give(sides: Any, how: How, rows: int) -> None:
    left, right, doubled = sides
    right = right + left[:3] if doubled else right
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cogroup, "RESULT_ROWS", rows)
        made = list(matched([pack(left)] if left else [], [pack(right)] if right else [], how))
    # of equal keys that are not the same, such as 1 and True, the left side's may stand for both
    assert sorted(repr(hash(pair[0])) + repr(pair[1]) for block in made for pair in unpack(block)) == sorted(
        repr(hash(key)) + repr(values) for key, values in joined_model(left, right, how)
    )


def test_joins_of_columns_give_columns_in_bounded_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cogroup, "RESULT_ROWS", 100)
    side = pack([(n % 5, n) for n in range(100)])
    made = list(matched([side], [side], "full"))
    assert all(isinstance(block, pa.Array) for block in made)
    assert [len(block) for block in made] == [100] * 20
    assert shown(pair for block in made for pair in unpack(block)) == shown(joined_model(unpack(side), unpack(side), "full"))
