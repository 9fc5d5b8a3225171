"""A claim is made by one, whoever else tries at the same time; what cannot be read is refused by name."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from spark_ext.errors import CheckpointMismatchError
from spark_ext.queries import Checkpoint

CLAIMANTS = 8
ROUNDS = 40


def claim(path: str, pipeline: str = "p") -> Checkpoint:
    return Checkpoint.claim(path, pipeline=pipeline, sources=["s"])


def race(path: str, pipelines: list[str]) -> list[str]:
    """Claim at the same moment; return the names under which it was claimed."""
    together = threading.Barrier(len(pipelines))

    def one(pipeline: str) -> str | None:
        together.wait(10)
        try:
            return claim(path, pipeline).app_id
        except CheckpointMismatchError:
            return None

    with ThreadPoolExecutor(len(pipelines)) as pool:
        return [name for name in pool.map(one, pipelines) if name]


def test_all_who_claim_at_once_get_the_same_name(tmp_path: Path) -> None:
    for number in range(ROUNDS):
        names = race(str(tmp_path / f"{number}"), ["p"] * CLAIMANTS)
        assert (len(names), len(set(names))) == (CLAIMANTS, 1)
        assert [file.name for file in (tmp_path / f"{number}").iterdir()] == ["identity.json"], "nothing is left beside it"


def test_one_of_several_pipelines_gets_it(tmp_path: Path) -> None:
    for number in range(ROUNDS):
        assert len(race(str(tmp_path / f"{number}"), [f"p{each}" for each in range(CLAIMANTS)])) == 1


def test_two_processes_get_the_same_name(tmp_path: Path) -> None:
    program = (
        "import sys; from spark_ext.queries import Checkpoint; print('ready', flush=True); input()\n"
        f"for n in range({ROUNDS}): print(Checkpoint.claim(f'{{sys.argv[1]}}/{{n}}', pipeline='p', sources=['s']).app_id)"
    )
    line = [sys.executable, "-c", program, str(tmp_path)]
    both = [subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    first, second = (process.communicate(timeout=60)[0].split() for process in both)
    assert first == second
    assert len(set(first)) == ROUNDS


@pytest.mark.parametrize("content", ["", "{", "[]", '"text"', "\xff", '{"layout": 1, "pipeline": "p", "sources": ["s"]}'])
def test_a_damaged_identity_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "identity.json"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointMismatchError, match=rf"cannot read checkpoint identity '{file}'.*restore this file.*new, empty folder"):
        claim(str(tmp_path))
    assert file.read_bytes() == content.encode("latin-1")


def test_a_folder_in_place_of_the_identity_is_named(tmp_path: Path) -> None:
    (tmp_path / "identity.json").mkdir()
    with pytest.raises(CheckpointMismatchError, match=r"identity.json'.*got no file"):
        claim(str(tmp_path))


@pytest.mark.parametrize("below", ["", "/deeper"])
def test_a_file_in_the_way_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "c").write_text("mine")
    with pytest.raises(
        CheckpointMismatchError, match=rf"cannot use checkpoint '{tmp_path}/c{below}'.*a file is in the way.*new, empty folder"
    ):
        claim(f"{tmp_path}/c{below}")
    assert (tmp_path / "c").read_text() == "mine"
