"""A JVM that ends in a test ends the run, which says at its end how."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

# In the place of a JVM a shell: it writes where the test does, and ends in the middle of one.
PROGRAM = """
import subprocess, sys
from types import SimpleNamespace
from pyspark import SparkContext

def test_before():
    pass

def test_in_which_it_ends():
    shell = "echo running out >&2; sleep 0.2; {ending}"
    SparkContext._gateway = SimpleNamespace(proc=subprocess.Popen(["sh", "-c", shell], stdin=subprocess.PIPE))
    raise {error}

def test_after():
    assert False, "the next one"
"""
CRASHES = """
import pathlib
from tests import dead_jvm

def pytest_configure(config):
    dead_jvm.java_options(config, pathlib.Path())
"""


@pytest.mark.parametrize("options", [[], ["--numprocesses=2", "--dist=loadfile"]], ids=["one process", "two"])
@pytest.mark.parametrize(("ending", "how"), [("exit 3", "with status 3"), ("kill -9 $$", "by SIGKILL")])
def test_the_run_ends_and_says_where_how_and_the_last_words(pytester: pytest.Pytester, ending: str, how: str, options: list[str]) -> None:
    pytester.makepyfile(test_program=PROGRAM.format(ending=ending, error="ConnectionRefusedError"))
    found = run(pytester, *options)
    found.assert_outcomes(passed=1, failed=1)
    said = f"the JVM has ended, {how}, in test_program.py::test_in_which_it_ends"
    found.stdout.fnmatch_lines(["*= the JVM has ended =*", said, "-- Captured stderr *", "running out", f"*!* {said}*!*"])
    assert found.ret != 0


def test_another_failure_of_a_test_is_only_that(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_program=PROGRAM.format(ending="read line", error="ValueError"))
    found = run(pytester)
    found.assert_outcomes(passed=1, failed=2)
    found.stdout.no_fnmatch_line("*the JVM has ended*")


def test_the_report_of_a_crash_is_shown(pytester: pytest.Pytester) -> None:
    ending = "echo SIGSEGV in librocksdb > hs_err.log; exit 134"
    pytester.makepyfile(test_program=PROGRAM.format(ending=ending, error="ConnectionRefusedError"))
    pytester.makeconftest(CRASHES)
    found = run(pytester)
    found.stdout.fnmatch_lines(["*= the JVM has ended =*", "*with status 134*", "-- hs_err.log", "SIGSEGV in librocksdb"])


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        return pytester.runpytest_subprocess("-p", "tests.dead_jvm", "-p", "no:cacheprovider", *options)
