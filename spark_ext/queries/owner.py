"""Which process drives a checkpoint: a file beside its identity, so that a second driver on this machine is refused at once.

It is for people, not for safety: what keeps two drivers apart everywhere is the lease in the ledger.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
from dataclasses import asdict, dataclass
from typing import Final

import psutil
from pyarrow import fs

from spark_ext.errors import EpochError
from spark_ext.paths import file_system, write_whole
from spark_ext.queries.checkpoint import Checkpoint

__all__ = ["Owner", "release", "take"]

FILE: Final = "owner.json"
SAME_S: Final = 1.0  # a process tells its start in clock ticks

_held: set[str] = set()


@dataclass(frozen=True, slots=True)
class Owner:
    """A process: a number is used again, but not with the same time of creation."""

    host: str
    pid: int
    created: float

    @classmethod
    def this(cls) -> Owner:
        """Return this process."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    def is_here(self) -> bool:
        """Tell whether it is a process of this machine that is alive."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.created) < SAME_S and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def take(checkpoint: Checkpoint) -> bool:
    """Write down that this process drives the checkpoint, and tell whether it did not do so before.

    A process that is gone is overtaken, as is one of another machine, about which nothing can be said.

    Raises
    ------
    EpochError
        Another process of this machine drives it and is alive.
    """
    files, root = file_system(checkpoint.path)
    known, this = _read(files, f"{root}/{FILE}"), Owner.this()
    if known == this:
        return False
    if known is not None and known.is_here():
        raise EpochError(
            "drive",
            "pipeline",
            checkpoint.pipeline,
            expected="no other driver on this machine",
            got=f"process {known.pid}, which is alive",
            why="two drivers would do the same batches",
            todo=f"let it run, or stop it first: kill {known.pid}",
        )
    write_whole(files, f"{root}/{FILE}", json.dumps(asdict(this)).encode())
    if checkpoint.path not in _held:
        _held.add(checkpoint.path)
        atexit.register(release, checkpoint)
    return True


def release(checkpoint: Checkpoint) -> None:
    """Take the file away if it is this process's; also done when the process ends as it should."""
    try:
        files, root = file_system(checkpoint.path)
        if _read(files, f"{root}/{FILE}") == Owner.this():
            files.delete_file(f"{root}/{FILE}")
    except OSError:  # the folder is gone, or cannot be reached: the next driver sees that this process is gone
        return


def _read(files: fs.FileSystem, path: str) -> Owner | None:
    try:
        with files.open_input_stream(path) as opened:
            found = json.loads(opened.readall())
        return Owner(str(found["host"]), int(found["pid"]), float(found["created"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # none, or half of one: nobody's
