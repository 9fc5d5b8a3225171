"""Run the main function of an example as its user would, and read what it prints."""

from __future__ import annotations

import ast
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from spark_ext.dstream import StreamingContext

__all__ = ["Printed", "running", "until"]

WAIT_S = 200
TUPLE = re.compile(r"^\(.*\)$", re.MULTILINE)


def until(found: Callable[[], Any], *, timeout_s: float = WAIT_S) -> None:
    """Wait until something is true."""
    try:
        Retrying(retry=retry_if_result(lambda value: not value), stop=stop_after_delay(timeout_s), wait=wait_fixed(0.2))(found)
    except RetryError:
        pytest.fail("it did not come true")


class Printed:
    """All that has been printed, batch by batch."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def text(self) -> str:
        """Return all that has been printed so far."""
        self._text += self._capsys.readouterr().out
        return self._text

    def batches(self) -> list[list[Any]]:
        """Return the elements that `pprint` has shown of each batch."""
        parts = re.split(r"^Time: .*$", self.text(), flags=re.MULTILINE)[1:]
        return [[ast.literal_eval(line) for line in TUPLE.findall(part)] for part in parts]


@contextmanager
def running(main: Callable[..., None], *arguments: Any, **options: Any) -> Iterator[None]:
    """Run a main function in a thread; at the end its program is stopped, and Spark left as it was."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            main(*arguments, **options)
        except BaseException as error:  # noqa: BLE001 (raised below)
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        until(lambda: failed or StreamingContext.getActive() is not None)
        yield
    finally:
        active = StreamingContext.getActive()
        if active is not None:
            active.stop(False)
        thread.join(WAIT_S)
    if failed:
        raise failed[0]
