"""What the demos of all jobs do: empty the folder of an earlier one, and run their job under spark-submit."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from spark_ext.errors import SettingsError

__all__ = ["MARKER", "make_room", "run_job"]

MARKER: Final = ".millrace-demo"  # only a folder with this file in it is ours to empty


def make_room(out: Path, *more: str) -> None:
    """Make the folder, or empty it of what an earlier demo left: tables, checkpoints, and files named in `more`.

    Raises
    ------
    SettingsError
        It is no folder, or holds anything that is not a demo's.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise _not_ours(out, "a symbolic link" if out.is_symlink() else "a file")
    out.mkdir(parents=True, exist_ok=True)
    found = {entry.name for entry in out.iterdir()}
    strange = sorted(found - {"tables", "checkpoints", "control", MARKER, *more})
    if strange or (found and MARKER not in found):
        raise _not_ours(out, repr(strange[:5]) if strange else f"{sorted(found)!r} without {MARKER!r}")
    for name in sorted(found - {MARKER}):
        entry = out / name
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    (out / MARKER).touch()


def _not_ours(out: Path, got: str) -> SettingsError:
    return SettingsError(
        "replace",
        "folder",
        str(out),
        expected="no folder, an empty one, or what an earlier demo left",
        got=got,
        why="only what a demo made is deleted",
        todo="give another folder with --out",
    )


def run_job(program: Path, bootstrap_servers: str, out: Path, *options: str) -> int:
    """Run a job under spark-submit, as a user would, wait for it and return its exit code."""
    millrace = [str(Path(sys.executable).with_name("millrace"))]
    arguments = ["submit", str(program), "--bootstrap-servers", bootstrap_servers, "--out", str(out), *options]
    # Ctrl-C reaches the job by itself, which then ends at a batch boundary: wait for that instead of killing it.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        return subprocess.run([*millrace, *arguments], check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
