"""Ask a broker about its topics: that they are there, and which ones they are.

Asked through librdkafka, with the client settings that the source `millrace_kafka` uses. Settings that only Java's client
has (``sasl.jaas.config``, key stores) belong to Spark's own connector; then the JVM's client is asked.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection, Uuid
from confluent_kafka.admin import AdminClient
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from spark_ext.errors import BrokerError, BrokerUnavailableError, EngineError, SettingsError
from spark_ext.kafka.options import resolve

__all__ = ["Admin", "Topic", "identify", "topic_ids"]

ANSWER_TIMEOUT_MS: Final = 10_000  # well under the 30 s in which a missing broker must be reported
NO_ID: Final = "AAAAAAAAAAAAAAAAAAAAAA"  # what the client says for a broker without KIP-516
POLL_S: Final = 0.05
FORBIDDEN: Final = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "DESCRIBE and READ on the topic",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "READ on the group",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "DESCRIBE on the cluster",
}

_log = logging.getLogger(__name__)


def identify(
    spark: SparkSession, *, bootstrap_servers: str, topics: str | Sequence[str] | re.Pattern[str], options: Mapping[str, str] | None = None
) -> list[str]:
    """Return one name per topic that no other topic has, for `Checkpoint.claim`.

    Guarantee: a topic that was deleted and made again, or one of the same name on another broker, has another name
    here. Offsets of a checkpoint mean nothing in such a topic: rows would be skipped without a trace.

    Parameters
    ----------
    bootstrap_servers, topics, options
        As for `read`. A pattern has one name, with the id of the cluster: its topics come and go, and their ids are in the
        offsets of the checkpoint.

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
    given = options or {}
    if isinstance(topics, re.Pattern):
        return [f"kafka topics matching {topics.pattern} of cluster {Admin(bootstrap_servers, _client(given)).cluster_id()}"]
    names = [topics] if isinstance(topics, str) else list(topics)
    if not names:
        raise SettingsError("identify", "topics", "", expected="at least one topic", got="none", todo="name the topics that are read")
    ids = topic_ids(spark, bootstrap_servers, names, given)
    if NO_ID in ids.values():
        _log.warning("the broker at %s gives topics no id: a topic that is made again will not be noticed", bootstrap_servers)
    return [f"kafka topic {name} {ids[name]}" for name in names]


def topic_ids(spark: SparkSession, servers: str, names: Sequence[str], options: Mapping[str, str]) -> dict[str, str]:
    """Return the id of each topic, in the form that Java's client prints.

    Raises
    ------
    BrokerUnavailableError
        Nobody answers within 10 s, or a topic does not exist.
    """
    try:
        admin = Admin(servers, _client(options))
    except SettingsError:
        return _ids_by_jvm(spark, servers, names, options)  # settings of Java's client
    return {name: topic.id for name, topic in admin.describe(names).items()}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's id and the numbers of its partitions."""

    id: str
    partitions: tuple[int, ...]


class Admin:
    """A client for questions, kept open between them.

    Parameters
    ----------
    servers : str
        Addresses as ``host:port``, separated by commas.
    client : mapping of str to str
        Further settings of librdkafka; references to secrets are resolved here.
    timeout_s : float
        Within which an answer must come.

    Raises
    ------
    SettingsError
        The client does not know a setting.
    """

    def __init__(self, servers: str, client: Mapping[str, str], *, timeout_s: float = ANSWER_TIMEOUT_MS / 1000) -> None:
        self._servers, self._timeout_s = servers, timeout_s
        self._trouble: dict[str, None] = {}
        settings: Any = {"log_level": 2, "socket.timeout.ms": ANSWER_TIMEOUT_MS, **resolve(client), "bootstrap.servers": servers}
        try:
            self.client = AdminClient(settings | {"error_cb": self._note})
        except KafkaException as error:
            todo = "correct it, or read with engine='spark' if it is one of Java's client"
            text = error.args[0].str() if isinstance(error.args[0], KafkaError) else "settings it refuses"
            raise SettingsError("use", "client settings", ", ".join(sorted(client)), expected="librdkafka's", got=text, todo=todo) from None

    def describe(self, names: Sequence[str]) -> dict[str, Topic]:
        """Return what the topics are now, in the order of `names`.

        Raises
        ------
        BrokerUnavailableError
            Nobody answers in time, or a topic does not exist.
        BrokerError
            The broker answers that it may not be told.
        """
        if not names:  # all that a pattern matched are gone
            return {}
        asked = self.ask(self.client.describe_topics(TopicCollection(list(names)), request_timeout=self._timeout_s), "topics", names)
        return {name: Topic(_text_of(asked[name].topic_id), tuple(one.id for one in asked[name].partitions)) for name in names}

    def names(self) -> list[str]:
        """Return the names of all topics that are not the broker's own."""
        try:
            found = self.client.list_topics(timeout=self._timeout_s).topics
        except KafkaException as error:
            raise self.reason(error, "topics", ["*"]) from error
        return sorted(name for name in found if not name.startswith("__"))

    def cluster_id(self) -> str:
        """Return the id of the cluster."""
        answer = self.ask({"cluster": self.client.describe_cluster(request_timeout=self._timeout_s)}, "cluster", [self._servers])
        return str(answer["cluster"].cluster_id)

    def ask(self, futures: Mapping[Any, Any], kind: str, names: Sequence[str]) -> dict[Any, Any]:
        """Wait for answers; errors of the client become ours."""
        deadline = time.monotonic() + self._timeout_s + 1
        try:
            for future in futures.values():
                if not future.done():
                    self.client.poll(0)
                future.result(max(POLL_S, deadline - time.monotonic()))
        except (KafkaException, TimeoutError) as error:
            self.client.poll(0)  # what the connections said meanwhile
            raise self.reason(error, kind, names) from error
        return {key: future.result() for key, future in futures.items()}

    def reason(self, error: Exception, kind: str, names: Sequence[str]) -> EngineError:
        """Turn an error of the client into one that says what to do."""
        cause = error.args[0] if error.args and isinstance(error.args[0], KafkaError) else KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001
        listed = ",".join(names)
        if cause.code() in FORBIDDEN:
            expected, todo = f"the permission {FORBIDDEN[cause.code()]}", "grant it to the user that the client settings name"
            return BrokerError("read", kind, listed, expected=expected, got=cause.str(), todo=todo)
        if cause.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION):
            expected, todo = f"topics that exist at {self._servers}", "create the topic first, or correct its name"
            return BrokerUnavailableError("read", kind, listed, expected=expected, got=cause.str(), todo=todo)
        said = "; ".join(self._trouble)
        return BrokerUnavailableError(
            "reach",
            "broker",
            self._servers,
            expected=f"an answer within {self._timeout_s:g} s",
            got=f"{cause.name()}: {cause.str()}" + (f" ({said})" if said else ""),
            todo="start the broker (`millrace broker up` starts one here) or correct bootstrap_servers",
        )

    def _note(self, error: KafkaError) -> None:
        self._trouble = dict.fromkeys([*self._trouble, error.str()][-3:])


def _client(options: Mapping[str, str]) -> dict[str, str]:
    return {key.removeprefix("kafka."): value for key, value in options.items() if key.startswith("kafka.")}


def _text_of(topic_id: Uuid) -> str:
    return str(topic_id).rstrip("=").translate(str.maketrans("+/", "-_"))  # Java's alphabet


def _ids_by_jvm(spark: SparkSession, servers: str, names: Sequence[str], options: Mapping[str, str]) -> dict[str, str]:
    jvm: Any = spark.sparkContext._jvm  # noqa: SLF001 (no public way to Kafka's client in the JVM)
    settings = jvm.java.util.HashMap()
    for key, value in {**_client(options), "bootstrap.servers": servers}.items():
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
        raise _jvm_reason(error, servers, names) from error
    return {name: found[name].topicId().toString() for name in names}


def _jvm_reason(error: Py4JJavaError, servers: str, names: Sequence[str]) -> BrokerUnavailableError:
    cause = error.java_exception.getCause() or error.java_exception
    kind, text = cause.getClass().getSimpleName(), str(cause.getMessage())
    if kind == "UnknownTopicOrPartitionException":
        expected, todo = f"topics that exist at {servers}", "create the topic first, or correct its name"
        return BrokerUnavailableError("read", "topics", ",".join(names), expected=expected, got=text, todo=todo)
    return BrokerUnavailableError(
        "reach",
        "broker",
        servers,
        expected=f"an answer within {ANSWER_TIMEOUT_MS // 1000} s",
        got=f"{kind}: {text}",
        todo="start the broker (`millrace broker up` starts one here) or correct bootstrap_servers",
    )
