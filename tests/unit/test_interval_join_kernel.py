"""The interval join against a join row by row."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.joins import shapes
from spark_ext.joins.interval_kernel import IntervalJoin
from spark_ext.joins.layout import HOWS, Layout, Side
from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, empty_state
from tests.join_models import LEFT, RIGHT, STAMP, Batch, interval_join, run, table

BOUNDS = (-1_000, 1_000)
HASHES = {"a": 7, "b": 7, "c": -3, "d": 2**62}  # a and b share theirs


def kernel(how: str, lower_us: int = -2, upper_us: int = 3, most_matches: int = 1_000) -> IntervalJoin:
    layout = Layout(Side(LEFT, ("k",), "at"), Side(RIGHT, ("k",), "at"), how, "_right", *BOUNDS, most_matches)  # type: ignore[arg-type]
    return IntervalJoin(layout, shapes.Interval(lower_us, upper_us))


keys = st.sampled_from(["a", "b", "c", "d", None])
times = st.one_of(st.none(), st.integers(-8, 40), st.sampled_from([-1_001, 1_001]))
rows = st.lists(st.tuples(keys, times, st.integers(0, 3)), max_size=7)
ahead = st.integers(0, 9)


@st.composite
def streams(draw: st.DrawFn) -> list[Batch]:
    """Watermarks stand still, or jump; the last batches have no rows and prove everything."""
    watermark, batches = NEVER_US, []
    for _ in range(draw(st.integers(1, 6))):
        batches.append(Batch(draw(rows), draw(rows), watermark))
        step = draw(st.one_of(st.just(0), ahead, st.just(50)))
        watermark = max(0, watermark) + step if step else watermark
    return [*batches, Batch([], [], watermark), Batch([], [], FOREVER_US)]


@settings(max_examples=400, deadline=None)
@given(batches=streams(), how=st.sampled_from(HOWS), lower=st.integers(-6, 4), width=st.integers(0, 8))
def test_each_batch_gives_what_the_definition_says(batches: list[Batch], how: str, lower: int, width: int) -> None:
    found = run(kernel(how, lower, lower + width), batches, HASHES)
    expected = interval_join(batches, how, lower, lower + width, *BOUNDS)
    for one, other in zip(found, expected, strict=True):
        assert one.rows == other.rows
        assert one.kept == other.kept


@settings(max_examples=200, deadline=None)
@given(batches=streams(), how=st.sampled_from(HOWS), data=st.data())
def test_batches_do_not_matter(batches: list[Batch], how: str, data: st.DataObject) -> None:
    """All rows that are not late in one batch give the same as they did in many."""
    many = run(kernel(how), batches, HASHES)
    given = sum((one.rows for one in many), Counter())
    late = Counter(row for row in given.elements() if row[0] == "late")
    late_lefts = Counter(row[2] for row in late.elements() if row[1] == "left")
    late_rights = Counter(row[3] for row in late.elements() if row[1] == "right")
    lefts = list((Counter(row for one in batches for row in one.left) - late_lefts).elements())
    rights = list((Counter(row for one in batches for row in one.right) - late_rights).elements())
    once = [Batch(data.draw(st.permutations(lefts)), data.draw(st.permutations(rights)), NEVER_US), Batch([], [], FOREVER_US)]
    assert sum((one.rows for one in run(kernel(how), once, HASHES)), Counter()) == given - late


@pytest.mark.parametrize("how", HOWS)
def test_a_bucket_is_woken_when_something_is_due(how: str) -> None:
    """By nothing but its wake-ups a bucket gives out all that it has, and keeps nothing."""
    join = kernel(how)
    state = dict(empty_state(join))
    rows = {"left": table([("a", 5, 1), ("c", 9, 2)], LEFT, HASHES), "right": table([("a", 6, 3), ("d", 1, 4)], RIGHT, HASHES)}
    step = join.step(state, rows, Moment(NEVER_US, 0))
    woken = []
    while step.wake_us is not None:
        woken.append(step.wake_us)
        assert woken == sorted(set(woken))
        nothing = {name: schema.empty_table() for name, schema in join.in_schemas.items()}
        step = join.step(step.state, nothing, Moment(step.wake_us, 0))
    assert not any(len(each) for each in step.state.values())
    assert woken[-1] == 9 + 3 + 1 or how == "semi"
    if how in {"right", "full"}:
        assert woken[0] == 1 + 2 + 1  # the right row at 1 can be matched by left ones up to 3


def test_a_row_with_too_many_partners_is_refused_and_not_kept() -> None:
    join = kernel("full", most_matches=2)
    first = Batch([], [("a", 5, n) for n in range(3)], NEVER_US)
    found = run(join, [first, Batch([("a", 5, 9), ("c", 5, 8)], [], NEVER_US), Batch([], [], FOREVER_US)], HASHES)
    assert found[1].rows == {("excess", "left", ("a", 5, 9), None): 1}
    assert found[1].kept == (1, 3)
    assert found[2].rows["joined", "left", ("c", 5, 8), None] == 1
    assert len([row for row in found[2].rows if row[1] == "right"]) == 3


def test_within_a_batch_right_rows_come_first() -> None:
    found = run(kernel("inner", most_matches=2), [Batch([("a", 5, 1)], [("a", 5, n) for n in range(3)], NEVER_US)], HASHES)
    assert found[0].rows == {("excess", "left", ("a", 5, 1), None): 1}


@pytest.mark.parametrize(("kind", "ours", "theirs"), [
    (pa.float64(), [0.0, float("nan"), 1.5, None], [-0.0, float("nan"), 2.5, None]),
    (pa.int32(), [1, 2, 3, None], [1, 2, 4, None]),
    (pa.binary(), [b"x", b"y", b"z", None], [b"x", b"y", b"w", None]),
    (pa.date32(), [1, 2, 3, None], [1, 2, 4, None]),
    (pa.decimal128(10, 2), [1, 2, 3, None], [1, 2, 4, None]),
    (pa.bool_(), [True, None], [True, None]),
    (pa.struct([("x", pa.int32()), ("y", pa.string())]), [{"x": 1, "y": None}, {"x": 1, "y": "a"}, None, {"x": None, "y": None}],
     [{"x": 1, "y": None}, {"x": 1, "y": "b"}, None, {"x": None, "y": None}]),
])  # fmt: skip
def test_keys_are_equal_as_in_sql(kind: pa.DataType, ours: list[Any], theirs: list[Any]) -> None:
    """Position by position: what is equal in Spark meets, a null does not; the hash tells nothing here."""
    schemas = [pa.schema([("k", kind), ("at", STAMP), (name, pa.int64())]) for name in ("v", "w")]
    layout = Layout(Side(schemas[0], ("k",), "at"), Side(schemas[1], ("k",), "at"), "inner", "_right", *BOUNDS, 1_000)
    join = IntervalJoin(layout, shapes.interval(timedelta(0), timedelta(0)))
    made = [
        pa.table([pa.array(values, kind), pa.array(range(len(values)), pa.int64()).cast(STAMP), pa.array(range(len(values)), pa.int64()),
                  pa.array([1] * len(values), pa.int64())], schema=schema.append(pa.field("_key_hash", pa.int64())))
        for values, schema in zip((ours, theirs), schemas, strict=True)
    ]  # fmt: skip
    step = join.step(empty_state(join), {"left": made[0], "right": made[1]}, Moment(NEVER_US, 0))
    same = [n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a is not None and (a == b or str(a) == str(b) == "nan")]
    assert sorted(step.out["joined"].column("v").to_pylist()) == same
