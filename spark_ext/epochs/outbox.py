"""The relay: what committed epochs left in the outbox goes to Kafka, each row once.

1. Take the transactional id: an earlier relay of the pipeline is fenced, and what it had open is aborted. First, because only then the
   mark stands still.
2. Read the mark, the group's committed offset. Without one, write it, and note in the ledger that there is one: a mark that is lost later
   (a deleted topic, `offsets.retention.minutes`) is noticed then, instead of everything being published again.
3. Read the epochs of the ledger from the mark on. An epoch without its row there may still be replayed.
4. Read their rows, in pieces of whole epochs; an epoch beyond the limits is cut.
5. For each piece, one transaction: the rows, the mark behind them, commit. A crash before the commit leaves nothing that consumers with
   ``read_committed`` see, and the mark where it was; one after it leaves the mark behind the rows.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import TracebackType
from typing import Final, Self, get_args

from deltalake import DeltaTable

from spark_ext.epochs.ledger import Ledger
from spark_ext.epochs.outbox_mark import Identity, Mark, forget_marks, read_mark, relay_name
from spark_ext.epochs.outbox_rows import Cut, OutboxTable, Reached
from spark_ext.epochs.sinks import Delivery
from spark_ext.errors import BrokerUnavailableError, EpochError, SettingsError
from spark_ext.kafka.messages import FencedError
from spark_ext.kafka.publisher import Publisher, producer_settings
from spark_ext.kafka.refusals import LoginError
from spark_ext.paths import absolute

__all__ = ["Published", "Relay"]

MAX_ROWS: Final = 10_000
MAX_BYTES: Final = 16 * 1024 * 1024
REFRESH: Final = timedelta(hours=6)  # brokers forget offsets of a group that commits nothing, after seven days by default
PATIENCE: Final = timedelta(seconds=60)
EXACT: Final[Mapping[str, bool | None]] = {"exactly_once": True, "at_least_once": False, "at_most_once": None}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """What was done: epochs that are finished, also empty ones, and rows."""

    epochs: int = 0
    rows: int = 0

    def __add__(self, other: Published) -> Published:
        return Published(self.epochs + other.epochs, self.rows + other.rows)


class Relay:
    """Publishes the outbox of one pipeline.

    Guarantee, by `delivery`: ``exactly_once``: consumers with ``read_committed`` see each row of each committed epoch once, those of a
    partition ordered by epoch and seq, whatever is killed and whenever; of two relays the later one goes on and the other fails without
    having published anything more. An epoch of up to `max_rows` and `max_bytes` becomes visible at once; a larger one takes several
    transactions. ``at_least_once``: no transactions, the mark follows the rows; rows since the last mark come again after a crash, and a
    second relay is not noticed. ``at_most_once``: the mark goes first; a crash or a failed delivery loses up to `max_rows` rows.

    Parameters
    ----------
    ledger : Ledger
        The pipeline's; not shared with another thread.
    pipeline : str
        Whose epochs.
    path : str
        Table of the `Outbox` sink. It belongs to this pipeline alone.
    bootstrap_servers : str
        Addresses as ``host:port``, separated by commas. The mark is in the same cluster as the rows.
    delivery : {"exactly_once", "at_least_once", "at_most_once"}
        As above; that of the sink.
    name : str, optional
        Consumer group and transactional id; by default `relay_name` of the pipeline.
    progress_topic : str, optional
        Topic at whose partition 0 the group's offset stands: the epoch that is next, not a position in that topic. By default the topic
        of the first row that is ever published; later relays find it there. Deleting this topic loses the mark.
    max_rows, max_bytes : int, > 0
        Most of one transaction, and of what is in memory.
    patience : timedelta
        For how long a broker that does not answer is asked again.
    options : mapping of str to str, optional
        Settings of librdkafka, starting with ``kafka.``, secrets as ``${env:NAME}`` or ``${file:/path}``.
    clock : callable
        Seconds that only grow; for the refreshing of the mark.

    Raises
    ------
    SettingsError
        An argument cannot be used.

    State: none beyond the mark and one transaction id in the ledger; in memory one piece of rows, and 24 bytes per row of up to a million
    pending rows, or of the largest epoch.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        pipeline: str,
        path: str,
        bootstrap_servers: str,
        delivery: Delivery = "exactly_once",
        name: str | None = None,
        progress_topic: str | None = None,
        max_rows: int = MAX_ROWS,
        max_bytes: int = MAX_BYTES,
        patience: timedelta = PATIENCE,
        options: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if delivery not in get_args(Delivery):
            expected = f"one of {', '.join(get_args(Delivery))}"
            raise SettingsError("use", "relay setting", "delivery", expected=expected, got=repr(delivery), todo="correct it")
        if max_rows <= 0 or max_bytes <= 0:
            got = f"{max_rows!r} and {max_bytes!r}"
            raise SettingsError("use", "relay setting", "max_rows, max_bytes", expected="more than 0", got=got, todo="correct it")
        self.name = name or relay_name(pipeline)
        self._ledger, self._pipeline, self._path, self._delivery = ledger, pipeline, absolute(path), delivery
        self._progress_topic, self._max_rows, self._max_bytes, self._clock = progress_topic, max_rows, max_bytes, clock
        transactional_id = self.name if delivery == "exactly_once" else None
        client, patience_s = producer_settings(options or {}), patience.total_seconds()
        self._publisher = Publisher(bootstrap_servers, client, group=self.name, transactional_id=transactional_id, patience_s=patience_s)
        self._reached = Reached(0)
        self._mark: Mark | None = None  # as it is in Kafka
        self._fenced: FencedError | None = None
        self._refresh_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let the producer go; the mark stays."""
        self._publisher.close()

    def publish_pending(self, *, stop: threading.Event | None = None) -> Published:
        """Publish the epochs that are committed now and not published yet, in order.

        Parameters
        ----------
        stop : Event, optional
            Ends it behind the transaction that is under way.

        Raises
        ------
        FencedError
            Another relay of this name was started. This one stays closed.
        UndeliverableError
            A row that Kafka does not take, with its epoch and seq, or a topic that is not there. Nothing is lost, except with
            ``at_most_once``: it and what follows stay in the outbox.
        EpochError
            Ledger, outbox and mark do not agree.
        BrokerError, BrokerUnavailableError
            The broker does not permit it, or did not answer for as long as `patience`. The next call resumes exactly.
        """
        if self._fenced is not None:
            raise self._fenced
        try:
            return self._publish_pending(stop or threading.Event())
        except FencedError as error:
            self._fenced = error
            raise
        except BaseException:
            self._publisher.close()  # whether the last transaction was committed is read from the mark
            raise

    def follow(self, stop: threading.Event, every: timedelta) -> Published:
        """Publish what is pending, again and again until `stop` is set; a broker that is away is waited for.

        Raises
        ------
        EpochError, BrokerError
            As `publish_pending`.
        """
        done = Published()
        while not stop.is_set():
            try:
                done += self.publish_pending(stop=stop)
            except (BrokerUnavailableError, LoginError) as error:
                _log.warning("relay %s goes on later: %s", self.name, error)
            stop.wait(every.total_seconds())
        return done

    def move_to(self, epoch: int) -> None:
        """Set the mark: the next epoch to be published is `epoch`, whatever was published. A relay that runs is fenced.

        Raises
        ------
        BrokerError, BrokerUnavailableError
        """
        is_alien, found = False, None
        try:
            found = read_mark(self._publisher.admin, self.name)
        except BrokerUnavailableError:
            raise
        except EpochError:  # another program's offsets
            is_alien = True
        topic = self._progress_topic or (found.topic if found is not None else None)
        if topic is None:
            todo = "give progress_topic, or run the relay"
            raise SettingsError("move", "relay", self.name, expected="a mark, or a topic for it", got="neither", todo=todo)
        self._publisher.open()
        try:
            if is_alien or (found is not None and found.topic != topic):
                forget_marks(self._publisher.admin, self.name)
            self._publisher.mark(Mark(Reached(epoch), self._identity(OutboxTable(self._path)), topic).to_offset())
            self._ledger.mark_published(self.name, epoch)
        finally:
            self._publisher.close()

    def drop_published(self, *, keep: int = 0) -> int:
        """Delete the rows of published epochs but the last `keep`, and return how many.

        It asks the broker for the mark and takes nothing from a relay that runs. The files are freed by a vacuum of the table.
        """
        mark = read_mark(self._publisher.admin, self.name)
        if mark is None:
            return 0
        table = OutboxTable(self._path)
        mark.check(self._identity(table), self.name)
        self._ledger.mark_published(self.name, mark.reached.epoch)
        return table.drop_before(mark.reached.epoch - keep)

    def _publish_pending(self, stop: threading.Event) -> Published:
        table = None
        if not self._publisher.is_open:
            if (table := self._table()) is None:
                return Published()
            self._open(self._identity(table))
        before, rows = self._reached, 0
        pending = self._ledger.rows(self._pipeline, since=before.epoch)
        if pending and (table := self._table()) is not None:  # opened again: it must have all that the ledger knows of
            epochs = table.expected(pending)
            exact = EXACT[self._delivery]
            cuts = table.cuts(epochs, since=before, max_rows=self._max_rows, max_bytes=self._max_bytes, exact=exact)
            for cut in cuts:
                self._publish(cut, table)
                rows += len(cut.messages)
                if stop.is_set():
                    break
            else:
                self._advance(Reached(pending[-1].epoch + 1))
        if self._mark is not None and self._clock() >= self._refresh_at:
            self._write(self._mark)
        return Published(sum(before.epoch <= row.epoch < self._reached.epoch for row in pending), rows)

    def _table(self) -> OutboxTable | None:
        """Return the outbox; None before the pipeline has made it."""
        if DeltaTable.is_deltatable(self._path):
            return OutboxTable(self._path)
        last = self._ledger.last(self._pipeline)
        if last is None or any(sink.path == self._path and sink.version < 0 for sink in last.sinks):
            return None
        expected, todo = "the outbox of the pipeline", "correct the path, or restore the table"
        raise EpochError("publish", "outbox", self._path, expected=expected, got="no Delta table there", todo=todo)

    def _identity(self, table: OutboxTable) -> Identity:
        return Identity(self._pipeline, str(self._ledger.table().metadata().id), table.table_id)

    def _open(self, identity: Identity) -> None:
        self._found(identity, is_stable=False)  # a relay of another pipeline must not be fenced
        self._publisher.open()
        found = self._found(identity, is_stable=True)
        noted = self._ledger.published(self.name)
        if found is None and noted is not None:
            raise EpochError(
                "resume",
                "relay",
                self.name,
                expected="its mark among the offsets of this consumer group",
                got="none",
                why=f"the topic with the mark, or the group, was deleted or forgotten; all before epoch {noted} was published",
                todo=f"see what consumers have, then: millrace outbox move --to-epoch {noted}, or a later one",
            )
        self._mark = found
        self._reached = found.reached if found is not None else Reached(0)
        if found is not None:
            if noted is None:
                self._ledger.mark_published(self.name, found.reached.epoch)
            self._write(found)

    def _found(self, identity: Identity, *, is_stable: bool) -> Mark | None:
        found = read_mark(self._publisher.admin, self.name, is_stable=is_stable)
        if found is None:
            return None
        found.check(identity, self.name)
        if self._progress_topic not in (None, found.topic):
            expected, todo = f"the topic of the mark, {found.topic!r}", "leave it out, or move the relay"
            raise SettingsError("use", "relay setting", "progress_topic", expected=expected, got=repr(self._progress_topic), todo=todo)
        return found

    def _publish(self, cut: Cut, table: OutboxTable) -> None:
        if self._mark is None:
            self._publisher.check(cut.messages)
            topic = self._progress_topic or cut.messages[0].topic
            self._write(Mark(self._reached, self._identity(table), topic))
            self._ledger.mark_published(self.name, self._reached.epoch)
        assert self._mark is not None  # noqa: S101
        mark = replace(self._mark, reached=cut.reached)
        if self._delivery == "exactly_once":
            self._publisher.in_transaction(cut.messages, mark.to_offset())
            self._noted(mark)
        elif self._delivery == "at_least_once":
            self._publisher.publish(cut.messages)
            self._write(mark)
        else:
            self._write(mark)
            self._publisher.publish(cut.messages)

    def _advance(self, reached: Reached) -> None:
        """Move over epochs without rows."""
        if self._mark is None:
            self._reached = reached  # there is no topic for it yet, and nothing to publish twice
        elif reached != self._reached:
            self._write(replace(self._mark, reached=reached))

    def _write(self, mark: Mark) -> None:
        self._publisher.mark(mark.to_offset())
        self._noted(mark)

    def _noted(self, mark: Mark) -> None:
        self._mark, self._reached = mark, mark.reached
        self._refresh_at = self._clock() + REFRESH.total_seconds()
