"""Reading what the user set, and handing settings over without showing them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_ext.errors import SettingsError
from spark_ext.spark_conf import holds, merge, read_properties, split_settings, user_defaults, write_properties


def test_settings_are_taken_out_of_the_arguments_and_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "user.properties"
    file.write_text("# comment\nspark.a 1\nspark.b=2\nspark.c : 3\n")
    arguments = ["--conf", "spark.a=10", "--properties-file", str(file), "-c", "spark.d=x=y", "--master=local[3]", "--verbose"]
    assert split_settings(arguments) == (
        {"spark.a": "10", "spark.b": "2", "spark.c": "3", "spark.d": "x=y", "spark.master": "local[3]"},
        ["--verbose"],
    )


def test_spark_defaults_are_found_where_spark_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spark-defaults.conf").write_text("spark.sql.shuffle.partitions   7\n")
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    assert user_defaults() == {"spark.sql.shuffle.partitions": "7"}


def test_the_file_is_private(tmp_path: Path) -> None:
    write_properties({"spark.hadoop.secret": "s3cr3t"}, tmp_path / "p")
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o600


names = st.from_regex(r"spark\.[a-zA-Z.:=# ]{1,10}", fullmatch=True)
values = st.text(st.one_of(st.sampled_from("\\\r\n\t\f =:#!u\u2028\x85é😀"), st.characters(codec="utf-8")), max_size=12)


@given(settings=st.dictionaries(names, values))
def test_every_value_survives_the_round_trip(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]) -> None:
    file = tmp_path_factory.getbasetemp() / "round-trip.properties"
    write_properties(settings, file)
    assert read_properties(file) == settings


@pytest.mark.parametrize("value", ["a\rspark.master=evil", "a\nspark.master=evil", "a\u2028spark.master=evil", "a\\\nspark.master=evil"])
def test_a_value_cannot_become_a_second_setting(tmp_path: Path, value: str) -> None:
    write_properties({"spark.v": value}, tmp_path / "p")
    assert len((tmp_path / "p").read_bytes().splitlines()) == 1
    assert read_properties(tmp_path / "p") == {"spark.v": value}


def test_continued_lines_and_escapes_are_read_as_java_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "p"
    text = "a one,\\\r\n  two\rb C:\\\\dir\\\\\n# c=comment\\\nd caf\\u00e9\ne  x\u2028y\nf\\ g=2\nh\\:i \\tk\\q\nlast=\\"
    file.write_text(text, encoding="utf-8", newline="")
    assert read_properties(file) == {
        "a": "one,two",
        "b": "C:\\dir\\",
        "d": "café",
        "e": "x\u2028y",
        "f g": "2",
        "h:i": "\tkq",
        "last": "",
    }


@pytest.mark.parametrize("body", [b"spark.a=\\u12\n", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, body: bytes | None) -> None:
    if body is not None:
        (tmp_path / "p").write_bytes(body)
    with pytest.raises(SettingsError, match=r"^cannot read file '.*/p': expected a Java properties file, got .*; correct the file"):
        split_settings(["--properties-file", str(tmp_path / "p")])


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "p"
    write_properties({"spark.a": "1"}, file)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_properties({"spark.a": "2"}, file)
    assert read_properties(file) == {"spark.a": "1"}
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("arguments", [["--conf"], ["-c"], ["--master"], ["--jars"], ["--properties-file"], ["--conf", "no equals sign"]])
def test_an_option_without_its_value_is_named(arguments: list[str]) -> None:
    with pytest.raises(SettingsError, match=rf"^cannot read option '{arguments[0]}': expected .*value.*, got .*; write the value"):
        split_settings(arguments)


def test_options_that_hide_ours_are_settings() -> None:
    arguments = ["--jars", "a.jar", "--driver-java-options=-Da=1", "--files", "b"]
    assert split_settings(arguments) == ({"spark.jars": "a.jar", "spark.driver.extraJavaOptions": "-Da=1"}, ["--files", "b"])


@pytest.mark.parametrize(
    ("key", "ours", "user", "both"),
    [
        ("spark.jars", "/a.jar,/b.jar", "c.jar", "/a.jar,/b.jar,c.jar"),
        ("spark.jars", "/my cache/a.jar,/b.jar", "file:///my%20cache/a.jar,c.jar", "/b.jar,file:///my%20cache/a.jar,c.jar"),
        ("spark.jars", "/a.jar", "", "/a.jar"),
        ("spark.sql.extensions", "a.A", "b.B", "a.A,b.B"),
        ("spark.sql.extensions", "a.A", "b.B,a.A", "b.B,a.A"),
        ("spark.driver.extraJavaOptions", "-Da=1", "-Db='x y' -Dc='z y'", "-Da=1 -Db='x y' -Dc='z y'"),
        ("spark.other", "a", "b", "b"),
    ],
)
def test_lists_are_joined_and_all_else_is_the_users(key: str, ours: str, user: str, both: str) -> None:
    assert merge({key: ours, "spark.x": "1"}, {key: user}) == {key: both, "spark.x": "1"}
    assert merge({key: ours}, {}) == {key: ours}
    assert holds({key: both}, key, user)
    assert not holds({key: "a.A"}, key, "z.Z")


def test_a_jar_is_the_same_by_way_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert holds({"spark.jars": f"file://{tmp_path}/real/a.jar"}, "spark.jars", f"{tmp_path}/link/a.jar")


def test_the_defaults_of_the_installed_pyspark_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARK_CONF_DIR", raising=False)
    monkeypatch.delenv("SPARK_HOME", raising=False)
    monkeypatch.setattr("spark_ext.spark_conf._find_spark_home", lambda: str(tmp_path))
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "spark-defaults.conf").write_text("spark.a 1\n")
    assert user_defaults() == {"spark.a": "1"}
