"""What fetchers are told, without a broker."""

import pickle

import pytest

from spark_ext.errors import SettingsError
from spark_ext.kafka.fetch import FetcherUnusableError, FetchSettings, librdkafka_api, open_fetcher
from spark_ext.kafka.fetch.settings import OWNED, librdkafka_properties

SASL = {"security.protocol": "SASL_SSL", "sasl.mechanisms": "PLAIN", "sasl.username": "me", "sasl.password": "hunter2"}


def settings(**given: object) -> FetchSettings:
    return FetchSettings(**{"bootstrap_servers": "127.0.0.1:1", **given})


def test_equal_settings_are_one_key() -> None:
    forwards, backwards = settings(client=SASL), settings(client=list(reversed(SASL.items())))
    assert forwards == backwards
    assert hash(forwards) == hash(backwards)
    assert forwards != settings(client={**SASL, "sasl.password": "other"})
    assert pickle.loads(pickle.dumps(forwards)) == forwards  # noqa: S301 (our own bytes)


def test_passwords_do_not_show() -> None:
    assert "hunter2" not in repr(settings(client=SASL))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bootstrap_servers", " "),
        ("fetcher", "java"),
        ("isolation", "dirty"),
        ("prefetch_bytes", 1),
        ("timeout_s", 0),
    ],
)
def test_what_is_outside_its_interval_is_refused(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"cannot use fetch setting '{name}': expected .*, got {value!r}"):
        settings(**{name: value})


@pytest.mark.parametrize("name", sorted(OWNED))
def test_what_a_fetcher_sets_itself_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"cannot use client property '{name}': expected properties that the fetcher does not set"):
        settings(client={name: "x"})


def test_everything_that_is_set_cannot_be_given() -> None:
    free = {
        *("client.id", "fetch.max.bytes", "fetch.queue.backoff.ms", "fetch.wait.max.ms", "message.max.bytes", "reconnect.backoff.max.ms"),
        "socket.timeout.ms",
    }
    assert librdkafka_properties(settings()).keys() - free <= OWNED
    assert librdkafka_properties(settings(client=dict.fromkeys(free, "7"))).items() >= dict.fromkeys(free, "7").items()


@pytest.mark.parametrize("fetcher", ["librdkafka", "confluent"])
def test_a_property_that_librdkafka_does_not_know_is_refused(fetcher: str) -> None:
    with pytest.raises(SettingsError, match=r"cannot use client property 'sasl.pasword'") as caught:
        open_fetcher(settings(fetcher=fetcher, client={"sasl.pasword": "hunter2"}), "topic", 0)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("fetcher", ["librdkafka", "confluent"])
def test_a_value_that_librdkafka_does_not_take_is_refused(fetcher: str) -> None:
    with pytest.raises(SettingsError, match=r"cannot use client property 'security.protocol'") as caught:
        open_fetcher(settings(fetcher=fetcher, client={"security.protocol": "hunter2"}), "topic", 0)
    assert "hunter2" not in str(caught.value)


def test_security_properties_have_their_names_in_kafka_python() -> None:
    from spark_ext.kafka.fetch import kafka_python  # noqa: PLC0415 (as late as the fetcher itself)

    config = kafka_python._config(settings(client={**SASL, "ssl.ca.location": "ca.pem"}, timeout_s=2.5))
    assert (
        config.items()
        >= {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": "me",
            "sasl_plain_password": "hunter2",
            "ssl_cafile": "ca.pem",
            "bootstrap_timeout_ms": 2500,
        }.items()
    )
    with pytest.raises(SettingsError, match=r"'sasl.kerberos.keytab': expected one of .*; kafka-python has no such property"):
        kafka_python._config(settings(client={"sasl.kerberos.keytab": "x"}))


def test_a_library_without_a_function_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(librdkafka_api.FUNCTIONS, "rd_kafka_missing", (None, []))
    with pytest.raises(FetcherUnusableError, match=r"cannot load library 'librdkafka': .*rd_kafka_missing"):
        librdkafka_api.load.__wrapped__()


def test_an_old_library_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(librdkafka_api, "OLDEST", 0x7F_00_00_00)
    with pytest.raises(FetcherUnusableError, match=r"expected a librdkafka of version .*, got .*version 0x"):
        librdkafka_api.load.__wrapped__()
