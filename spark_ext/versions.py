"""Which versions work together, and the check that the installed ones do."""

from __future__ import annotations

import functools
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from spark_ext.errors import VersionMismatchError

__all__ = ["check_versions", "conf_file", "versions"]


def conf_file(name: str) -> Path:
    """Return the path of a file of `conf/`, in an installed package or in a checkout."""
    here = Path(__file__).resolve().parent
    installed = here / "conf" / name
    return installed if installed.exists() else here.parent / "conf" / name


@functools.cache
def versions() -> dict[str, Any]:
    """Return `conf/versions.toml`."""
    return tomllib.loads(conf_file("versions.toml").read_text(encoding="utf-8"))


def check_versions() -> None:
    """Refuse to go on with Python packages that were not made for each other.

    Raises
    ------
    VersionMismatchError
        For the first package that is missing or outside its range, with the command that mends it.
    """
    for package, wanted in versions()["python"].items():
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            found = ""
        if found not in SpecifierSet(wanted, prereleases=True):
            raise VersionMismatchError(
                "use",
                "package",
                package,
                expected=f"version {wanted}",
                got=found or "none",
                why="Spark, Delta and their jars are pinned together",
                todo=f'run: pip install "{package}{wanted}"',
            )
