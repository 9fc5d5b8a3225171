"""Walks in plain pytest: one test per seed, and a failing one says the command that repeats it."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

WALKS = """
import pytest

def test_of_walks(walk_seed, walk_command):
    assert walk_seed != 7, walk_command

@pytest.mark.walks(3, first=1000)
def test_of_slow_walks(walk_seed):
    assert 1000 <= walk_seed < 1003

def test_of_others():
    assert True
"""
OPTIONS = ("-p", "spark_ext.testing.plugin", "--strict-markers", "-p", "no:cacheprovider")


@pytest.fixture
def walks(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_walks=WALKS)
    return pytester


def run(walks: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return walks.runpytest_inprocess(*OPTIONS, *arguments)


def test_each_seed_is_a_test_and_the_failing_one_says_how_to_repeat_it(walks: pytest.Pytester) -> None:
    found = run(walks)
    found.assert_outcomes(passed=24 + 3 + 1, failed=1)
    found.stdout.fnmatch_lines(["*repeat this walk*", "pytest test_walks.py::test_of_walks --walk-seed=7"])


def test_that_command_runs_that_walk_only(walks: pytest.Pytester) -> None:
    run(walks, "test_walks.py::test_of_walks", "--walk-seed=7").assert_outcomes(failed=1)
    run(walks, "test_walks.py::test_of_walks", "--walk-seed=8").assert_outcomes(passed=1)
    run(walks, "test_walks.py::test_of_walks", "--walk-seed=8", "--walk-seed=9").assert_outcomes(passed=2)


def test_the_command_is_for_the_folder_where_pytest_was_started(walks: pytest.Pytester) -> None:
    below = walks.mkdir("below")
    walks.makeini("[pytest]")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(below)
        found = walks.runpytest_inprocess(*OPTIONS, "../test_walks.py")
    found.stdout.fnmatch_lines(["pytest ../test_walks.py::test_of_walks --walk-seed=7"])
