"""The user's traceback out of what Python, py4j and Spark say about a failure."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Final

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

__all__ = ["last_words", "users_traceback"]

HEADER: Final = "Traceback (most recent call last):"
REMOTE: Final = re.compile(
    r"thrown from the Python worker:\s+(Traceback .*?)(?=\n SQLSTATE: |\n\s+at |\n\s*(?:Driver|JVM) stacktrace:|\Z)", re.DOTALL
)
JAVA: Final = re.compile(r"\s+at [\w.$/<>]+\(|\s+\.\.\. \d+ more|Caused by: [\w.$]+|Driver stacktrace")
HERE: Final = str(Path(__file__).parent)
NOT_THE_USERS: Final = (HERE, "/pyspark/", "/pyspark.zip/", "/py4j/")


def users_traceback(error: BaseException) -> str:
    """Return the traceback of the user's function as Python prints it; that of the worker if it ran there.

    Frames of Spark's, py4j's and this package are left out, unless there are no others; so are Java's.
    """
    text = "".join(traceback.format_exception(error))
    if isinstance(error, Py4JJavaError | PySparkException):
        remote = REMOTE.search(text)
        text = remote.group(1) if remote else text
    lines = [line for line in text.rstrip().splitlines() if not JAVA.match(line)]
    return "\n".join(_of_the_user(lines))


def last_words(told: str) -> str:
    """Return the line of a traceback that has the exception that was not caught."""
    _, _, last = told.rpartition(HEADER)
    return next((line for line in last.splitlines() if line and not line.startswith(" ")), told.strip().splitlines()[-1])


def _of_the_user(lines: list[str]) -> list[str]:
    kept, leaves_out, has_frames = [], False, False
    for line in lines:
        if line.startswith('  File "'):
            leaves_out = any(part in line for part in NOT_THE_USERS)
            has_frames = has_frames or not leaves_out
        elif not line.startswith("  "):
            leaves_out = False
        if not leaves_out:
            kept.append(line)
    return kept if has_frames else lines
