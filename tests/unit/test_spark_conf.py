"""Reading what the user set, and handing settings over without showing them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_ext.spark_conf import read_properties, split_settings, user_defaults, write_properties


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


names = st.from_regex(r"spark\.[a-zA-Z.]{1,10}", fullmatch=True)
values = st.text("abcXYZ019 =:#!/.-", max_size=12).map(str.strip)


@given(settings=st.dictionaries(names, values))
def test_plain_values_survive_the_round_trip(tmp_path_factory: pytest.TempPathFactory, settings: dict[str, str]) -> None:
    file = tmp_path_factory.getbasetemp() / "round-trip.properties"
    write_properties(settings, file)
    assert read_properties(file) == settings
