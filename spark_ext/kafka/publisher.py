"""Publish to Kafka, in transactions or without, and know what became of each message."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from spark_ext.errors import BrokerUnavailableError, EngineError, SettingsError
from spark_ext.kafka.messages import FENCED, NO_TOPIC, PURGED, Message, fenced, no_mark, no_partition, no_topic, undeliverable
from spark_ext.kafka.references import CLIENT, REFERENCE, is_secret, literal, resolve
from spark_ext.kafka.refusals import forbidden
from spark_ext.kafka.topics import Admin

__all__ = ["Publisher", "producer_settings"]

STEP_S: Final = 10.0  # one call of the client; repeated while it says that this helps
POLL_S: Final = 0.05
QUEUE_KBYTES: Final = 64 * 1024
MAY_PUBLISH: Final = "WRITE on the topics of rows and READ on that of the mark"
MAY_TRANSACT: Final = "WRITE and DESCRIBE on the transactional id"
OWNED: Final = {  # settings that the guarantee hangs on
    "acks",
    "bootstrap.servers",
    "delivery.report.only.error",
    "enable.auto.commit",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "group.id",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.send.max.retries",
    "metadata.broker.list",
    "request.required.acks",
    "retries",
    "transactional.id",
}

_log = logging.getLogger(__name__)


def producer_settings(options: Mapping[str, str]) -> dict[str, str]:
    """Return the client's settings in options that start with ``kafka.``, secrets still as references.

    Raises
    ------
    SettingsError
        Another option, a setting that is not the caller's, or a secret that stands there itself.
    """
    client = {}
    for name, text in options.items():
        bare = name.removeprefix(CLIENT)
        if bare == name or bare in OWNED:
            expected, got = "kafka.<setting of librdkafka>", "one that is set here" if bare in OWNED else "another name"
            raise SettingsError("use", "option", name, expected=expected, got=got, todo="leave it out")
        if is_secret(bare) and not REFERENCE.fullmatch(text):
            raise literal(name)
        client[bare] = text
    return client


class Publisher:
    """A producer, and the committed offsets of the group that marks how far it is.

    Guarantee: `in_transaction` makes messages and mark visible together, to consumers with ``read_committed``, or neither. After any
    error the producer is closed and its transaction aborted, by itself or at the next `open` under the same id; whether the last
    transaction was committed is then in the group's offsets and nowhere else. Messages for one partition keep their order.

    Parameters
    ----------
    servers : str
        Addresses as ``host:port``, separated by commas.
    client : mapping of str to str
        Further settings of librdkafka, see `producer_settings`. Keys are hashed as Java's client does it unless ``partitioner`` is set.
    group : str
        Whose offsets are the mark.
    transactional_id : str, optional
        Without it there are no transactions.
    patience_s : float, > 0
        For how long a step is repeated that may succeed later.

    State: as much as librdkafka's queue takes, 64 MiB unless ``queue.buffering.max.kbytes`` is set.
    """

    def __init__(
        self, servers: str, client: Mapping[str, str], *, group: str, transactional_id: str | None = None, patience_s: float = 60.0
    ) -> None:
        self._servers, self._client, self._group = servers, client, group
        self._transactional_id, self._patience_s, self._step_s = transactional_id, patience_s, min(STEP_S, patience_s)
        self._admin: Admin | None = None
        self._producer: Producer | None = None
        self._consumer: Consumer | None = None
        self._partitions: dict[str, frozenset[int]] = {}
        self._failed: tuple[KafkaError, Message] | None = None
        self._mark_topic = ""

    @property
    def admin(self) -> Admin:
        """The client for questions, opened at the first one."""
        if self._admin is None:
            self._admin = Admin(self._servers, self._client, timeout_s=self._step_s)
        return self._admin

    @property
    def is_open(self) -> bool:
        """Whether there is a producer."""
        return self._producer is not None

    def open(self) -> None:
        """Start the producer; one with the same transactional id is fenced, and what it had open aborted, before this returns.

        Raises
        ------
        BrokerError, BrokerUnavailableError, SettingsError
        """
        base: dict[str, Any] = {"log_level": 2, "socket.timeout.ms": 10_000, "reconnect.backoff.max.ms": 1_000}
        given = {**base, **resolve(self._client), "bootstrap.servers": self._servers}
        own: dict[str, Any] = {"enable.idempotence": True, "acks": "all", "delivery.report.only.error": True}
        if self._transactional_id is not None:
            own["transactional.id"] = self._transactional_id
        else:
            given = {"message.timeout.ms": int(self._patience_s * 1000), **given}
        first = {
            "client.id": "millrace-publisher",
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "queue.buffering.max.kbytes": QUEUE_KBYTES,
            "topic.metadata.propagation.max.ms": 5_000,
        }
        try:
            producer = Producer({**first, **given, **own}, logger=_log)
            self._consumer = Consumer({**given, "group.id": self._group, "enable.auto.commit": False}, logger=_log)
        except KafkaException as error:
            names, todo = ", ".join(sorted(self._client)), "correct it"
            got = error.args[0].name()  # its text may have the value
            raise SettingsError("use", "client settings", names, expected="librdkafka's", got=got, todo=todo) from None
        self._producer, self._failed = producer, None
        if self._transactional_id is not None:
            self._step(lambda: producer.init_transactions(self._step_s))

    def check(self, messages: Sequence[Message]) -> None:
        """Refuse topics and partitions that are not there, which the client itself would only time out about.

        Raises
        ------
        UndeliverableError, BrokerError, BrokerUnavailableError
        """
        for message in messages:
            known = self._partitions.get(message.topic)
            if known is None or (message.partition is not None and message.partition not in known):
                known = self._look(message)
            if message.partition is not None and message.partition not in known:
                raise no_partition(message, len(known))

    def in_transaction(self, messages: Sequence[Message], mark: TopicPartition) -> None:
        """Publish messages and move the mark, in one transaction.

        Raises
        ------
        FencedError, UndeliverableError, BrokerError, BrokerUnavailableError
        """
        self.check(messages)
        producer, consumer = self._opened()
        self._mark_topic = mark.topic
        self._step(producer.begin_transaction)
        self._produce(producer, messages)
        metadata = consumer.consumer_group_metadata()
        self._step(lambda: producer.send_offsets_to_transaction([mark], metadata, self._step_s))
        self._step(lambda: producer.commit_transaction(self._step_s))

    def publish(self, messages: Sequence[Message]) -> None:
        """Publish messages without a transaction, and return when the broker has them all.

        Raises
        ------
        UndeliverableError, BrokerError, BrokerUnavailableError
            Some of them may have been delivered.
        """
        self.check(messages)
        producer, _ = self._opened()
        self._produce(producer, messages)
        try:
            left = producer.flush(self._patience_s + self._step_s)
        except KafkaException as error:
            raise self._ended(error) from error
        if left or self._failed is not None:
            raise self._ended(KafkaException(KafkaError(KafkaError._MSG_TIMED_OUT)))  # noqa: SLF001

    def mark(self, mark: TopicPartition) -> None:
        """Move the mark alone; in a transaction if there are any, so that a fenced producer cannot."""
        if self._transactional_id is not None:
            self.in_transaction([], mark)
            return
        _, consumer = self._opened()
        self._mark_topic = mark.topic
        self._step(lambda: consumer.commit(offsets=[mark], asynchronous=False))

    def close(self) -> None:
        """Let the producer go; a transaction that is open is aborted, if the broker answers soon."""
        producer, self._producer = self._producer, None
        consumer, self._consumer = self._consumer, None
        self._partitions = {}
        self._admin = None  # the next one looks for the brokers anew, and reads the secrets anew
        if producer is not None:
            try:
                producer.purge()
                if self._transactional_id is not None:
                    producer.abort_transaction(self._step_s)
                producer.flush(0)
            except KafkaException as error:  # none was open, or it is fenced; else the next one with this id aborts it
                _log.debug("no transaction of %s was aborted: %s", self._transactional_id, error)
        if consumer is not None:
            consumer.close()

    def _opened(self) -> tuple[Producer, Consumer]:
        assert self._producer is not None  # noqa: S101
        assert self._consumer is not None  # noqa: S101
        return self._producer, self._consumer

    def _look(self, message: Message) -> frozenset[int]:
        try:
            found = self.admin.describe([message.topic])[message.topic]
        except BrokerUnavailableError as error:
            if error.kind == "broker":
                self.close()
                raise
            raise no_topic(message, error.got, self._servers) from error
        except EngineError:
            self.close()
            raise
        self._partitions[message.topic] = frozenset(found.partitions)
        return self._partitions[message.topic]

    def _produce(self, producer: Producer, messages: Sequence[Message]) -> None:
        for message in messages:
            while True:
                try:
                    producer.produce(
                        message.topic,
                        message.value,
                        message.key,
                        -1 if message.partition is None else message.partition,
                        on_delivery=partial(self._note, message),
                        headers=message.headers,
                    )
                    break
                except BufferError:  # the queue is full
                    self._serve(producer, POLL_S)
                    if self._failed is not None:
                        raise self._ended(KafkaException(self._failed[0])) from None
                except KafkaException as error:
                    self._failed = (error.args[0], message)
                    raise self._ended(error) from error
        self._serve(producer, 0)

    def _serve(self, producer: Producer, timeout_s: float) -> None:
        try:
            producer.poll(timeout_s)
        except KafkaException as error:  # it is fenced, or has failed for good
            raise self._ended(error) from error

    def _note(self, message: Message, error: KafkaError | None, _: object) -> None:
        """Remember why a delivery failed; of messages that failed together, the largest."""
        if error is None or (error.code() in PURGED and self._failed is not None):
            return
        if self._failed is None or (error.code() == self._failed[0].code() and message.size_bytes > self._failed[1].size_bytes):
            self._failed = (error, message)

    def _step(self, step: Callable[[], Any]) -> None:
        """Do one call of the client, again and again while that may help; any other error ends the producer."""
        again = retry_if_exception(_is_retriable)
        patience = Retrying(stop=stop_after_delay(self._patience_s), wait=wait_exponential(0.02, max=1), retry=again, reraise=True)
        try:
            patience(step)
        except KafkaException as error:
            raise self._ended(error) from error
        except BaseException:
            self.close()
            raise

    def _ended(self, error: KafkaException) -> EngineError:
        """Close the producer and return the error that says why."""
        if self._producer is not None:
            with suppress(KafkaException):
                self._producer.poll(0)  # why a delivery failed, if it was that
        reason = self._reason(error)  # before closing, which makes failures of its own
        self.close()
        return reason

    def _reason(self, error: KafkaException) -> EngineError:
        cause: KafkaError = error.args[0]
        if cause.code() == KafkaError._STATE and cause.txn_requires_abort() and self._producer is not None:  # noqa: SLF001
            try:  # a transaction that has to be aborted cannot be committed: this only tells what the matter was
                self._producer.commit_transaction(self._step_s)
            except KafkaException as earlier:
                cause = earlier.args[0]
        if cause.code() in FENCED:
            return fenced(self._transactional_id or "", cause.str())
        if self._failed is not None and self._failed[0].code() not in PURGED:
            cause, message = self._failed
            if refused := undeliverable(message, cause, self._servers):
                return refused
        elif cause.code() in NO_TOPIC:
            return no_mark(self._mark_topic, cause.str(), self._servers)
        names = {
            KafkaError.TOPIC_AUTHORIZATION_FAILED: ("topics", ", ".join(sorted({*self._partitions, self._mark_topic})), MAY_PUBLISH),
            KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: ("transactional id", self._transactional_id or "", MAY_TRANSACT),
            KafkaError.GROUP_AUTHORIZATION_FAILED: ("group", self._group, "READ on the group"),
            KafkaError.CLUSTER_AUTHORIZATION_FAILED: ("cluster", self._servers, "IDEMPOTENT_WRITE on the cluster"),
        }
        if cause.code() in names:
            return forbidden(*names[cause.code()], self._client, cause.str(), action="publish to")
        return self.admin.reason(KafkaException(cause), "broker", [self._servers], action="publish to")


def _is_retriable(error: BaseException) -> bool:
    cause = error.args[0] if isinstance(error, KafkaException) else None
    return isinstance(cause, KafkaError) and cause.retriable() and not cause.fatal() and not cause.txn_requires_abort()
