"""numba's compiler for our kernels, a place for what it compiled where numba finds none, and whether it is there at all.

Without numba (or with ``MILLRACE_NO_NUMBA`` set) kernels of `sketches` are not run: each has an equal in NumPy, see `pick`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

try:
    import numba
except ImportError:  # NumPy has to do
    numba = None  # type: ignore[assignment]

__all__ = ["HAS_NUMBA", "njit", "own_folder", "pick"]

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

HAS_NUMBA: Final = numba is not None and not os.environ.get("MILLRACE_NO_NUMBA")
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


_KEPT: Final = HAS_NUMBA and _find_place()


def njit(**options: Any) -> Callable[[Kernel], Kernel]:
    """Return the decorator of a kernel: compiled when first called, kept for other processes, run without the interpreter's lock."""
    if not HAS_NUMBA:
        return lambda kernel: kernel
    decorator: Callable[[Kernel], Kernel] = numba.njit(cache=_KEPT, nogil=True, **options)
    return decorator


def pick(compiled: Kernel, plain: Kernel) -> Kernel:
    """Return the kernel that loops if numba is there to compile it, else its equal in NumPy."""
    return compiled if HAS_NUMBA else plain
