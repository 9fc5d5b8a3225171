"""What Spark's offset log says that a batch reads, per partition: pure functions over the texts of its sources.

A source writes down ends only. A batch starts where the one before it ended; the first one where its source says that it began.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from spark_ext.kafka.offsets import Document
from spark_ext.kafka.options import Place
from spark_ext.queries.checkpoint import Checkpoint

__all__ = ["Span", "bounds", "ends", "of_batch", "planned", "ranges", "topic_ids"]

Texts = Sequence[str | None]
OURS: Final = frozenset({"version", "topics"})


class Span(NamedTuple):
    """Offsets ``[start, end)`` of one partition, of which the first `lost` were gone from the broker.

    `topic_id`, and `latest`, the end of the partition when the batch was planned, if the source says so.
    """

    topic: str
    topic_id: str | None
    partition: int
    start: int
    end: int
    lost: int
    latest: int | None = None


def planned(checkpoint: Checkpoint, batch_id: int) -> list[str | None]:
    """Return where a planned batch ends, one text per source of the query; None for a source that has given nothing yet.

    Raises
    ------
    FileNotFoundError
        The batch has not been planned, or Spark has forgotten it.
    CheckpointMismatchError
        What is there cannot be read.
    """
    return list(checkpoint.batch(batch_id).sources)


def bounds(checkpoint: Checkpoint, batch_id: int) -> tuple[list[str | None], list[str | None]]:
    """Return where a planned batch starts and where it ends, as the two arguments of `ranges`.

    Raises
    ------
    FileNotFoundError, CheckpointMismatchError
        As for `planned`.
    """
    until = planned(checkpoint, batch_id)
    if batch_id > 0:
        return planned(checkpoint, batch_id - 1), until
    return [checkpoint.first_offsets(source) for source in range(len(until))], until


def of_batch(checkpoint: Checkpoint, batch_id: int) -> list[Span] | None:
    """Return what a planned batch reads; see `ranges`.

    Raises
    ------
    FileNotFoundError, CheckpointMismatchError
        As for `planned`.
    """
    return ranges(*bounds(checkpoint, batch_id))


def ranges(start_texts: Texts, end_texts: Texts) -> list[Span] | None:
    """Return the offsets between two positions of a query, in the order of topic and partition.

    Guarantee: every partition of the end position has a span, an empty one if the batch reads nothing of it; so the ends say where
    the whole query stands. Sources that do not read Kafka have no spans.

    Parameters
    ----------
    start_texts, end_texts : sequence of str or None
        One text per source, as `bounds` gives them; all starts may be None, for a first batch of our own source.

    Returns
    -------
    list of Span, or None
        None if no source reads Kafka.

    Raises
    ------
    CheckpointMismatchError
        A document of ours is of another release or damaged.
    """
    found: list[Span] | None = None
    for number, end in enumerate(end_texts):
        given = _object(end)
        start = _object(start_texts[number]) if number < len(start_texts) else None
        spans = _of_ours(start, given) if given.keys() >= OURS else _of_spark(start, given)
        if spans is not None:
            found = [*(found or []), *spans]
    return None if found is None else sorted(found, key=lambda one: (one.topic, one.partition))


def ends(texts: Texts) -> dict[Place, int] | None:
    """Return the next offset to read of each partition; None if no source reads Kafka."""
    spans = ranges([], texts)
    return None if spans is None else {(one.topic, one.partition): one.end for one in spans}


def topic_ids(texts: Texts) -> dict[str, str]:
    """Return the ids of the topics, of those sources that write them down."""
    spans = ranges([], texts) or []
    return {one.topic: one.topic_id for one in spans if one.topic_id is not None}


def _object(text: str | None) -> dict[str, Any]:
    """Return the JSON object, an empty one for everything else."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _of_ours(start: Mapping[str, Any] | None, end: Mapping[str, Any]) -> list[Span]:
    until = Document.from_json(end)
    begun = until.began if until.began is not None else Document.from_json(start).offsets if start else {}
    spans = []
    for at, stop in sorted(until.offsets.items()):
        since = begun.get(at, 0)
        # Where Spark joins batches the loss may start before this one does.
        first = max(since, min(stop, until.lost[at][1])) if at in until.lost else since
        spans.append(Span(at[0], until.ids.get(at[0]), at[1], since, stop, first - since, until.latest.get(at)))
    return spans


def _of_spark(start: Mapping[str, Any] | None, end: Mapping[str, Any]) -> list[Span] | None:
    """Read ``{"topic": {"0": 5}}`` of Spark's connector; what it lost it does not say."""
    if not end or not all(_is_offsets(one) for one in end.values()):
        return None
    begun = start or {}
    return [
        Span(topic, None, int(number), begun.get(topic, {}).get(number, 0), stop, 0)
        for topic, numbers in end.items()
        for number, stop in numbers.items()
    ]


def _is_offsets(given: object) -> bool:
    if not isinstance(given, dict) or not given:
        return False
    return all(number.isdecimal() and isinstance(offset, int) and not isinstance(offset, bool) for number, offset in given.items())
