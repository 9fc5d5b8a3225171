"""Ask a broker about its topics: that they are there, and which ones they are.

Asked through the JVM's own client, so that TLS and SASL settings count exactly as they will in the query.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from spark_ext.errors import BrokerUnavailableError, SettingsError

__all__ = ["identify", "topic_ids"]

ANSWER_TIMEOUT_MS: Final = 10_000  # well under the 30 s in which a missing broker must be reported
NO_ID: Final = "AAAAAAAAAAAAAAAAAAAAAA"  # what the client says for a broker without KIP-516

_log = logging.getLogger(__name__)


def identify(
    spark: SparkSession, *, bootstrap_servers: str, topics: str | Sequence[str], options: Mapping[str, str] | None = None
) -> list[str]:
    """Return one name per topic that no other topic has, for `Checkpoint.claim`.

    Guarantee: a topic that was deleted and made again, or one of the same name on another broker, has another name
    here. Offsets of a checkpoint mean nothing in such a topic: rows would be skipped without a trace.

    Parameters
    ----------
    bootstrap_servers, topics, options
        As for `read`.

    Returns
    -------
    list of str
        Such as ``"kafka topic flights 3xYk..."``, in the order of `topics`.

    Raises
    ------
    BrokerUnavailableError
        Nobody answers at the address within 10 s, or a topic does not exist.
    SettingsError
        No topic is given.

    Not supported: brokers that give topics no id; a warning says that only the name counts then.

    References
    ----------
    KIP-516, "Topic Identifiers".
    """
    names = [topics] if isinstance(topics, str) else list(topics)
    if not names:
        raise SettingsError("identify", "topics", "", expected="at least one topic", got="none", todo="name the topics that are read")
    ids = topic_ids(spark, bootstrap_servers, names, options or {})
    if NO_ID in ids.values():
        _log.warning("the broker at %s gives topics no id: a topic that is made again will not be noticed", bootstrap_servers)
    return [f"kafka topic {name} {ids[name]}" for name in names]


def topic_ids(spark: SparkSession, servers: str, names: Sequence[str], options: Mapping[str, str]) -> dict[str, str]:
    """Return the id of each topic; `options` are those of Spark's source.

    Raises
    ------
    BrokerUnavailableError
        Nobody answers within 10 s, or a topic does not exist.
    """
    jvm: Any = spark.sparkContext._jvm  # noqa: SLF001 (no public way to Kafka's client in the JVM)
    settings = jvm.java.util.HashMap()
    client_options = {key.removeprefix("kafka."): value for key, value in options.items() if key.startswith("kafka.")}
    for key, value in {**client_options, "bootstrap.servers": servers}.items():
        settings.put(key, value)
    settings.put("default.api.timeout.ms", str(ANSWER_TIMEOUT_MS))
    settings.put("request.timeout.ms", str(ANSWER_TIMEOUT_MS))
    try:
        admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(settings)
        try:
            found = admin.describeTopics(list(names)).allTopicNames().get()
        finally:
            admin.close(jvm.java.time.Duration.ZERO)
    except Py4JJavaError as error:
        raise _reason(error, servers, names) from error
    return {name: found[name].topicId().toString() for name in names}


def _reason(error: Py4JJavaError, servers: str, names: Sequence[str]) -> BrokerUnavailableError:
    cause = error.java_exception.getCause() or error.java_exception
    kind, text = cause.getClass().getSimpleName(), str(cause.getMessage())
    if kind == "UnknownTopicOrPartitionException":
        return BrokerUnavailableError(
            "read",
            "topics",
            ",".join(names),
            expected=f"topics that exist at {servers}",
            got=text,
            todo="create the topic first, or correct its name",
        )
    return BrokerUnavailableError(
        "reach",
        "broker",
        servers,
        expected=f"an answer within {ANSWER_TIMEOUT_MS // 1000} s",
        got=f"{kind}: {text}",
        todo="start the broker (`millrace broker up` starts one here) or correct bootstrap_servers",
    )
