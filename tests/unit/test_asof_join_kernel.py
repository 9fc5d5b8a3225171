"""The as-of join against one that looks at every right row for each left one, and against pandas."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.joins.asof_kernel import AsOfJoin
from spark_ext.joins.layout import Layout, Side
from spark_ext.state.kernel import FOREVER_US, NEVER_US, Moment, empty_state
from tests.join_models import LEFT, RIGHT, STAMP, Batch, run, table
from tests.ordered_join_models import AsOf, asof_join

BOUNDS = (-1_000, 1_000)
SIDES = ("left", "right")
DIRECTIONS = ("backward", "forward", "nearest")


def kernel(asked: AsOf, **more: object) -> AsOfJoin:
    layout = Layout(Side(LEFT, ("k",), "at"), Side(RIGHT, ("k",), "at"), asked.how, "_right", *BOUNDS, 1)  # type: ignore[arg-type]
    return AsOfJoin(layout, asked.direction, asked.tolerance, asked.exact, ttl_us=asked.ttl, **more)  # type: ignore[arg-type]


keys = st.sampled_from(["a", "a", "b", "b", "b", None])
# From where the watermark is; some are behind it, some have no time, or one out of bounds.
offsets = st.integers(-3, 14).map(lambda at: {-3: None, -2: 10**6}.get(at, at))
rows = st.lists(st.tuples(keys, offsets, st.integers(0, 3)), max_size=8)


@st.composite
def streams(draw: st.DrawFn) -> list[Batch]:
    """Watermarks stand still, or jump; the last batches have no rows and prove everything."""
    watermark, batches = NEVER_US, []
    for _ in range(draw(st.integers(1, 7))):
        left, right = ([(k, None if at is None else at + max(watermark, 0), v) for k, at, v in draw(rows)] for _ in SIDES)
        batches.append(Batch(left, right, watermark))
        step = draw(st.sampled_from([0, 1, 2, 3, 5, 8, 40]))
        watermark = max(0, watermark) + step if step else watermark
    return [*batches, Batch([], [], watermark), Batch([], [], FOREVER_US)]


@st.composite
def requests(draw: st.DrawFn) -> AsOf:
    direction, tolerance = draw(st.sampled_from(DIRECTIONS)), draw(st.none() | st.integers(0, 8))
    ttl = draw(st.none() | st.integers(0, 8)) if direction == "backward" and tolerance is None else None
    return AsOf(direction, tolerance, draw(st.booleans()), draw(st.sampled_from(["left", "inner"])), ttl)


@settings(max_examples=300, deadline=None)
@given(batches=streams(), asked=requests())
def test_each_batch_gives_what_the_definition_says_and_keeps_no_more(batches: list[Batch], asked: AsOf) -> None:
    for one, other in zip(run(kernel(asked), batches, {}), asof_join(batches, asked, *BOUNDS), strict=True):
        assert one.rows == other.rows
        assert one.kept == other.kept


def test_of_equal_right_rows_one_is_kept() -> None:
    """Found by Hypothesis: the last one of its key and the candidate of a row that waits are equal, and so one row."""
    asked = AsOf("nearest", None, exact=False, how="left", ttl=None)
    first, again = (Batch(left, [("b", 2, 2)], NEVER_US) for left in ([("b", 6, 0)], []))
    batches = [first, again, Batch([], [], 8), Batch([], [], FOREVER_US)]
    found = run(kernel(asked), batches, {})
    assert [one.kept for one in found] == [(1, 1), (1, 2), (1, 1), (0, 0)]
    assert [one.rows for one in found] == [one.rows for one in asof_join(batches, asked, *BOUNDS)]


@settings(max_examples=200, deadline=None)
@given(batches=streams(), asked=requests(), data=st.data())
def test_batches_do_not_matter(batches: list[Batch], asked: AsOf, data: st.DataObject) -> None:
    many = sum((one.rows for one in run(kernel(asked), batches, {})), Counter())
    late = Counter({row: times for row, times in many.items() if row[0] == "late"})
    gone = {side: Counter(row[at] for row in late.elements() if row[1] == side) for side, at in (("left", 2), ("right", 3))}
    lefts = list((Counter(row for one in batches for row in one.left) - gone["left"]).elements())
    rights = list((Counter(row for one in batches for row in one.right) - gone["right"]).elements())
    once = [Batch(data.draw(st.permutations(lefts)), data.draw(st.permutations(rights)), NEVER_US), Batch([], [], FOREVER_US)]
    assert sum((one.rows for one in run(kernel(asked), once, {})), Counter()) == many - late


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("part_of_span", [None, 500])
@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("span", [2_000, 2**52])
def test_it_is_the_join_of_pandas(direction: str, part_of_span: int | None, exact: bool, span: int) -> None:
    """Two keys of several columns, floats among them; times so far apart that they share no number with a key, too."""
    draw, tolerance = np.random.default_rng(7), None if part_of_span is None else span // part_of_span
    parts = {}
    for name, value in (("left", "q"), ("right", "p")):
        n = 4_000
        parts[name] = pd.DataFrame({
            "k": draw.integers(0, 2_000 if span > 2_000 else 9, n), "x": draw.choice([0.0, 1.5, np.nan], n),
            "at": pd.to_datetime(draw.integers(0, span, n), unit="us", utc=True), value: np.arange(n),
        })  # fmt: skip
    parts["right"] = parts["right"].drop_duplicates(["k", "x", "at"])
    tables = {
        name: pa.table({
            "k": pa.array(part.k), "x": pa.array(part.x.to_numpy()), "at": pa.array(part["at"]).cast(STAMP),
            part.columns[3]: part.iloc[:, 3],
        }) for name, part in parts.items()
    }  # fmt: skip
    sides = [Side(tables[name].schema, ("k", "x"), "at") for name in ("left", "right")]
    join = AsOfJoin(Layout(*sides, "left", "_right", 0, 2**53, 1), direction, tolerance, exact)  # type: ignore[arg-type]
    first = join.step(empty_state(join), tables, Moment(NEVER_US, 0))
    nothing = {name: one.slice(0, 0) for name, one in tables.items()}
    last = join.step(first.state, nothing, Moment(FOREVER_US, 0))
    assert first.out == {}
    found = last.out["joined"].to_pandas().sort_values("q").p.to_numpy()
    given_tolerance = None if tolerance is None else pd.Timedelta(tolerance, "us")
    keyed = {name: part.assign(x=part.x.fillna(-1)).sort_values("at", kind="stable") for name, part in parts.items()}
    expected = pd.merge_asof(
        keyed["left"], keyed["right"], on="at", by=["k", "x"], direction=direction, tolerance=given_tolerance, allow_exact_matches=exact
    )
    np.testing.assert_array_equal(found, expected.sort_values("q").p.to_numpy())
    assert np.isfinite(found).any()
    assert {name: one.num_rows for name, one in last.state.items()} == {"left": 0, "right": 0}


def test_of_rows_at_one_time_the_last_by_the_order_wins_then_by_content() -> None:
    right = pa.schema([("k", pa.string()), ("at", STAMP), ("n", pa.int64()), ("m", pa.int64())])
    layout = Layout(Side(LEFT, ("k",), "at"), Side(right, ("k",), "at"), "left", "_right", *BOUNDS, 1)
    nine = pa.array([9, 9, 9, 9], pa.int64()).cast(STAMP)
    rights = pa.table([pa.array(["a"] * 4), nine, pa.array([3, 2, 1, 3]), pa.array([5, 7, 7, 4])], schema=right)
    lefts = table([("a", 9, 0)], LEFT, {}).select(LEFT.names)
    for order, winner in (((), (3, 5)), (("m",), (2, 7)), (("m", "n"), (2, 7)), (("n",), (3, 5))):
        join = AsOfJoin(layout, order=order)
        for at in ([0, 1, 2, 3], [3, 1, 0, 2], [2, 0, 3, 1]):
            step = join.step(empty_state(join), {"left": lefts, "right": rights.take(at)}, Moment(0, 0))
            (row,) = (
                join.step(step.state, {"left": LEFT.empty_table(), "right": right.empty_table()}, Moment(10, 0)).out["joined"].to_pylist()
            )
            assert (row["n"], row["m"], row["side"]) == (*winner, "both")


@pytest.mark.parametrize(
    ("asked", "woken", "given"),
    [
        (AsOf("backward", 4), [6, 10, 13], [6, 10]),
        (AsOf("backward"), [6, 10], [6, 10]),
        (AsOf("backward", ttl=7), [6, 10, 17], [6, 10]),
        (AsOf("forward", 4), [6, 9, 10, 14], [9, 14]),
        (AsOf("nearest", 4), [6, 9, 10, 13], [9, 10]),
        (AsOf("nearest"), [6, 9, 10], [9, 10]),
        (AsOf("nearest", 1, exact=False), [6, 7, 10], [7, 10]),
    ],
)
def test_a_bucket_is_woken_when_something_is_due(asked: AsOf, woken: list[int], given: list[int]) -> None:
    join = kernel(asked)
    rows = {"left": [("a", 5, 1), ("a", 9, 2)], "right": [("a", 8, 3)]}
    tables = {"left": table(rows["left"], LEFT, {}).select(LEFT.names), "right": table(rows["right"], RIGHT, {}).select(RIGHT.names)}
    step = join.step(empty_state(join), tables, Moment(NEVER_US, 0))
    found, gave = [], []
    while step.wake_us is not None:
        found.append(step.wake_us)
        step = join.step(step.state, {name: one.slice(0, 0) for name, one in tables.items()}, Moment(step.wake_us, 0))
        gave += found[-1:] if step.out else []
    assert (found, gave) == (woken, given)
    if asked.tolerance is not None or asked.ttl is not None:
        assert not any(one.num_rows for one in step.state.values())


def test_what_makes_no_sense_is_refused() -> None:
    for asked, match in (
        (AsOf(how="full"), r"cannot join as of setting 'how': expected left or inner, got 'full'; correct it"),
        (AsOf("sideways"), "setting 'direction': expected backward, forward, nearest"),
        (AsOf(tolerance=-1), "setting 'tolerance': expected a time from 0 on, got -1"),
        (AsOf("forward", ttl=1), "setting 'ttl': expected direction 'backward' without tolerance, got direction 'forward'"),
        (AsOf(tolerance=1, ttl=1), "setting 'ttl'"),
    ):
        with pytest.raises(SettingsError, match=match):
            kernel(asked)
    with pytest.raises(SchemaError, match=r"cannot order by column of the right side 'v': expected one of \['k', 'at', 'w'\]"):
        kernel(AsOf(), order=("v",))


def test_another_order_or_bound_is_another_state() -> None:
    ours = kernel(AsOf()).settings
    for other in (
        kernel(AsOf(), order=("w",)),
        kernel(AsOf(tolerance=1)),
        kernel(AsOf(exact=False)),
        kernel(AsOf(ttl=1)),
        kernel(AsOf("nearest")),
    ):
        assert other.settings != ours
