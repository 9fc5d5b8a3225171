"""What the user has set for Spark, wherever it stands, and a private file to hand settings over."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from pyspark.find_spark_home import _find_spark_home

from spark_ext.errors import SettingsError

__all__ = ["holds", "merge", "read_properties", "split_settings", "user_defaults", "write_properties"]

JOINED: Final = {
    "spark.jars": ",",
    "spark.sql.extensions": ",",
    "spark.driver.extraJavaOptions": " ",
    "spark.driver.extraClassPath": os.pathsep,
    "spark.executor.extraClassPath": os.pathsep,
}
# An option of spark-submit whose value would hide a setting of ours, and the setting that it is.
OPTIONS: Final = {
    "--master": "spark.master",
    "--jars": "spark.jars",
    "--driver-java-options": "spark.driver.extraJavaOptions",
    "--driver-class-path": "spark.driver.extraClassPath",
}
TAKEN: Final = {"--conf", "-c", "--properties-file", *OPTIONS}

PAIR: Final = re.compile(r"((?:\\.|[^\\=: \t\f])*)[ \t\f]*(?:[=:][ \t\f]*)?(.*)", re.DOTALL)
CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
ESCAPES: Final = {control: f"\\{letter}" for letter, control in CONTROLS.items()} | {special: f"\\{special}" for special in "\\ =:#!"}


def merge(ours: Mapping[str, str], user: Mapping[str, str]) -> dict[str, str]:
    """Return both settings in one: the user's win, but lists of jars, extensions and Java options are joined.

    Ours come first: of two equal Java options the last one, the user's, counts.

    Examples
    --------
    >>> merge({"spark.jars": "a.jar", "spark.x": "1"}, {"spark.jars": "b.jar", "spark.x": "2"})
    {'spark.jars': 'a.jar,b.jar', 'spark.x': '2'}
    """
    merged = {**ours, **user}
    for key, separator in JOINED.items():
        if ours.get(key) and key in user:
            there = set(map(_plain, user[key].split(separator)))
            missing = [part for part in ours[key].split(separator) if _plain(part) not in there]
            merged[key] = separator.join([*missing, *([user[key]] if user[key] else [])])
    return merged


def holds(settings: Mapping[str, str], key: str, value: str) -> bool:
    """Tell whether settings have this value, or for a list all its parts."""
    return key in settings and (merge({key: value}, settings) if key in JOINED else {key: value})[key] == settings[key]


def user_defaults() -> dict[str, str]:
    """Return what the user's spark-defaults.conf sets, found as Spark finds it."""
    file = Path(os.environ.get("SPARK_CONF_DIR") or Path(_find_spark_home(), "conf"), "spark-defaults.conf")
    return read_properties(file) if file.is_file() else {}


def write_properties(settings: Mapping[str, str], file: Path) -> None:
    """Write settings as a Java properties file that only this user can read."""
    lines = [f"{_escaped(key)}={_escaped(value)}" for key, value in sorted(settings.items())]
    # Written beside its place and renamed whole: a JVM that starts meanwhile never sees half a file.
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".properties-") as scratch:
        whole = Path(scratch, file.name)
        with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as opened:
            opened.write("\n".join(lines) + "\n")
        whole.replace(file)


def split_settings(arguments: list[str]) -> tuple[dict[str, str], list[str]]:
    """Take out of spark-submit's arguments what is a setting, a file of settings, or an option that hides one of ours.

    Raises
    ------
    SettingsError
        An option without its value, or a file of settings that cannot be read.
    """
    filed: dict[str, str] = {}
    direct: dict[str, str] = {}
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        flag, _, inline = word.partition("=")
        if flag not in TAKEN:
            rest.append(word)
            continue
        value = inline or next(words, "")
        key, equals, setting = value.partition("=")
        if not value or (flag in {"--conf", "-c"} and not equals):
            expected = "key=value" if flag in {"--conf", "-c"} else "a value"
            raise SettingsError("read", "option", flag, expected=expected, got=repr(value), todo="write the value behind the option")
        if flag == "--properties-file":
            filed |= read_properties(Path(value))
        elif flag in OPTIONS:
            direct[OPTIONS[flag]] = value
        else:
            direct[key] = setting
    return {**filed, **direct}, rest


def read_properties(file: Path) -> dict[str, str]:
    """Read a properties file as Java does: a key, then blanks, a colon or an equals sign, then the value."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")  # Spark reads UTF-8; \r\n and \r become \n
        pairs = [found.groups() for line in _logical_lines(text.split("\n")) if (found := PAIR.fullmatch(line))]
        plain = [(_unescaped(key), _unescaped(value)) for key, value in pairs]
        return {key: value for key, value in plain if key}
    except (OSError, ValueError) as error:
        raise SettingsError(
            "read", "file", str(file), expected="a Java properties file", got=str(error), todo="correct the file, or name another"
        ) from error


def _logical_lines(lines: Iterable[str]) -> list[str]:
    """Join each line that ends in an odd number of backslashes with the next; leave comments and empty lines out."""
    logical: list[str] = []
    open_line: str | None = None
    for line in lines:
        stripped = line.lstrip(" \t\f")
        if not open_line and stripped[:1] in {"#", "!"}:
            open_line = None  # to Java a continued line that is still empty is a new one
            continue
        backslashes = len(stripped) - len(stripped.rstrip("\\"))
        whole = (open_line or "") + (stripped[:-1] if backslashes % 2 else stripped)
        open_line = whole if backslashes % 2 else None
        if open_line is None:
            logical.append(whole)
    return [line for line in [*logical, open_line] if line]


def _unescaped(text: str) -> str:
    def meant(found: re.Match[str]) -> str:
        code = found[1]
        return chr(int(code[1:], 16)) if code[0] == "u" else CONTROLS.get(code, code)

    if re.search(r"(?<!\\)(?:\\\\)*\\u(?![0-9a-fA-F]{4})", text):
        raise ValueError("malformed \\uXXXX")  # without the text: it may be a secret
    units = re.sub(r"\\(u[0-9a-fA-F]{4}|.)", meant, text, flags=re.DOTALL)
    return units.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")  # joins the halves of a pair


def _escaped(text: str) -> str:
    units = text.encode("utf-16-be", "surrogatepass")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(ESCAPES.get(chr(code)) or (chr(code) if 32 <= code < 127 else f"\\u{code:04x}") for code in codes)  # noqa: PLR2004 (ASCII)


def _plain(part: str) -> str:
    """Return a part of a list so that a path and the ``file:`` URI that Spark makes of it are equal."""
    return os.path.realpath(unquote(re.sub(r"^file:(//)?(?=/)", "", part.strip())))
