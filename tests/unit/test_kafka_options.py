"""Options of the Kafka source: text there and back, typos named, secrets never in them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from spark_ext.errors import SettingsError
from spark_ext.kafka.limits import Allowance, ReadLimits, read_limits
from spark_ext.kafka.options import SourceOptions
from spark_ext.kafka.references import resolve

GIVEN = {"bootstrap_servers": "h:1", "topics": "a,b"}


def test_defaults_and_text_there_and_back() -> None:
    options = SourceOptions.from_options(GIVEN)
    assert (options.topics, options.starting, options.on_lost, options.source) == (("a", "b"), "earliest", "fail", True)
    assert options.to_options() == {"bootstrap_servers": "h:1", "topics": '["a", "b"]'}
    whole = {
        "bootstrap_servers": "h:1",
        "topic_pattern": "a.*",
        "partitions": '{"a": [1, 0]}',
        "starting": "2013-01-01T00:00:00+00:00",
        "ending": '{"a": {"0": 7, "1": -1}}',
        "format": '{"some": 1}',
        "columns": "x,y",
        "where": '[["x", "=", 1]]',
        "source": "False",
        "isolation": "read_uncommitted",
        "on_lost": "record",
        "group": "g",
        "fetcher": "confluent",
        "max_offsets_per_trigger": "5",
        "max_bytes_per_trigger": "6",
        "max_offsets_per_partition": "7",
        "limits": "/l",
        "tasks": "3",
        "min_offsets_per_task": "8",
        "max_rows_per_block": "9",
        "patience_s": "10",
        "kafka.security.protocol": "SSL",
        "kafka.sasl.password": "${env:NAME}",
    }
    read = SourceOptions.from_options(whole)
    assert read.starting == datetime(2013, 1, 1, tzinfo=UTC)
    assert read.ending == {"a": {0: 7, 1: -1}}
    assert read.partitions == {"a": (0, 1)}
    assert read.client == {"security.protocol": "SSL", "sasl.password": "${env:NAME}"}
    assert SourceOptions.from_options(read.to_options()) == read
    assert set(read.to_options()) == set(whole)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("startin", "latest", "cannot use option 'startin'.*did you mean 'starting'?"),
        ("max_offset_per_trigger", "5", "did you mean 'max_offsets_per_trigger'?"),
        ("zzz", "5", r"use one of bootstrap_servers, clock, columns.*or kafka\.<setting of the client>"),
        ("max_offsets_per_trigger", "0", "expected a whole number above zero, got '0'"),
        ("max_offsets_per_trigger", "many", "expected a whole number above zero, got 'many'"),
        ("starting", "yesterday", "expected earliest, latest, a time with its zone"),
        ("starting", "2013-01-01T00:00:00", "a time with its zone"),
        ("starting", '{"a": {"0": -3}}', "or offsets as"),
        ("starting", "{}", "or offsets as"),
        ("ending", '{"a": 3}', "or offsets as"),
        ("partitions", '{"a": []}', "expected JSON such as"),
        ("partitions", '{"c": [0]}', r"expected numbers for each of \['a', 'b'\], got \['c'\]"),
        ("source", "maybe", "expected true or false"),
        ("isolation", "dirty", "expected read_committed or read_uncommitted"),
        ("on_lost", "ignore", "expected fail or record"),
        ("topic_pattern", "a.*", "expected topics or topic_pattern, got both"),
        ("topics", "", "expected different names separated by commas"),
        ("topics", "a,a", "expected different names separated by commas"),
        ("columns", '["n", "n"]', "expected different names separated by commas"),
        ("partitions", '{"a": [0]}', r"expected numbers for each of \['a', 'b'\], got \['a'\]"),
        ("group", " ", "expected the name of a consumer group"),
        ("format", "null", r"expected the text of a format's to_json\(\)"),
        ("kafka.check.crcs", "false", "expected a setting that the source leaves to you, got one it sets itself; leave it out"),
        ("format", "{", r"expected the text of a format's to_json\(\)"),
        ("kafka.bootstrap.servers", "h:2", "use bootstrap_servers instead"),
        ("kafka.group.id", "g", "use group instead"),
        ("kafka.enable.auto.commit", "true", "use group instead"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_to_do(name: str, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        SourceOptions.from_options({**GIVEN, name: text})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"topics": "a"}, "expected addresses"),
        ({"bootstrap_servers": "h:1"}, "expected topics or topic_pattern, got neither"),
        ({**GIVEN, "headers": "true", "format": "{}"}, "expected raw records, got a format"),
    ],
)
def test_options_must_go_together(given: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        SourceOptions.from_options(given)


@pytest.mark.parametrize(
    "name",
    [
        "sasl.password",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
        "sasl.jaas.config",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
    ],
)
def test_a_secret_itself_is_refused_and_not_repeated(name: str) -> None:
    for text in ("hunter2", "${env:A}hunter2"):
        with pytest.raises(SettingsError, match=r"expected a reference such as \$\{env:KAFKA_SECRET\}") as caught:
            SourceOptions.from_options({**GIVEN, f"kafka.{name}": text})
        assert "hunter2" not in str(caught.value)


def test_references_are_resolved_where_they_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MILLRACE_TEST_SECRET", "from-env")
    file = tmp_path / "secret"
    file.write_text("from-file\n", encoding="utf-8")
    given = {"sasl.password": "${env:MILLRACE_TEST_SECRET}", "ssl.key.pem": f"${{file:{file}}}", "client.id": "x"}
    options = SourceOptions.from_options({**GIVEN, **{f"kafka.{name}": text for name, text in given.items()}})
    assert resolve(options.client) == {"sasl.password": "from-env", "ssl.key.pem": "from-file", "client.id": "x"}
    assert "MILLRACE_TEST_SECRET" not in repr(options)
    assert options.to_options()["kafka.sasl.password"] == "${env:MILLRACE_TEST_SECRET}"


@pytest.mark.parametrize("text", ["${env:MILLRACE_NOT_THERE}", "${file:/nowhere/at/all}"])
def test_a_reference_to_nothing_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match=r"cannot resolve reference .*(no such variable|No such file).*every executor"):
        resolve({"sasl.password": text})


def test_what_looks_like_a_secret_but_is_none_may_stand_there() -> None:
    given = {"kafka.sasl.oauthbearer.token.endpoint.url": "https://h/token", "kafka.ssl.key.location": "/k.pem"}
    assert len(SourceOptions.from_options({**GIVEN, **given}).client) == 2


def test_limits_change_in_their_file() -> None:
    limits = ReadLimits(max_bytes_per_trigger=9)
    mine = Allowance(max_offsets_per_trigger=100, max_offsets_per_partition=50)
    assert mine.overridden_by(read_limits(limits.path)) == Allowance(100, 9, 50)
    limits.set(max_offsets_per_trigger=5, max_bytes_per_trigger=None)
    assert limits.current == read_limits(limits.path) == Allowance(5, None, None)
    assert mine.overridden_by(limits.current) == Allowance(5, None, 50)


@pytest.mark.parametrize(
    ("name", "value"), [("max_offsets_per_trigger", 0), ("max_bytes_per_trigger", 1.5), ("max_offsets_per_partition", True)]
)
def test_a_limit_is_a_whole_number_above_zero(name: str, value: Any) -> None:
    limits = ReadLimits()
    with pytest.raises(SettingsError, match=f"cannot set limit '{name}': expected a whole number above zero"):
        limits.set(**{name: value})
    with pytest.raises(SettingsError, match="cannot set limit 'rows': expected some of max_offsets_per_trigger"):
        limits.set(rows=1)
    assert limits.current == Allowance()


@pytest.mark.parametrize("text", [None, "{", json.dumps({"rows": 1})])
def test_a_file_that_holds_no_limits_is_named(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "limits.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"cannot read limits '.*limits\.json'"):
        read_limits(str(file))
