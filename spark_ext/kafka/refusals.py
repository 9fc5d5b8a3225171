"""What a broker refuses us, and what we refuse of it, as errors that name the user and what to do.

The clients keep only the text of a refusal while they try again, each in words of its own: they are told apart here.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Mapping
from typing import Final

from spark_ext.errors import BrokerError
from spark_ext.kafka.references import is_secret

__all__ = ["LoginError", "forbidden", "is_refusal", "login_refused", "user_of", "without_secrets"]

SHORTEST_SECRET: Final = 4  # what is shorter is also part of innocent words

LOGIN: Final = re.compile(r"SASL authentication error|SASL \S+ mechanism handshake failed|SaslAuthentication|UnsupportedSaslMechanism")
DISTRUST: Final = re.compile(r"(?i)certificate.verify.failed|SslAuthentication")
OUR_CERTIFICATE: Final = re.compile(r"(?i)alert number \d|\balert\b.*certificate|certificate_required|bad_certificate")
ADDRESS: Final = re.compile(r"ssl://\[?([^/\s\]]+)\]?:(\d+)/")  # where librdkafka was, when it says so
VERDICT_TIMEOUT_S: Final = 2.0


class LoginError(BrokerError):
    """The broker does not let us in, or we do not trust it. It may pass: behind some brokers is a directory that is away."""


def is_refusal(text: str) -> bool:
    """Tell whether a client's text speaks of a login or a certificate."""
    return any(pattern.search(text) for pattern in (LOGIN, DISTRUST, OUR_CERTIFICATE))


def login_refused(servers: str, client: Mapping[str, str], text: str) -> LoginError | None:
    """Return the error that a client's text stands for; None if it speaks of no login and no certificate.

    Parameters
    ----------
    servers : str
        Addresses of the brokers.
    client : mapping of str to str
        Settings of the client that said it.
    text : str
        What it said.
    """
    got = without_secrets(text, client)
    if LOGIN.search(text):
        mechanism = client.get("sasl.mechanism") or client.get("sasl.mechanisms") or "GSSAPI, the default"
        expected = f"a login as {user_of(client)} by {mechanism}"
        todo = "correct the user, the mechanism or the secret in the client settings"
        return LoginError("log in to", "broker", servers, expected=expected, got=got, todo=todo)
    if OUR_CERTIFICATE.search(text):
        todo = "give ssl.certificate.location and ssl.key.location of a certificate that the broker's authorities have signed"
        return LoginError("log in to", "broker", servers, expected=f"a login as {user_of(client)}", got=got, todo=todo)
    if DISTRUST.search(text):
        authority = client.get("ssl.ca.location") or client.get("ssl.truststore.location")
        expected = f"a certificate for this address, signed by an authority in {authority!r}" if authority else "a certificate to trust"
        todo = "correct the authorities (ssl.ca.location), or call the broker as its certificate does"
        return LoginError("trust", "broker", servers, expected=expected, got=_verdict(text, client) or got, todo=todo)
    return None


def forbidden(kind: str, name: str, permission: str, client: Mapping[str, str], text: str, *, action: str = "read") -> BrokerError:
    """Return the error of a question or a read that the broker does not permit."""
    expected, todo = f"the permission {permission}", f"grant it to {user_of(client)}"
    return BrokerError(action, kind, name, expected=expected, got=without_secrets(text, client), todo=todo)


def user_of(client: Mapping[str, str]) -> str:
    """Return in words whom the broker takes us for."""
    in_jaas = re.search(r'username="([^"]*)"', client.get("sasl.jaas.config", ""))
    if "SASL" in client.get("security.protocol", "").upper():
        name = client.get("sasl.username") or (in_jaas.group(1) if in_jaas else None)
        return f"user {name!r}" if name else "the user that the client settings name"
    keys = client.get("ssl.certificate.location") or client.get("ssl.keystore.location")
    return f"the user of certificate {keys!r}" if keys else "a user without name or certificate"


def without_secrets(text: str, client: Mapping[str, str]) -> str:
    """Return the text without the values of secret settings, should a client ever repeat one."""
    for name, value in client.items():
        if is_secret(name) and len(value) >= SHORTEST_SECRET:
            text = text.replace(value, "...")
    return text


def _verdict(text: str, client: Mapping[str, str]) -> str:
    """Ask once more, by Python's TLS: librdkafka has the same words for a strange authority and for a wrong name."""
    place = ADDRESS.search(text)
    if place is None:
        return ""
    try:
        context = ssl.create_default_context(cafile=client.get("ssl.ca.location"), cadata=client.get("ssl.ca.pem"))
        with (
            socket.create_connection((place[1], int(place[2])), VERDICT_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=place[1]),
        ):
            return ""
    except ssl.SSLCertVerificationError as error:
        return f"{place[1]}:{place[2]}: {error.verify_message.rstrip('.')}"
    except OSError:  # ours is another opinion, or none
        return ""
