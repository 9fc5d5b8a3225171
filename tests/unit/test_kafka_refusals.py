"""What a client says of a refusal becomes one error, whichever client it was."""

from __future__ import annotations

import re

import pytest
from confluent_kafka import KafkaError, KafkaException

from spark_ext.errors import BrokerError, BrokerUnavailableError
from spark_ext.kafka.fetch import FetchSettings
from spark_ext.kafka.fetch.protocol import unavailable
from spark_ext.kafka.refusals import LoginError, forbidden, is_refusal, login_refused, user_of, without_secrets
from spark_ext.kafka.topics import Admin

SASL = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.username": "me", "sasl.password": "hunter2"}
KEYS = {"security.protocol": "SSL", "ssl.certificate.location": "/me.pem", "ssl.ca.location": "/ca.pem"}


@pytest.mark.parametrize(
    ("client", "text", "message"),
    [
        (
            SASL,
            "ssl://h:1/bootstrap: SASL authentication error: no",
            "cannot log in to broker 'h:1': expected a login as user 'me' by PLAIN",
        ),
        (
            SASL,
            "SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism",
            "correct the user, the mechanism or the secret",
        ),
        (SASL, "SaslAuthenticationFailedError: [Error 58] no", "cannot log in to broker"),
        (SASL, "SaslAuthenticationException: Authentication failed", "got SaslAuthenticationException"),
        (
            KEYS,
            "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed",
            "cannot trust broker 'h:1'.*authority in '/ca.pem'",
        ),
        (
            KEYS,
            "Handshake failed: [SSL: CERTIFICATE_VERIFY_FAILED] IP address mismatch",
            "cannot trust broker .*IP address mismatch.*call the broker",
        ),
        (KEYS, "SslAuthenticationException: unable to find valid certification path", "cannot trust broker"),
        (
            KEYS,
            "Receive failed: ssl/tls alert bad certificate: SSL alert number 42",
            "cannot log in .* as the user of certificate '/me.pem'",
        ),
        (KEYS, "SslAuthenticationException: Received fatal alert: bad_certificate", "cannot log in .*give ssl.certificate.location"),
    ],
)
def test_a_refusal_is_known_by_the_words_of_each_client(client: dict[str, str], text: str, message: str) -> None:
    assert is_refusal(text)
    error = login_refused("h:1", client, text)
    assert isinstance(error, LoginError)
    assert re.search(message, str(error))
    with pytest.raises(BrokerError, match=message):
        raise unavailable(FetchSettings(bootstrap_servers="h:1", client=client), "t", 0, 0, 1, text)


@pytest.mark.parametrize("text", ["", "h:1: Connect failed: Connection refused", "1/1 brokers are down", "Local: Timed out"])
def test_what_is_no_refusal_is_a_broker_that_cannot_be_reached(text: str) -> None:
    assert not is_refusal(text)
    assert login_refused("h:1", SASL, text) is None
    error = unavailable(FetchSettings(bootstrap_servers="h:1"), "t", 0, 5, 9, text)
    assert isinstance(error, BrokerUnavailableError)


@pytest.mark.parametrize("text", ["Fetch failed: Broker: Topic authorization failed", "TopicAuthorizationFailedError: {'t'}"])
def test_a_topic_that_may_not_be_read_is_named_with_the_user(text: str) -> None:
    error = unavailable(FetchSettings(bootstrap_servers="h:1", client=SASL), "t", 0, 0, 1, text)
    assert str(error) == f"cannot read topic 't': expected the permission READ on the topic, got {text}; grant it to user 'me'"


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (SASL, "user 'me'"),
        ({"security.protocol": "sasl_ssl", "sasl.jaas.config": 'X required username="me" password="${env:P}";'}, "user 'me'"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"}, "the user that the client settings name"),
        (KEYS, "the user of certificate '/me.pem'"),
        ({"security.protocol": "SSL", "ssl.keystore.location": "/me.p12"}, "the user of certificate '/me.p12'"),
        ({}, "a user without name or certificate"),
        ({"sasl.username": "me"}, "a user without name or certificate"),
    ],
)
def test_the_user_is_named_as_the_client_comes(client: dict[str, str], words: str) -> None:
    assert user_of(client) == words
    assert str(forbidden("topic", "t", "READ", client, "no")).endswith(f"grant it to {words}")


def test_a_secret_that_a_client_repeats_is_left_out() -> None:
    client = SASL | {"ssl.key.password": "me", "ssl.key.location": "/hunter3"}
    assert without_secrets("me: hunter2 in /hunter3", client) == "me: ... in /hunter3"
    assert "hunter2" not in str(login_refused("h:1", SASL, "SASL authentication error: hunter2"))
    assert "hunter2" not in str(unavailable(FetchSettings(bootstrap_servers="h:1", client=SASL), "t", 0, 0, 1, "hunter2"))


def test_what_a_reference_leads_to_is_left_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_TEST_USER", "somebody")
    admin = Admin("127.0.0.1:1", {"client.id": "${env:MILLRACE_TEST_USER}"})
    admin._heard.note(KafkaError(KafkaError._TRANSPORT, "somebody is not there (after 17ms in state UP)"))
    admin._heard.note(KafkaError(KafkaError._TRANSPORT, "somebody is not there (after 18ms in state UP)"))
    admin._heard.note(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))
    error = admin.reason(KafkaException(KafkaError(KafkaError._TIMED_OUT)), "topics", ["t"])
    assert "(... is not there)" in str(error)
