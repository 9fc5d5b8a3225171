"""What a batch reads, as pure functions: the offset document, the next one, and its cut into tasks.

The document is what Spark keeps in the checkpoint before a batch runs. Everything that a batch gives out is a function
of two of them and of the options, so a replay gives the same.

``{"version": 1, "topics": {name: {"id": topic id, "offsets": {"0": 123}}}, "lost": {name: {"0": [from, to]}}}``

``offsets`` are ends: the next offset to read. ``lost`` tells of the batch that ends here which offsets the broker had
dropped before. Spark does not write down where a first batch starts and asks again at a replay, when "latest" is
elsewhere: so the document of a first batch has ``began`` as well, offsets by topic. ``clock`` is the state of the
event clock, if there is one. ``latest``, offsets by topic, is where the partitions ended when the batch was planned: what is
read does not depend on it, but the ledger gets it from here, for partitions that the batch does not read as well. Whatever
later must be the same at a replay gets a key of its own as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from operator import index
from typing import Any, Final

from spark_ext.errors import CheckpointMismatchError, QueryError
from spark_ext.kafka.clock import ClockState
from spark_ext.kafka.options import Place

__all__ = ["Document", "Limits", "Range", "Seen", "cut", "next_document", "ranges", "share"]

VERSION: Final = 1
RESET: Final = "start with a new, empty checkpoint folder"


@dataclass(frozen=True, slots=True)
class Document:
    """The offset document.

    Attributes
    ----------
    ids : mapping of topic to its id
    offsets : mapping of place to the next offset to read
    lost : mapping of place to (from, to), the offsets that were gone in the batch that ends here
    began : mapping of place to offset, where the first batch starts; None in those of later batches
    clock : state of the event clock at the end of the batch
    latest : mapping of place to the end of what could be read when the batch was planned; none below its offset
    """

    ids: Mapping[str, str]
    offsets: Mapping[Place, int]
    lost: Mapping[Place, tuple[int, int]] = field(default_factory=dict)
    began: Mapping[Place, int] | None = None
    clock: ClockState | None = None
    latest: Mapping[Place, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, always in the same order."""
        topics = {name: {"id": self.ids[name], "offsets": _of_topic(self.offsets, name)} for name in sorted(self.ids)}
        lost = {name: {at: list(span) for at, span in _of_topic(self.lost, name).items()} for name in sorted({at[0] for at in self.lost})}
        began = {} if self.began is None else {"began": {name: _of_topic(self.began, name) for name in sorted(self.ids)}}
        clock = {} if self.clock is None else {"clock": _clock_json(self.clock, sorted(self.ids))}
        latest = {"latest": {name: _of_topic(self.latest, name) for name in sorted(self.ids)}} if self.latest else {}
        return {"version": VERSION, "topics": topics, "lost": lost, **began, **clock, **latest}

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> Document:
        """Read a document from a checkpoint.

        Raises
        ------
        CheckpointMismatchError
            It is of another release, or none of ours.
        """
        version = given.get("version") if isinstance(given, Mapping) else None
        if version != VERSION:
            got = f"version {version!r}"
            raise _unreadable("offsets of version 1", got, "another release made it")
        try:
            return cls._read(given)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            got = f"{type(error).__name__}: {error}"
            raise _unreadable("a whole document", got, "the file is damaged") from error

    @classmethod
    def _read(cls, given: Mapping[str, Any]) -> Document:
        topics, lost = given["topics"], given.get("lost", {})
        began, latest = (
            {(name, int(at)): index(offset) for name, offsets in given.get(key, {}).items() for at, offset in offsets.items()}
            for key in ("began", "latest")
        )
        return cls(
            ids={name: str(topic["id"]) for name, topic in topics.items()},
            offsets={(name, int(at)): index(end) for name, topic in topics.items() for at, end in topic["offsets"].items()},
            lost={(name, int(at)): (index(span[0]), index(span[1])) for name, spans in lost.items() for at, span in spans.items()},
            began=began if "began" in given else None,
            clock=_clock_state(given["clock"]) if "clock" in given else None,
            latest=latest,
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What the broker said at one moment.

    Attributes
    ----------
    ids : mapping of topic to its id
    first, ends : mapping of place to its oldest offset and to the end of what may be read
    """

    ids: Mapping[str, str]
    first: Mapping[Place, int]
    ends: Mapping[Place, int]


@dataclass(frozen=True, slots=True)
class Limits:
    """Most offsets of one batch: over all partitions, and of each; None is no limit."""

    total: int | None = None
    each: int | None = None


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets ``[start, end)`` of a partition; those before `first` are known to be lost."""

    topic: str
    partition: int
    start: int
    first: int
    end: int


def next_document(start: Document, seen: Seen, limits: Limits, *, may_lose: bool, until: Mapping[Place, int] | None = None) -> Document:
    """Return the end of the next batch; equal to `start` if there is nothing to read.

    A partition that `start` does not know is read from offset 0: what the broker dropped of it before is lost like
    anything else. Lost offsets do not count against the limits, as nobody reads them.

    Parameters
    ----------
    may_lose : bool
        Whether offsets that the broker has dropped are written down and passed over, or an error.
    until : mapping of place to end, optional
        Read no further, and no other partitions.

    Raises
    ------
    CheckpointMismatchError
        A topic was deleted or made again.
    QueryError
        Records were dropped before they were read, or a partition ends before where it was read to.
    """
    check_ids(start.ids, seen.ids)
    ends = {at: min(end, until.get(at, 0)) if until is not None else end for at, end in sorted(seen.ends.items())}
    begun = {at: start.offsets.get(at, 0) for at in ends}
    lost = {at: (begun[at], min(seen.first[at], end)) for at, end in ends.items() if begun[at] < min(seen.first[at], end)}
    if lost and not may_lose:
        raise lost_error(lost)
    readable = {at: lost[at][1] if at in lost else begun[at] for at in ends}
    parts = share({at: end - readable[at] for at, end in ends.items() if end > readable[at]}, limits, turn=sum(readable.values()))
    offsets = {**start.offsets, **{at: readable[at] + parts.get(at, 0) for at in ends if readable[at] or parts.get(at, 0) or ends[at]}}
    if offsets == {at: start.offsets.get(at, 0) for at in offsets}:
        return start
    ids = {topic: seen.ids[topic] for topic in {at[0] for at in offsets} | set(start.ids)}
    return Document(ids, offsets, lost, start.began if start.began == start.offsets else None)


def check_ids(known: Mapping[str, str], seen: Mapping[str, str]) -> None:
    """Refuse topics that are gone or are others by now.

    Raises
    ------
    CheckpointMismatchError
        Offsets mean nothing in a topic that was made again; both ids are named.
    """
    for topic, before in known.items():
        now = seen.get(topic)
        if now != before:
            raise CheckpointMismatchError(
                "go on with",
                "topic",
                topic,
                expected=f"id {before!r}",
                got=f"id {now!r}" if now else "no such topic among those that are read",
                why="it was left out, deleted or made again; offsets of the old one mean nothing in a new one",
                todo=RESET,
            )


def lost_error(lost: Mapping[Place, tuple[int, int]]) -> QueryError:
    """Name the records that are gone."""
    spans = ", ".join(f"{topic}[{number}] {span[0]}..{span[1] - 1}" for (topic, number), span in sorted(lost.items()))
    return QueryError(
        "read",
        "offsets",
        spans,
        expected="all records from where the query stood",
        got=f"{sum(to - since for since, to in lost.values())} that the broker no longer has",
        why="they were deleted, or outlived retention.ms or retention.bytes, before they were read",
        todo='go on without them by on_lost="record", which counts them, or start with a new, empty checkpoint folder',
    )


def share(left: Mapping[Place, int], limits: Limits, *, turn: int = 0) -> dict[Place, int]:
    """Share a batch out over partitions, in proportion to what each has left.

    Guarantee: the sum is the limit wherever that much is left; everybody gets something if the limit allows; if not,
    partitions take turns by `turn`, so that none waits for ever.
    """
    wanted = {at: count if limits.each is None else min(count, limits.each) for at, count in left.items() if count > 0}
    total = sum(wanted.values())
    if limits.total is None or total <= limits.total:
        return wanted
    places = sorted(wanted)
    if limits.total <= len(places):
        return {places[(turn + step) % len(places)]: 1 for step in range(limits.total)}
    # One each first; the rest in proportion, whole numbers by the largest remainders.
    rest, spare = limits.total - len(places), total - len(places)
    given = {at: 1 + rest * (wanted[at] - 1) // spare for at in places}
    by_remainder = sorted(places, key=lambda at: (-(rest * (wanted[at] - 1) % spare), at))
    for at in by_remainder[: limits.total - sum(given.values())]:
        given[at] += 1
    return given


def ranges(start: Document, end: Document) -> list[Range]:
    """Return what lies between two documents, in the order of topic and partition.

    Raises
    ------
    CheckpointMismatchError
        They speak of different topics under one name.
    """
    check_ids(start.ids, end.ids)
    found = []
    for at, until in sorted(end.offsets.items()):
        since = (start.offsets if end.began is None else end.began).get(at, 0)
        lost = end.lost.get(at)
        if until > since:
            # The start of the batch need not be the start of the loss where Spark joins batches.
            found.append(Range(*at, start=since, first=max(since, lost[1]) if lost else since, end=until))
    return found


def cut(whole: Sequence[Range], *, tasks: int, min_offsets: int) -> list[list[Range]]:
    """Divide ranges into the work of tasks, depending on nothing else than the arguments.

    A range is cut where it is more than its share. There are no more tasks than have `min_offsets` each: a task costs more
    than a few records, and while one worker reads all of a partition, what it has fetched ahead is of use.
    """
    if not whole:
        return []
    total = sum(one.end - one.first for one in whole)
    count = max(1, min(tasks, -(-total // min_offsets)))
    target = max(1, -(-total // count))
    pieces = [piece for one in whole for piece in _pieces(one, max(1, -(-(one.end - one.first) // target)))]
    work: list[list[Range]] = [[] for _ in range(count)]
    loads = [0] * count
    for piece in sorted(pieces, key=lambda one: (one.first - one.end, one.topic, one.partition, one.start)):
        least = loads.index(min(loads))
        work[least].append(piece)
        loads[least] += 1 + piece.end - piece.first
    return [sorted(one, key=lambda piece: (piece.topic, piece.partition, piece.start)) for one in work if one]


def _pieces(whole: Range, count: int) -> list[Range]:
    """Cut a range into equal pieces; what is lost stays with the first."""
    length = whole.end - whole.first
    edges = [whole.first + length * step // count for step in range(count + 1)]
    cuts = [Range(whole.topic, whole.partition, edge, edge, after) for edge, after in pairwise(edges)]
    return [Range(whole.topic, whole.partition, whole.start, whole.first, cuts[0].end), *cuts[1:]]


def _unreadable(expected: str, got: str, why: str) -> CheckpointMismatchError:
    return CheckpointMismatchError("read", "checkpoint", "kafka", expected=expected, got=got, why=why, todo=RESET)


def _of_topic(values: Mapping[Place, Any], topic: str) -> dict[str, Any]:
    return {str(at[1]): values[at] for at in sorted(values) if at[0] == topic}


def _clock_json(state: ClockState, topics: Sequence[str]) -> dict[str, Any]:
    known = {"times_us": state.times_us, "heard_us": state.heard_us}
    by_place = {name: {topic: _of_topic(values, topic) for topic in topics} for name, values in known.items()}
    return {"shown_us": state.shown_us, "beat_us": state.beat_us, **by_place}


def _clock_state(given: Mapping[str, Any]) -> ClockState:
    times, heard = (
        {(topic, int(at)): value for topic, values in given[name].items() for at, value in values.items()}
        for name in ("times_us", "heard_us")
    )
    return ClockState(given["shown_us"], given["beat_us"], times, heard)
