"""Drivers and JVMs that are killed with SIGKILL, at named points and at any time: the tables are those of a life without."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from spark_ext.testing import EVENTS, Cycle, Result, Rows, assert_same, events, kill_cycles
from spark_ext.testing.result import ledger_facts, read_ledger, read_tables
from spark_ext.testing.stream import Folder
from tests.epoch_job import JOB, SINKS, Settings, expected

pytestmark = pytest.mark.spark

TIMEOUT_S = 300
NAMED = ("after_read", "before_sink", "after_sink", "after_sinks", "before_ledger", "after_ledger", "in_maintenance")


def named_kill(dice: random.Random, point: str) -> dict[str, Any]:
    sink = dice.choice(SINKS) if point in ("before_sink", "after_sink") else None
    return {"point": point, "sink": sink, "skip": dice.randint(0, 1), "victim": dice.choice(["driver", "jvm"])}


class Killed:
    """The job in a folder, fed with more batches after each death."""

    def __init__(self, folder: Path, *, seed: int, more: int) -> None:
        self.folder, self.seed, self.more = folder, seed, more
        self.dice = random.Random(seed)  # noqa: S311 (a test's moments are no secrets)
        self.make = events(rows=(0, 60))
        self.batches: list[Sequence[Mapping[str, Any]]] = []
        self.source = Folder(folder, EVENTS)
        self.up = folder / "up"

    def feed(self, _: int = 0) -> None:
        self.up.unlink(missing_ok=True)
        for _ in range(self.more):
            self.batches.append(self.make(self.dice, len(self.batches)))
            self.source.write(self.batches[-1])

    def live(self, kills: Sequence[dict[str, Any] | None]) -> list[Cycle]:
        """Kill a life at each named point, or at any time where there is None; then compare."""

        def command(life: int) -> list[str]:
            kill = kills[life] if life < len(kills) else None
            return Settings(str(self.folder), follow=life < len(kills), kill=kill, up=str(self.up)).command

        self.feed()
        within = (0, 10) if None in kills else (TIMEOUT_S, TIMEOUT_S)  # long enough for an epoch or two; or it kills itself
        lives = kill_cycles(
            command, cycles=len(kills), seed=self.seed, within=within, is_up=self.up.exists, after_death=self.feed, timeout_s=TIMEOUT_S
        )
        ledger = read_ledger(JOB, self.folder)
        result = Result(
            job=JOB,
            steps=[Rows(rows) for rows in self.batches],
            folder=self.folder,
            tables=read_tables(JOB, self.folder),
            ledger=ledger,
            facts=ledger_facts(ledger, compared=[str(self.folder / name) for name in SINKS]),
            starts=len(lives),
        )
        assert_same(result, expected(self.batches), repeat=f"this test; its seed is {self.seed}")
        return lives


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_killed_driver_and_a_killed_jvm_change_nothing(tmp_path: Path) -> None:
    kills = [{"point": "after_sink", "sink": "late", "victim": "driver"}, {"point": "before_ledger", "victim": "jvm"}]
    lives = Killed(tmp_path, seed=1, more=2).live(kills)
    assert [life.victim for life in lives] == ["itself", "itself", "none"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_kills_change_nothing(tmp_path: Path) -> None:
    job = Killed(tmp_path, seed=7, more=3)
    named = [named_kill(job.dice, NAMED[number % len(NAMED)]) for number in range(25)]
    assert Counter(life.victim for life in job.live(named)) == {"itself": 25, "none": 1}
    ended = Counter(life.victim for life in job.live([None] * 25))
    assert ended["none"] == 1, "each life but the last was killed"
    assert min(ended["driver"], ended["jvm"]) >= 5
