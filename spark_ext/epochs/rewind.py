"""Let a pipeline start again somewhere else: first what that does to each sink, then the doing.

The checkpoint begins anew under a new id, with a note of where to start (`starting`), and the ledger gets a row that says so: an epoch that
reads nothing. Without that row the guard refuses the new checkpoint. The steps, in the order in which a crash leaves nothing that starts by
itself:

1. Take the lease, so that no driver that still runs can commit.
2. Renew the checkpoint: from now on the guard refuses it, as the ledger does not know it.
3. Write down where it starts.
4. Restore the tables, if wanted.
5. Commit the ledger's row: the pipeline may start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

from deltalake import DeltaTable

from spark_ext.epochs import offsets
from spark_ext.epochs.ledger import EpochRow, Ledger, RangeRow, SinkRow
from spark_ext.epochs.position import write_starting
from spark_ext.errors import EpochError, SettingsError
from spark_ext.kafka.options import EARLIEST, LATEST, Place, SourceOptions, Start, position_text, read_position
from spark_ext.kafka.planner import Planner
from spark_ext.queries import owner
from spark_ext.queries.checkpoint import Checkpoint

__all__ = ["Effect", "Plan", "apply", "plan"]

NONE: Final = -1
TARGETS: Final = 'earliest, latest, a time with its zone, offsets as {"topic": {"0": 17}}, epoch:<number> or checkpoint'
AGAIN: Final = {
    "append": "they are added again: duplicates",
    "upsert": "by key: replaced by themselves; without a sequence column older values come back until the stream has caught up",
    "history": "by key and time: replaced by themselves",
    "sketches": "they are merged in again: counts double; what only knows values apart (distinct counts, Bloom filters) stays as it is",
    "outbox": "they are published again: consumers see them twice",
}


@dataclass(frozen=True, slots=True)
class Effect:
    """What a rewind does to a sink.

    Attributes
    ----------
    sink, path, kind : str
        Which one.
    rows_again : int or None
        How many rows of it, at most, come from what is read again; None if that is not known.
    restored_to : int or None
        Version that its table is set back to.
    text : str
        What becomes of them.
    """

    sink: str
    path: str
    kind: str
    rows_again: int | None
    restored_to: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rewind would do; `apply` does it.

    Attributes
    ----------
    checkpoint, ledger
        Of the pipeline.
    target : str
        As it was asked for.
    position : Start
        What ``kafka.read(starting=...)`` will be given.
    topic_ids : mapping of topic to id
        As far as they are known.
    last : EpochRow or None
        Where the ledger ends.
    again, passed_over : int or None
        Offsets that are read once more, and those that are never read; None if not known without asking a broker.
    effects : sequence of Effect
        One per sink of the ledger's last epoch.
    """

    checkpoint: Checkpoint
    ledger: Ledger
    target: str
    position: Start
    topic_ids: Mapping[str, str]
    last: EpochRow | None
    again: int | None
    passed_over: int | None
    effects: Sequence[Effect]

    @property
    def restores(self) -> bool:
        """Tell whether tables are set back."""
        return any(one.restored_to is not None for one in self.effects)


def plan(
    checkpoint: Checkpoint,
    ledger: Ledger,
    *,
    to: str,
    restore_tables: bool = False,
    bootstrap_servers: str | None = None,
    options: Mapping[str, str] | None = None,
) -> Plan:
    """Work out what a rewind does; nothing is changed.

    Parameters
    ----------
    checkpoint : Checkpoint
        From `Checkpoint.find`.
    ledger : Ledger
        Of the pipeline.
    to : str
        ``earliest``, ``latest``, a time with its zone (of the records), JSON of offsets, ``epoch:<number>`` for the end of an epoch, or
        ``checkpoint`` for the end of what Spark has committed, where a ledger is lost.
    restore_tables : bool
        Set the tables back to their versions as of the epoch: then nothing is there twice. Only with an epoch.
    bootstrap_servers, options
        Broker to ask which offsets the position stands for; without it a word or a time stays as it is.

    Raises
    ------
    SettingsError
        `to` cannot be used.
    EpochError
        The ledger has no such epoch, or its rows name no offsets.
    BrokerUnavailableError
        The broker does not answer.
    """
    rows = ledger.rows(checkpoint.pipeline) if ledger.exists() else []
    last = rows[-1] if rows else None
    stood = {} if last is None else {(one.topic, one.partition): one.end for one in last.ranges}
    ids = {} if last is None else {one.topic: one.topic_id for one in last.ranges if one.topic_id is not None}
    position, epoch = _position(checkpoint, rows, to)
    if restore_tables and epoch is None:
        raise _refused("restore_tables", "an epoch to go back to", repr(to), "name one as --to epoch:<number>")
    if bootstrap_servers is not None and not isinstance(position, Mapping):
        topics = sorted({topic for topic, _ in stood}) or _topics_of(checkpoint)
        position, ids = _asked(position, topics, bootstrap_servers, options or {})
    places = _places(position, stood)
    again = passed_over = None
    if places is not None:
        again = sum(max(0, end - places.get(at, 0)) for at, end in stood.items())
        passed_over = sum(max(0, since - stood.get(at, 0)) for at, since in places.items())
    elif position == "earliest":
        again, passed_over = sum(row.read for row in rows), 0
    elif position == "latest":
        again = 0
    repeated = _repeated(rows, places, position)
    back = {} if epoch is None or not restore_tables else {one.name: one.version for one in epoch.sinks}
    effects = [_effect(one, repeated, back.get(one.name), is_restore=restore_tables) for one in (last.sinks if last else ())]
    return Plan(checkpoint, ledger, to, position, ids, last, again, passed_over, effects)


def apply(planned: Plan, *, now: datetime | None = None) -> EpochRow:
    """Do it; afterwards the pipeline may be started, reading from `starting(checkpoint)`.

    Returns
    -------
    EpochRow
        The ledger's new row: an epoch without rows, in a checkpoint of its own.

    Raises
    ------
    EpochError
        A driver of the pipeline is alive on this machine, or the ledger has grown since the plan was made.
    """
    pipeline, ledger = planned.checkpoint.pipeline, planned.ledger
    at = now or datetime.now(UTC)
    owner.take(planned.checkpoint)
    try:
        ledger.create()
        token = ledger.take_lease(pipeline)
        last = ledger.last(pipeline)
        if (last.epoch if last else NONE) != (planned.last.epoch if planned.last else NONE):
            got = f"epoch {last.epoch if last else NONE}"
            expected = f"epoch {planned.last.epoch if planned.last else NONE} as the last one"
            raise EpochError(
                "rewind", "pipeline", pipeline, expected=expected, got=got, why="it ran meanwhile", todo="look again, and repeat"
            )
        fresh = planned.checkpoint.renew()
        write_starting(fresh, planned.position)
        for one in planned.effects:
            if one.restored_to is not None:
                _restore(one.path, one.restored_to)
        row = _row(planned, fresh, token, at)
        ledger.append(row, app_id=fresh.app_id)
    finally:
        owner.release(planned.checkpoint)
    return row


def _position(checkpoint: Checkpoint, rows: Sequence[EpochRow], to: str) -> tuple[Start, EpochRow | None]:
    if to == "checkpoint":
        done = checkpoint.last_committed()
        ends = None if done is None else offsets.ends(offsets.planned(checkpoint, done))
        if not ends:
            got = "none" if done is None else "sources that have none"
            raise _refused("to", "a checkpoint with offsets of Kafka", got, "name another position")
        return _by_topic(ends), None
    if not to.startswith("epoch:"):
        try:
            return read_position(to), None
        except (ValueError, AttributeError, TypeError) as error:
            raise _refused("to", TARGETS, repr(to), "correct it") from error
    number = to.removeprefix("epoch:")
    row = next((row for row in reversed(rows) if str(row.epoch) == number), None)
    if row is None or not row.ranges:
        known = f"epochs {rows[0].epoch} to {rows[-1].epoch}" if rows else "no epoch"
        raise EpochError(
            "rewind to",
            "epoch",
            number,
            expected=f"an epoch of {checkpoint.pipeline!r} with offsets",
            got=known if row is None else "one without",
            todo="choose another position",
        )
    return _by_topic({(one.topic, one.partition): one.end for one in row.ranges}), row


def _asked(position: Start, topics: Sequence[str], servers: str, options: Mapping[str, str]) -> tuple[Start, dict[str, str]]:
    """Ask a broker what offsets a word or a time stands for."""
    if not topics:
        raise _refused("to", "offsets", position_text(position), "name the topics: nothing here says which ones are read")
    texts = {**options, "bootstrap_servers": servers, "topics": json.dumps(list(topics)), "starting": position_text(position)}
    planner = Planner(SourceOptions.from_options(texts))
    try:
        document = planner.initial()
    finally:
        planner.close()
    return _by_topic(document.offsets), dict(document.ids)


def _topics_of(checkpoint: Checkpoint) -> list[str]:
    planned = checkpoint.last_planned()
    ends = None if planned is None else offsets.ends(offsets.planned(checkpoint, planned))
    return sorted({topic for topic, _ in ends or {}})


def _places(position: Start, stood: Mapping[Place, int]) -> dict[Place, int] | None:
    """Return offsets, words among them replaced by what is known; None if there are none at all."""
    if not isinstance(position, Mapping):
        return None
    given = {(topic, number): offset for topic, numbers in position.items() for number, offset in numbers.items()}
    return {at: 0 if offset == EARLIEST else stood.get(at, 0) if offset == LATEST else offset for at, offset in given.items()}


def _by_topic(ends: Mapping[Place, int]) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = {}
    for (topic, number), end in sorted(ends.items()):
        found.setdefault(topic, {})[number] = end
    return found


def _repeated(rows: Sequence[EpochRow], places: Mapping[Place, int] | None, position: Start) -> list[EpochRow] | None:
    """Return the epochs of which something is read again; None if that is not known."""
    if places is not None:
        return [
            row for row in rows if any(one.end > one.start and one.end > places.get((one.topic, one.partition), 0) for one in row.ranges)
        ]
    if position == "earliest":
        return list(rows)
    return [] if position == "latest" else None


def _effect(sink: SinkRow, repeated: Sequence[EpochRow] | None, back: int | None, *, is_restore: bool) -> Effect:
    rows = None if repeated is None else sum(one.rows for row in repeated for one in row.sinks if one.name == sink.name)
    if back is not None:
        done = "emptied, as it was not there yet" if back == NONE else f"set back to version {back}"
        text = f"the table is {done}; rows of other programs since then go as well"
        if sink.kind == "outbox":
            text += "; what was published stays, and is published again"
    elif is_restore:
        text = f"not set back, as the epoch does not name it; {AGAIN.get(sink.kind, 'they are written again')}"
    elif rows == 0:
        text = "nothing comes twice"
    else:
        text = AGAIN.get(sink.kind, "they are written again")
    return Effect(sink.name, sink.path, sink.kind, rows, back, text)


def _restore(path: str, version_before: int) -> None:
    if version_before == NONE and not DeltaTable.is_deltatable(path):
        return
    table = DeltaTable(path)
    if version_before == NONE:
        table.delete()
    elif table.version() != version_before:
        table.restore(version_before)


def _row(planned: Plan, fresh: Checkpoint, token: int, at: datetime) -> EpochRow:
    given = planned.position if isinstance(planned.position, Mapping) else {}
    places = [(topic, number, end) for topic, numbers in given.items() for number, end in numbers.items() if end >= 0]
    ranges = [RangeRow(topic, planned.topic_ids.get(topic), number, end, end, 0) for topic, number, end in places]
    sinks = [_as_it_is(one) for one in (planned.last.sinks if planned.last else ())]
    said = {"to": planned.target, "starting": position_text(planned.position), "restored": planned.restores}
    return EpochRow(
        pipeline=fresh.pipeline,
        checkpoint_id=fresh.checkpoint_id,
        epoch=0 if planned.last is None else planned.last.epoch + 1,
        batch_id=NONE,
        token=token,
        started_at=at,
        committed_at=at,
        ranges=ranges,
        sinks=sinks,
        replay_of=f"rewind {json.dumps(said)}",
        release=version("millrace"),
        tables=planned.last.tables if planned.last else (),  # its policy goes on: what is read again is read with the versions of then
    )


def _as_it_is(sink: SinkRow) -> SinkRow:
    if not DeltaTable.is_deltatable(sink.path):
        return SinkRow(sink.name, sink.path, "", sink.kind, sink.counts_as, 0, NONE, None)
    table = DeltaTable(sink.path)
    return SinkRow(sink.name, sink.path, str(table.metadata().id), sink.kind, sink.counts_as, 0, table.version(), None)


def _refused(name: str, expected: str, got: str, todo: str) -> SettingsError:
    return SettingsError("use", "rewind setting", name, expected=expected, got=got, todo=todo)
