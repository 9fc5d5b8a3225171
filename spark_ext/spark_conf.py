"""What the user has set for Spark, wherever it stands, and a private file to hand settings over."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["read_properties", "split_settings", "user_defaults", "write_properties"]


def user_defaults() -> dict[str, str]:
    """Return what the user's spark-defaults.conf sets, found as Spark finds it."""
    folder = os.environ.get("SPARK_CONF_DIR") or (f"{home}/conf" if (home := os.environ.get("SPARK_HOME")) else None)
    file = Path(folder, "spark-defaults.conf") if folder else None
    return read_properties(file) if file and file.is_file() else {}


def write_properties(settings: Mapping[str, str], file: Path) -> None:
    """Write settings as a Java properties file that only this user can read."""
    lines = [f"{key}={_escaped(value)}" for key, value in sorted(settings.items())]
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="latin-1") as opened:  # what Java's reader expects
        opened.write("\n".join(lines) + "\n")


def split_settings(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Take ``--conf``, ``--master`` and ``--properties-file`` out of spark-submit's arguments."""
    filed: dict[str, str] = {}
    direct: dict[str, str] = {}
    rest: list[str] = []
    position = 0
    while position < len(arguments):
        flag, _, inline = arguments[position].partition("=")
        takes = flag in {"--conf", "-c", "--master", "--properties-file"}
        if not takes:
            rest.append(arguments[position])
            position += 1
            continue
        value = inline if inline else arguments[position + 1]
        position += 1 if inline else 2
        if flag == "--properties-file":
            filed |= read_properties(Path(value))
        elif flag == "--master":
            direct["spark.master"] = value
        else:
            key, _, setting = value.partition("=")
            direct[key] = setting
    return {**filed, **direct}, rest


def read_properties(file: Path) -> dict[str, str]:
    """Read a properties file as Java does: a key, then blanks, a colon or an equals sign, then the value."""
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    pairs = (re.fullmatch(r"([^\s=:]+)\s*[=:\s]?\s*(.*)", line) for line in lines if line and line[0] not in "#!")
    return {found[1]: found[2] for found in pairs if found}


def _escaped(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n")
    units = escaped.encode("utf-16-be")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(chr(code) if code < 127 else f"\\u{code:04x}" for code in codes)  # noqa: PLR2004 (ASCII)
