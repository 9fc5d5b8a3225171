"""A plugin for our own tests: when the JVM under Spark has ended, so does the run, which says at its end where, how, and the last words.

Without it every later test fails with a refused connection, and none of them says why.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from py4j.protocol import Py4JError
from pyspark import SparkContext

TITLE = "the JVM has ended"
ENDING_S = 10  # between its last answer and its end; a crash writes its report meanwhile
LINES = 25
FOLDER = pytest.StashKey[Path]()


def java_options(config: pytest.Config, folder: Path) -> str:
    """Options of Java for the JVM under test: it ends when it is out of memory, and leaves the report of a crash in a folder."""
    config.stash[FOLDER] = folder
    return f"-XX:+ExitOnOutOfMemoryError -XX:ErrorFile={folder}/hs_err.log"


def has_ended() -> bool:
    """Tell whether this process has started a JVM that runs no more."""
    process = _process()
    return process is not None and process.poll() is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notice the end, once."""
    report = yield
    process = _process()
    if process is None or item.session.shouldfail:
        return report
    if call.excinfo is not None and _is_lost(call.excinfo.value):
        with suppress(subprocess.TimeoutExpired):
            process.wait(ENDING_S)
    if report.when == "teardown" and (status := process.poll()) is not None:  # now all has been captured
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        item.session.shouldfail = f"{TITLE}, {how}, in {item.nodeid}"
        report.sections.append((TITLE, "\n".join([item.session.shouldfail, *_last_words(report), *_crash(item.config)])))
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say it where a reader of the last page sees it."""
    reports = [report for found in terminalreporter.stats.values() for report in found]
    for text in dict.fromkeys(text for report in reports for title, text in getattr(report, "sections", ()) if title == TITLE):
        terminalreporter.section(TITLE, red=True)
        terminalreporter.write_line(text)


def _process() -> subprocess.Popen[bytes] | None:
    return getattr(SparkContext._gateway, "proc", None)


def _is_lost(error: BaseException) -> bool:
    return isinstance(error, OSError | Py4JError) and not hasattr(error, "java_exception")  # which is an answer of a JVM that lives


def _last_words(report: pytest.TestReport) -> Iterator[str]:
    # A JVM writes to the same two files as the test does, so what pytest has captured is also its.
    for title, text in report.sections:
        if title.startswith("Captured std"):
            yield from (f"-- {title}", *text.splitlines()[-LINES:])


def _crash(config: pytest.Config) -> Iterator[str]:
    file = config.stash.get(FOLDER, Path()) / "hs_err.log"
    if file.exists():
        yield from (f"-- {file}", *file.read_text(errors="replace").splitlines()[:LINES])
