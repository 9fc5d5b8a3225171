"""One place for versions, and a check that names what to change."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from spark_ext import versions
from spark_ext.errors import VersionMismatchError
from spark_ext.jars import CLASS_PATHS, locked
from spark_ext.java import NEWEST, OLDEST

ROOT = Path(__file__).resolve().parents[2]


def test_pyproject_asks_for_the_pinned_versions() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {
        Requirement(line).name: Requirement(line).specifier
        for line in [*project["dependencies"], *project["optional-dependencies"]["engine"]]
    }
    for package, wanted in versions.versions()["python"].items():
        assert asked[package] == SpecifierSet(wanted), package


def test_the_java_range_is_that_of_the_pins() -> None:
    assert versions.versions()["java"] == {"oldest": OLDEST, "newest": NEWEST}


def test_sparks_jars_are_made_for_the_installed_spark_and_delta() -> None:
    jars = {jar.name: jar.revision for jar in locked("spark")}
    assert jars["spark-sql-kafka-0-10_2.13"] == metadata.version("pyspark")
    assert jars["delta-spark_4.2_2.13"] == metadata.version("delta-spark")


@pytest.mark.parametrize("class_path", CLASS_PATHS)
def test_the_lock_holds_every_wanted_jar(class_path: str) -> None:
    found = {f"{jar.organisation}:{jar.name}": jar.revision for jar in locked(class_path)}  # type: ignore[arg-type]
    wanted = versions.versions()["jars"][class_path]
    assert {name: found.get(name) for name in wanted} == wanted


def test_the_installed_versions_pass() -> None:
    versions.check_versions()


@pytest.mark.parametrize(("found", "shown"), [("3.0.1", "3.0.1"), (None, "none")])
def test_a_wrong_version_is_named_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch, found: str | None, shown: str) -> None:
    real = metadata.version

    def version(package: str) -> str:
        if package == "pandas":
            if found is None:
                raise metadata.PackageNotFoundError(package)
            return found
        return real(package)

    monkeypatch.setattr(metadata, "version", version)
    with pytest.raises(VersionMismatchError, match=rf'package \'pandas\'.*got {shown};.*pip install "pandas>=2.2,<3"'):
        versions.check_versions()


def test_no_lock_file_names_an_address() -> None:
    for file in ["conf/requirements.txt", "conf/requirements-jdk.txt", "conf/jars.lock"]:
        text = (ROOT / file).read_text()
        assert "://" not in text, file
        assert "--find-links" not in text, file
