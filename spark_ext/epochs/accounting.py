"""The equations of the ledger: what was read, and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_ext.epochs.ledger import KINDS, RangeRow, balances

if TYPE_CHECKING:
    from spark_ext.epochs.counting import Counted
    from spark_ext.epochs.offsets import Span
    from spark_ext.epochs.pipeline import Pipeline

__all__ = ["AccountedFor", "account_for"]


@dataclass(frozen=True, slots=True)
class AccountedFor:
    """What the ledger will say about an epoch's rows.

    Attributes
    ----------
    counts : mapping of str to int
        ``read``, the ways out, ``absent`` and ``lost``.
    ranges : sequence of RangeRow
        By topic and partition.
    """

    counts: Mapping[str, int]
    ranges: Sequence[RangeRow]

    @property
    def is_balanced(self) -> bool:
        """Tell whether both equations hold; see `spark_ext.epochs.ledger.balances`."""
        return balances(self.counts, self.ranges)

    @property
    def text(self) -> str:
        """The first equation with its numbers, and each range that is not whole."""
        parts = " + ".join(f"{name} {self.counts[name]}" for name in KINDS if self.counts[name])
        torn = [f"{one.topic}-{one.partition} {one.start}..{one.end} read {one.read}" for one in self.ranges if not one.is_balanced]
        return "; ".join([f"read {self.counts['read']}, {parts or 'nothing came out'}", *torn])


def account_for(counted: Counted, planned: Sequence[Span], pipeline: Pipeline, *, given_up: Collection[str] = ()) -> AccountedFor:
    """Account for an epoch.

    What was read is what the source counted; a source that cannot count has its offsets for it, and without offsets the batch's rows if
    they are input rows. Accepted rows are counted where a sink holds them, else they are what is left.

    Parameters
    ----------
    counted : Counted
        What the batch and the sinks hold.
    planned : sequence of Span
        The batch's offsets.
    pipeline : Pipeline
        Whose sinks say what their rows count as.
    given_up : collection of str
        Sinks at most once that get nothing any more; their rows are shed.
    """
    ranges = _ranges(counted, planned)
    by_kind: Counter[str] = Counter()
    for name, sink in pipeline.sinks.items():
        if sink.counts_as is not None:
            by_kind["shed" if name in given_up else sink.counts_as] += counted.by_sink.get(name, 0)
    by_source: Counter[str] = Counter()
    for account in counted.accounts:
        by_source.update(account.counts)
    read = sum(one.read for one in ranges) if ranges else 0 if pipeline.is_derived else counted.rows or 0
    kinds = {kind: by_kind[kind] for kind in KINDS} | {"filtered": by_source["filtered"]}
    if not any(sink.counts_as == "dead" for sink in pipeline.sinks.values()):
        kinds["dead"] = by_source["dead"]  # another pipeline's to keep
    if pipeline.is_derived:
        kinds["accepted"] = read - sum(kinds[kind] for kind in KINDS if kind != "accepted")
    lost, absent = sum(one.lost for one in ranges), sum(one.absent for one in ranges)
    return AccountedFor({"read": read, **kinds, "absent": absent, "lost": lost}, ranges)


def _ranges(counted: Counted, planned: Sequence[Span]) -> list[RangeRow]:
    by_partition: dict[tuple[str, int], Counter[str]] = {}
    for account in counted.accounts:
        by_partition.setdefault((account.topic, account.partition), Counter()).update(
            {name: account.counts[name] for name in ("read", "absent", "lost")}
        )
    rows = []
    for one in planned:
        if counted.accounts:
            known = by_partition.get((one.topic, one.partition), Counter())
            read, absent, lost = known["read"], known["absent"], known["lost"]
        else:
            read, absent, lost = one.end - one.start - one.lost, 0, one.lost
        rows.append(RangeRow(one.topic, one.topic_id, one.partition, one.start, one.end, read, absent, lost, one.latest))
    return rows
