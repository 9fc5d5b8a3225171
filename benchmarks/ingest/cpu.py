"""CPU seconds of a whole tree of processes, the dead ones too.

Spark's Python daemon ignores SIGCHLD, so the kernel passes no child's CPU on to it, and what is read from the tree at the
end lacks every worker that has gone. So the tree is looked at four times a second, and the last reading of each process
kept. What a parent did reap is used for what its children did unseen.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import Final

import psutil

__all__ = ["TreeCpu", "busy_seconds", "own_seconds"]

EVERY_S: Final = 0.25

Identity = tuple[int, float]
"""Process id and start time: ids are used again."""


@dataclass(slots=True)
class Seen:
    """The last reading of one process: what it runs, its own CPU, what its reaped children used; and its first parent."""

    process: psutil.Process
    parent: Identity | None
    name: str = ""
    own_s: float = 0.0
    reaped_s: float = 0.0
    runs: bool = True


class TreeCpu:
    """CPU seconds of a process and everything that was ever below it.

    Exact but for a worker of Spark's daemon that ends early: of it, what it used after its last reading is lost, at
    most 0.25 s.

    Parameters
    ----------
    root : psutil.Process
        The root: a child of this process that nobody has waited for yet.
    """

    def __init__(self, root: psutil.Process) -> None:
        self._root = root
        self._seen: dict[Identity, Seen] = {_identity(root): Seen(root, None)}
        self._over = threading.Event()  # never set: waits on it are pauses that read well

    def run(self, timeout_s: float) -> None:
        """Watch until the root has ended and the rest too; the root becomes a zombie, which is the caller's to reap.

        Raises
        ------
        TimeoutError
            Somebody still runs; all of it has been killed.
        """
        began = time.monotonic()
        while self._look():
            if time.monotonic() - began > timeout_s:
                for one in self._seen.values():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        one.process.kill()  # psutil compares start times first
                raise TimeoutError(timeout_s)
            self._over.wait(EVERY_S)

    def seconds(self, name: str = "") -> float:
        """Return the total of all readings so far, or that of the processes whose program's name starts so."""
        credited = dict.fromkeys(self._seen, 0.0)
        for one in self._seen.values():
            if not one.runs and one.parent in credited:
                credited[one.parent] += one.own_s + one.reaped_s
        named = (identity for identity, one in self._seen.items() if one.name.startswith(name))
        return sum(self._seen[each].own_s + max(0.0, self._seen[each].reaped_s - credited[each]) for each in named)

    def _look(self) -> bool:
        """Read the tree now; tell whether anybody runs."""
        known = {name[0]: name for name, one in self._seen.items() if one.runs}
        # The children of a process that ended belong to a stranger now.
        tops = [one.process for one in self._seen.values() if one.runs and one.parent not in known.values()]
        for top in tops:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in top.children(recursive=True):
                    name = _identity(child)
                    if name not in self._seen:
                        self._seen[name] = Seen(child, known.get(child.ppid(), _identity(top)))
                        known[name[0]] = name
        for one in self._seen.values():
            if one.runs:
                _read(one)
        return any(one.runs for one in self._seen.values())


def own_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds of one process."""
    times = process.cpu_times()
    return times.user + times.system


def busy_seconds() -> float:
    """Return the CPU seconds of everything on this machine."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    # A guest's time is in its host's already.
    return sum(times) - idle - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)


def _identity(process: psutil.Process) -> Identity:
    return process.pid, process.create_time()


def _read(one: Seen) -> None:
    try:
        # In this order: a process that has ended by now has its last figures, as a zombie.
        one.runs = one.process.status() != psutil.STATUS_ZOMBIE
        one.name, times = one.process.name(), one.process.cpu_times()
        one.own_s, one.reaped_s = times.user + times.system, times.children_user + times.children_system
    except psutil.NoSuchProcess:
        one.runs = False
