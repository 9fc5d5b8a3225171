"""Runs in a checkpoint: a program that does not continue begins a new one; `current` names the newest."""

from __future__ import annotations

from spark_ext.paths import file_system, write_whole

__all__ = ["begun", "newest"]


def newest(checkpoint: str) -> str | None:
    """Return the folder of the run that was begun last, None if there is none."""
    files, root = file_system(checkpoint)
    try:
        with files.open_input_stream(f"{root}/current") as opened:
            return f"{checkpoint}/{opened.readall().decode().strip()}"
    except FileNotFoundError:
        return None


def begun(checkpoint: str, run: str) -> str:
    """Begin a run and return its folder; earlier runs stay beside it."""
    files, root = file_system(checkpoint)
    files.create_dir(f"{root}/{run}", recursive=True)
    write_whole(files, f"{root}/current", run.encode())
    return f"{checkpoint}/{run}"
