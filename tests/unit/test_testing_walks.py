"""Random walks are the work of their seed, and hold everything that they promise."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from itertools import pairwise

import pytest

from spark_ext.epochs.points import POINTS
from spark_ext.testing import EVENTS, IN_OPERATOR, Crash, CrashInOperator, Restart, Rows, Start, Stop, events, random_walk

WALKS = [random_walk(seed, sinks=["a", "b", "c"]) for seed in range(200)]


def test_a_seed_makes_the_same_walk_again_and_another_seed_another() -> None:
    assert [random_walk(walk.seed, sinks=["a", "b", "c"]) for walk in WALKS] == WALKS
    assert len({repr(walk.steps) for walk in WALKS}) == len(WALKS)


@pytest.mark.parametrize("first", [0, 40, 175])
def test_any_25_seeds_in_a_row_try_every_point(first: int) -> None:
    crashes = [step for walk in WALKS[first : first + 25] for step in walk.steps if isinstance(step, Crash | CrashInOperator)]
    tried = Counter(step.point if isinstance(step, Crash) else IN_OPERATOR for step in crashes)
    assert set(tried) == {*POINTS, IN_OPERATOR}
    assert min(tried.values()) >= 3


def test_walks_have_every_step_and_end_with_nothing_left_to_crash() -> None:
    kinds = Counter(type(step) for walk in WALKS for step in walk.steps)
    assert set(kinds) == {Rows, Crash, CrashInOperator, Restart, Stop, Start}
    for walk in WALKS:
        assert 3 <= len(walk.batches) <= 5
        places = [number for number, step in enumerate(walk.steps) if isinstance(step, Crash | CrashInOperator)]
        assert 1 <= len(places) <= 3
        last_rows = max(number for number, step in enumerate(walk.steps) if isinstance(step, Rows))
        assert max(places) < last_rows
        stops = [type(step) for step in walk.steps if isinstance(step, Stop | Start)]
        assert stops in ([], [Stop, Start])
    crashes = [step for walk in WALKS for step in walk.steps if isinstance(step, Crash)]
    assert {step.hits for step in crashes} == {1, 2}
    assert {step.sink for step in crashes if "sink" in step.point and step.point != "after_sinks"} == {"a", "b", "c"}


def test_without_sinks_a_crash_takes_the_first() -> None:
    assert all(step.sink is None for seed in range(20) for step in random_walk(seed).steps if isinstance(step, Crash))


def test_rows_are_out_of_order_late_repeated_bad_and_sometimes_none() -> None:
    batches = [list(rows) for walk in WALKS for rows in walk.batches]
    every = [row for rows in batches for row in rows]
    assert all(list(row) == EVENTS.names for row in every)
    assert min(map(len, batches)) == 0
    assert max(map(len, batches)) == 30
    bad = [row for row in every if row["raw"] is not None]
    assert 0.05 < len(bad) / len(every) < 0.15
    assert all(row["at"] is row["key"] is row["amount"] is None for row in bad)
    ids = [Counter(row["id"] for rows in walk.batches for row in rows) for walk in WALKS]
    assert all(sorted(counts) == list(range(len(counts))) for counts in ids)
    assert 0.05 < sum(counts.total() - len(counts) for counts in ids) / len(every) < 0.15
    assert {row["key"] for row in every if row["raw"] is None} == {None, "k1", "k2", "k3", "k4"}
    behind = 0
    for walk in WALKS:
        times = [row["at"] for rows in walk.batches for row in rows if row["at"]]
        behind += sum(late < early for early, late in pairwise(times))
        assert max(times, default=None) is None or max(times) - min(times) <= timedelta(minutes=3 + len(walk.batches))
    assert behind > 1_000


def test_rows_and_points_of_ones_own() -> None:
    walk = random_walk(5, points=["after_sinks"], batches=(2, 2), make_rows=lambda dice, number: [{"n": number, "x": dice.random()}])
    assert [rows[0]["n"] for rows in walk.batches] == [0, 1]
    assert {step.point for step in walk.steps if isinstance(step, Crash)} == {"after_sinks"}


def test_a_maker_of_rows_may_serve_many_walks() -> None:
    make = events()
    assert [random_walk(seed, make_rows=make) for seed in (1, 2, 1)] == [random_walk(seed) for seed in (1, 2, 1)]
