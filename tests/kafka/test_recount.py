"""The recount of the ledger: quiet where it is right, and each kind of fault found where it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from spark_ext.broker import Broker
from spark_ext.epochs.ledger import RangeRow
from spark_ext.epochs.recount import UNCHECKED, Finding, check, check_continuity
from spark_ext.errors import BrokerUnavailableError
from spark_ext.kafka.topics import Admin
from tests.kafka_topics import delete_records, in_transaction, make_again, produce
from tests.outbox_epochs import Epochs, epoch_row, row

pytestmark = pytest.mark.kafka


@pytest.fixture
def epochs(tmp_path: Path) -> Epochs:
    return Epochs(tmp_path)


def of(topic: str, start: int, end: int, **others: Any) -> RangeRow:
    given = {"topic_id": None, "partition": 0, "read": end - start - others.get("absent", 0) - others.get("lost", 0)}
    return RangeRow(**{"topic": topic, "start": start, "end": end, **given, **others})


def kinds(findings: list[Finding]) -> list[tuple[int, str]]:
    return [(one.epoch, one.kind) for one in findings]


def recount(epochs: Epochs, broker: Broker | None = None) -> list[Finding]:
    return check(epochs.ledger, epochs.pipeline, None if broker is None else broker.bootstrap_servers)


# The broker ----------------------------------------------------------------------------------------------------------------


def test_a_right_ledger_has_no_findings(broker: Broker, epochs: Epochs) -> None:
    broker.create_topic("recount-right", partitions=2)
    produce(broker, "recount-right", [b"x"] * 30, partitions=2)  # 15 each
    in_transaction(broker, "recount-right", [b"x"] * 3, commit=True, name="recount-a")  # offsets 15 to 17, marker 18
    in_transaction(broker, "recount-right", [b"x"] * 3, commit=False, name="recount-a")  # offsets 19 to 21, marker 22
    produce(broker, "recount-right", [b"x"])  # offset 23
    topic_id = Admin(broker.bootstrap_servers, {}).describe(["recount-right"])["recount-right"].id
    known = {"topic_id": topic_id}
    epochs.commit(
        [row("t", "x")] * 4, ranges=[of("recount-right", 0, 10, **known), of("recount-right", 0, 7, partition=1, **known)], token=1
    )
    epochs.commit([], ranges=[of("recount-right", 10, 20, absent=2, **known), of("recount-right", 7, 7, partition=1, **known)])
    epochs.commit([row("t", "x")], ranges=[of("recount-right", 20, 23, absent=3, **known)], absent=3)
    epochs.commit([], ranges=[of("recount-right", 23, 24, **known), of("recount-right", 7, 15, partition=1, **known)])
    assert recount(epochs, broker) == []


def test_a_range_that_ends_in_an_aborted_transaction_is_counted(broker: Broker, epochs: Epochs) -> None:
    broker.create_topic("recount-aborted")
    produce(broker, "recount-aborted", [b"x"] * 2)
    in_transaction(broker, "recount-aborted", [b"x"] * 3, commit=False, name="recount-b")  # offsets 2 to 4, marker 5: the end
    epochs.commit([], ranges=[of("recount-aborted", 0, 6, absent=4)])
    assert recount(epochs, broker) == []


@pytest.mark.parametrize("told", [5, 7])
def test_a_range_of_another_size_is_found(broker: Broker, epochs: Epochs, told: int) -> None:
    topic = f"recount-wrong-{told}"
    broker.create_topic(topic)
    produce(broker, topic, [b"x"] * 5)
    in_transaction(broker, topic, [b"x"], commit=True, name="recount-c")  # offset 5, marker 6
    produce(broker, topic, [b"x"] * 5)
    epochs.commit([], ranges=[of(topic, 0, 5)])
    epochs.commit([], ranges=[of(topic, 5, 12, read=told, absent=7 - told)])
    assert recount(epochs, broker) == [Finding(1, "records", f"{topic}[0] 5 to 12", f"{told} read", "6")]


def test_what_the_broker_has_deleted_cannot_be_checked_and_is_no_fault(broker: Broker, epochs: Epochs) -> None:
    broker.create_topic("recount-deleted")
    produce(broker, "recount-deleted", [b"x"] * 20)
    delete_records(broker, "recount-deleted", {0: 8})
    epochs.commit([], ranges=[of("recount-deleted", 0, 5)])
    epochs.commit([], ranges=[of("recount-deleted", 5, 10)])  # in part
    epochs.commit([], ranges=[of("recount-deleted", 10, 14)])
    epochs.commit([], ranges=[of("recount-deleted", 14, 20, read=5, absent=1)])
    (faulty,) = [one for one in recount(epochs, broker) if one.is_fault]
    assert (faulty.epoch, faulty.kind, faulty.expected, faulty.got) == (3, "records", "5 read", "6")
    (gone,) = [one for one in recount(epochs, broker) if not one.is_fault]
    assert (gone.where, gone.got) == ("recount-deleted[0], 2 epochs from 0 to 1", "from 8 on: deleted by the broker meanwhile")


def test_what_was_lost_before_it_was_read_is_not_asked_for(broker: Broker, epochs: Epochs) -> None:
    broker.create_topic("recount-lost")
    produce(broker, "recount-lost", [b"x"] * 10)
    delete_records(broker, "recount-lost", {0: 4})
    epochs.commit([], ranges=[of("recount-lost", 0, 10, lost=4)], lost=4)
    assert recount(epochs, broker) == []


def test_a_topic_that_was_made_again_or_deleted_cannot_be_checked(broker: Broker, epochs: Epochs) -> None:
    broker.create_topic("recount-again")
    produce(broker, "recount-again", [b"x"] * 3)
    topic_id = Admin(broker.bootstrap_servers, {}).describe(["recount-again"])["recount-again"].id
    epochs.commit([], ranges=[of("recount-again", 0, 3, topic_id=topic_id), of("recount-never", 0, 3)])
    assert kinds(recount(epochs, broker)) == [(0, UNCHECKED)]
    make_again(broker, "recount-again")
    assert kinds(recount(epochs, broker)) == [(0, UNCHECKED)] * 2


def test_a_range_beyond_the_end_cannot_be_checked(broker: Broker, epochs: Epochs) -> None:
    broker.create_topic("recount-end")
    produce(broker, "recount-end", [b"x"] * 3)
    epochs.commit([], ranges=[of("recount-end", 0, 2)])
    epochs.commit([], ranges=[of("recount-end", 2, 5)])
    (one,) = recount(epochs, broker)
    assert (one.epoch, one.kind, one.got) == (1, UNCHECKED, "up to 3: the partition ends there")


def test_a_compacted_topic_that_holds_less_cannot_be_checked_and_more_is_a_fault(broker: Broker, epochs: Epochs) -> None:
    broker.create_topic("recount-compacted", config={"cleanup.policy": "compact"})
    produce(broker, "recount-compacted", [b"x"] * 10)
    epochs.commit([], ranges=[of("recount-compacted", 0, 4, read=3, absent=1)])
    assert kinds(recount(epochs, broker)) == [(0, "records")]
    epochs.commit([], ranges=[replace(of("recount-compacted", 4, 10), read=7)], read=7, accepted=7)
    assert (1, UNCHECKED) in kinds(recount(epochs, broker))


def test_nobody_at_the_address(epochs: Epochs) -> None:
    epochs.commit([], ranges=[of("recount-nobody", 0, 2)])
    with pytest.raises(BrokerUnavailableError, match="recount-nobody"):
        check(epochs.ledger, epochs.pipeline, "127.0.0.1:1")


# The tables ----------------------------------------------------------------------------------------------------------------


def test_rows_that_the_ledger_does_not_know_or_misses_are_found(epochs: Epochs) -> None:
    epochs.commit([row("t", "x")] * 3)
    for told in (2, 4):
        sink = replace(epochs.write([row("t", "x")] * 3), rows=told)
        epochs.ledger.append(epoch_row(epochs.pipeline, epochs.next_epoch, sinks=[sink]), app_id=epochs.app_id)
        epochs.next_epoch += 1
    found = recount(epochs)
    assert [(one.epoch, one.kind, one.expected, one.got) for one in found] == [(1, "rows", "2 rows", "3"), (2, "rows", "4 rows", "3")]


def test_rows_of_other_programs_and_maintenance_are_not_counted(epochs: Epochs) -> None:
    epochs.commit([row("t", "x")] * 3)
    schema = DeltaTable(epochs.outbox).to_pyarrow_table().slice(0, 1)
    write_deltalake(epochs.outbox, schema, mode="append")
    DeltaTable(epochs.outbox).optimize.compact()
    epochs.commit([row("t", "x")] * 2)
    DeltaTable(epochs.outbox).optimize.compact()
    assert recount(epochs) == []


def test_without_a_transaction_id_all_that_was_added_counts(epochs: Epochs) -> None:
    epochs.commit([row("t", "x")])
    write_deltalake(epochs.outbox, DeltaTable(epochs.outbox).to_pyarrow_table(), mode="append")  # written, then a crash
    write_deltalake(epochs.outbox, DeltaTable(epochs.outbox).to_pyarrow_table().slice(0, 1), mode="append")
    sink = replace(epochs.write([]), rows=1)
    epochs.ledger.append(epoch_row(epochs.pipeline, 1, sinks=[sink]), app_id=epochs.app_id)
    assert [(one.epoch, one.kind, one.got) for one in recount(epochs)] == [(1, "rows", "2")]


def test_a_table_that_is_gone_restored_or_made_again_is_found(epochs: Epochs, tmp_path: Path) -> None:
    epochs.commit([row("t", "x")])
    epochs.commit([row("t", "x")])
    log = Path(epochs.outbox) / "_delta_log"
    (log / f"{2:020}.json").rename(tmp_path / "away")
    assert kinds(recount(epochs)) == [(1, "version")]
    (tmp_path / "away").rename(log / f"{2:020}.json")
    assert recount(epochs) == []
    Path(epochs.outbox).rename(tmp_path / "gone")
    assert kinds(recount(epochs)) == [(1, "table")]
    Epochs(tmp_path)
    assert kinds(recount(epochs)) == [(1, "table")]


def test_commits_that_were_cleaned_up_cannot_be_checked(epochs: Epochs) -> None:
    for _ in range(3):
        epochs.commit([row("t", "x")])
    DeltaTable(epochs.outbox).create_checkpoint()
    for version in range(2):
        (Path(epochs.outbox) / "_delta_log" / f"{version:020}.json").unlink()
    (one,) = recount(epochs)
    assert (one.epoch, one.kind, one.where.endswith("1 epochs from 0 to 0")) == (0, UNCHECKED, True)


def test_an_upsert_must_have_its_commit(epochs: Epochs) -> None:
    for batch in (0, 1):
        marks = [Transaction(epochs.app_id, batch)] if batch == 0 else []
        table = DeltaTable(epochs.outbox).to_pyarrow_table()
        write_deltalake(epochs.outbox, table, mode="overwrite", commit_properties=CommitProperties(app_transactions=marks))
        sink = replace(epochs.write([]), kind="upsert", rows=5)
        epochs.ledger.append(epoch_row(epochs.pipeline, batch, sinks=[sink]), app_id=epochs.app_id)
    assert [(one.epoch, one.kind, one.got) for one in recount(epochs)] == [(1, "version", "none")]


# The ledger itself ---------------------------------------------------------------------------------------------------------


def test_continuity() -> None:
    rows = [epoch_row("p", n, ranges=[of("t", 10 * n, 10 * n + 10)], read=10, accepted=10) for n in range(3, 7)]
    assert list(check_continuity(rows)) == []
    broken = [
        ([rows[0], rows[2]], [(5, "epoch"), (5, "continuity")]),
        ([rows[0], replace(rows[1], token=0)], [(4, "token")]),
        ([rows[0], replace(rows[1], ranges=[of("t", 41, 50)], read=9, accepted=9)], [(4, "continuity")]),
        ([rows[0], replace(rows[1], ranges=[of("t", 39, 50)], read=11, accepted=11)], [(4, "continuity")]),
        ([rows[0], replace(rows[1], ranges=[of("t", 0, 10)], checkpoint_id="d")], [(4, UNCHECKED)]),
        ([rows[0], replace(rows[1], ranges=[of("t", 0, 10, topic_id="d")])], [(4, UNCHECKED)]),
        ([replace(rows[0], accepted=9)], [(3, "balance")]),
        ([replace(rows[0], read=9, accepted=9)], [(3, "balance")]),
        ([replace(rows[0], ranges=[of("t", 30, 41, read=10)])], [(3, "balance")]),
        ([rows[0], replace(rows[1], ranges=[], read=0, accepted=0), replace(rows[2], ranges=[of("t", 40, 50)])], []),
    ]
    for given, expected in broken:
        assert kinds(list(check_continuity(given))) == expected
