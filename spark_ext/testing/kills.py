"""Kill a program again and again, and let it end: what it leaves must be what one undisturbed run leaves."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import psutil

from spark_ext.errors import EngineError

__all__ = ["Cycle", "KillError", "kill_cycles"]

POLL_S: Final = 0.05
END_S: Final = 60.0
JVM: Final = "java"

Victim = Literal["driver", "jvm", "all"]
Command = Sequence[str] | Callable[[int], Sequence[str]]


class KillError(EngineError, AssertionError):
    """A program that is killed again and again did not come to its end, or left processes behind."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """One life of the program.

    Attributes
    ----------
    victim : str
        What was killed: ``driver``, ``jvm`` or ``all``; ``itself``: the program, by a `KillPoint` of its own; ``none``: it came to its end.
    seconds : float
        How long it ran before.
    """

    victim: str
    seconds: float


def kill_cycles(
    command: Command,
    *,
    cycles: int,
    seed: int,
    within: tuple[float, float],
    victims: Sequence[Victim] = ("driver", "jvm"),
    is_up: Callable[[], bool] = lambda: True,
    after_death: Callable[[int], None] = lambda _: None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 300.0,
) -> list[Cycle]:
    """Start a program and kill it, so many times; then start it once more and wait for its end.

    Guarantee: SIGKILL, so nothing cleans up; when a life is over, no process of it is left, as the next one must not meet it.

    Parameters
    ----------
    command : sequence of str, or callable
        The program with its arguments; or a function of the number of the life, from 0, for one that kills itself at `KillPoint`. The last
        life has the number `cycles`.
    cycles : int
        How many times to kill it. A life that ends before its time counts as well, as ``none``: check how many were killed.
    seed : int
        For the times and the victims.
    within : tuple of float
        The kill comes so many seconds, at least and at most, after the program is up.
    victims : sequence of str
        What may be killed: ``driver`` is the program's own process, ``jvm`` the Java below it, ``all`` both at once.
    is_up : callable
        Tells that a life has come so far that its seconds count; asked every 50 ms. Default: at once.
    after_death : callable
        Called with the number of the life when it is over: for checks between two lives, and for new input.
    environment : mapping, optional
        Variables on top of this process's; a gateway of this process's own Spark is not passed on.
    timeout_s : float
        Longest life.

    Raises
    ------
    KillError
        The last life failed or did not end, or a process of some life outlived it by a minute.
    """
    dice = random.Random(seed)  # noqa: S311 (a test's moments are no secrets)
    found = []
    for number in range(cycles):
        life = _Life(command(number) if callable(command) else command, environment)
        victim, wait_s = dice.choice(victims), dice.uniform(*within)
        try:
            life.wait(timeout_s, until=is_up)
            life.wait(wait_s)
            killed = life.kill(victim)
            seconds = round(time.monotonic() - life.began, 3)
            life.wait(END_S)
            found.append(Cycle(killed or ("none" if life.process.poll() == 0 else "itself"), seconds))
        finally:
            life.end()
        after_death(number)
    last = _Life(command(cycles) if callable(command) else command, environment)
    try:
        last.wait(timeout_s)
        if last.process.poll() != 0:
            got = "no end" if last.process.poll() is None else f"exit code {last.process.returncode}"
            raise KillError(
                "run",
                "program",
                last.name,
                expected=f"an end within {timeout_s:g} s",
                got=got,
                todo="start it by hand and read what it says",
            )
        found.append(Cycle("none", round(time.monotonic() - last.began, 3)))
    finally:
        last.end()
    return found


class _Life:
    """A process and all that it has ever started."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None) -> None:
        own = {name: text for name, text in os.environ.items() if not name.startswith("PYSPARK_GATEWAY")}
        self.name = " ".join(command)[:200]
        self.began = time.monotonic()
        self.process = subprocess.Popen(list(command), env={**own, **(environment or {})})
        self._seen: set[psutil.Process] = set()

    def wait(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Wait for the end of the process or for `until`, not longer than so."""
        ends = time.monotonic() + seconds
        while not until():
            self._look()
            left = ends - time.monotonic()
            if left <= 0:
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(min(POLL_S, left))
                return

    def kill(self, victim: Victim) -> str:
        """Kill, and say what; nothing if it has ended by itself. A program that has no JVM yet is killed itself."""
        self._look()
        if self.process.poll() is not None:
            return ""
        jvms = [one for one in self._seen if one.is_running() and _name(one) == JVM]
        victim = victim if jvms else "driver"
        driver = [psutil.Process(self.process.pid)]
        for one in {"driver": driver, "jvm": jvms, "all": driver + jvms}[victim]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        return victim

    def end(self) -> None:
        """Wait until nothing is left; what does not end is killed, and told."""
        if self.process.poll() is None:  # a program that waits for something that has been killed
            self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(list(self._seen), timeout=END_S)
        alive = [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        if alive:
            names = ", ".join(sorted({_name(one) for one in alive}))
            raise KillError(
                "end",
                "program",
                self.name,
                expected="all of it to end with it",
                got=f"{names} a minute later",
                todo="find out what they wait for",
            )

    def _look(self) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self._seen.update(psutil.Process(self.process.pid).children(recursive=True))
        for one in list(self._seen):  # of a child whose parent is gone
            with contextlib.suppress(psutil.NoSuchProcess):
                self._seen.update(one.children(recursive=True))


def _name(one: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return one.name()
    return "?"
