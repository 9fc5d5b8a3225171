"""The settings of the web analytics job are whole, typed, and its proof knows the same rules."""

from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.web_analytics import pipeline
from jobs.web_analytics.check.proof import Promise
from jobs.web_analytics.demo import demo
from jobs.web_analytics.settings import Settings
from spark_ext.errors import SettingsError


def test_a_file_and_arguments_make_the_settings() -> None:
    settings = Settings.load("local", topic="other", out="here", max_offsets_per_trigger=None)
    assert settings.topic == "other"
    assert Path(settings.out) == Path("here").resolve()
    assert settings.max_offsets_per_trigger > 0
    assert settings.table("visits").endswith("/here/tables/visits")


@pytest.mark.parametrize(("name", "value"), [("lateness_minutes", 0), ("max_offsets_per_trigger", -1), ("colour", "red")])
def test_what_cannot_be_is_refused(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"(?s)cannot load settings .*{name}"):
        Settings.load("local", **{name: value})  # type: ignore[arg-type]


def test_an_environment_that_is_not_there_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml"):
        Settings.load("nowhere")


def test_the_proof_goes_by_the_rules_of_the_job() -> None:
    promise = Promise()
    assert promise.lateness == Settings.load("local").lateness == timedelta(hours=2)
    assert (promise.horizon, promise.gap, promise.half_life) == (pipeline.HORIZON, pipeline.GAP, pipeline.HALF_LIFE)


def test_the_demo_has_a_folder_of_its_own() -> None:
    default = inspect.signature(demo).parameters["out"].default
    assert default == Path("out/web_demo")
    assert default.resolve() != Path(Settings.load("local").out)
