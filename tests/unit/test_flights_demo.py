"""The demo empties the folder that it made, and no other."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from jobs.demos import MARKER, make_room
from jobs.flights.demo import demo
from jobs.flights.settings import Settings
from spark_ext.errors import SettingsError


def test_the_demo_has_a_folder_of_its_own() -> None:
    default = inspect.signature(demo).parameters["out"].default
    assert default == Path("out/demo")
    assert default.resolve() != Path(Settings.load("local").out)


@pytest.mark.parametrize("exists", [True, False])
def test_an_empty_or_absent_folder_becomes_the_demos(tmp_path: Path, exists: bool) -> None:
    out = tmp_path / "out" / "demo"
    if exists:
        out.mkdir(parents=True)
    make_room(out)
    assert [entry.name for entry in out.iterdir()] == [MARKER]


@pytest.mark.parametrize("inside", [False, True])
def test_what_an_earlier_demo_left_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool) -> None:
    monkeypatch.chdir(tmp_path)
    out = Path() if inside else tmp_path
    make_room(out)
    (out / "tables" / "routes").mkdir(parents=True)
    (out / "control").mkdir()
    (out / "checkpoints").symlink_to(tmp_path.parent)
    make_room(out)
    assert [entry.name for entry in tmp_path.iterdir()] == [MARKER]
    assert tmp_path.parent.is_dir()


def test_tables_that_no_demo_made_stay(tmp_path: Path) -> None:
    mine = tmp_path / "tables" / "customers"
    mine.mkdir(parents=True)
    with pytest.raises(SettingsError, match=rf"cannot replace folder .*got \['tables'\] without '{MARKER}'.*another folder with --out"):
        make_room(tmp_path)
    assert mine.is_dir()


def test_files_beside_the_demos_stay(tmp_path: Path) -> None:
    make_room(tmp_path)
    (tmp_path / "tables").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SettingsError, match=r"got \['notes.txt'\]; only what a demo made is deleted"):
        make_room(tmp_path)
    assert (tmp_path / "tables").is_dir()


def test_a_link_or_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("mine")
    for name, what in [("link", "a symbolic link"), ("dangling", "a symbolic link"), ("file", "a file")]:
        with pytest.raises(SettingsError, match=f"got {what}; "):
            make_room(tmp_path / name)
    assert (tmp_path / "file").read_text() == "mine"
