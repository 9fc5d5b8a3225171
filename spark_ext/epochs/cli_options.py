"""What several commands take: settings of the broker's client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from spark_ext.errors import SettingsError

__all__ = ["ClientOptions", "client_options"]

ClientOptions = Annotated[
    list[str] | None,
    typer.Option("--option", help="Setting of the client as kafka.name=value, secrets as ${env:NAME} or ${file:/path}; repeatable."),
]


def client_options(given: Sequence[str] | None) -> dict[str, str]:
    """Return settings by their names; the last one counts where a name comes twice.

    Raises
    ------
    SettingsError
        One has no value.

    Examples
    --------
    >>> client_options(["kafka.security.protocol=SSL", "kafka.sasl.password=a=b"])
    {'kafka.security.protocol': 'SSL', 'kafka.sasl.password': 'a=b'}
    """
    found = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingsError("use", "option", name, expected="kafka.name=value", got="no value", todo="correct it")
        found[name] = value
    return found
