"""Settings of Java's client, for Spark's own connector: secrets by reference there too.

Java's client resolves references itself, where it connects: in the driver and in every executor. So the options of Spark's
source, which plans show, have the references only. It writes a file as ``${directory:/run/secrets:kafka}`` and has to be told
who resolves what (KIP-421, KIP-297).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pyspark.sql import SparkSession

from spark_ext.errors import SettingsError
from spark_ext.kafka.references import CLIENT, REFERENCE, is_secret, literal, resolve

__all__ = ["java_options"]

PROVIDERS: Final = f"{CLIENT}config.providers"
KINDS: Final = {
    "env": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
    "directory": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
}
JAVAS: Final = re.compile(r"\$\{[^}:]+:[^}]+\}")  # references to whatever providers the user names
IN_JAAS: Final = re.compile(r"""(?i)\w*(password|secret|token|passphrase)\w*\s*=\s*(?!"?(true|false)\b)("[^"]+"|'[^']+'|[^\s"';]+)""")
JAAS: Final = f"{CLIENT}sasl.jaas.config"


def java_options(spark: SparkSession, options: Mapping[str, str]) -> dict[str, str]:
    """Return options of Spark's connector whose references Java's client understands.

    Parameters
    ----------
    spark : SparkSession
        Its JVM is asked whether it has the variables.
    options : mapping of str to str
        Options of Spark's connector, settings of the client with ``kafka.`` in front. A secret is ``${env:NAME}`` or
        ``${file:/path}``, or has these in it, as in ``... required username="me" password="${env:NAME}";``. If they name
        ``kafka.config.providers`` of their own, they stay as they are.

    Raises
    ------
    SettingsError
        A secret stands there itself, or what a reference names is not there.
    """
    client = {name: text for name, text in options.items() if name.startswith(CLIENT)}
    for name, text in client.items():
        if _has_secret(name, text):
            raise literal(name)
    referring = {name: text for name, text in client.items() if REFERENCE.search(text)}
    if PROVIDERS in client or not referring:
        return dict(options)
    for name, text in referring.items():
        _check(spark, name, text)
    classes = {f"{PROVIDERS}.{kind}.class": provider for kind, provider in KINDS.items()}
    return {**options, **{name: REFERENCE.sub(_in_java, text) for name, text in referring.items()}, PROVIDERS: ",".join(KINDS), **classes}


def _has_secret(name: str, text: str) -> bool:
    if not is_secret(name) or JAVAS.fullmatch(text):
        return False
    return name != JAAS or IN_JAAS.search(JAVAS.sub("", text)) is not None


def _check(spark: SparkSession, name: str, text: str) -> None:
    """Refuse here what the client would only meet with an obscure error, or would take as the secret itself."""
    jvm: Any = spark.sparkContext._jvm  # noqa: SLF001 (no public way to the environment of the JVM)
    for reference in REFERENCE.finditer(text):
        kind, place = reference.groups()
        if kind == "file":
            resolve({name: reference.group()})  # it is there
            if Path(place).read_bytes().endswith((b"\n", b"\r")) and (name != JAAS or reference.group() != text):
                why = "Java's client takes the file as it is"
                raise _unusable(reference.group(), "a file without a line end", "one that has it", why, "write the secret without it")
        elif jvm.java.lang.System.getenv(place) is None:
            todo = "set it for the driver and for every executor, before Spark starts"
            raise _unusable(reference.group(), "a value", "no such variable in the JVM", "", todo)


def _unusable(reference: str, expected: str, got: str, why: str, todo: str) -> SettingsError:
    return SettingsError("resolve", "reference", reference, expected=expected, got=got, why=why, todo=todo)


def _in_java(match: re.Match[str]) -> str:
    kind, place = match.groups()
    if kind == "env":
        return match.group()
    file = Path(place).absolute()
    return f"${{directory:{file.parent}:{file.name}}}"
