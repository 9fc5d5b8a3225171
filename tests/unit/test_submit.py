"""What `millrace submit` and `millrace properties` hand to spark-submit."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from spark_ext.errors import SettingsError
from spark_ext.ops.cli import app
from spark_ext.ops.submit import _program_at, properties_file, submit_command
from spark_ext.session import defaults
from spark_ext.spark_conf import read_properties


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An own cache, without jars to fetch, and no settings of whoever runs the tests."""
    monkeypatch.setenv("MILLRACE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    monkeypatch.setattr("spark_ext.session.jars", lambda class_path: [Path("/ours.jar")])


@pytest.mark.parametrize("switch", ["--load-spark-defaults", "--usage-error", "--verbose", "--ship"])
def test_a_switch_takes_no_value(switch: str) -> None:
    assert _program_at([switch, "job.py", "--conf", "spark.x=1"]) == 1


def test_an_option_without_its_value_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^cannot read option '--conf': expected key=value, got ''; write the value"):
        submit_command(["--conf"])


def test_the_users_jars_are_joined_with_ours() -> None:
    line, _ = submit_command(["--jars", "mine.jar", "--conf", "spark.sql.extensions=mine.Extension", "job.py", "--jars", "the job's"])
    settings = read_properties(Path(line[2]))
    assert line[3:] == ["job.py", "--jars", "the job's"]
    assert settings["spark.jars"] == "/ours.jar,mine.jar"
    assert settings["spark.sql.extensions"] == "io.delta.sql.DeltaSparkSessionExtension,mine.Extension"


def test_a_relative_cache_gives_an_absolute_properties_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILLRACE_CACHE", "cache")
    assert properties_file({}).is_absolute()


@pytest.mark.parametrize(("arguments", "master"), [([], "spark://theirs:7077"), (["--master", "local[2]"], "local[2]")])
def test_the_users_master_stays_unless_another_is_named(tmp_path: Path, arguments: list[str], master: str) -> None:
    (tmp_path / "spark-defaults.conf").write_text("spark.master spark://theirs:7077\n")
    printed = CliRunner().invoke(app, ["properties", *arguments])
    settings = read_properties(Path(printed.stdout.strip()))
    assert settings["spark.master"] == master
    assert ("spark.driver.bindAddress" in settings) == master.startswith("local"), "defaults follow the master"


def test_log_settings_in_a_path_with_blanks_are_one_java_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spark_ext.session.conf_file", lambda name: tmp_path / "a checkout" / name)
    option = defaults(local=True)["spark.driver.extraJavaOptions"]
    assert option.startswith("-Dlog4j2.configurationFile=file:///")
    assert "/a%20checkout/" in option


@pytest.mark.parametrize(("terminal", "told"), [(True, "1"), (False, None)])
def test_a_program_learns_of_the_terminal_behind_sparks_pipe(monkeypatch: pytest.MonkeyPatch, terminal: bool, told: str | None) -> None:
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    _, environment = submit_command(["job.py"])
    assert environment.get("TTY_COMPATIBLE") == told
