"""Walks in pytest: one test per seed, and the one command that repeats a failing one.

Register it with ``-p spark_ext.testing.plugin`` or with ``pytest_plugins = ["spark_ext.testing.plugin"]`` in the top ``conftest.py``. A
test that takes ``walk_seed`` runs once per seed: 25, or what ``@pytest.mark.walks(count, first=0)`` says. ``--walk-seed=N`` runs it with
that one only.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

__all__ = ["repeat_command"]

FIXTURE = "walk_seed"
COUNT = 25


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("millrace").addoption(
        "--walk-seed", type=int, action="append", default=[], help="run walks with this seed only; may be repeated"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers", f"walks(count, first=0): how many seeds a test of walks runs with, instead of {COUNT}, and from which one"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test its seeds."""
    if FIXTURE not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("walks")
    seeds = _seeds(*marker.args, **marker.kwargs) if marker else _seeds()
    metafunc.parametrize(FIXTURE, metafunc.config.getoption("--walk-seed") or seeds, ids=lambda seed: f"seed={seed}")


def _seeds(count: int = COUNT, first: int = 0) -> range:
    return range(first, first + count)


@pytest.fixture
def walk_command(request: pytest.FixtureRequest) -> str:
    """Return the command that repeats the test that runs, with its seed."""
    return repeat_command(request.node)


def repeat_command(item: pytest.Item) -> str:
    """Return the command that repeats a test of walks, to be typed where pytest was started."""
    name = item.nodeid.partition("[")[0]
    seed = item.callspec.params.get(FIXTURE) if hasattr(item, "callspec") else None  # it has one if it is one of many
    path, colons, test = name.partition("::")
    from_here = os.path.relpath(item.config.rootpath / path, item.config.invocation_params.dir)
    return f"pytest {from_here}{colons}{test}" + (f" --walk-seed={seed}" if seed is not None else "")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say under a failure how to repeat it."""
    report = yield
    params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    if report.failed and FIXTURE in params:
        report.sections.append(("repeat this walk", repeat_command(item)))
    return report
