"""Ask a broker about its topics: that they are there, and which ones they are.

Asked through librdkafka, with the client settings that the source `millrace_kafka` uses. Settings that only Java's client
has (``sasl.jaas.config``, key stores) belong to Spark's own connector; then the JVM's client is asked.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, Uuid
from confluent_kafka.admin import AdminClient
from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from spark_ext.errors import BrokerUnavailableError, EngineError, SettingsError
from spark_ext.kafka.java_client import java_options
from spark_ext.kafka.references import CLIENT, resolve
from spark_ext.kafka.refusals import forbidden, is_refusal, login_refused

__all__ = ["Admin", "Topic", "identify", "topic_ids"]

ANSWER_TIMEOUT_MS: Final = 10_000  # well under the 30 s in which a missing broker must be reported
NO_ID: Final = "AAAAAAAAAAAAAAAAAAAAAA"  # what the client says for a broker without KIP-516
POLL_S: Final = 0.05
UNREACHED: Final = (
    "start the broker (`millrace broker up` starts one here), or correct bootstrap_servers or the security settings of the client"
)
REFUSED_S: Final = 2.0  # once refused, for so long another broker may still answer
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


def topic_ids(spark: SparkSession, servers: str, names: Sequence[str], options: Mapping[str, str], *, java: bool = False) -> dict[str, str]:
    """Return the id of each topic, in the form that Java's client prints; with `java` it is asked in any case.

    Raises
    ------
    BrokerUnavailableError
        Nobody answers within 10 s, or a topic does not exist.
    """
    if java:
        return _ids_by_jvm(spark, servers, names, options)
    try:
        admin = Admin(servers, _client(options))
    except SettingsError as error:
        if error.kind == "reference":
            raise
        return _ids_by_jvm(spark, servers, names, options)  # settings of Java's client
    return {name: topic.id for name, topic in admin.describe(names).items()}


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's id and the numbers of its partitions."""

    id: str
    partitions: tuple[int, ...]


class _Heard:
    """What a client said of its connections since its last answer."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.trouble: list[str] = []
        self.refused_at: float | None = None

    def note(self, error: KafkaError) -> None:
        if self.trouble and error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            return  # it comes behind the reason
        self.trouble = list(dict.fromkeys([*self.trouble, _timeless(error.str())][-3:]))
        if self.refused_at is None and is_refusal(error.str()):
            self.refused_at = time.monotonic()


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
        self._given, self._resolved = client, resolve(client)
        self._heard = _Heard()
        settings: Any = {"log_level": 2, "socket.timeout.ms": ANSWER_TIMEOUT_MS, **self._resolved, "bootstrap.servers": servers}
        try:
            self.client = AdminClient(settings | {"error_cb": self._heard.note})  # which does not know the client: no cycle keeps it
        except KafkaException as error:
            todo = "correct it, or read with engine='spark' if it is one of Java's client"
            text = self._clean(error.args[0].str()) if isinstance(error.args[0], KafkaError) else "settings it refuses"
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
        return sorted(self._topics())

    def partitions(self) -> list[tuple[str, int]]:
        """Return all partitions of all topics that are not the broker's own."""
        return sorted((name, number) for name, topic in self._topics().items() for number in topic.partitions)

    def consumer(self, group: str, *, isolation: str) -> Consumer:
        """Return a consumer of a group, which joins it only if it subscribes."""
        settings = {"log_level": 2, "socket.timeout.ms": ANSWER_TIMEOUT_MS, **self._resolved, "bootstrap.servers": self._servers}
        return Consumer({**settings, "group.id": group, "enable.auto.commit": False, "isolation.level": isolation})

    def _topics(self) -> dict[str, Any]:
        try:
            found = self.client.list_topics(timeout=self._timeout_s).topics
        except KafkaException as error:
            self.client.poll(0)  # what the connections said meanwhile
            raise self.reason(error, "topics", ["*"]) from error
        return {name: topic for name, topic in found.items() if not name.startswith("__")}

    def cluster_id(self) -> str:
        """Return the id of the cluster."""
        answer = self.ask({"cluster": self.client.describe_cluster(request_timeout=self._timeout_s)}, "cluster", [self._servers])
        return str(answer["cluster"].cluster_id)

    def ask(self, futures: Mapping[Any, Any], kind: str, names: Sequence[str]) -> dict[Any, Any]:
        """Wait for answers; errors of the client become ours."""
        began = time.monotonic()
        for key, future in futures.items():
            try:
                while not future.done() and time.monotonic() < self._deadline(began):
                    wait([future], POLL_S)
                    self.client.poll(0)  # what the connections say meanwhile
                future.result(0)
            except (KafkaException, TimeoutError) as error:
                self.client.poll(0)
                name = getattr(key, "topic", key)
                raise self.reason(error, kind, [name] if name in names else names) from error
        self._heard.forget()
        return {key: future.result() for key, future in futures.items()}

    def _deadline(self, began: float) -> float:
        """Return when to stop waiting: early where the client says that it is refused, which it would say again and again."""
        last = began + self._timeout_s + 1
        refused_at = self._heard.refused_at
        return last if refused_at is None else min(last, max(began, refused_at) + REFUSED_S)

    def reason(self, error: Exception, kind: str, names: Sequence[str], *, action: str = "read") -> EngineError:
        """Turn an error of the client into one that says what to do."""
        cause = error.args[0] if error.args and isinstance(error.args[0], KafkaError) else KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001
        listed = ",".join(names)
        if cause.code() in FORBIDDEN:
            return forbidden(kind, listed, FORBIDDEN[cause.code()], self._given, cause.str(), action=action)
        if cause.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_EXCEPTION):
            expected, todo = f"topics that exist at {self._servers}", "create the topic first, or correct its name"
            return BrokerUnavailableError(action, kind, listed, expected=expected, got=cause.str(), todo=todo)
        said = self._clean("; ".join(self._heard.trouble))
        if refused := login_refused(self._servers, self._given, said):
            return refused
        return BrokerUnavailableError(
            "reach",
            "broker",
            self._servers,
            expected=f"an answer within {self._timeout_s:g} s",
            got=f"{cause.name()}: {cause.str()}" + (f" ({said})" if said else ""),
            todo=UNREACHED,
        )

    def _clean(self, text: str) -> str:
        """Return the text without secrets: what settings refer to, by whatever name."""
        for name, value in self._resolved.items():
            if value not in {"", self._given[name]}:
                text = text.replace(value, "...")
        return text


def _timeless(text: str) -> str:
    """Return an error's text as it is each time that the client tries again."""
    return re.sub(r" \(after \d+ms in state \w+\)", "", text)


def _client(options: Mapping[str, str]) -> dict[str, str]:
    return {key.removeprefix(CLIENT): value for key, value in options.items() if key.startswith(CLIENT)}


def _text_of(topic_id: Uuid) -> str:
    return str(topic_id).rstrip("=").translate(str.maketrans("+/", "-_"))  # Java's alphabet


def _ids_by_jvm(spark: SparkSession, servers: str, names: Sequence[str], options: Mapping[str, str]) -> dict[str, str]:
    jvm: Any = spark.sparkContext._jvm  # noqa: SLF001 (no public way to Kafka's client in the JVM)
    settings = jvm.java.util.HashMap()
    client = _client(java_options(spark, options))
    for key, value in {**client, "bootstrap.servers": servers}.items():
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
        raise _jvm_reason(error, servers, names, client) from error
    return {name: found[name].topicId().toString() for name in names}


def _jvm_reason(error: Py4JJavaError, servers: str, names: Sequence[str], client: Mapping[str, str]) -> EngineError:
    cause = error.java_exception.getCause() or error.java_exception
    kind, text = cause.getClass().getSimpleName(), str(cause.getMessage())
    if kind == "TopicAuthorizationException":
        return forbidden("topics", ",".join(names), FORBIDDEN[KafkaError.TOPIC_AUTHORIZATION_FAILED], client, text)
    if kind in ("SaslAuthenticationException", "SslAuthenticationException"):
        root = cause
        while root.getCause() is not None:
            root = root.getCause()
        if refused := login_refused(servers, client, f"{kind}: {root.getMessage()}"):
            return refused
    if kind == "UnknownTopicOrPartitionException":
        expected, todo = f"topics that exist at {servers}", "create the topic first, or correct its name"
        return BrokerUnavailableError("read", "topics", ",".join(names), expected=expected, got=text, todo=todo)
    return BrokerUnavailableError(
        "reach",
        "broker",
        servers,
        expected=f"an answer within {ANSWER_TIMEOUT_MS // 1000} s",
        got=f"{kind}: {text}",
        todo=UNREACHED,
    )
