"""Seeded walks of streams and crashes over epochs: no row lost, none twice, and each epoch in all tables or in none.

And the test of that test: with one step of the commit broken on purpose, the walks must fail.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pyspark.sql import SparkSession

from spark_ext.epochs import commit, ledger
from spark_ext.epochs.points import POINTS
from spark_ext.testing import IN_OPERATOR, Result, Walk, assert_same, random_walk, run_script, without_crashes
from tests.epoch_job import JOB, SINKS, expected

pytestmark = pytest.mark.spark

WALKS = 25


def walk_of(seed: int) -> Walk:
    return random_walk(seed, sinks=SINKS)


def go(spark: SparkSession, seed: int, folder: Path, command: str = "") -> Result:
    walk = walk_of(seed)
    result = run_script(spark, JOB, walk.steps, folder)
    assert_same(result, expected(walk.batches), repeat=command)
    assert result.batches == len(walk.batches)
    return result


@pytest.fixture(scope="module")
def hits() -> Counter[str]:
    """How often a walk of this run crashed at each point."""
    return Counter()


@pytest.mark.walks(WALKS)
def test_a_walk_ends_with_the_tables_of_the_model(
    spark: SparkSession, walk_seed: int, walk_command: str, tmp_path: Path, hits: Counter[str]
) -> None:
    result = go(spark, walk_seed, tmp_path, walk_command)
    hits.update([hit.point for hit in result.hits], walks=1)


def test_each_point_was_hit(hits: Counter[str]) -> None:
    if hits["walks"] < WALKS:
        pytest.skip("asks what the walks before it did, and not all were run")
    assert {point for point in (*POINTS, IN_OPERATOR) if not hits[point]} == set()


@pytest.mark.walks(3, first=100)
def test_a_walk_ends_with_the_tables_of_the_run_without_crashes(
    spark: SparkSession, walk_seed: int, walk_command: str, tmp_path: Path
) -> None:
    steps = walk_of(walk_seed).steps
    reference = run_script(spark, JOB, without_crashes(steps), tmp_path / "reference")
    assert reference.hits == []
    assert_same(run_script(spark, JOB, steps, tmp_path / "crashed"), reference, repeat=walk_command)


@pytest.mark.slow
@pytest.mark.walks(200, first=1000)
def test_no_walk_of_two_hundred_loses_or_doubles_a_row(spark: SparkSession, walk_seed: int, walk_command: str, tmp_path: Path) -> None:
    go(spark, walk_seed, tmp_path, walk_command)
