"""The source millrace_kafka where something goes wrong: said clearly, counted exactly, or done again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, Row, SparkSession

from spark_ext import kafka
from spark_ext.broker import Broker
from spark_ext.errors import BrokerError, BrokerUnavailableError, SettingsError
from spark_ext.ingest import BytesFormat, accepted
from spark_ext.kafka.topics import Admin, _ids_by_jvm, topic_ids
from tests.kafka_topics import Batches, consume, delete_records, make_again, produce, run_to_end, running

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.kafka, pytest.mark.spark]


def read(spark: SparkSession, broker: Broker, topics: Any, **given: Any) -> DataFrame:
    return kafka.read(spark, bootstrap_servers=broker.bootstrap_servers, topics=topics, **given)


def document(checkpoint: Path, batch: int) -> Any:
    return json.loads((checkpoint / "offsets" / str(batch)).read_text(encoding="utf-8").splitlines()[2])


def places(rows: Sequence[Row]) -> list[tuple[int, int]]:
    return sorted((row.source.partition, row.source.offset) for row in rows if row.range is None and row.dead is None)


def losses(rows: Sequence[Row]) -> dict[int, int]:
    return {row.source.partition: row.range.lost for row in rows if row.range is not None}


def test_a_topic_that_was_made_again_is_refused(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("remade")
    produce(broker, "remade", [b"a"] * 10)
    stream = read(spark, broker, "remade")
    before = topic_ids(spark, broker.bootstrap_servers, ["remade"], {})["remade"]
    run_to_end(stream, tmp_path / "c")
    make_again(broker, "remade")
    after = topic_ids(spark, broker.bootstrap_servers, ["remade"], {})["remade"]
    produce(broker, "remade", [b"b"] * 20)
    message = rf"cannot go on with topic 'remade': expected id '{before}', got id '{after}'.*new, empty checkpoint folder"
    with pytest.raises(StreamingQueryException, match=message):
        run_to_end(stream, tmp_path / "c")


def test_a_replay_in_a_topic_that_was_made_again_is_refused_too(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("remade-replay")
    produce(broker, "remade-replay", [b"a"] * 10)
    stream = read(spark, broker, "remade-replay")
    run_to_end(stream, tmp_path / "c")
    (tmp_path / "c" / "commits" / "0").unlink()
    (tmp_path / "c" / "commits" / ".0.crc").unlink()
    make_again(broker, "remade-replay")
    produce(broker, "remade-replay", [b"b"] * 10)
    with pytest.raises(StreamingQueryException, match="cannot go on with topic 'remade-replay'"):
        run_to_end(stream, tmp_path / "c")


def test_lost_records_stop_the_query_or_are_written_down(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("lost", partitions=2)
    produce(broker, "lost", [b"a"] * 20, partitions=2)
    batches = run_to_end(read(spark, broker, "lost", format=BytesFormat()), tmp_path / "c")
    produce(broker, "lost", [b"b"] * 20, partitions=2)
    delete_records(broker, "lost", {0: 13, 1: 20})
    with pytest.raises(StreamingQueryException, match=r"cannot read offsets 'lost\[0\] 10\.\.12, lost\[1\] 10\.\.19'.*got 13 that"):
        run_to_end(read(spark, broker, "lost", format=BytesFormat()), tmp_path / "c")
    run_to_end(read(spark, broker, "lost", format=BytesFormat(), on_lost="record"), tmp_path / "c", batches)
    assert document(tmp_path / "c", 1)["lost"] == {"lost": {"0": [10, 13], "1": [10, 20]}}
    assert places(batches.rows[1]) == [(0, offset) for offset in range(13, 20)]
    assert losses(batches.rows[1]) == {0: 3, 1: 10}
    produce(broker, "lost", [b"c"] * 2, partitions=2)
    run_to_end(read(spark, broker, "lost", format=BytesFormat()), tmp_path / "c", batches)
    assert document(tmp_path / "c", 2)["lost"] == {}
    assert [len(places(batches.rows[number])) for number in range(3)] == [20, 7, 2]


def test_records_that_go_between_plan_and_read_are_lost_too(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("late-lost")
    produce(broker, "late-lost", [b"a"] * 20)
    run_to_end(read(spark, broker, "late-lost", format=BytesFormat()), tmp_path / "c")
    (tmp_path / "c" / "commits" / "0").unlink()
    (tmp_path / "c" / "commits" / ".0.crc").unlink()
    delete_records(broker, "late-lost", {0: 5})
    with pytest.raises(StreamingQueryException, match=r"cannot read offsets 'late-lost\[0\] 0\.\.4'.*got 5 that"):
        run_to_end(read(spark, broker, "late-lost", format=BytesFormat()), tmp_path / "c")
    batches = run_to_end(read(spark, broker, "late-lost", format=BytesFormat(), on_lost="record"), tmp_path / "c")
    assert places(batches.rows[0]) == [(0, offset) for offset in range(5, 20)]
    assert losses(batches.rows[0]) == {0: 5}, "met by the worker alone, and still recorded"


def test_a_start_outside_the_log_is_refused_at_once(spark: SparkSession, broker: Broker) -> None:
    broker.create_topic("outside")
    produce(broker, "outside", [b"a"] * 10)
    with pytest.raises(SettingsError, match=r"expected at most 10, the end of outside\[0\], got 11"):
        read(spark, broker, "outside", starting={"outside": {0: 11}})
    with pytest.raises(SettingsError, match=r"expected offsets for some of outside\[0\], got outside\[1\]"):
        read(spark, broker, "outside", starting={"outside": {0: 1, 1: 0}})
    delete_records(broker, "outside", {0: 5})
    with pytest.raises(Exception, match=r"cannot read offsets 'outside\[0\] 2\.\.4'"):
        read(spark, broker, "outside", starting={"outside": {0: 2}}, streaming=False)
    counted = read(spark, broker, "outside", starting={"outside": {0: 2}}, streaming=False, format=BytesFormat(), on_lost="record")
    assert accepted(counted).count() == 5
    with pytest.raises(SettingsError, match=r"option 'on_lost': expected a format, whose accounts record the loss.*BytesFormat\(\)"):
        read(spark, broker, "outside", on_lost="record")


def test_no_broker_no_topic_and_a_typo_are_said_at_once(spark: SparkSession, broker: Broker) -> None:
    with pytest.raises(BrokerUnavailableError, match=r"cannot read topics 'nowhere'.*create the topic first"):
        read(spark, broker, "nowhere")
    with pytest.raises(SettingsError, match=r"cannot read topics 'nothing\.\*': expected a topic that matches, got none"):
        read(spark, broker, re.compile("nothing.*"))
    broker.create_topic("typo")
    with pytest.raises(SettingsError, match=r"cannot use option 'min_offset_per_task'.*did you mean 'min_offsets_per_task'?"):
        read(spark, broker, "typo", options={"min_offset_per_task": "5"})
    with pytest.raises(SettingsError, match=r"cannot use client settings 'sasl\.mechanismus'.*No such configuration property"):
        read(spark, broker, "typo", options={"kafka.sasl.mechanismus": "PLAIN"})
    with pytest.raises(SettingsError, match=r"cannot use argument 'ending'.*streaming=False"):
        read(spark, broker, "typo", ending="latest")
    with pytest.raises(SettingsError, match=r"cannot use argument 'group'.*engine='spark'"):
        read(spark, broker, "typo", group="g", engine="spark")
    with pytest.raises(SettingsError, match="expected a reference such as"):
        read(spark, broker, "typo", options={"kafka.sasl.password": "hunter2"})


def test_what_the_broker_does_not_permit_is_named(broker: Broker) -> None:
    admin = Admin(broker.bootstrap_servers, {})
    for code, permission in (
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "DESCRIBE and READ"),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, "group"),
    ):
        error = admin.reason(KafkaException(KafkaError(code)), "topics", ["t"])
        assert isinstance(error, BrokerError)
        assert re.search(rf"cannot read topics 't': expected the permission .*{permission}.*authorization failed.*grant it", str(error))


def test_a_topic_has_one_name_whichever_client_asks(spark: SparkSession, broker: Broker) -> None:
    names = [f"which-{n}" for n in range(20)]  # enough for every letter of the alphabet of ids
    for name in names:
        broker.create_topic(name)
    assert topic_ids(spark, broker.bootstrap_servers, names, {}) == _ids_by_jvm(spark, broker.bootstrap_servers, names, {})
    javas = {"kafka.ssl.truststore.type": "PKCS12"}
    assert topic_ids(spark, broker.bootstrap_servers, names[:1], javas) == topic_ids(spark, broker.bootstrap_servers, names[:1], {})


def test_a_group_that_cannot_be_written_does_not_stop_the_query(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("taken")
    produce(broker, "taken", [b"a"] * 5)
    member = Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "taken-group"})
    member.subscribe(["taken"])
    while not member.assignment():
        member.poll(0.1)
    try:
        assert run_to_end(read(spark, broker, "taken", group="taken-group"), tmp_path / "c").sizes == [5]
    finally:
        member.close()


def test_a_broker_that_comes_back_is_waited_for(spark: SparkSession, tmp_path: Path) -> None:
    with Broker(directory=tmp_path / "broker") as broker:
        broker.create_topic("away")
        produce(broker, "away", [b"a"] * 10)
        batches = Batches()
        with running(read(spark, broker, "away"), tmp_path / "c", batches) as query:
            query.processAllAvailable()
            broker.kill()
            broker.restart()
            produce(broker, "away", [b"b"] * 10)
            query.processAllAvailable()
        assert batches.messages == consume(broker, "away", 1)


JOB = """
import sys
from spark_ext import kafka
from spark_ext.session import spark_session

servers, out = sys.argv[1:]
conf = {"spark.ui.enabled": "false", "spark.sql.warehouse.dir": out + "/w", "spark.python.daemon.module": "dying_daemon"}
spark = spark_session("kill", master="local[2,4]", conf=conf)
options = {"max_rows_per_block": "1000", "min_offsets_per_task": "1000"}
frame = kafka.read(spark, bootstrap_servers=servers, topics="killed", options=options)
writer = frame.writeStream.format("parquet").option("path", out + "/rows").option("checkpointLocation", out + "/c")
writer.trigger(availableNow=True).start().awaitTermination()
spark.stop()
"""
DAEMON = """
import os
from pyspark.daemon import manager
from spark_ext.kafka.ranges import RawRows

whole = RawRows.of_block

def of_block(self, records, at, account):
    yield from whole(self, records, at, account)
    if at.partition == 0 and records.offsets[-1] > 5000:  # some blocks have gone out already
        try:
            os.close(os.open(os.environ["DIE_ONCE"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), 9)

RawRows.of_block = of_block
if __name__ == "__main__":
    manager()
"""


def test_a_worker_that_is_killed_in_mid_batch_changes_nothing(spark: SparkSession, broker: Broker, tmp_path: Path) -> None:
    broker.create_topic("killed", partitions=2)
    produce(broker, "killed", [b"%d" % n for n in range(20_000)], partitions=2)
    (tmp_path / "job.py").write_text(JOB, encoding="utf-8")
    (tmp_path / "dying_daemon.py").write_text(DAEMON, encoding="utf-8")
    once = tmp_path / "died"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "DIE_ONCE": str(once)}
    environment.pop("PYSPARK_GATEWAY_PORT", None)
    subprocess.run(
        [sys.executable, str(tmp_path / "job.py"), broker.bootstrap_servers, str(tmp_path)], check=True, timeout=200, env=environment
    )
    assert once.exists(), "a worker was killed"
    rows = spark.read.parquet(str(tmp_path / "rows")).collect()
    found = sorted((row.partition, row.offset, bytes(row.value)) for row in rows)
    assert found == [(one[1], one[2], one[4]) for one in consume(broker, "killed", 2)]
