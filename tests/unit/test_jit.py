"""Where compiled kernels are kept when neither the package nor the user's cache can be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sketches
from sketches.jit import own_folder

KERNEL = """
from sketches.jit import njit

@njit()
def twice(n):
    return 2 * n
"""
PROGRAM = "import numba; from sketches.twice import twice; print(twice(21), numba.config.CACHE_DIR)"


def test_a_folder_of_ones_own_is_made_once(tmp_path: Path) -> None:
    folder = own_folder(tmp_path)
    assert folder is not None
    assert folder.stat().st_mode & 0o777 == 0o700
    assert own_folder(tmp_path) == folder


@pytest.mark.parametrize("other", ["open", "link", "file"])
def test_a_folder_that_others_could_write_is_not_taken(tmp_path: Path, other: str) -> None:
    folder = own_folder(tmp_path)
    assert folder is not None
    if other == "open":
        folder.chmod(0o770)
    else:
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere") if other == "link" else folder.touch()
    assert own_folder(tmp_path) is None


@pytest.mark.parametrize("scratch", ["tmp", "none"])
def test_a_locked_down_container_can_compile(tmp_path: Path, scratch: str) -> None:
    package = tmp_path / "site" / "sketches"
    shutil.copytree(Path(sketches.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__pycache__").touch()  # root may write anywhere, but not below a file
    (tmp_path / "home").touch()
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / f"millrace-kernels-{os.getuid()}").touch() if scratch == "none" else None
    places = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(tmp_path / "site")}
    environment = {key: value for key, value in os.environ.items() if key not in {"XDG_CACHE_HOME", "NUMBA_CACHE_DIR"}}
    (package / "twice.py").write_text(KERNEL)
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=tmp_path, env={**environment, **places}, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer, *place = done.stdout.split()
    assert answer == "42"
    assert place == ([str(tmp_path / "tmp" / f"millrace-kernels-{os.getuid()}")] if scratch == "tmp" else [])
