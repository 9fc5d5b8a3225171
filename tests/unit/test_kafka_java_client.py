"""Settings of Java's client: references that it understands, secrets themselves refused; without a JVM."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace as Space
from typing import Any

import pytest

from spark_ext.errors import SettingsError
from spark_ext.kafka.java_client import java_options

VARIABLES = {"THERE": "s"}
SPARK: Any = Space(sparkContext=Space(_jvm=Space(java=Space(lang=Space(System=Space(getenv=VARIABLES.get))))))
JAAS = 'some.Module required username="me" password="{}" other="x";'


def test_without_references_options_stay_as_they_are() -> None:
    given = {"kafka.security.protocol": "SSL", "startingOffsets": "earliest", "kafka.ssl.truststore.location": "/t", "x": "${env:THERE}"}
    assert java_options(SPARK, given) == given


def test_references_are_written_as_java_s_client_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("s", encoding="utf-8")
    given = {
        "kafka.sasl.jaas.config": JAAS.format("${env:THERE}"),
        "kafka.ssl.keystore.password": f"${{file:{file}}}",
        "kafka.client.id": "x",
    }
    assert java_options(SPARK, given) == {
        "kafka.sasl.jaas.config": JAAS.format("${env:THERE}"),
        "kafka.ssl.keystore.password": f"${{directory:{tmp_path}:secret}}",
        "kafka.client.id": "x",
        "kafka.config.providers": "env,directory",
        "kafka.config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
        "kafka.config.providers.directory.class": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
    }
    assert java_options(SPARK, java_options(SPARK, given)) == java_options(SPARK, given)


def test_a_whole_login_may_be_in_a_file_with_line_ends(tmp_path: Path) -> None:
    file = tmp_path / "jaas"
    file.write_text(JAAS.format("s") + "\n", encoding="utf-8")
    found = java_options(SPARK, {"kafka.sasl.jaas.config": f"${{file:{file}}}"})
    assert found["kafka.sasl.jaas.config"] == f"${{directory:{tmp_path}:jaas}}"


def test_a_user_s_own_providers_are_left_alone() -> None:
    given = {"kafka.config.providers": "vault", "kafka.ssl.keystore.password": "${vault:a/b:c}", "kafka.client.id": "${env:NOT_THERE}"}
    assert java_options(SPARK, given) == given


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ssl.keystore.password", "hunter2"),
        ("ssl.key.password", "${env:THERE}hunter2"),
        ("ssl.keystore.key", "-----BEGIN PRIVATE KEY-----hunter2"),
        ("sasl.jaas.config", JAAS.format("hunter2")),
        ("sasl.jaas.config", "some.Module required password='hunter2';"),
        ("sasl.jaas.config", "some.Module required clientSecret=hunter2;"),
        ("sasl.jaas.config", JAAS.format("${env:THERE}hunter2")),
        ("sasl.jaas.config", f"""{JAAS.format("${env:THERE}")} other.Module required user_a="x" password = "hunter2";"""),
    ],
)
def test_a_secret_itself_is_refused_and_not_repeated(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=rf"cannot use option 'kafka\.{name}': expected a reference such as") as caught:
        java_options(SPARK, {f"kafka.{name}": text})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("known", ['keyTab="/k" principal="me"', 'username="me" password="${env:THERE}" tokenauth="true"'])
def test_what_is_no_secret_in_a_login_may_stand_there(known: str) -> None:
    text = f"some.Module required {known};"
    assert java_options(SPARK, {"kafka.sasl.jaas.config": text})["kafka.sasl.jaas.config"] == text


def test_a_reference_to_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot resolve reference '\$\{env:NOT_THERE\}'.*in the JVM.*before Spark starts"):
        java_options(SPARK, {"kafka.ssl.key.password": "${env:NOT_THERE}"})
    with pytest.raises(SettingsError, match=r"cannot resolve reference '\$\{file:/nowhere\}'.*No such file"):
        java_options(SPARK, {"kafka.ssl.key.password": "${file:/nowhere}"})
    file = tmp_path / "secret"
    file.write_text("s\n", encoding="utf-8")
    for name, text in (("ssl.key.password", "{}"), ("sasl.jaas.config", JAAS)):
        with pytest.raises(SettingsError, match=r"expected a file without a line end.*write the secret without it"):
            java_options(SPARK, {f"kafka.{name}": text.format(f"${{file:{file}}}")})
