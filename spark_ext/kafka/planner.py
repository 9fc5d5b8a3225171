"""Ask the broker what there is to read; lives in the process that plans a query's batches, as long as the query.

One round of questions per batch: which topics there are now, and at once the first and the last offset of each partition.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]  # its stubs lack it
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from spark_ext.errors import BrokerError, BrokerUnavailableError, QueryError, SettingsError
from spark_ext.kafka.clock import ClockState, EventClock, advance
from spark_ext.kafka.groups import partition_errors
from spark_ext.kafka.limits import Allowance, read_limits
from spark_ext.kafka.offsets import Document, Limits, Seen, check_ids, next_document
from spark_ext.kafka.options import EARLIEST, LATEST, Place, SourceOptions, Start
from spark_ext.kafka.references import resolve
from spark_ext.kafka.refusals import LoginError
from spark_ext.kafka.tail import Tail
from spark_ext.kafka.topics import Admin

__all__ = ["Planner"]

SAMPLE_RECORDS: Final = 200
SAMPLE_TIMEOUT_S: Final = 2.0
SAMPLE_EVERY: Final = 100  # batches
UNKNOWN_RECORD_BYTES: Final = 1024  # where a sample has found none
GROUP_TIMEOUT_S: Final = 5.0
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
NO_SUCH_TIME: Final = -1  # the broker's word for: no record is as late as this

SPEC: Final[Any] = OffsetSpec

_Answer = TypeVar("_Answer")

_log = logging.getLogger(__name__)


class Planner:
    """What the batches of one query read.

    Parameters
    ----------
    options : SourceOptions
        The source's options.
    """

    def __init__(self, options: SourceOptions) -> None:
        self._options = options
        self._admin: Admin | None = None
        self._seen: Seen | None = None
        self._until: Mapping[Place, int] | None = None
        self._bytes: float | None = None  # of one record
        self._planned = 0
        self._committing: Mapping[Any, Any] = {}
        self._shown: Document | None = None
        self._owed: Document | None = None  # what is to be committed once the commit before it has come to an end
        self._initial: Document | None = None
        self._clock = None if options.clock is None else EventClock.from_json(json.loads(options.clock))
        self._tail: Tail | None = None
        self._clock_state: ClockState | None = None

    @property
    def admin(self) -> Admin:
        """The client for questions, opened at the first one."""
        if self._admin is None:
            self._admin = Admin(self._options.bootstrap_servers, self._options.client)
        return self._admin

    def look(self) -> Seen:
        """Ask for topics, first offsets and ends, again and again for `patience_s` if nobody answers or lets us in.

        Raises
        ------
        BrokerUnavailableError
            Nobody answers, or a topic does not exist.
        BrokerError
            The broker does not permit it, or does not let us in.
        SettingsError
            A partition that was asked for does not exist.
        """
        self._seen = self._patiently(self._look)
        return self._seen

    def initial(self) -> Document:
        """Return where a new checkpoint starts; the same when Spark asks again."""
        if self._initial is None:
            seen = self.look()
            offsets = self.positions(self._options.starting, seen, others=seen.first)
            self._initial = Document(seen.ids, offsets, began=offsets)
        return self._initial

    def next(self, start: Document, *, unlimited: bool) -> Document:
        """Return where the batch ends that begins at `start`."""
        seen = self.look()
        self.show(start)
        self._check_ends(start, seen)
        limits = Limits() if unlimited else self._limits(start, seen)
        end = next_document(start, seen, limits, may_lose=self._options.on_lost == "record", until=self._until)
        end = end if self._clock is None else self._with_clock(self._clock, start, end, seen)
        if end is start:
            return start
        # With read_committed the end is the last stable offset: the lag is what this query can read.
        return replace(end, latest={at: max(offset, seen.ends[at]) for at, offset in end.offsets.items() if at in seen.ends})

    def whole(self) -> tuple[Document, Document]:
        """Return the two ends of a batch read.

        Raises
        ------
        CheckpointMismatchError
            A topic is another one than when the ends were fixed.
        """
        seen = self.look()
        if self._options.ids is not None:
            check_ids(json.loads(self._options.ids), seen.ids)
        start = self.positions(self._options.starting, seen, others=seen.first)
        end = self.positions(self._options.ending, seen, others=seen.ends)
        begun = Document(seen.ids, start)
        ends = {at: max(offset, start[at]) for at, offset in end.items()}
        until = next_document(begun, Seen(seen.ids, seen.first, ends), Limits(), may_lose=self._options.on_lost == "record")
        return begun, until

    def stop_at_ends(self) -> None:
        """Read nothing in this run that is not there now."""
        self._until = self.look().ends

    def latest(self) -> Document | None:
        """Return the ends as last heard, without asking."""
        return Document(self._seen.ids, self._seen.ends) if self._seen else None

    def check(self, document: Document) -> None:
        """Refuse to read in topics that are others or shorter by now; asks the broker only at a replay, before the first batch."""
        seen = self._seen or self.look()
        check_ids(document.ids, seen.ids)
        self._check_ends(document, seen)

    def positions(self, position: Start, seen: Seen, *, others: Mapping[Place, int]) -> dict[Place, int]:
        """Turn a starting or ending position into offsets of all partitions; `others` are those that a mapping does not name.

        Raises
        ------
        SettingsError
            Offsets are given for partitions that are not there, or beyond the end.
        """
        if position == "earliest":
            return dict(seen.first)
        if position == "latest":
            return dict(seen.ends)
        if isinstance(position, datetime):
            at_ms = max(0, -((EPOCH - position) // timedelta(milliseconds=1)))  # rounded up; Kafka takes negative ones for words
            found = self._patiently(lambda: self._answers(self._asked(list(seen.ends), SPEC.for_timestamp(at_ms)), least=NO_SUCH_TIME))
            return {at: offset if 0 <= offset < seen.ends[at] else seen.ends[at] for at, offset in found.items()}
        assert not isinstance(position, str)  # noqa: S101 (read_position has no other words)
        given = {(topic, number): offset for topic, numbers in position.items() for number, offset in numbers.items()}
        if strange := set(given) - set(seen.ends):
            raise _misplaced(_listed(strange), seen.ends)
        words = {EARLIEST: seen.first, LATEST: seen.ends}
        offsets = {at: words[offset][at] if offset in words else offset for at, offset in given.items()}
        for at, offset in offsets.items():
            if offset > seen.ends[at]:
                raise _beyond(at, offset, seen.ends[at])
        return {**others, **offsets}

    def show(self, done: Document) -> None:
        """Let the consumer group show how far the query is; what fails here is logged, and done again with the next batch.

        Called where the next batch is planned, when the one before is surely done: Spark itself tells of the end of a batch
        only when there is another one.
        """
        if self._options.group is None or done == self._shown:
            return
        self._shown = self._owed = done
        self._reap(0)
        self._commit()
        if self._until is not None:
            self._settle()  # nobody may ask again in this run

    def check_group(self) -> None:
        """Refuse a group that may not be seen; other troubles with it pass, or are logged when they matter.

        Raises
        ------
        BrokerError
            The broker does not permit it.
        """
        if self._options.group is None:
            return
        # Not by its offsets: librdkafka 2.16 ends the process when they are asked for while the group's coordinator still loads.
        futures = self.admin.client.describe_consumer_groups([self._options.group], request_timeout=GROUP_TIMEOUT_S)
        try:
            futures[self._options.group].result(GROUP_TIMEOUT_S)
        except (KafkaException, TimeoutError) as error:
            refused = self.admin.reason(error, "group", [self._options.group], action="commit offsets of")
            if isinstance(refused, BrokerError):
                raise refused from error

    def close(self) -> None:
        """Wait for the group's offsets and let the client go."""
        self._settle()
        self._admin = None

    def _commit(self) -> None:
        """Commit what is owed, but never beside another commit: the broker might take the two in any order."""
        if self._options.group is None or self._owed is None or self._committing:
            return
        places = [TopicPartition(*at, offset) for at, offset in self._owed.offsets.items()]
        asked = ConsumerGroupTopicPartitions(self._options.group, places)
        self._committing = self.admin.client.alter_consumer_group_offsets([asked], request_timeout=GROUP_TIMEOUT_S)
        self._owed = None

    def _settle(self) -> None:
        self._reap(GROUP_TIMEOUT_S)
        self._commit()
        self._reap(GROUP_TIMEOUT_S)

    def _reap(self, timeout_s: float) -> None:
        under_way = {} if timeout_s else {group: future for group, future in self._committing.items() if not future.done()}
        for future in (future for group, future in self._committing.items() if group not in under_way):
            try:
                refused = partition_errors(future.result(timeout_s or None))
                if refused:
                    _log.warning("the offsets of group %s were not all committed: %s; the query goes on", self._options.group, refused)
            except (KafkaException, TimeoutError) as error:
                _log.warning("the offsets of group %s were not committed: %s; the query goes on", self._options.group, error)
        self._committing = under_way

    def _patiently(self, question: Callable[[], _Answer]) -> _Answer:
        """Ask again and again for `patience_s` if nobody answers or lets us in."""

        def ask() -> _Answer:
            try:
                return question()
            except BrokerUnavailableError as error:
                if error.kind == "broker":
                    self._admin = None  # the next one looks for the brokers anew: this one may wait for one that is gone
                    raise _NoAnswerError.of(error) from error
                raise
            except LoginError:
                self._admin = None  # the next one reads the secrets anew: they may have been changed
                raise

        again = retry_if_exception_type((_NoAnswerError, LoginError))
        patience = stop_after_delay(self._options.patience_s)
        return Retrying(stop=patience, wait=wait_exponential(0.1, max=2), retry=again, reraise=True)(ask)

    def _look(self) -> Seen:
        topics = self.admin.describe(self._names())
        wanted = self._options.partitions
        places = [(name, number) for name, topic in topics.items() for number in (wanted.get(name, ()) if wanted else topic.partitions)]
        missing = [at for at in places if at[1] not in topics[at[0]].partitions]
        if missing:
            todo = "correct `partitions`, or read all of them by leaving it out"
            raise SettingsError("read", "partitions", _listed(missing), expected="partitions that exist", got="none such", todo=todo)
        if wanted and not places and self._seen is None:
            expected = f"some of {_listed((name, number) for name, numbers in wanted.items() for number in numbers)}"
            got, todo = "none among the topics that match", "correct `partitions` or the pattern"
            raise SettingsError("read", "partitions", str(self._options.topic_pattern), expected=expected, got=got, todo=todo)
        ends = self._asked(places, SPEC.latest())
        first = self._asked(places, SPEC.earliest())  # under way at the same time
        return Seen({name: topic.id for name, topic in topics.items()}, self._answers(first), self._answers(ends))

    def _names(self) -> Sequence[str]:
        pattern = self._options.topic_pattern
        if pattern is None:
            return self._options.topics
        names = [name for name in self.admin.names() if re.fullmatch(pattern, name)]
        if not names and self._seen is None:
            expected, todo = "a topic that matches", "create one first, or correct the pattern"
            raise SettingsError("read", "topics", pattern, expected=expected, got="none", todo=todo)
        return names

    def _asked(self, places: Sequence[Place], spec: Any, *, committed: bool = True) -> Mapping[Any, Any]:
        # With transactions the end is the last stable offset: what lies behind may still be aborted.
        strict = committed and self._options.isolation == "read_committed"
        level = IsolationLevel.READ_COMMITTED if strict else IsolationLevel.READ_UNCOMMITTED
        asked = {TopicPartition(*at): spec for at in places}
        futures: Mapping[Any, Any] = self.admin.client.list_offsets(asked, isolation_level=level, request_timeout=10) if asked else {}
        return futures

    def _answers(self, futures: Mapping[Any, Any], *, least: int = 0) -> dict[Place, int]:
        names = sorted({at.topic for at in futures})
        found = self.admin.ask(futures, "topics", names)
        offsets = {(at.topic, at.partition): answer.offset for at, answer in found.items()}
        # Where a leader is lost while it is asked, librdkafka gives -1001 and no error.
        silent = [at for at, offset in offsets.items() if offset < least]
        if silent:
            todo = "start the broker that leads these partitions; the batch can be repeated"
            servers, expected = self._options.bootstrap_servers, f"an answer about the offsets of {_listed(silent)}"
            raise BrokerUnavailableError("reach", "broker", servers, expected=expected, got="none from their leaders", todo=todo)
        return offsets

    def _check_ends(self, start: Document, seen: Seen) -> None:
        """Refuse a log that ends before where it was read to: new records there would be passed over."""
        behind = [at for at, end in seen.ends.items() if end < start.offsets.get(at, 0)]
        if not behind:
            return
        whole = self._patiently(lambda: self._answers(self._asked(behind, SPEC.latest(), committed=False)))
        for at in behind:  # only the stable offset may be behind: the isolation was changed
            if whole[at] < start.offsets[at]:
                raise QueryError(
                    "read",
                    "offsets",
                    _listed([at]),
                    expected=f"an end of at least {start.offsets[at]}, which was read",
                    got=str(whole[at]),
                    why="the broker lost records that it had acknowledged (an unclean leader election, or a restored disk)",
                    todo="start with a new, empty checkpoint folder",
                )

    def _with_clock(self, clock: EventClock, start: Document, end: Document, seen: Seen) -> Document:
        """Add the clock's state to the end of a batch; a batch of its own only where the clock moved and the run goes on."""
        if self._tail is None:
            self._tail = Tail(self._options, clock.sample)
        before = self._clock_state or start.clock or ClockState()
        read = {at: offset for at, offset in end.offsets.items() if offset > start.offsets.get(at, 0)}
        live = {at: at in read or until > end.offsets.get(at, 0) for at, until in seen.ends.items()}
        first = {at: max(seen.first.get(at, 0), start.offsets.get(at, 0)) for at in read}
        sampled = self._tail.newest({at: (first[at], offset) for at, offset in read.items()})
        state = advance(clock, before, now_us=time.time_ns() // 1000, partitions=live, sampled=sampled)
        self._clock_state = state
        if end is start and (state.shown_us == before.shown_us or self._until is not None):
            return start
        return replace(end, clock=state, lost=end.lost if end is not start else {}, began=end.began if end is not start else None)

    def _limits(self, start: Document, seen: Seen) -> Limits:
        mine = Allowance(
            self._options.max_offsets_per_trigger, self._options.max_bytes_per_trigger, self._options.max_offsets_per_partition
        )
        now = mine.overridden_by(read_limits(self._options.limits)) if self._options.limits else mine
        total = now.max_offsets_per_trigger
        if now.max_bytes_per_trigger is not None:
            by_bytes = max(1, int(now.max_bytes_per_trigger / self._record_bytes(start, seen)))
            total = by_bytes if total is None else min(total, by_bytes)
        self._planned += 1
        return Limits(total, now.max_offsets_per_partition)

    def _record_bytes(self, start: Document, seen: Seen) -> float:
        """Estimate the size of a record from a few at the start of the partition that has most left."""
        if self._bytes is not None and self._planned % SAMPLE_EVERY:
            return self._bytes
        begun = {at: max(start.offsets.get(at, 0), seen.first[at]) for at in seen.ends}
        most = max(begun, key=lambda at: seen.ends[at] - begun[at])
        if seen.ends[most] <= begun[most]:
            return self._bytes or UNKNOWN_RECORD_BYTES
        settings = {"log_level": 2, **resolve(self._options.client), "bootstrap.servers": self._options.bootstrap_servers}
        ours = {"group.id": "millrace-sample", "enable.auto.commit": False, "isolation.level": self._options.isolation}
        consumer = Consumer({**settings, **ours})
        try:
            consumer.assign([TopicPartition(*most, begun[most])])
            found = [one for one in consumer.consume(SAMPLE_RECORDS, SAMPLE_TIMEOUT_S) if one.error() is None]
        finally:
            consumer.close()
        sizes = [len(one.key() or b"") + len(one.value() or b"") for one in found]
        self._bytes = max(1.0, sum(sizes) / len(sizes)) if sizes else float(UNKNOWN_RECORD_BYTES)
        return self._bytes


class _NoAnswerError(BrokerUnavailableError):
    """Nobody answered this time; worth another attempt."""

    @classmethod
    def of(cls, error: BrokerUnavailableError) -> _NoAnswerError:
        return cls(error.action, error.kind, error.name, expected=error.expected, got=error.got, todo=error.todo)


def _listed(places: Iterable[Place]) -> str:
    return ", ".join(f"{topic}[{number}]" for topic, number in sorted(places))


def _misplaced(given: str, known: Iterable[Place]) -> SettingsError:
    expected = f"offsets for some of {_listed(known)}"
    return SettingsError("use", "option", "starting or ending", expected=expected, got=given, todo="correct the offsets")


def _beyond(at: Place, offset: int, end: int) -> SettingsError:
    expected, todo = f"at most {end}, the end of {_listed([at])}", "correct the offsets"
    return SettingsError("use", "option", "starting or ending", expected=expected, got=str(offset), todo=todo)
