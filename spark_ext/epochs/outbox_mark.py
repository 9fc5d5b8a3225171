"""How far a relay is, as the committed offset of a consumer group: the one thing that Kafka commits together with messages."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Final

from confluent_kafka import TopicPartition

from spark_ext.epochs.outbox_rows import Reached
from spark_ext.errors import EpochError
from spark_ext.kafka.groups import committed_offsets
from spark_ext.kafka.topics import Admin

__all__ = ["Identity", "Mark", "forget_marks", "read_mark", "relay_name"]

PREFIX: Final = "millrace-outbox-"


def relay_name(pipeline: str) -> str:
    """Return the name of a pipeline's relay: its consumer group and its transactional id.

    Examples
    --------
    >>> relay_name("flights")
    'millrace-outbox-flights'
    """
    return PREFIX + pipeline


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose progress it is: the pipeline, and the ids of its ledger and of its outbox."""

    pipeline: str
    ledger: str
    outbox: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a relay is, and at which topic's partition the group's offset says so."""

    reached: Reached
    identity: Identity
    topic: str
    partition: int = 0

    def to_offset(self) -> TopicPartition:
        """Return the offset to commit: the epoch that is next, the place in it and the identity in the metadata."""
        metadata = json.dumps({**asdict(self.identity), "seq": self.reached.seq})
        return TopicPartition(self.topic, self.partition, self.reached.epoch, metadata)

    @classmethod
    def from_offset(cls, offset: TopicPartition, group: str) -> Mark:
        """Read a committed offset.

        Raises
        ------
        EpochError
            No relay wrote it.
        """
        try:
            found = json.loads(offset.metadata or "")
            seq = found.pop("seq")
            return cls(Reached(offset.offset, seq), Identity(**found), offset.topic, offset.partition)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            got = f"offset {offset.offset} with metadata {offset.metadata!r} at {offset.topic}[{offset.partition}]"
            raise _alien(group, got) from error

    def check(self, identity: Identity, group: str) -> None:
        """Refuse the mark of another pipeline, ledger or outbox.

        Raises
        ------
        EpochError
        """
        if self.identity != identity:
            raise EpochError(
                "resume",
                "relay",
                group,
                expected=f"the progress of {identity}",
                got=f"that of {self.identity}",
                why="two pipelines of one name share this broker, or ledger or outbox were made again",
                todo="give one of the relays another name, or move this one to the epoch where it should go on",
            )


def read_mark(admin: Admin, group: str, *, is_stable: bool = True) -> Mark | None:
    """Return the mark of a relay, None if there is none.

    Parameters
    ----------
    admin : Admin
        Who asks.
    group : str
        The relay's name.
    is_stable : bool
        Whether to wait for transactions that are being committed or aborted.

    Raises
    ------
    EpochError
        The group has other offsets.
    BrokerError, BrokerUnavailableError
    """
    offsets = committed_offsets(admin, group, is_stable=is_stable)
    marks = [Mark.from_offset(one, group) for one in offsets]
    if len(marks) > 1:
        raise _alien(group, f"offsets of {', '.join(f'{one.topic}[{one.partition}]' for one in offsets)}")
    return marks[0] if marks else None


def forget_marks(admin: Admin, group: str) -> None:
    """Delete all offsets of the group.

    Raises
    ------
    BrokerError, BrokerUnavailableError
    """
    admin.ask(admin.client.delete_consumer_groups([group], request_timeout=10), "group", [group])


def _alien(group: str, got: str) -> EpochError:
    why, todo = "another program commits offsets of this group", "stop it, then: millrace outbox move, to the epoch where the relay was"
    return EpochError("resume", "relay", group, expected="the one offset of a relay", got=got, why=why, todo=todo)
