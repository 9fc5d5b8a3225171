"""Known functions: what is taken for known, and that columns get exactly what the function gives."""

# ruff: noqa: PLW0108 (functions as users write them)
from __future__ import annotations

import math
import operator
import struct
import sys
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.dstream.columns.blocks import pack, unpack
from spark_ext.dstream.columns.kernels import flat, mapped, mask
from spark_ext.dstream.columns.known import expression, reduction
from spark_ext.dstream.columns.steps import FilterStep, FlatMapStep, FlatMapValuesStep, MapStep, MapValuesStep, Step, run_on_blocks

LIMIT = 3
LIMITS = [3]


def documented(a: Any, b: Any) -> Any:
    """Add."""
    return a + b


def closed_over(limit: Any) -> Callable[[Any], Any]:
    return lambda x: x > limit


def least(a: int, b: int) -> int:
    return a if a < b else b


TEXT_MAPS: list[Callable[[Any], Any]] = [
    len, str.lower, str.upper, str.strip, str, lambda x: x, lambda x: 1, lambda x: (x, 1), lambda x: len(x), lambda x: x.lower(),
    lambda x: x.upper(), lambda x: x.strip(), lambda x: x.lstrip(), lambda x: x.rstrip(" ab"), lambda x: x + "!", lambda x: x + x,
    lambda x: x.replace("a", "bb"), lambda x: x.startswith("a"), lambda x: x.endswith("a"), lambda x: "a" in x, lambda x: "a" not in x,
    lambda x: x == "a", lambda x: x < "b", lambda x: (len(x), x.strip().lower()), lambda x: not x, lambda x: x.split(",")[0],
    lambda x: len(x.split()), lambda x: (x.split("a")[0], None), lambda x: ("k", (x, 1.5)), lambda x: bool(x), lambda x: x.strip(""),
    operator.methodcaller("replace", "a", "b"), int, float, lambda x: int(x), lambda x: float(x), lambda x: "" in x,
]  # fmt: skip
NUMBER_MAPS: list[Callable[[Any], Any]] = [
    abs, str, int, float, lambda x: x + 1, lambda x: 1 - x, lambda x: x * x, lambda x: x / 3, lambda x: x / 0, lambda x: x // 7,
    lambda x: x % 7, lambda x: x % -7, lambda x: 7 // x, lambda x: x + 0.5, lambda x: x > LIMIT, lambda x: x == 1, lambda x: x <= 1.5,
    lambda x: max(x, 0), lambda x: min(x, 0), lambda x: (x, x + 1), lambda x: not x, lambda x: x % 2 == 0, lambda x: str(x) + "a",
    lambda x: x == LIMIT, lambda x: x is None, lambda x: x is not None, closed_over(2), lambda x: abs(x - 1), lambda x: float(x) * 2,
]  # fmt: skip
PAIR_MAPS: list[Callable[[Any], Any]] = [
    operator.itemgetter(0), operator.itemgetter(1), operator.itemgetter(1, 0), lambda p: p[0], lambda p: p[1], lambda p: (p[1], p[0]),
    lambda p: p[-1], lambda p: p[1] > 0, lambda p: p[1] is None, lambda p: p[2], lambda p: (p[0], p[1] + 1), lambda p: p[True],
    lambda p: ((p[0], 1), p[1]), lambda p: p[0][0],
]  # fmt: skip
FLAT: list[Callable[[Any], Any]] = [
    str.split, operator.methodcaller("split", ","), lambda x: x.split(), lambda x: x.split(" "), lambda x: x.lower().split("a"),
    lambda x: x.split(""), lambda x: x.split(" ", 1), lambda x: (x, x), lambda x: x,
]  # fmt: skip

WORDS = st.lists(st.sampled_from(["a", "b", "aB", " ", "  ", ",", "\t", "\n", "\x1c", "\x1f", "\x85", "\xa0", "\u2003", "é", "ß", "İ", "😀",
                                  "1", "-2", "1.5", "_", "+3", "0" * 20, "\0"]), max_size=5).map("".join)  # fmt: skip
INTS = st.integers(-9, 9) | st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats() | st.integers(-9, 9).map(float)
TEXT_COLUMNS = st.lists(WORDS, min_size=1, max_size=6)
NUMBER_COLUMNS = st.sampled_from([st.integers(-9, 9), INTS, FLOATS, st.booleans()]).flatmap(
    lambda one: st.lists(one, min_size=1, max_size=6)
)
PAIR_COLUMNS = st.sampled_from([st.tuples(WORDS, st.integers(-3, 3)), st.tuples(WORDS, st.none() | INTS), st.tuples(WORDS, FLOATS),
                                st.tuples(st.tuples(WORDS, st.booleans()), st.integers(0, 3))]).flatmap(
    lambda one: st.lists(one, min_size=1, max_size=6))  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and not math.isnan(one):
        return struct.pack("<d", one) == struct.pack("<d", other)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or one != one  # noqa: PLR0124 (a NaN)


def check(step: Step, elements: list[Any]) -> None:
    """Columns give what the elements give, or the error that they give."""
    try:
        expected: Any = list(step.on_elements(0, iter(elements)))
    except Exception as error:  # noqa: BLE001 (any that the function has)
        with pytest.raises(type(error)):
            list(run_on_blocks([step], 0, [pack(elements)]))
        return
    made = [element for block in run_on_blocks([step], 0, [pack(elements)]) for element in unpack(block)]
    assert same(made, expected), (made, expected)


@settings(max_examples=300, deadline=None)
@given(TEXT_COLUMNS, st.sampled_from(TEXT_MAPS))
def test_maps_of_texts(elements: list[str], function: Callable[[Any], Any]) -> None:
    assert expression(function) is not None
    check(MapStep(function), elements)
    check(FilterStep(function), elements)
    check(MapValuesStep(function), [(len(element), element) for element in elements])


@settings(max_examples=300, deadline=None)
@given(NUMBER_COLUMNS, st.sampled_from(NUMBER_MAPS))
def test_maps_of_numbers(elements: list[Any], function: Callable[[Any], Any]) -> None:
    assert expression(function) is not None
    check(MapStep(function), elements)
    check(FilterStep(function), elements)


@settings(max_examples=200, deadline=None)
@given(PAIR_COLUMNS, st.sampled_from(PAIR_MAPS))
def test_maps_of_pairs(elements: list[Any], function: Callable[[Any], Any]) -> None:
    check(MapStep(function), elements)
    check(FilterStep(function), elements)


@settings(max_examples=300, deadline=None)
@given(TEXT_COLUMNS, st.sampled_from(FLAT))
def test_flat_maps(elements: list[str], function: Callable[[Any], Any]) -> None:
    check(FlatMapStep(function), elements)
    check(FlatMapValuesStep(function), [(n, element) for n, element in enumerate(elements)])
    check(MapStep(function), elements)


def test_white_space_is_pythons_at_every_code_point() -> None:
    letters = [f"a{chr(code)}b" for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    split = expression(str.split)
    assert split is not None
    made = flat(split, pack(letters))
    assert made is not None
    words = [word for letter in letters for word in letter.split()]
    assert made.flatten().to_pylist() == words


def test_letters_of_ascii_change_case_as_in_python() -> None:
    letters = [chr(code) for code in range(128)]
    for function in (str.lower, str.upper, str.strip):
        known = expression(function)
        assert known is not None
        made = mapped(known, pack(letters))
        assert made is not None
        assert made.to_pylist() == list(map(function, letters))
        assert mapped(known, pack(["İ"])) is None


@pytest.mark.parametrize(
    ("function", "elements"),
    [
        (lambda x: x + 1, [1, 2]), (lambda x: (x, 1), ["a"]), (lambda x: x * 2.5, [1.0]), (lambda x: x.lower(), ["A"]),
        (operator.itemgetter(0), [("a", 1)]), (lambda p: (p[1], p[0]), [("a", 1)]), (lambda x: int(x), ["12", "-3"]),
        (lambda x: x // 2, [3]), (lambda x: x.strip(), [" a "]), (lambda line: line.split(",")[1], ["a,b"]),
    ],
)  # fmt: skip
def test_common_functions_do_work_on_columns(function: Callable[[Any], Any], elements: list[Any]) -> None:
    known = expression(function)
    assert known is not None
    made = mapped(known, pack(elements))
    assert made is not None
    assert unpack(made) == list(map(function, elements))


def test_filters_and_splits_do_work_on_columns() -> None:
    above, split = expression(lambda p: p[1] > LIMIT), expression(lambda line: line.split(" "))
    assert above is not None
    assert split is not None
    assert mask(above, pack([("a", 1), ("b", 9)])).to_pylist() == [False, True]
    assert flat(split, pack(["a  b", ""])).to_pylist() == [["a", "", "b"], [""]]


@pytest.mark.parametrize(
    ("function", "elements"),
    [
        (lambda x: x + 1, [2**63 - 1]), (lambda x: x * x, [2**40]), (lambda x: x + x, [True]), (lambda x: 1 // x, [0]), (abs, [-(2**63)]),
        (lambda x: x / 3, [2**60 + 1]), (lambda x: x == 1.0, [2**53 + 1]), (int, [" 1"]), (int, ["1_0"]), (float, ["nan"]), (str, [1.5]),
        (lambda x: x.lower(), ["É"]), (lambda p: p[1] + 1, [("a", None), ("a", 1)]), (lambda x: x % 2, [1.5]), (lambda x: x[0], ["ab"]),
        (lambda x: x + 2**63, [1]), (lambda x: (x, 1180591620717411303424), [1]),
        (lambda x: x + "\ud800", ["a"]), (lambda x: x.split("\ud800"), ["a"]),
    ],
)  # fmt: skip
def test_what_is_not_sure_is_handed_back(function: Callable[[Any], Any], elements: list[Any]) -> None:
    known = expression(function)
    assert known is not None
    assert mapped(known, pack(elements)) is None


class Identity:
    def __call__(self, x: Any) -> Any:
        return x


def defaulted(x: Any, y: Any = 1) -> Any:
    return x + y


def generates(x: Any) -> Any:
    yield x


UNKNOWN: list[Any] = [
    Identity(), defaulted, generates, lambda *x: x, lambda x, **_: x, lambda x: [x], lambda x: x if x else 0, lambda x: LIMITS,
    lambda x: x in LIMITS, lambda x: repr(x), lambda x: x.title(), lambda x: x[0:1], lambda x: {x}, lambda x: f"{x}", lambda x: -x,
    lambda x: x.missing, lambda x: sorted(x), lambda x: x and 1, lambda: 1, operator.attrgetter("a"), dict, print, lambda x: (),
    lambda x: len(x, key=1), operator.methodcaller("split", sep=","), lambda x: x**2, lambda x: x[1.0], lambda x: "".join(x),
]  # fmt: skip


@pytest.mark.parametrize("function", UNKNOWN)
def test_anything_else_is_unknown(function: Any) -> None:
    assert expression(function) is None


def test_names_must_be_the_real_ones() -> None:
    function = eval("lambda x: len(x)", {"len": lambda _: 7})  # noqa: S307
    assert function("a") == 7
    assert expression(function) is None
    known = eval("lambda x: len(x)", {})  # noqa: S307
    assert expression(known) is not None
    other = eval("lambda x: len(x)", {"__builtins__": {"len": lambda _: 7}})  # noqa: S307
    assert other("a") == 7
    assert expression(other) is None


def test_reductions() -> None:
    assert [reduction(one) for one in (operator.add, documented, lambda a, b: b + a, sum)] == ["add", "add", "add", None]
    assert [reduction(one) for one in (operator.sub, lambda a, b: a - b, lambda a, b: b - a)] == ["sub", "sub", None]
    assert [reduction(one) for one in (min, max, lambda a, b: max(a, b), least)] == ["min", "max", "max", None]
    assert reduction(lambda a, b: (a[0] + b[0], min(a[1], b[1]))) == ("add", "min")
    assert reduction(lambda a, b: ((a[0][0] + b[0][0],), max(b[1], a[1]))) == (("add",), "max")
    assert [reduction(one) for one in (lambda a, b: (a[0] + b[1], a[1]), lambda a, b: a + a, lambda a, b: (a, b), lambda a: a)] == [
        None
    ] * 4


def test_none_in_a_tuple_is_told_apart() -> None:
    column = pack([("a", None), ("b", 1)])
    for function, expected in ((lambda p: p[1] is None, [True, False]), (lambda p: p[1] is not None, [False, True])):
        known = expression(function)
        assert known is not None
        made = mapped(known, column)
        assert isinstance(made, pa.Array)
        assert made.to_pylist() == expected
