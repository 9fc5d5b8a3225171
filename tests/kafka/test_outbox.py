"""The relay against a real broker: each row once, in order, and refusals that lose nothing."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from deltalake import DeltaTable
from kafka.partitioner.default import murmur2
from typer.testing import CliRunner

from spark_ext.broker import Broker
from spark_ext.epochs.outbox import Published, Relay
from spark_ext.epochs.outbox_cli import app
from spark_ext.epochs.outbox_mark import relay_name
from spark_ext.errors import BrokerUnavailableError, EpochError, SchemaError, SettingsError
from spark_ext.kafka.messages import FencedError, UndeliverableError
from spark_ext.kafka.publisher import Publisher
from tests.outbox_epochs import Epochs, by_python, epoch_row, row, seen

pytestmark = pytest.mark.kafka


@pytest.fixture
def topic(broker: Broker, request: pytest.FixtureRequest) -> str:
    name = f"outbox-{request.node.name.replace('[', '-').replace(']', '')}"
    broker.create_topic(name, partitions=2)
    return name


@pytest.fixture
def epochs(tmp_path: Path, topic: str) -> Epochs:
    return Epochs(tmp_path, pipeline=topic)  # relays are known to the broker by their pipeline


def relay(broker: Broker, epochs: Epochs, **settings: Any) -> Relay:
    given = {"ledger": epochs.ledger, "pipeline": epochs.pipeline, "path": epochs.outbox, "patience": timedelta(seconds=20)}
    return Relay(**{**given, "bootstrap_servers": broker.bootstrap_servers, **settings})


def offset(broker: Broker, group: str) -> tuple[str, int, int, dict[str, Any]]:
    client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    (asked,) = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]).values()
    (one,) = asked.result(30).topic_partitions
    return one.topic, one.partition, one.offset, json.loads(one.metadata)


# What is published ---------------------------------------------------------------------------------------------------------


def test_rows_are_published_in_order_with_everything_they_have(broker: Broker, topic: str, epochs: Epochs) -> None:
    headers = [{"key": "a", "value": b"1"}, {"key": "a", "value": None}, {"key": "b", "value": b""}]
    epochs.commit([
        row(topic, "0", headers=headers, partition=1),
        row(topic, "1", key=None, partition=1),
        {"topic": topic, "key": b"\x00\xff", "value": None, "partition": 1},
        row(topic, "", key="", partition=1),
    ])  # fmt: skip
    with relay(broker, epochs) as one:
        assert one.publish_pending() == Published(1, 4)
        assert one.publish_pending() == Published()
    records = by_python(broker, topic, 2)[1]
    assert [(each.key, each.value) for each in records] == [(b"k", b"0"), (None, b"1"), (b"\x00\xff", None), (b"", b"")]
    assert list(records[0].headers) == [("a", b"1"), ("a", None), ("b", b"")]


def test_the_order_is_that_of_epoch_and_seq_not_of_files(broker: Broker, topic: str, epochs: Epochs) -> None:
    for start in range(0, 60, 20):
        epochs.commit([row(topic, str(n), partition=0) for n in range(start, start + 20)], files=3, step=1 << 33)
    with relay(broker, epochs) as one:
        one.publish_pending()
    assert seen(broker, topic, 2)[0] == [str(n) for n in range(60)]


def test_a_key_goes_where_the_java_client_sends_it(broker: Broker, topic: str, epochs: Epochs) -> None:
    epochs.commit([row(topic, f"{n}", key=f"key-{n % 7}") for n in range(70)])
    with relay(broker, epochs) as one:
        one.publish_pending()
    by_key: dict[bytes, set[int]] = {}
    for records in by_python(broker, topic, 2):
        for each in records:
            by_key.setdefault(each.key, set()).add(each.partition)
    assert by_key == {b"key-%d" % n: {(murmur2(b"key-%d" % n) & 0x7FFFFFFF) % 2} for n in range(7)}
    assert sorted(int(value) for values in seen(broker, topic, 2) for value in values) == list(range(70))


def test_an_epoch_without_a_ledger_row_waits(broker: Broker, topic: str, epochs: Epochs) -> None:
    epochs.commit([row(topic, "a", partition=0)])
    epochs.write([row(topic, "b", partition=0)])  # and a crash
    with relay(broker, epochs) as one:
        assert one.publish_pending() == Published(1, 1)
        assert seen(broker, topic, 2)[0] == ["a"]
        sink = replace(epochs.write([]), rows=1)
        epochs.ledger.append(epoch_row(epochs.pipeline, 1, sinks=[sink]), app_id=epochs.app_id)
        assert one.publish_pending() == Published(1, 1)
    assert seen(broker, topic, 2)[0] == ["a", "b"]


def test_empty_epochs_move_the_mark_and_publish_nothing(broker: Broker, topic: str, epochs: Epochs) -> None:
    epochs.commit([])
    with relay(broker, epochs) as one:
        assert one.publish_pending() == Published(1, 0)
        epochs.commit([row(topic, "a", partition=0)])
        for _ in range(3):
            epochs.commit([])
        assert one.publish_pending() == Published(4, 1)
    name, partition, at, metadata = offset(broker, relay_name(topic))
    assert (name, partition, at, metadata["seq"]) == (topic, 0, 5, None)
    with relay(broker, epochs) as one:
        assert one.publish_pending() == Published()
    assert seen(broker, topic, 2)[0] == ["a"]


def test_small_epochs_share_a_transaction_and_a_large_one_takes_several(broker: Broker, topic: str, epochs: Epochs) -> None:
    marks: list[tuple[int, int | None]] = []
    for size in (2, 2, 7, 1):
        epochs.commit([row(topic, f"{epochs.next_epoch}.{n}", partition=0) for n in range(size)], files=min(size, 2), step=10)
    with relay(broker, epochs, max_rows=4) as one:
        inner = one._publisher.in_transaction

        def noted(messages: Any, mark: TopicPartition) -> None:
            marks.append((mark.offset, json.loads(mark.metadata or "")["seq"]))
            inner(messages, mark)

        one._publisher.in_transaction = noted  # type: ignore[method-assign]
        assert one.publish_pending() == Published(4, 12)
    assert marks == [(0, None), (2, None), (2, 30), (4, None)]
    assert seen(broker, topic, 2)[0] == [f"{epoch}.{n}" for epoch, size in enumerate((2, 2, 7, 1)) for n in range(size)]


def test_a_relay_resumes_in_the_middle_of_an_epoch(broker: Broker, topic: str, epochs: Epochs) -> None:
    epochs.commit([row(topic, f"{n:04}" + "x" * 100, partition=0) for n in range(100)])
    stop = threading.Event()
    stop.set()  # it ends behind the first transaction
    done = Published()
    for _ in range(11):
        with relay(broker, epochs, max_bytes=2000) as one:
            done += one.publish_pending(stop=stop)
    assert done == Published(1, 100)
    assert [value[:4] for value in seen(broker, topic, 2)[0]] == [f"{n:04}" for n in range(100)]


def test_pipelines_share_a_ledger_and_keep_apart(broker: Broker, topic: str, tmp_path: Path) -> None:
    ledger = str(tmp_path / "ledger")
    pipelines = [Epochs(tmp_path, f"{topic}-{name}", ledger) for name in "ab"]
    for n in range(5):
        for number, each in enumerate(pipelines):
            each.commit([row(topic, f"{number}-{n}", partition=number)])
    for each in pipelines:
        with relay(broker, each) as one:
            assert one.publish_pending() == Published(5, 5)
    assert seen(broker, topic, 2) == [[f"{number}-{n}" for n in range(5)] for number in range(2)]


def test_files_of_other_epochs_are_not_read(broker: Broker, topic: str, epochs: Epochs) -> None:
    epochs.commit([row(topic, "a", partition=0)])
    with relay(broker, epochs) as one:
        one.publish_pending()
        for file in DeltaTable(epochs.outbox).file_uris():
            Path(file).write_bytes(b"damaged")
        epochs.commit([row(topic, "b", partition=0)])
        assert one.publish_pending() == Published(1, 1)
    assert seen(broker, topic, 2)[0] == ["a", "b"]


@pytest.mark.parametrize("delivery", ["at_least_once", "at_most_once"])
def test_without_transactions_rows_still_come_once_if_nothing_fails(broker: Broker, topic: str, epochs: Epochs, delivery: str) -> None:
    for n in range(4):
        epochs.commit([row(topic, str(n), partition=0)])
        with relay(broker, epochs, delivery=delivery) as one:
            assert one.publish_pending() == Published(1, 1)
    assert seen(broker, topic, 2)[0] == ["0", "1", "2", "3"]
    assert offset(broker, relay_name(topic))[2] == 4


@pytest.mark.parametrize(("delivery", "expected"), [("at_least_once", ["0", "0"]), ("at_most_once", []), ("exactly_once", ["0"])])
def test_a_crash_between_rows_and_mark_shows_what_each_delivery_promises(
    broker: Broker, topic: str, epochs: Epochs, delivery: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs.commit([row(topic, "0", partition=0)])

    class CrashError(BaseException):
        pass

    publish, in_transaction, mark_alone = Publisher.publish, Publisher.in_transaction, Publisher.mark

    def crash_after_commit(self: Publisher, messages: Any, mark: TopicPartition) -> None:
        in_transaction(self, messages, mark)
        if messages:
            raise CrashError

    def crash_at_mark(self: Publisher, mark: TopicPartition) -> None:
        if delivery == "at_least_once" and mark.offset == 1:
            raise CrashError
        mark_alone(self, mark)

    def crash_at_rows(self: Publisher, messages: Any) -> None:
        if delivery == "at_most_once":
            raise CrashError
        publish(self, messages)

    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "in_transaction", crash_after_commit)
        patch.setattr(Publisher, "mark", crash_at_mark)
        patch.setattr(Publisher, "publish", crash_at_rows)
        with pytest.raises(CrashError):
            relay(broker, epochs, delivery=delivery).publish_pending()
    with relay(broker, epochs, delivery=delivery) as one:
        one.publish_pending()
    assert seen(broker, topic, 2)[0] == expected


@pytest.mark.slow
def test_following_publishes_as_epochs_come_and_waits_for_the_broker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Broker() as own:
        own.create_topic("outbox-follow")
        epochs = Epochs(tmp_path)

        def rounds() -> Iterator[int]:
            for n in range(30):
                if n < 6:
                    epochs.commit([row("outbox-follow", str(n))])
                elif one._reached.epoch == 6:
                    return
                if n == 2:
                    own.kill()
                if n == 4:
                    own.restart()
                yield n

        class Pace(threading.Event):
            """Lets a round pass instead of time."""

            def wait(self, timeout: float | None = None) -> bool:
                assert timeout == 0.02
                if next(steps, None) is None:
                    self.set()
                return self.is_set()

        steps, stop = rounds(), Pace()
        with relay(own, epochs, patience=timedelta(seconds=2)) as one, caplog.at_level(logging.WARNING):
            assert one.follow(stop, timedelta(milliseconds=20)) == Published(6, 6)
        assert seen(own, "outbox-follow") == [["0", "1", "2", "3", "4", "5"]]
        assert "goes on later" in caplog.text


# Two relays ----------------------------------------------------------------------------------------------------------------


def test_a_second_relay_fences_the_first(broker: Broker, topic: str, epochs: Epochs) -> None:
    epochs.commit([row(topic, "0", partition=0)])
    first, second = relay(broker, epochs), relay(broker, epochs)
    first.publish_pending()
    second.publish_pending()
    epochs.commit([row(topic, "1", partition=0)])
    with pytest.raises(FencedError, match=f"cannot publish as producer '{relay_name(topic)}'.*another one was started"):
        first.publish_pending()
    with pytest.raises(FencedError):
        first.publish_pending()  # it does not fight back
    assert second.publish_pending() == Published(1, 1)
    first.close()
    second.close()
    assert seen(broker, topic, 2)[0] == ["0", "1"]


def test_a_zombie_in_the_middle_of_its_transaction_publishes_nothing(broker: Broker, topic: str, epochs: Epochs) -> None:
    epochs.commit([row(topic, str(n), partition=0) for n in range(10)])
    zombie, second = relay(broker, epochs), relay(broker, epochs)
    producers: list[Any] = []
    inner = Publisher._produce

    def paused(self: Publisher, producer: Producer, messages: Any) -> None:
        inner(self, producer, messages)
        if messages:  # its rows are with the broker; it stands still, and another one is started
            producer.flush(30)
            producers.append(producer)
            second.publish_pending()

    zombie._publisher._produce = paused.__get__(zombie._publisher)  # type: ignore[method-assign]
    with pytest.raises(FencedError):
        zombie.publish_pending()
    assert producers
    second.close()
    assert seen(broker, topic, 2)[0] == [str(n) for n in range(10)]
    assert len(by_python(broker, topic, 2, isolation="read_uncommitted")[0]) == 20  # the zombie's are there, aborted


# Refusals: nothing is lost -----------------------------------------------------------------------------------------------------


def test_an_unknown_topic_is_named_and_nothing_is_lost(broker: Broker, topic: str, epochs: Epochs) -> None:
    epochs.commit([row(topic, "0", partition=0), row(f"{topic}-unknown", "1"), row(topic, "2", partition=0)])
    with relay(broker, epochs) as one:
        with pytest.raises(UndeliverableError, match=rf"epoch 0, seq 1'.*topic '{topic}-unknown'.*create the topic"):
            one.publish_pending()
        assert seen(broker, topic, 2)[0] == []
        broker.create_topic(f"{topic}-unknown")
        assert one.publish_pending() == Published(1, 3)
    assert (seen(broker, topic, 2)[0], seen(broker, f"{topic}-unknown")) == (["0", "2"], [["1"]])


def test_a_first_row_or_a_progress_topic_that_is_unknown_is_named(broker: Broker, topic: str, epochs: Epochs) -> None:
    epochs.commit([row(f"{topic}-x", "0")])
    with pytest.raises(UndeliverableError, match=rf"epoch 0, seq 0': expected topic '{topic}-x'"):
        relay(broker, epochs).publish_pending()
    broker.create_topic(f"{topic}-x")
    with pytest.raises(UndeliverableError, match=rf"cannot publish to topic '{topic}-p': .* for the mark, .*create the topic"):
        relay(broker, epochs, progress_topic=f"{topic}-p").publish_pending()
    with relay(broker, epochs) as one:
        assert one.publish_pending() == Published(1, 1)


def test_a_partition_that_is_not_there_is_named(broker: Broker, topic: str, epochs: Epochs) -> None:
    epochs.commit([row(topic, "0", partition=0), row(topic, "1", partition=2)])
    with (
        relay(broker, epochs) as one,
        pytest.raises(UndeliverableError, match=r"epoch 0, seq 1': expected a partition of topic .*0 to 1, got 2"),
    ):
        one.publish_pending()
    assert seen(broker, topic, 2) == [[], []]


@pytest.mark.parametrize("limit", ["broker", "client"])
def test_a_message_that_is_too_large_is_named_and_nothing_is_lost(broker: Broker, topic: str, epochs: Epochs, limit: str) -> None:
    name, size = f"{topic}-small", 50_000 if limit == "broker" else 2_000_000
    broker.create_topic(name, config={"max.message.bytes": "20000" if limit == "broker" else "3000000"})
    epochs.commit([row(name, "0"), row(name, "x" * size), row(name, "2")])
    with (
        relay(broker, epochs) as one,
        pytest.raises(UndeliverableError, match=rf"epoch 0, seq 1': expected .*{name}.*got {size + 1} bytes"),
    ):
        one.publish_pending()
    assert seen(broker, name) == [[]]
    if limit == "broker":
        client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        entry = ConfigEntry("max.message.bytes", "100000", incremental_operation=AlterConfigOpType.SET)
        for future in client.incremental_alter_configs([ConfigResource("topic", name, incremental_configs=[entry])]).values():
            future.result(30)
    with relay(broker, epochs, options={"kafka.message.max.bytes": "2500000"}) as one:
        assert one.publish_pending() == Published(1, 3)
    assert [len(value) for value in seen(broker, name)[0]] == [1, size, 1]


def test_rows_that_are_missing_from_the_outbox_are_noticed(broker: Broker, topic: str, epochs: Epochs) -> None:
    epochs.commit([row(topic, "0", partition=0), row(topic, "1", partition=0)])
    DeltaTable(epochs.outbox).delete("seq = 0")
    with relay(broker, epochs) as one, pytest.raises(EpochError, match="expected 2 rows of epoch 0, got 1"):
        one.publish_pending()
    assert seen(broker, topic, 2)[0] == []


def test_rows_that_an_abandoned_attempt_left_are_noticed(broker: Broker, topic: str, epochs: Epochs) -> None:
    epochs.write([row(topic, "orphan", partition=0)])  # its checkpoint was deleted, the epoch is another one's now
    epochs.commit([row(topic, "0", partition=0)])
    with relay(broker, epochs) as one, pytest.raises(EpochError, match="expected 1 rows of epoch 0, got 2"):
        one.publish_pending()


def test_a_table_that_was_made_again_or_restored_is_refused(broker: Broker, topic: str, epochs: Epochs, tmp_path: Path) -> None:
    epochs.commit([row(topic, "0", partition=0)])
    table = DeltaTable(epochs.outbox)
    Path(epochs.outbox).rename(tmp_path / "away")
    with relay(broker, epochs) as one:
        with pytest.raises(EpochError, match="got no Delta table there"):
            one.publish_pending()
        Epochs(tmp_path, pipeline=topic)
        with pytest.raises(EpochError, match=f"expected table '{table.metadata().id}'.*made again"):
            one.publish_pending()


def test_a_path_that_is_no_outbox_of_the_pipeline_is_refused(broker: Broker, topic: str, epochs: Epochs, tmp_path: Path) -> None:
    epochs.commit([row(topic, "0")])
    other = Epochs(tmp_path, f"{topic}-other")
    with pytest.raises(EpochError, match="expected an outbox of the pipeline"):
        relay(broker, epochs, path=other.outbox).publish_pending()
    with pytest.raises(SchemaError, match="expected columns epoch, seq, topic"):
        relay(broker, epochs, path=epochs.ledger_path).publish_pending()


def test_a_mark_that_is_lost_is_noticed_and_set_by_hand(broker: Broker, topic: str, epochs: Epochs) -> None:
    epochs.commit([row(topic, "0", partition=0)])
    with relay(broker, epochs) as one:
        one.publish_pending()
    client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    client.delete_consumer_groups([relay_name(topic)])[relay_name(topic)].result(30)
    epochs.commit([row(topic, "1", partition=0)])
    with pytest.raises(EpochError, match=r"expected its mark among the offsets.*millrace outbox move --to-epoch 0"):
        relay(broker, epochs).publish_pending()
    with pytest.raises(SettingsError, match="expected a mark, or a topic for it"):
        relay(broker, epochs).move_to(1)
    relay(broker, epochs, progress_topic=topic).move_to(1)
    with relay(broker, epochs) as one:
        assert one.publish_pending() == Published(1, 1)
    assert seen(broker, topic, 2)[0] == ["0", "1"]


def test_offsets_of_another_program_or_another_ledger_are_refused(broker: Broker, topic: str, epochs: Epochs, tmp_path: Path) -> None:
    epochs.commit([row(topic, "0", partition=0)])
    running = relay(broker, epochs)
    running.publish_pending()
    twin = Epochs(tmp_path / "twin", pipeline=topic)
    twin.commit([row(topic, "twin", partition=0)])
    with pytest.raises(EpochError, match="two pipelines of one name share this broker"):
        relay(broker, twin).publish_pending()
    epochs.commit([row(topic, "1", partition=0)])
    assert running.publish_pending() == Published(1, 1)  # it was not fenced
    running.close()
    consumer = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": relay_name(topic)})
    consumer.commit(offsets=[TopicPartition(topic, 0, 99)], asynchronous=False)
    consumer.close()
    with pytest.raises(EpochError, match=r"got offset 99 with metadata .*another program"):
        relay(broker, epochs).publish_pending()
    relay(broker, epochs, progress_topic=topic).move_to(2)
    with relay(broker, epochs) as one:
        assert one.publish_pending() == Published()
    assert seen(broker, topic, 2)[0] == ["0", "1"]


def test_ledger_rows_dropped_before_their_epoch_was_published_are_noticed(broker: Broker, topic: str, epochs: Epochs) -> None:
    for n in range(3):
        epochs.commit([row(topic, str(n), partition=0)])
    DeltaTable(epochs.ledger_path).delete("epoch < 2")
    with relay(broker, epochs) as one, pytest.raises(EpochError, match="expected epoch 0 in the ledger"):
        one.publish_pending()


def test_nobody_at_the_address(topic: str, epochs: Epochs) -> None:
    epochs.commit([row(topic, "0")])
    nobody = Relay(
        ledger=epochs.ledger, pipeline=epochs.pipeline, path=epochs.outbox, bootstrap_servers="127.0.0.1:1", patience=timedelta(seconds=1)
    )
    with pytest.raises(BrokerUnavailableError, match=r"127\.0\.0\.1:1"):
        nobody.publish_pending()


def test_settings_that_the_guarantee_hangs_on_and_secrets_are_refused(broker: Broker, epochs: Epochs) -> None:
    with pytest.raises(SettingsError, match=r"kafka\.acks"):
        relay(broker, epochs, options={"kafka.acks": "0"})
    with pytest.raises(SettingsError, match="expected a reference") as caught:
        relay(broker, epochs, options={"kafka.sasl.password": "hunter2"})
    assert "hunter2" not in str(caught.value)
    with pytest.raises(SettingsError, match="one of exactly_once"):
        relay(broker, epochs, delivery="twice")


# Progress and retention --------------------------------------------------------------------------------------------------------


def test_the_mark_stands_where_it_is_declared_and_is_refreshed(broker: Broker, topic: str, epochs: Epochs) -> None:
    broker.create_topic(f"{topic}-progress")
    epochs.commit([row(topic, "0", partition=0)])
    now = [0.0]
    with relay(broker, epochs, progress_topic=f"{topic}-progress", clock=lambda: now[0]) as one:
        one.publish_pending()
        assert offset(broker, relay_name(topic))[:3] == (f"{topic}-progress", 0, 1)
        client = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        client.delete_consumer_groups([relay_name(topic)])[relay_name(topic)].result(30)
        one.publish_pending()
        now[0] = 7 * 3600.0
        one.publish_pending()
        assert offset(broker, relay_name(topic))[:3] == (f"{topic}-progress", 0, 1)
    with pytest.raises(SettingsError, match="expected the topic of the mark"):
        relay(broker, epochs, progress_topic=topic).publish_pending()


def test_published_epochs_are_dropped_and_no_others(broker: Broker, topic: str, epochs: Epochs) -> None:
    with relay(broker, epochs) as one:
        assert one.drop_published() == 0
        for n in range(5):
            epochs.commit([row(topic, str(n), partition=0), row(topic, str(n), partition=0)])
            if n == 3:
                one.publish_pending()
        assert one.drop_published(keep=1) == 6
        assert one.drop_published(keep=1) == 0
        left = pq.ParquetDataset(DeltaTable(epochs.outbox).file_uris()).read(["epoch"]).column("epoch").to_pylist()
        assert sorted(left) == [3, 3, 4, 4]
        assert one.publish_pending() == Published(1, 2)
    assert seen(broker, topic, 2)[0] == [str(n) for n in range(5) for _ in range(2)]


def test_the_command_publishes_drops_and_moves(broker: Broker, topic: str, epochs: Epochs) -> None:
    epochs.commit([row(topic, "0", partition=0)])
    common = [topic, "--ledger", epochs.ledger_path, "--outbox", epochs.outbox, "--bootstrap-servers", broker.bootstrap_servers]
    runner = CliRunner()
    done = runner.invoke(app, ["relay", *common, "--once", "--keep", "1", "--option", "kafka.linger.ms=1"], catch_exceptions=False)
    assert (done.exit_code, "published 1 rows of 1 epochs" in done.output) == (0, True)
    moved = runner.invoke(app, ["move", *common, "--to-epoch", "0"], catch_exceptions=False)
    assert (moved.exit_code, "publishes epoch 0 next" in moved.output) == (0, True)
    runner.invoke(app, ["relay", *common, "--once"], catch_exceptions=False)
    assert seen(broker, topic, 2)[0] == ["0", "0"]
