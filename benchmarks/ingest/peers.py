"""What the peers need, fetched the first time into the cache by the ordinary clients: jars by Ivy, wheels by pip."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from spark_ext.errors import JavaError
from spark_ext.jars import Jar, _ivy, cache_dir, cache_folder
from spark_ext.java import find_java

__all__ = ["compiled", "fetched", "installed"]

TIMEOUT_S: Final = 1_800


def fetched(*wanted: str) -> list[Path]:
    """Return jars, those that they pull in too, as files of the cache.

    Parameters
    ----------
    wanted : str
        Maven coordinates, ``organisation:name:revision``.
    """
    folder = cache_folder("ingest-peers") / _digest(wanted)
    if not folder.is_dir():
        parts = (each.split(":") for each in wanted)
        roots = [Jar("peers", organisation, name, revision, sha256="") for organisation, name, revision in parts]
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            into = Path(scratch, "jars")
            into.mkdir()
            _ivy(roots, into, transitive=True)
            into.rename(folder)
    return sorted(folder.glob("*.jar"))


def installed(*wanted: str) -> Path:
    """Return the Python of a virtual environment in the cache that has nothing but some packages."""
    folder = cache_folder("ingest-peers") / _digest(wanted)
    python, done = folder / "bin" / "python", folder / "done"
    if not done.is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True, timeout=TIMEOUT_S)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True, timeout=TIMEOUT_S)
        done.touch()
    return python


def compiled(source: str, class_path: Sequence[Path]) -> Path:
    """Return the folder with the classes of one file of ``java/``.

    Raises
    ------
    JavaError
        There is a Java, but no compiler.
    """
    file = Path(str(files("benchmarks.ingest") / "java" / source))
    folder = cache_folder("ingest-peers") / _digest([file.read_text(encoding="utf-8"), *map(str, class_path)])
    if not folder.is_dir():
        compiler = find_java(cache=cache_dir()).home / "bin" / "javac"
        if not compiler.is_file():
            raise JavaError("find", "program", "javac", expected=str(compiler), got="no such file", todo="install a JDK, not only a JRE")
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            into = Path(scratch, "classes")
            # The oldest Java that is supported here runs it too.
            line = [str(compiler), "--release", "17", "-cp", os.pathsep.join(map(str, class_path)), "-d", str(into), str(file)]
            subprocess.run(line, check=True, timeout=TIMEOUT_S)
            into.rename(folder)
    return folder


def _digest(of: Sequence[str]) -> str:
    return hashlib.sha256(repr(tuple(of)).encode()).hexdigest()[:12]
