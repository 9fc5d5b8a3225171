"""A program under test with everything that it starts, so that parts of it can be killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import psutil
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

__all__ = ["ProcessTree", "below", "is_daemon", "is_planner", "is_worker"]

POLL_S = 0.05
TASKS = ["-m", "pyspark.daemon", "pyspark.worker"]


class ProcessTree:
    """A process and its descendants; what still runs at the end of the block is killed."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        own = {name: text for name, text in os.environ.items() if not name.startswith("PYSPARK_GATEWAY")}  # a session of its own
        self.process = subprocess.Popen(command, env={**own, **environment})
        self._seen: set[psutil.Process] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:  # the test failed
            self.kill("")

    def members(self) -> list[psutil.Process]:
        """The processes that run now, with those whose parent has been killed."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._seen.update([psutil.Process(self.process.pid), *below(self.process.pid)])
        return sorted((one for one in self._seen if one.is_running()), key=lambda one: one.pid)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 120) -> None:
        """Wait for something that the program does; it must go on meanwhile."""

        def met() -> bool:
            assert self.process.poll() is None, "the program ended before it could be killed"
            self.members()
            return condition()

        _wait(met, timeout_s)

    def wait_for_end(self, timeout_s: float = 120) -> int:
        """Return the exit code."""

        def ended() -> bool:
            self.members()
            return self.process.poll() is not None

        _wait(ended, timeout_s)
        return self.process.wait()

    def survivors(self, timeout_s: float) -> list[psutil.Process]:
        """Return what was ever seen of the tree and has not ended in time."""
        _, alive = psutil.wait_procs(list(self._seen), timeout=timeout_s)
        return [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def kill(self, name: str) -> None:
        """Kill all members whose name starts so, and wait for the program to end."""
        for one in self.members():
            with contextlib.suppress(psutil.NoSuchProcess):  # some end with the one before
                if one.name().startswith(name):
                    one.kill()
        self.process.wait(60)


def _wait(condition: Callable[[], bool], timeout_s: float) -> None:
    patience = Retrying(stop=stop_after_delay(timeout_s), wait=wait_fixed(POLL_S), retry=retry_if_result(lambda met: not met))
    patience(condition)


def below(pid: int) -> list[psutil.Process]:
    """All descendants of a process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def is_daemon(one: psutil.Process) -> bool:
    """Whether it starts the Python workers that run tasks."""
    return _arguments(one) == TASKS and _parent(one) == "java"


def is_worker(one: psutil.Process) -> bool:
    """Whether it is a Python worker that runs tasks: forked by a daemon, which it may outlive."""
    return _arguments(one) == TASKS and _parent(one) != "java"


def is_planner(one: psutil.Process) -> bool:
    """Whether it plans the batches of a stream."""
    return _arguments(one) == ["-m", "pyspark.sql.streaming.python_streaming_source_runner"]


def _parent(one: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = one.parent()
        return parent.name() if parent is not None else ""
    return ""


def _arguments(one: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return one.cmdline()[1:]
    return []
