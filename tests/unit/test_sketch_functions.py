"""Columns of stored sketches as all functions take them: forms of Arrow, nulls, rows that are no sketches; and what is in them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sketches import HyperLogLog, Sketch
from sketches import functions as fn
from sketches.errors import SketchBytesError, SketchError, SketchTypeError
from sketches.functions.rows import CLASSES
from tests.stored_sketches import MAKERS, START, damaged, resealed, some, stored

KINDS = list(MAKERS)
# Each function as one of a column; the kinds that it has an answer for.
DISTINCT = ("hyperloglog", "ultraloglog")
LISTS = ("misra_gries", "space_saving", "heavy_hitters")
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "kind": (fn.kind, tuple(KINDS)),
    "parameters": (fn.parameters, tuple(KINDS)),
    "estimate": (fn.estimate, tuple(kind for kind in KINDS if kind not in ("rotating_bloom", "decaying", "decaying_top"))),
    "bounds": (fn.bounds, tuple(kind for kind in KINDS if kind not in ("rotating_bloom", "decaying", "decaying_top"))),
    "contains": (lambda column, **more: fn.contains(column, 1, **more), ("bloom", "classic_bloom", "rotating_bloom")),
    "frequency": (lambda column, **more: fn.frequency(column, 1, **more), ("count_min", *LISTS)),
    "top": (lambda column, **more: fn.top(column, 3, **more), LISTS),
    "heavy": (lambda column, **more: fn.heavy(column, 0.1, **more), LISTS),
    "top at": (lambda column, **more: fn.top(column, 3, START, **more), ("decaying_top",)),
    "sample": (fn.sample, ("reservoir", "weighted_reservoir")),
    "quantile": (lambda column, **more: fn.quantile(column, 0.5, **more), ("quantiles",)),
    "rank": (lambda column, **more: fn.rank(column, 7, **more), ("quantiles",)),
    "decayed": (lambda column, **more: fn.decayed(column, START, **more), ("decaying",)),
    "union": (lambda column, **more: fn.union(column, column, **more), tuple(KINDS)),
    "union_estimate": (lambda column, **more: fn.union_estimate(column, column, **more), DISTINCT),
    "intersection": (lambda column, **more: fn.intersection(column, column, **more), DISTINCT),
    "difference": (lambda column, **more: fn.difference(column, column, **more), DISTINCT),
    "jaccard": (lambda column, **more: fn.jaccard(column, column, **more), DISTINCT),
}
PAIRS = [(name, kind) for name, (_, kinds) in FUNCTIONS.items() for kind in kinds]


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_the_form_of_the_column_does_not_matter(name: str, kind: str) -> None:
    ask = FUNCTIONS[name][0]
    column = stored(None, *some(kind), None, some(kind)[3], some(kind)[3])
    wanted = ask(column)
    wanted.validate(full=True)
    assert wanted.is_valid().to_pylist() == [False, True, True, True, True, False, True, True]
    padded = pa.concat_arrays([stored(b"before"), column.cast(pa.binary()), stored(None)])
    forms = {
        "large": column.cast(pa.large_binary()),
        "view": column.cast(pa.binary_view()),
        "dictionary": column.dictionary_encode(),
        "slice": padded.slice(1, len(column)),
        "chunks": pa.chunked_array([column.slice(0, 3), column.slice(3, 0), column.slice(3)]),
        "large chunks": pa.chunked_array([column.slice(0, 3).cast(pa.large_binary()), column.slice(3).cast(pa.large_binary())]),
        "pandas": pd.Series(column.to_pylist(), dtype=object),
    }
    for form, other in forms.items():
        assert ask(other).equals(wanted) or str(ask(other)) == str(wanted), form  # NaN is not equal to itself
    for nothing in (column.slice(0, 0), pa.chunked_array([], pa.binary()), pa.nulls(0)):
        assert (len(ask(nothing)), ask(nothing).type) == (0, wanted.type)
    for null in (pa.nulls(3), pa.nulls(3, pa.binary())):
        assert (ask(null).null_count, ask(null).type) == (3, wanted.type)


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_rows_that_are_no_sketches_fail_by_number_or_are_null(name: str, kind: str) -> None:
    ask, kinds = FUNCTIONS[name]
    sound = some(kind)
    wrong: list[Any] = [b"", b"MLSK", b"no sketch at all, whatever it is", b"\xff" * 40]
    if name != "kind":
        wrong += [damaged(sound[3]), sound[3].to_bytes()[:-1], sound[3].to_bytes() + b"\0"]
        wrong += some(next(other for other in KINDS if other not in kinds), 5) if len(kinds) < len(KINDS) else []
    for bad in wrong:
        column = stored(sound[2], None, bad, sound[1])
        answers = ask(column, on_error="null")
        assert answers.is_valid().to_pylist() == [True, False, False, True]
        assert str(answers.filter(pa.array([True, False, False, True]))) == str(ask(stored(sound[2], sound[1])))
        function = name.split(" ", maxsplit=1)[0]
        with pytest.raises(
            (SketchBytesError, SketchError), match=rf"cannot answer {function} for row '2': expected .+, got .+; .*on_error='null'"
        ):
            ask(column)
        assert fn.error(column).is_valid().to_pylist() == [False, False, not isinstance(bad, Sketch), False]


def test_columns_that_are_none_are_refused() -> None:
    for wrong in (pa.array(["a"]), pa.array([1]), [b"a"], b"a", np.array([b"a"]), None):
        with pytest.raises(SketchTypeError, match="cannot read argument 'sketches': expected an Arrow array of binary, got"):
            fn.estimate(wrong)
    with pytest.raises(SketchError, match="cannot use argument 'on_error': expected 'fail' or 'null', got 'ignore'"):
        fn.estimate(stored(), on_error="ignore")  # type: ignore[arg-type]


def test_kinds_are_named() -> None:
    assert fn.kind(stored(*(MAKERS[kind]() for kind in KINDS))).to_pylist() == KINDS
    assert set(CLASSES) == set(KINDS)
    assert fn.kind(stored(damaged(some("hyperloglog", 9)[0]))).to_pylist() == ["hyperloglog"], "the rest of the bytes is not looked at"


def test_parameters_make_the_sketch_again() -> None:
    made = [MAKERS[kind]() for kind in KINDS]
    assert [json.loads(text) for text in fn.parameters(stored(*made)).to_pylist()] == [sketch.parameters for sketch in made]


def test_errors_say_what_the_class_says() -> None:
    hll = some("hyperloglog", 3000)[0]
    rows = [hll, damaged(hll), None, b"x", some("quantiles")[3], damaged(some("quantiles")[3]), damaged(some("ultraloglog")[3])]
    found = fn.error(stored(*rows)).to_pylist()
    assert [text is None for text in found] == [True, False, True, False, True, False, False]
    for row in (1, 5, 6):
        with pytest.raises(SketchBytesError, match=re.escape(found[row])):
            CLASSES[fn.kind(stored(rows[row]))[0].as_py()].from_bytes(rows[row])


@given(st.sampled_from(DISTINCT), st.sampled_from((2, 3)), st.integers(0, 200), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_registers_are_refused_where_the_class_refuses_them(kind: str, size: int, at: int, byte: int) -> None:
    sound = some(kind, 0, 1, 9, 3000)
    data = sound[size].to_bytes()
    payload = len(data) - 16 - data[6]
    data = resealed(data, at % payload, byte)
    try:
        wanted: Any = CLASSES[kind].from_bytes(data)
    except SketchBytesError as error:
        wanted = error
    column = stored(sound[3], data, sound[2])
    assert fn.error(column)[1].as_py() == (str(wanted) if isinstance(wanted, SketchBytesError) else None)
    found = fn.estimate(column, on_error="null").to_pylist()
    if isinstance(wanted, SketchBytesError):
        assert found[1] is None
    else:
        assert found[1] == pytest.approx(wanted.estimate(), rel=1e-14), "the last bit, where a register is 50 ranks above the others"
    assert [found[0], found[2]] == [sound[3].estimate(), sound[2].estimate()]


def test_equal_neighbours_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (sketch.to_bytes() for sketch in some("bloom", 100, 200))
    read: list[bytes] = []
    before = CLASSES["bloom"].from_bytes
    monkeypatch.setattr(CLASSES["bloom"], "from_bytes", lambda data: read.append(bytes(data)) or before(data))
    column = stored(one, one, None, one, other, other, one)
    values = np.array([1, 2, 3, 4, 5, 6, 7])
    answers = fn.contains(column, values)
    assert read == [one, other, one]
    for row, data in enumerate((one, one, None, one, other, other, one)):
        assert answers[row].as_py() == (None if data is None else before(data).contains(int(values[row])))


@given(st.lists(st.one_of(st.none(), st.integers(0, 4), st.binary(max_size=40)), max_size=12), st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_no_bytes_make_a_crash(rows: list[Any], kind: str) -> None:
    data = [sketch.to_bytes() for sketch in some(kind, 0, 1, 40)] + [damaged(some(kind, 40)[0]), HyperLogLog(4).to_bytes()]
    column = stored(*(data[row] if isinstance(row, int) else row for row in rows))
    for ask, _ in FUNCTIONS.values():
        assert len(ask(column, on_error="null")) == len(column)
    assert len(fn.error(column)) == len(column)
    merged = fn.merge(column, on_error="null")
    assert merged is None or isinstance(merged, bytes)
    with suppress(SketchError, SketchBytesError):
        fn.estimate(column)
