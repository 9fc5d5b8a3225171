"""Count again what the ledger says, by readers that share nothing with what wrote it: a plain consumer, and the logs of the tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from spark_ext.epochs.ledger import KINDS, EpochRow, Ledger
from spark_ext.epochs.recount_broker import recount_ranges
from spark_ext.epochs.recount_finding import UNCHECKED, Finding
from spark_ext.epochs.recount_tables import recount_sinks

__all__ = ["UNCHECKED", "Finding", "check", "check_continuity"]


def check(
    ledger: Ledger,
    pipeline: str,
    bootstrap_servers: str | None = None,
    options: Mapping[str, str] | None = None,
    *,
    last: int | None = None,
) -> list[Finding]:
    """Return what is wrong with a pipeline's ledger, and what cannot be checked any more.

    Guarantee: no finding with `Finding.is_fault` means: epochs are consecutive, fencing tokens never fall, each range begins where the
    one before ended, both equations hold, each range that the broker still has holds as many records as were read, and each append and
    outbox has taken as many rows as the ledger says. Rows of upserts and histories are not counted: only that their commit is there.

    Parameters
    ----------
    ledger : Ledger
        Where the rows are.
    pipeline : str
        Whose.
    bootstrap_servers : str, optional
        Without it the broker is not asked.
    options : mapping of str to str, optional
        Settings of librdkafka, starting with ``kafka.``, secrets as references.
    last : int, optional
        Only so many epochs, the newest.

    Raises
    ------
    SettingsError
        An option cannot be used.
    BrokerUnavailableError
        Nobody answers.

    State: the ledger's rows in memory.
    """
    rows = ledger.rows(pipeline, last=last)
    found = [*check_continuity(rows), *recount_sinks(rows)]
    if bootstrap_servers is not None:
        found += recount_ranges(rows, bootstrap_servers, options or {})
    return sorted(found, key=lambda one: (one.epoch, one.kind, one.where))


def check_continuity(rows: Sequence[EpochRow]) -> Iterator[Finding]:
    """Yield what the rows of one pipeline, in order, say against each other and against themselves."""
    for before, row in pairwise(rows):
        if row.epoch != before.epoch + 1:
            yield Finding(row.epoch, "epoch", "ledger", f"epoch {before.epoch + 1}", str(row.epoch))
        if row.token < before.token:
            yield Finding(row.epoch, "token", "ledger", f"at least {before.token}", str(row.token))
    for row in rows:
        for one in row.ranges:
            if not one.is_balanced:
                got = f"{one.read} read, {one.absent} absent, {one.lost} lost"
                yield Finding(row.epoch, "balance", f"{one.topic}[{one.partition}]", f"{one.end - one.start} offsets", got)
        if not row.is_balanced and all(one.is_balanced for one in row.ranges):
            got = ", ".join(f"{getattr(row, kind)} {kind}" for kind in KINDS)
            yield Finding(row.epoch, "balance", "ledger", f"{row.read} read", got)
        if row.ranges and (counted := sum(one.read for one in row.ranges)) != row.read:
            yield Finding(row.epoch, "balance", "ranges", f"{row.read} read", str(counted))
    yield from _joints(rows)


@dataclass(frozen=True, slots=True)
class _End:
    topic_id: str | None
    checkpoint_id: str
    offset: int


def _joints(rows: Sequence[EpochRow]) -> Iterator[Finding]:
    ends: dict[tuple[str, int], _End] = {}
    for row in rows:
        for one in row.ranges:
            at, where = (one.topic, one.partition), f"{one.topic}[{one.partition}]"
            before = ends.get(at)
            if before is not None and before.offset != one.start:
                expected, got = f"start {before.offset}", str(one.start)
                if before.topic_id != one.topic_id:
                    yield Finding(row.epoch, UNCHECKED, where, f"{expected} of topic id {before.topic_id}", f"{got} of {one.topic_id}")
                elif before.checkpoint_id != row.checkpoint_id:  # a new or a rewound one starts where it was told to
                    yield Finding(row.epoch, UNCHECKED, where, f"{expected} of checkpoint {before.checkpoint_id}", f"{got} of another one")
                else:
                    yield Finding(row.epoch, "continuity", where, expected, got)
            ends[at] = _End(one.topic_id, row.checkpoint_id, one.end)
