"""References to secrets, and what an error about them shows."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from spark_ext.errors import SettingsError
from spark_ext.kafka.references import is_secret, resolve


@pytest.mark.parametrize("name", ["sasl.password", "ssl.keystore.key", "ssl.key.pem", "sasl.oauthbearer.client.secret"])
def test_settings_that_hold_a_secret_are_known_by_name(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["ssl.key.location", "ssl.keystore.type", "ssl.ca.pem", "sasl.oauthbearer.token.endpoint.url", "sasl.username"]
)
def test_settings_that_say_where_it_is_are_none(name: str) -> None:
    assert not is_secret(name)


def test_a_file_that_is_no_text_is_named_and_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"\xffhunter2")
    with pytest.raises(
        SettingsError, match=r"cannot resolve reference '\$\{file:.*secret\}': expected a value, got bytes that are no UTF-8"
    ) as caught:
        resolve({"sasl.password": f"${{file:{file}}}"})
    assert "hunter2" not in "".join(traceback.format_exception(caught.value)) + repr(caught.value.__context__)
