"""The Kafka stream of DStream programs without a broker: arguments, ranges of a plan, blocks of records."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.dstream.columns.blocks import unpack
from spark_ext.dstream.errors import StreamArgumentError
from spark_ext.dstream.inputs.kafka import planned_ranges
from spark_ext.dstream.inputs.kafka_params import begin_at, each_per_batch, read_params
from spark_ext.dstream.inputs.kafka_reading import Messages, Pairs, UndecodableError, struct_block
from spark_ext.dstream.kafka import KafkaMessageAndMetadata, OffsetRange, TopicAndPartition, TopicPartition, utf8_decoder
from spark_ext.ingest.records import Bytes, Records
from spark_ext.kafka.offsets import Document, Limits, Range, Seen, next_document

RATE = "spark.streaming.kafka.maxRatePerPartition"
LEAST = "spark.streaming.kafka.minRatePerPartition"
AT = Range("t", 1, 0, 0, 99)


def records(keys: list[bytes | None], values: list[bytes | None], first: int = 5) -> Records:
    offsets = np.arange(first, first + len(keys), dtype=np.int64)
    return Records(offsets, np.zeros(len(keys), np.int64), Bytes.of(keys), Bytes.of(values))


def test_params_of_old_and_new_programs_mean_the_same() -> None:
    old = read_params({"metadata.broker.list": "a:1,b:2", "auto.offset.reset": "smallest", "zookeeper.connect": "z:1"})
    new = read_params({"bootstrap.servers": "a:1,b:2", "auto.offset.reset": "earliest", "value.deserializer": "x"})
    assert old == new
    assert (new.servers, new.reset, new.isolation, new.group, new.commits, new.client) == (
        "a:1,b:2",
        "earliest",
        "read_committed",
        None,
        False,
        {},
    )
    assert read_params({"bootstrap.servers": "a:1"}).reset == "latest", "as Spark's"
    full = read_params({"bootstrap.servers": "a:1", "group.id": "g", "enable.auto.commit": True, "security.protocol": "SSL"})
    assert (full.group, full.commits, full.client) == ("g", True, {"security.protocol": "SSL"})


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({}, "cannot read argument 'bootstrap.servers': expected addresses"),
        ({"bootstrap.servers": "a:1", "auto.offset.reset": "none"}, "auto.offset.reset"),
        ({"bootstrap.servers": "a:1", "isolation.level": "some"}, "read_committed or read_uncommitted"),
        ({"bootstrap.servers": "a:1", "enable.auto.commit": "true"}, "no group.id"),
        ({"bootstrap.servers": "a:1", "enable.partition.eof": "true"}, "one that it sets itself"),
    ],
)
def test_params_that_cannot_be_used(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(StreamArgumentError, match=match):
        read_params(wrong)


def test_secrets_are_in_no_text() -> None:
    params = read_params({"bootstrap.servers": "a:1", "sasl.password": "hunter22", "ssl.key.password": "${env:KEY}"})
    options = params.options(["t"])
    assert options.client["sasl.password"] == "hunter22"
    assert "hunter22" not in f"{params!r} {options!r}"


def test_where_to_begin() -> None:
    offsets = {TopicAndPartition("a", 1): 7, TopicPartition("a", 0): -2}
    begin = begin_at("latest", ["a"], offsets=offsets)
    assert (begin.offsets, begin.partitions()) == ({("a", 1): 7, ("a", 0): -2}, {"a": [0, 1]})
    noon = datetime(2020, 1, 1, 12, tzinfo=UTC)
    by_place = begin_at("latest", ["a", "b"], timestamp={"a": 1000, TopicAndPartition("a", 1): noon})
    assert by_place.time_of(("a", 0)) == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert (by_place.time_of(("a", 1)), by_place.time_of(("b", 0)), by_place.partitions()) == (noon, None, None)
    assert begin_at("latest", ["a"], timestamp=noon).time_of(("a", 3)) == noon


@pytest.mark.parametrize(
    ("given_", "match"),
    [
        ({"offsets": {TopicAndPartition("b", 0): 1}}, "fromOffsets"),
        ({"offsets": {"b": 1}}, r"TopicAndPartition\(topic, partition\)"),
        ({"offsets": {TopicAndPartition("a", 0): "5"}}, r"an offset of a\[0\], got '5'"),
        ({"offsets": {TopicAndPartition("a", 0): 1}, "timestamp": 5}, "no fromOffsets beside it"),
        ({"timestamp": datetime(2020, 1, 1)}, "a datetime with its zone"),  # noqa: DTZ001 (what is refused)
        ({"timestamp": {"b": 1}}, r"those of \['b'\]"),
    ],
)
def test_begins_that_cannot_be_used(given_: dict[str, Any], match: str) -> None:
    with pytest.raises(StreamArgumentError, match=match):
        begin_at("latest", ["a"], **given_)


def test_rates_become_offsets_per_batch() -> None:
    assert each_per_batch({}, 1000) is None
    assert each_per_batch({RATE: "0", LEAST: "5"}, 1000) is None, "as in Spark: no limit"
    assert each_per_batch({RATE: "100"}, 250) == 25
    assert each_per_batch({RATE: "1"}, 100) == 1, "never none at all"
    assert each_per_batch({RATE: "1", LEAST: "7"}, 100) == 7
    with pytest.raises(StreamArgumentError, match=r"maxRatePerPartition.*'fast'"):
        each_per_batch({RATE: "fast"}, 1000)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ranges_of_plans_cover_each_offset_once(data: st.DataObject) -> None:
    """Partition after partition, batch after batch: what a simple walk over the log gives."""
    partitions = data.draw(st.integers(1, 3))
    each = data.draw(st.none() | st.integers(1, 5))
    ends = [0] * partitions
    first = [0] * partitions
    begun = Document({"t": "id"}, {("t", at): 0 for at in range(partitions)})
    position = [0] * partitions
    for _ in range(data.draw(st.integers(1, 6))):
        for at in range(partitions):
            ends[at] += data.draw(st.integers(0, 8))
            first[at] = max(first[at], data.draw(st.integers(0, ends[at])))
        seen = Seen({"t": "id"}, {("t", at): first[at] for at in range(partitions)}, {("t", at): ends[at] for at in range(partitions)})
        end = next_document(begun, seen, Limits(2**62, each), may_lose=True)
        planned = {"from": Document(begun.ids, begun.offsets).to_json(), "until": end.to_json()}
        expected = []
        for at in range(partitions):
            since = max(position[at], first[at])
            until = ends[at] if each is None else min(ends[at], since + each)
            expected.append(Range("t", at, position[at], since, until))
            position[at] = until
        if end is not begun:
            assert planned_ranges(planned) == expected
        begun = end
        assert position == [begun.offsets["t", at] for at in range(partitions)]


texts = st.none() | st.text(max_size=5).map(lambda text: text.encode())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(texts, texts), max_size=8))
def test_columns_and_functions_give_the_same_pairs(pairs: list[tuple[bytes | None, bytes | None]]) -> None:
    given_ = records([key for key, _ in pairs], [value for _, value in pairs])
    expected = [(key if key is None else key.decode(), value if value is None else value.decode()) for key, value in pairs]
    by_column = [element for block in Pairs().of(given_, AT) for element in unpack(block)]
    other = Pairs(lambda raw: None if raw is None else str(raw, "utf-8"))
    one_by_one = [element for block in other.of(given_, AT) for element in unpack(block)]
    assert by_column == one_by_one == expected
    raw = [element for block in Pairs(None, None).of(given_, AT) for element in unpack(block)]
    assert raw == pairs


def test_bytes_that_are_no_text_are_named() -> None:
    given_ = records([b"a", b"b"], [b"fine", b"\xff"])
    with pytest.raises(UndecodableError, match=r"cannot decode value 't\[1\] at offset 6': expected UTF-8, got 'utf-8' codec.*0xff"):
        list(Pairs().of(given_, AT))

    def refusing(raw: bytes | None) -> Any:
        raise KeyError(raw)

    with pytest.raises(KeyError) as raised:
        list(Pairs(None, refusing).of(given_, AT))
    assert raised.value.__notes__ == ["at record t[1] at offset 5"]


def test_messages_know_their_place() -> None:
    def handler(message: KafkaMessageAndMetadata) -> Any:
        return message.topic, message.partition, message.offset, message.key, message.message

    given_ = records([b"a", None], [b"1", None])
    blocks = Messages(handler, value=lambda raw: None if raw is None else int(raw)).of(given_, AT)
    assert [element for block in blocks for element in unpack(block)] == [("t", 1, 5, "a", 1), ("t", 1, 6, None, None)]


def test_typed_columns_become_tuples_of_pythons_types() -> None:
    block = struct_block([pa.array([1, None], pa.int16()), pa.array([0.5, 1.5], pa.float32()), pa.array(["a", None])])
    assert isinstance(block, pa.Array)
    assert unpack(block) == [(1, 0.5, "a"), (None, 1.5, None)]
    stamp = datetime(2020, 1, 1, tzinfo=UTC)
    others = struct_block([pa.array([stamp], pa.timestamp("us", tz="UTC")), pa.array([[1]])])
    assert unpack(others) == [(stamp, [1])]


def test_words_of_the_old_package() -> None:
    assert OffsetRange("t", 0, 1, 4).count() == 3
    assert OffsetRange("t", 0, 1, 4) == OffsetRange("t", 0, 1, 4) != OffsetRange("t", 0, 1, 5)
    assert len({TopicAndPartition("t", 0), TopicPartition("t", 0)}) == 1
    assert utf8_decoder(None) is None
    with pytest.raises(UnicodeDecodeError):
        utf8_decoder(b"\xff")
