"""A program that is killed again and again: the kills happen, nothing outlives them, and the last life must end well."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import psutil
import pytest

from spark_ext.testing import KillError, kill_cycles

# Counts its lives in a file, starts a "java" of its own, and waits; with "end" among its arguments it ends.
PROGRAM = """
import pathlib, subprocess, sys
folder, java = pathlib.Path(sys.argv[1]), sys.argv[2]
lives = folder / "lives"
lives.write_text(lives.read_text() + "x" if lives.exists() else "x")
child = subprocess.Popen([java, "1000"]) if java else None
(folder / "up").touch()
if "fail" in sys.argv:
    sys.exit(3)
if "end" in sys.argv:
    child and child.kill()
    sys.exit(0)
if child:
    child.wait()  # as a driver that notices that its JVM is gone
    sys.exit(1)
import threading
threading.Event().wait(1000)
"""


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    java = shutil.copy(shutil.which("sleep") or "", tmp_path / "java")
    (tmp_path / "program.py").write_text(PROGRAM)
    return [sys.executable, str(tmp_path / "program.py"), str(tmp_path), str(java)]


def up(folder: Path) -> bool:
    """Whether this life is up; asked once more, the next one."""
    there = (folder / "up").exists()
    (folder / "up").unlink(missing_ok=True)
    return there


def lives(folder: Path) -> int:
    return len((folder / "lives").read_text())


@pytest.mark.parametrize("victim", ["driver", "jvm", "all"])
def test_the_victim_is_killed_and_the_last_life_comes_to_its_end(program: list[str], tmp_path: Path, victim: str) -> None:
    bare = [*program[:3], ""] if victim == "driver" else program
    seen: list[int] = []
    found = kill_cycles(
        lambda life: [*bare, "end"] if life == 3 else bare,
        cycles=3,
        seed=1,
        within=(0, 0.05),
        victims=[victim],  # type: ignore[list-item]
        is_up=lambda: up(tmp_path),
        after_death=seen.append,
    )
    assert [cycle.victim for cycle in found] == [victim, victim, victim, "none"]
    assert lives(tmp_path) == 4
    assert seen == [0, 1, 2]
    assert not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] and one.info["cmdline"][0] == program[3]]


def test_a_life_that_ends_by_itself_is_told_from_a_kill(program: list[str]) -> None:
    ends = [*program[:3], "", "end"]
    fails = [*program[:3], "", "fail"]
    found = kill_cycles(lambda life: fails if life == 0 else ends, cycles=2, seed=1, within=(20, 20))
    assert [cycle.victim for cycle in found] == ["itself", "none", "none"]
    assert max(cycle.seconds for cycle in found) < 15


def test_the_times_and_victims_are_the_seed_s(program: list[str], tmp_path: Path) -> None:
    def victims(seed: int) -> list[str]:
        up(tmp_path)  # forget the last life of before
        last = [*program, "end"]
        cycles = kill_cycles(
            lambda life: last if life == 4 else program,
            cycles=4,
            seed=seed,
            within=(0, 0.01),
            victims=["all", "jvm"],
            is_up=lambda: up(tmp_path),
        )
        return [cycle.victim for cycle in cycles]

    assert victims(3) == ["all", "all", "jvm", "all", "none"]
    assert victims(4) == ["all", "jvm", "all", "jvm", "none"]


def test_a_last_life_that_fails_is_an_error(program: list[str]) -> None:
    with pytest.raises(KillError, match=r"cannot run program .*expected an end within 300 s, got exit code 3; start it by hand"):
        kill_cycles([*program[:3], "", "fail"], cycles=0, seed=1, within=(0, 0))


def test_a_last_life_that_hangs_is_an_error(program: list[str]) -> None:
    with pytest.raises(KillError, match=r"expected an end within 0.5 s, got no end"):
        kill_cycles([*program[:3], ""], cycles=0, seed=1, within=(0, 0), timeout_s=0.5)


def test_what_outlives_its_program_is_killed_and_told(program: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spark_ext.testing.kills.END_S", 0.2)
    with pytest.raises(KillError, match=r"expected all of it to end with it, got java a minute later"):
        kill_cycles(program, cycles=1, seed=1, within=(0, 0), victims=["driver"], is_up=lambda: up(tmp_path))
