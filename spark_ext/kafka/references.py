"""Secrets of the client: which settings hold one, and the references that stand for them in options."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from spark_ext.errors import SettingsError

__all__ = ["CLIENT", "REFERENCE", "is_secret", "literal", "resolve"]

CLIENT: Final = "kafka."  # an option that starts so is a setting of the client, ours or Java's
REFERENCE: Final = re.compile(r"\$\{(env|file):([^}]+)\}")
SECRET: Final = re.compile(r"password|passwd|passphrase|secret|token|jaas|credential|key\.pem|keystore\.key|oauthbearer\.config|private")
NO_SECRET: Final = re.compile(r"\.(url|location|path|type)$")


def is_secret(name: str) -> bool:
    """Tell whether a setting of the client, by its name, holds a secret itself."""
    return SECRET.search(name) is not None and not NO_SECRET.search(name)


def literal(name: str) -> SettingsError:
    """Return the error of a secret that is given itself."""
    return SettingsError(
        "use",
        "option",
        name,
        expected="a reference such as ${env:KAFKA_SECRET} or ${file:/run/secrets/kafka}",
        got="the secret itself",  # never its value
        why="options are shown in plans and logs",
        todo="put the secret into a variable or a file that driver and executors can read",
    )


def resolve(client: Mapping[str, str]) -> dict[str, str]:
    """Replace references to secrets by what they refer to; only where a connection is made, and never in a log.

    Raises
    ------
    SettingsError
        The variable or the file is not there, with its name and without any value.
    """

    def found(match: re.Match[str]) -> str:
        kind, name = match.groups()
        if kind == "env":
            if name in os.environ:
                return os.environ[name]
            got = "no such variable in this process"
        else:
            try:
                return Path(name).read_text(encoding="utf-8").rstrip("\r\n")
            except OSError as error:
                got = error.strerror or type(error).__name__
            except UnicodeDecodeError:  # which would show the bytes
                got = "bytes that are no UTF-8"
        todo = "set it for the driver and for every executor"
        raise SettingsError("resolve", "reference", match.group(), expected="a value", got=got, todo=todo)

    return {key: REFERENCE.sub(found, value) for key, value in client.items()}
