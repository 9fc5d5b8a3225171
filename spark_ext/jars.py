"""The jars of Spark's connectors and of the broker: fetched once, checked against a lock file, reused offline.

What flows in: `conf/versions.toml` (what is wanted) and `conf/jars.lock` (every jar with its SHA-256).
What flows out: two lists of files, one for Spark's class path and one for the broker's.
The Ivy inside PySpark does the fetching, so neither Maven nor a repository address is needed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from xml.etree import ElementTree as ET

import platformdirs

from spark_ext.errors import JarError
from spark_ext.java import find_java
from spark_ext.versions import conf_file, versions

__all__ = ["Jar", "cache_dir", "cache_folder", "jars", "lock", "locked"]

ClassPath = Literal["spark", "broker"]
CLASS_PATHS: Final[tuple[ClassPath, ...]] = ("spark", "broker")
FETCH_TIMEOUT_S: Final = 600
REACH: Final = "check that Maven Central is reachable, or name a mirror's Ivy settings file in MILLRACE_IVY_SETTINGS"
TRUST: Final = "this Java does not trust the server's certificate: set JAVA_TOOL_OPTIONS=-Djavax.net.ssl.trustStore=<your trust store>"


@dataclass(frozen=True, slots=True, order=True)
class Jar:
    """One locked jar: the class path it is for, its Maven coordinates, and the SHA-256 of its bytes."""

    class_path: str
    organisation: str
    name: str
    revision: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Name of the file in the cache."""
        return f"{self.name}-{self.revision}.jar"


def cache_dir() -> Path:
    """Return the folder for what set-up fetches: ``MILLRACE_CACHE`` if it is set, else the user's cache folder."""
    # Absolute, as Java may stand in another folder.
    return Path(os.environ.get("MILLRACE_CACHE") or platformdirs.user_cache_path("millrace")).absolute()


def cache_folder(name: str, *, mode: int = 0o777) -> Path:
    """Return a folder of the cache, made if need be.

    Raises
    ------
    JarError
        It cannot be made or written to.
    """
    folder = cache_dir() / name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=mode)
        tempfile.TemporaryFile(dir=folder).close()  # a folder that is there may still be read-only
    except OSError as error:
        raise JarError(
            "write",
            "folder",
            str(folder),
            expected="a cache that this user can write",
            got=f"{type(error).__name__}: {error.strerror}",
            todo="name another folder in MILLRACE_CACHE",
        ) from error
    return folder


def locked(class_path: ClassPath) -> list[Jar]:
    """Return the jars that `conf/jars.lock` names for one class path."""
    lines = conf_file("jars.lock").read_text(encoding="utf-8").splitlines()
    every = [Jar(*line.split()) for line in lines if line and not line.startswith("#")]
    return [jar for jar in every if jar.class_path == class_path]


def jars(class_path: ClassPath) -> list[Path]:
    """Return the files of one class path, fetching them the first time.

    Every call reads the files and compares their SHA-256 with the lock, so a damaged cache is noticed
    before a JVM sees it; with a warm cache no network is touched.

    Raises
    ------
    JarError
        A jar could not be fetched, or its bytes are not those of the lock.
    """
    wanted = locked(class_path)
    folder = cache_dir() / "jars" / f"{class_path}-{_digest(wanted)}"
    if not folder.is_dir():
        _fetch(class_path, wanted, folder)
    for jar in wanted:
        _verify(jar, folder / jar.file_name)
    return [folder / jar.file_name for jar in wanted]


def lock() -> Path:
    """Resolve `conf/versions.toml` anew and rewrite `conf/jars.lock`; for maintainers, needs the network."""
    lines = ["# class path, organisation, name, revision, sha256; made by `millrace jars lock`, do not edit"]
    for class_path in CLASS_PATHS:
        wanted = ([*name.split(":"), revision] for name, revision in versions()["jars"][class_path].items())
        roots = [Jar(class_path, organisation, name, revision, sha256="") for organisation, name, revision in wanted]
        with tempfile.TemporaryDirectory() as scratch:
            # Only the broker's roots pull in others: Spark's side is listed whole.
            _ivy(roots, Path(scratch), transitive=class_path == "broker")
            found = [_coordinates(class_path, file) for file in Path(scratch).iterdir()]
        lines += [f"{jar.class_path} {jar.organisation} {jar.name} {jar.revision} {jar.sha256}" for jar in sorted(found)]
    path = conf_file("jars.lock")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _digest(wanted: Sequence[Jar]) -> str:
    return hashlib.sha256(repr(sorted(wanted)).encode()).hexdigest()[:12]


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _verify(jar: Jar, file: Path) -> None:
    got = _sha256(file) if file.is_file() else "no file"
    if got != jar.sha256:
        raise JarError(
            "use", "jar", str(file), expected=f"sha256 {jar.sha256}", got=got, todo=f"remove the folder {str(file.parent)!r} and try again"
        )


def _fetch(class_path: ClassPath, wanted: Sequence[Jar], folder: Path) -> None:
    cache_folder("jars")
    # Fetched beside its place and renamed whole: another process never sees half a folder.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{class_path}-") as scratch:
        _ivy(wanted, Path(scratch), transitive=False)
        done = Path(scratch, "done")
        done.mkdir()
        for jar in wanted:
            fetched = Path(scratch, f"{jar.organisation}__{jar.name}__{jar.revision}.jar")
            _verify(jar, fetched)
            fetched.rename(done / jar.file_name)
        if not folder.is_dir():
            shutil.move(done, folder)


def _ivy(wanted: Sequence[Jar], into: Path, *, transitive: bool) -> None:
    """Run Ivy, leaving ``organisation__name__revision.jar`` files in `into`."""
    descriptor = into / "ivy.xml"
    module = ET.Element("ivy-module", version="2.0")
    ET.SubElement(module, "info", organisation="millrace", module="jars")
    dependencies = ET.SubElement(module, "dependencies")
    for jar in wanted:
        ET.SubElement(
            dependencies,
            "dependency",
            org=jar.organisation,
            name=jar.name,
            rev=jar.revision,
            conf="default->default",
            transitive=str(transitive).lower(),
        )
    ET.ElementTree(module).write(descriptor)
    settings = os.environ.get("MILLRACE_IVY_SETTINGS")
    command = [
        str(find_java(cache=cache_dir()).executable),
        "-jar",
        str(_ivy_jar()),
        *(["-settings", settings] if settings else []),
        *["-cache", str(cache_dir() / "ivy"), "-ivy", str(descriptor), "-types", "jar", "bundle"],
        *["-retrieve", str(into / "[organisation]__[artifact]__[revision].[ext]")],
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False)
        said, failed = (done.stdout + done.stderr).strip(), done.returncode != 0
    except subprocess.TimeoutExpired:
        said, failed = f"no answer within {FETCH_TIMEOUT_S} s", True
    descriptor.unlink()
    missing = [jar for jar in wanted if not (into / f"{jar.organisation}__{jar.name}__{jar.revision}.jar").is_file()]
    if failed or missing:
        raise JarError(
            "fetch",
            "jar",
            missing[0].file_name if missing else "all",
            expected="every jar of conf/jars.lock",
            got=f"{len(missing)} of {len(wanted)} missing",
            why=f"Ivy said: {_told(said)}",
            todo=TRUST if "PKIX" in said else REACH,
        )


def _told(said: str) -> str:
    """Take the reason out of Ivy's long report: what the server said, else what was not found."""
    refused = re.findall(r"Server access error at url \S+ \((.*)\)$", said, re.MULTILINE)
    missing = re.findall(r"^\s*(module not found: .*)$", said, re.MULTILINE)
    return ", ".join(list(dict.fromkeys(refused or missing))[:3]) or said[-400:]


def _ivy_jar() -> Path:
    spec = importlib.util.find_spec("pyspark")
    found = sorted(Path(spec.origin).parent.glob("jars/ivy-*.jar")) if spec and spec.origin else []
    if not found:
        raise JarError("find", "jar", "ivy", expected="pyspark with its jars", got="none", todo="run: python3 bootstrap.py")
    return found[-1]


def _coordinates(class_path: str, file: Path) -> Jar:
    organisation, name, revision = file.stem.split("__")
    return Jar(class_path, organisation, name, revision, _sha256(file))
