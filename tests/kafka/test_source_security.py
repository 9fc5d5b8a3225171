"""Reading where the broker asks who one is and what one may: by each client, by password and by key, and what it says if not."""

from __future__ import annotations

import base64
import gc
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka.admin import AclOperation, AdminClient, ResourceType
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession

from spark_ext import kafka
from spark_ext.errors import BrokerError, EngineError
from spark_ext.kafka.fetch import FetchSettings, open_fetcher
from spark_ext.kafka.options import SourceOptions
from spark_ext.kafka.planner import Planner
from spark_ext.kafka.references import resolve
from spark_ext.kafka.refusals import LoginError
from tests.kafka_security import Secured, permit, secured_broker
from tests.kafka_topics import Message, consume, plain, produce, run_to_end

ROOT = Path(__file__).parents[2]
FETCHERS = ("librdkafka", "confluent", "kafka-python")
SOON_S = 8  # a refusal is no reason to wait as for an answer, which is 10 s
pytestmark = [pytest.mark.kafka, pytest.mark.spark]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_broker(tmp_path_factory.mktemp("secured")) as found:
        for topic, permission in (("open", AclOperation.READ), ("shown", AclOperation.DESCRIBE), ("hidden", None)):
            found.broker.create_topic(topic, partitions=2)
            produce(found.broker, topic, [b"%d" % n for n in range(200)], partitions=2)
            if permission is not None:
                permit(found.broker, ResourceType.TOPIC, topic, permission)
        permit(found.broker, ResourceType.GROUP, "watched", AclOperation.READ)
        yield found


@pytest.fixture(scope="module")
def expected(secured: Secured) -> list[Message]:
    return consume(secured.broker, "open", 2)


def read(
    spark: SparkSession,
    secured: Secured,
    way: str,
    *,
    secret: str | None = None,
    authority: str = "authority",
    engine: Any = "millrace",
    topics: str = "open",
    **given: Any,
) -> DataFrame:
    options = secured.options(way, secured.file(secret or way), engine=engine, authority=authority)
    return kafka.read(spark, bootstrap_servers=secured.servers(way), topics=topics, engine=engine, options=options, **given)


def source_options(secured: Secured, way: str, reference: str, topic: str = "open") -> SourceOptions:
    return SourceOptions.from_options({"bootstrap_servers": secured.servers(way), "topics": topic, **secured.options(way, reference)})


@pytest.mark.parametrize("way", ["scram", "plain", "keys"])
@pytest.mark.parametrize("client", [*FETCHERS, "spark"])
def test_every_client_reads_what_a_plain_consumer_reads(
    spark: SparkSession, secured: Secured, expected: list[Message], tmp_path: Path, client: str, way: str
) -> None:
    chosen = {"engine": "spark"} if client == "spark" else {"fetcher": client}
    assert plain(read(spark, secured, way, streaming=False, **chosen).collect()) == expected
    if way == "scram":  # for a stream nothing is different by the others
        assert run_to_end(read(spark, secured, way, **chosen), tmp_path / "c").messages == expected


@pytest.mark.parametrize("way", ["scram", "keys"])
def test_the_group_follows_and_a_topic_is_the_same_one(spark: SparkSession, secured: Secured, tmp_path: Path, way: str) -> None:
    run_to_end(read(spark, secured, way, group="watched", max_offsets_per_trigger=150), tmp_path / "c")
    client = AdminClient({"bootstrap.servers": secured.broker.bootstrap_servers})
    found = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions("watched")])["watched"].result(30)
    assert {one.partition: one.offset for one in found.topic_partitions} == {0: 100, 1: 100}
    by_plain = kafka.identify(spark, bootstrap_servers=secured.broker.bootstrap_servers, topics="open")
    for engine in ("millrace", "spark"):
        options = secured.options(way, secured.file(way), engine=engine)
        assert kafka.identify(spark, bootstrap_servers=secured.servers(way), topics="open", options=options) == by_plain
    settings = {"bootstrap_servers": secured.servers(way), "options": secured.options(way, secured.file(way))}
    assert kafka.identify(spark, topics=re.compile("op.*"), **settings)[0].startswith("kafka topics matching op.* of cluster ")
    assert plain(kafka.read(spark, topics=re.compile(".*"), streaming=False, starting="latest", **settings).collect()) == []


REFUSED = {
    "wrong password": (
        {"way": "scram", "secret": "wrong"},
        r"cannot log in to broker '{at}': expected a login as user 'reader' by SCRAM-SHA-256, "
        r"got .*(invalid credentials).*; correct the user, the mechanism or the secret",
    ),
    "wrong plain password": (
        {"way": "plain", "secret": "wrong"},
        r"cannot log in to broker '{at}': expected a login as user 'reader' by PLAIN, got .*"
        r"Invalid username or password",
    ),
    "strange authority": (
        {"way": "scram", "authority": "stranger"},
        r"cannot trust broker '{at}': expected a certificate for this address, signed by an "
        r"authority in '.*stranger\.pem', got .*(unable to get local issuer certificate|unable to find valid certification path"
        r"|signature check failed).*; correct the authorities",
    ),
    "another name": (
        {"way": "misnamed", "secret": "scram"},
        r"cannot trust broker '{at}': .*, got .*(IP address mismatch, certificate is not valid for '127"
        r"\.0\.0\.1'|No subject alternative names matching IP address 127\.0\.0\.1 found).*call the broker as its certificate does",
    ),
    "no DESCRIBE": (
        {"way": "scram", "topics": "hidden"},
        r"cannot read topics 'hidden': expected the permission DESCRIBE and READ on the topic, got .*; grant it "
        r"to user 'reader'",
    ),
    "no DESCRIBE, by key": (
        {"way": "keys", "topics": "hidden"},
        r"cannot read topics 'hidden': .*; grant it to the user of certificate '.*reader\.p",
    ),
}


@pytest.mark.parametrize("engine", ["millrace", "spark"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_an_error_at_once_that_says_what_to_do(spark: SparkSession, secured: Secured, case: str, engine: str) -> None:
    given, message = REFUSED[case]
    began = time.monotonic()
    with pytest.raises(BrokerError, match=message.replace("{at}", re.escape(secured.servers(given["way"])))) as caught:
        read(spark, secured, engine=engine, **given)
    assert time.monotonic() - began < SOON_S
    assert not [name for name, secret in secured.secrets.items() if secret in "".join(_chain(caught.value))]


def _chain(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield f"{error}{error!r}"
        error = error.__cause__ or error.__context__


def test_a_group_that_may_not_be_seen_is_refused_at_once(spark: SparkSession, secured: Secured) -> None:
    message = "cannot commit offsets of group 'secret-group': expected the permission READ on the group, got .*; grant it to user 'reader'"
    with pytest.raises(BrokerError, match=message):
        read(spark, secured, "scram", group="secret-group")


@pytest.mark.parametrize("fetcher", FETCHERS)
def test_a_topic_that_may_be_seen_but_not_read_is_named(spark: SparkSession, secured: Secured, fetcher: str) -> None:
    message = r"cannot read topic 'shown': expected the permission READ on the topic, got .*; grant it to user 'reader'"
    with pytest.raises(Exception, match=message):
        read(spark, secured, "scram", topics="shown", fetcher=fetcher, streaming=False).collect()


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("millrace", r"cannot read topic 'shown': expected the permission READ .*; grant it to the user of certificate '.*reader\.pem'"),
        ("spark", r"Not authorized to access topics: \[shown\]"),
    ],
)
def test_a_stream_ends_with_what_it_may_not_read(spark: SparkSession, secured: Secured, tmp_path: Path, engine: str, message: str) -> None:
    with pytest.raises(StreamingQueryException, match=message):
        run_to_end(read(spark, secured, "keys", topics="shown", engine=engine), tmp_path / "c")


def test_a_stream_whose_password_was_changed_says_so_and_goes_on_with_the_new_one(
    spark: SparkSession, secured: Secured, expected: list[Message], tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{secured.secrets['scram']}\n", encoding="utf-8")
    options = secured.options("scram", f"${{file:{secret}}}") | {"patience_s": "1"}
    stream = kafka.read(spark, bootstrap_servers=secured.servers("scram"), topics="open", options=options)
    secret.write_text(secured.secrets["wrong"], encoding="utf-8")
    with pytest.raises(
        StreamingQueryException, match=r"cannot log in to broker .*user 'reader' by SCRAM-SHA-256.*correct the user"
    ) as caught:
        run_to_end(stream, tmp_path / "c")
    assert secured.secrets["wrong"] not in str(caught.value)
    secret.write_text(secured.secrets["scram"], encoding="utf-8")
    assert run_to_end(stream, tmp_path / "c").messages == expected


def test_a_planner_reads_a_changed_password_anew(secured: Secured, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(secured.secrets["wrong"], encoding="utf-8")
    planner = Planner(replace(source_options(secured, "plain", f"${{file:{secret}}}"), patience_s=1))
    with pytest.raises(LoginError):
        planner.look()
    secret.write_text(secured.secrets["plain"], encoding="utf-8")
    assert planner.look().ends == {("open", 0): 100, ("open", 1): 100}
    planner.close()


@pytest.mark.parametrize("fetcher", FETCHERS)
@pytest.mark.parametrize("way", ["plain", "misnamed"])
@pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")  # kafka-python leaves what it could not open to the collector
def test_a_worker_that_is_refused_says_why_within_its_time(
    secured: Secured, monkeypatch: pytest.MonkeyPatch, fetcher: Any, way: str
) -> None:
    monkeypatch.setattr(logging.getLogger("kafka"), "propagate", False)  # pytest would keep errors, and these their sockets
    message = "cannot trust broker .*IP address mismatch"
    if way == "plain":
        message = "cannot log in to broker .*user 'reader' by PLAIN.*Invalid username or password"
    if way == "plain" and fetcher == "kafka-python":  # which may see the connection end before it has read why
        message += "|cannot reach broker .*socket disconnected.*the user and its permissions"
    client = resolve(source_options(secured, way, secured.file("wrong")).client)
    found = open_fetcher(FetchSettings(bootstrap_servers=secured.servers(way), client=client, fetcher=fetcher, timeout_s=4.0), "open", 0)
    began = time.monotonic()
    try:
        with pytest.raises(EngineError, match=message) as caught:
            found.fetch(1, 1)
    finally:
        found.close()
    assert time.monotonic() - began < SOON_S
    assert secured.secrets["wrong"] not in str(caught.value)
    del found, caught
    gc.collect()


@pytest.fixture(scope="module")
def program(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a program that read with secrets from its environment and was refused with others."""
    out = tmp_path_factory.mktemp("program")
    names = {f"MILLRACE_TEST_{name.upper()}": secret for name, secret in secured.secrets.items()}

    def arguments(way: str, reference: str, *, engine: str = "millrace", **others: str) -> dict[str, Any]:
        options = secured.options(way, reference, engine=engine)
        return {"topics": "open", **others, "bootstrap_servers": secured.servers(way), "engine": engine, "options": options}

    by = {way: f"${{env:MILLRACE_TEST_{way.upper()}}}" for way in secured.secrets}
    reads = {
        "millrace scram": arguments("scram", by["scram"]),
        "confluent plain": arguments("plain", secured.file("plain"), fetcher="confluent"),
        "kafka-python keys": arguments("keys", by["keys"], fetcher="kafka-python"),
        "spark scram": arguments("scram", by["scram"], engine="spark"),
        "spark keys": arguments("keys", by["keys"], engine="spark"),
    }
    refused = {
        f"{engine} {topic}": arguments("scram", reference, engine=engine, topics=topic)
        for engine in ("millrace", "spark")
        for topic, reference in (("open", by["wrong"]), ("shown", by["scram"]))
    }
    (out / "given.json").write_text(json.dumps({"reads": reads, "refused": refused, "referenced": sorted(names)}), encoding="utf-8")
    own = {name: text for name, text in os.environ.items() if not name.startswith("PYSPARK_GATEWAY")}
    with (out / "log").open("wb") as log:
        command = [sys.executable, str(Path(__file__).with_name("secured_program.py")), str(out / "given.json"), str(out)]
        done = subprocess.run(command, env={**own, **names, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=log, timeout=240, check=False)
    assert done.returncode == 0, (out / "log").read_text(encoding="utf-8", errors="replace")[-4000:]
    return out


def test_secrets_of_the_environment_open_the_same_rows(program: Path, expected: list[Message]) -> None:
    rows = json.loads((program / "report.json").read_text(encoding="utf-8"))["rows"]
    assert len(rows) == 5
    wanted = [
        [topic, partition, offset, key.decode(), value.decode()] for topic, partition, offset, key, value in expected if key and value
    ]
    for name, by_mode in rows.items():
        assert {mode: sorted(found) for mode, found in by_mode.items()} == {"batch": wanted, "stream": wanted}, name


def test_secrets_are_nowhere_that_a_program_leaves_or_shows(program: Path, secured: Secured) -> None:
    report = json.loads((program / "report.json").read_text(encoding="utf-8"))
    shown = {" ".join(line) for line in report["processes"]}
    for part in ("java", "pyspark.daemon", "python_streaming_source_runner", "secured_program.py"):
        assert any(part in line for line in shown), f"looked at {part}"
    assert any("${env:MILLRACE_TEST_SCRAM}" in plan for plan in report["plans"]["millrace scram"]), "plans show options"
    assert any('password="${env:MILLRACE_TEST_SCRAM}"' in plan for plan in report["plans"]["spark scram"])
    assert len(report["plans"]) == 5
    assert all(report["progress"].values())
    assert {name: len(said) for name, said in report["refused"].items()} == dict.fromkeys(report["refused"], 3)
    assert "invalid credentials" in report["refused"]["millrace open"][0]
    assert "Not authorized to access topics: [shown]" in report["refused"]["spark shown"][2]
    files = [file for file in program.rglob("*") if file.is_file()]
    assert {"report.json", "log", "offsets", "commits"} <= {name for file in files for name in (file.name, file.parent.name)}
    assert any("local-" in file.name for file in files), "Spark's own log of events"
    forms = [form for secret in secured.secrets.values() for form in (secret.encode(), base64.b64encode(secret.encode()))]
    assert not [(file.name, form) for file in files for form in forms if form in file.read_bytes()]
