"""The jar cache: verified at each use, never a network when it is warm."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from spark_ext import jars
from spark_ext.errors import JarError


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with one small jar, and a lock that knows it."""
    body = b"not really a jar"
    one = jars.Jar("spark", "org.example", "thing", "1.0", hashlib.sha256(body).hexdigest())
    monkeypatch.setenv("MILLRACE_CACHE", str(tmp_path))
    monkeypatch.setattr(jars, "locked", lambda class_path: [one])
    folder = tmp_path / "jars" / f"spark-{jars._digest([one])}"
    folder.mkdir(parents=True)
    file = folder / one.file_name
    file.write_bytes(body)
    return file


def no_network(*_: object, **__: object) -> None:
    pytest.fail("Ivy was called")


def test_a_warm_cache_needs_no_network(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "_ivy", no_network)
    assert jars.jars("spark") == [cached]


@pytest.mark.parametrize("damage", [b"", b"not really a jaR"])
def test_a_damaged_jar_is_refused(cached: Path, damage: bytes) -> None:
    cached.write_bytes(damage)
    with pytest.raises(JarError, match=r"expected sha256 .* got .*; remove the folder"):
        jars.jars("spark")


def test_a_missing_jar_is_refused(cached: Path) -> None:
    cached.unlink()
    with pytest.raises(JarError, match="got no file; remove the folder"):
        jars.jars("spark")


def test_a_fetched_jar_with_other_bytes_never_enters_the_cache(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached.unlink()
    cached.parent.rmdir()

    def fetch_forged(wanted: list[jars.Jar], into: Path, *, transitive: bool) -> None:
        (into / "org.example__thing__1.0.jar").write_bytes(b"forged")

    monkeypatch.setattr(jars, "_ivy", fetch_forged)
    with pytest.raises(JarError, match="expected sha256"):
        jars.jars("spark")
    assert not cached.parent.exists()


def test_a_jar_that_does_not_exist_is_named(cached: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real Ivy, asked for something it can only look for in an empty local folder."""
    cached.unlink()
    cached.parent.rmdir()
    settings = tmp_path / "settings.xml"
    settings.write_text(
        "<ivysettings><settings defaultResolver='none'/><resolvers><filesystem name='none'>"
        f"<artifact pattern='{tmp_path}/nothing/[artifact].[ext]'/></filesystem></resolvers></ivysettings>"
    )
    monkeypatch.setenv("MILLRACE_IVY_SETTINGS", str(settings))
    with pytest.raises(JarError, match=r"cannot fetch jar 'thing-1.0.jar'.*1 of 1 missing.*MILLRACE_IVY_SETTINGS"):
        jars.jars("spark")


def test_the_cache_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILLRACE_CACHE", "cache")
    assert jars.cache_dir() == tmp_path / "cache"


def test_a_cache_that_cannot_be_written_is_named(cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_CACHE", str(cached))  # a file, so no folder can be made in it
    with pytest.raises(
        JarError, match=r"^cannot write folder .*: expected .*, got NotADirectoryError: .*; name another folder in MILLRACE_CACHE"
    ):
        jars.jars("spark")
