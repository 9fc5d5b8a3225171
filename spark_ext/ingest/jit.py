"""numba's compiler for our kernels, and a place for what it compiled where numba finds none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numba

__all__ = ["njit", "own_folder"]

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

DIRECTORY_OF_MINE_ALONE: Final = 0o040700


def own_folder(scratch: Path) -> Path | None:
    """Return a folder below `scratch` that belongs to this user alone, made if need be; None if there is none.

    What is kept there is code that will run: a folder that somebody else made, or can write to, is not taken.
    """
    folder = scratch / f"millrace-kernels-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder if (found.st_uid, found.st_mode) == (os.getuid(), DIRECTORY_OF_MINE_ALONE) else None


def _probe() -> None:
    """Stand for a kernel: asks numba for a place and is never compiled."""


def _find_place() -> bool:
    try:
        numba.njit(cache=True)(_probe)
    except RuntimeError:  # neither the package nor the user's cache can be written: a locked-down container
        folder = own_folder(Path(tempfile.gettempdir()))
        numba.config.CACHE_DIR = str(folder or "")  # type: ignore[attr-defined]  # a setting by this name
        return folder is not None
    return True


_KEPT: Final = _find_place()


def njit(**options: Any) -> Callable[[Kernel], Kernel]:
    """Return the decorator of a kernel: compiled when first called, kept for other processes, run without the interpreter's lock."""
    decorator: Callable[[Kernel], Kernel] = numba.njit(cache=_KEPT, nogil=True, **options)
    return decorator
