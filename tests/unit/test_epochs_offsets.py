"""What the offset log says a batch reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from spark_ext.epochs import offsets
from spark_ext.epochs.offsets import Span
from spark_ext.errors import CheckpointMismatchError
from spark_ext.kafka.offsets import Document
from spark_ext.kafka.offsets import ranges as source_ranges
from spark_ext.queries.checkpoint import Checkpoint
from tests.epochs_by_hand import write_log


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint.claim(str(tmp_path / "c"), pipeline="p", sources=["s"])


def document(ends: dict[int, int], *, lost: dict[int, tuple[int, int]] | None = None, began: dict[int, int] | None = None) -> str:
    at = {("t", number): end for number, end in ends.items()}
    gone = {("t", number): span for number, span in (lost or {}).items()}
    return json.dumps(Document({"t": "A"}, at, gone, None if began is None else {("t", n): o for n, o in began.items()}).to_json())


def test_a_batch_starts_where_the_one_before_ended(checkpoint: Checkpoint) -> None:
    write_log(checkpoint, "offsets", 0, document({0: 5, 1: 7}, began={0: 2, 1: 7}))
    write_log(checkpoint, "offsets", 1, document({0: 9, 1: 7, 2: 3}), None)
    assert offsets.of_batch(checkpoint, 0) == [Span("t", "A", 0, 2, 5, 0), Span("t", "A", 1, 7, 7, 0)]
    assert offsets.of_batch(checkpoint, 1) == [Span("t", "A", 0, 5, 9, 0), Span("t", "A", 1, 7, 7, 0), Span("t", "A", 2, 0, 3, 0)]
    assert offsets.planned(checkpoint, 1)[1] is None
    assert (checkpoint.last_planned(), checkpoint.last_committed()) == (1, None)


def test_what_is_lost_agrees_with_the_source() -> None:
    before, after = document({0: 4, 1: 0}), document({0: 9, 1: 6}, lost={0: (2, 7), 1: (0, 6)})
    spans = offsets.ranges([before], [after])
    assert spans == [Span("t", "A", 0, 4, 9, 3), Span("t", "A", 1, 0, 6, 6)]
    read = source_ranges(Document.from_json(json.loads(before)), Document.from_json(json.loads(after)))
    assert [(one.start, one.end, one.first - one.start) for one in read] == [(one.start, one.end, one.lost) for one in spans]


def test_the_ends_of_the_partitions_are_those_of_when_the_batch_was_planned() -> None:
    after = json.loads(document({0: 9, 1: 7}))
    told = [json.dumps({**after, "latest": {"t": {"0": 30, "1": 7}}})]
    assert [(one.start, one.end, one.latest) for one in offsets.ranges([document({0: 4, 1: 7})], told) or []] == [(4, 9, 30), (7, 7, 7)]
    assert [one.latest for one in offsets.ranges(told, [document({0: 9, 1: 8})]) or []] == [None, None]
    assert [one.latest for one in offsets.ranges(['{"t":{"0":1}}'], ['{"t":{"0":2}}']) or []] == [None]


def test_sparks_own_connector_is_understood_from_its_first_batch(checkpoint: Checkpoint) -> None:
    first = Path(checkpoint.spark_location, "sources", "1", "0")
    first.parent.mkdir(parents=True)
    first.write_bytes(b'\0v1\n{"b":{"0":3},"a":{"1":4}}')
    write_log(checkpoint, "offsets", 0, '{"logOffset":0}', '{"b":{"0":5},"a":{"1":4,"0":2}}')
    write_log(checkpoint, "offsets", 1, '{"logOffset":1}', '{"b":{"0":6},"a":{"1":9,"0":2}}')
    assert offsets.of_batch(checkpoint, 0) == [
        Span("a", None, 0, 0, 2, 0),
        Span("a", None, 1, 4, 4, 0),
        Span("b", None, 0, 3, 5, 0),
    ]
    assert [(one.start, one.end) for one in offsets.of_batch(checkpoint, 1) or []] == [(2, 2), (4, 9), (5, 6)]


@pytest.mark.parametrize(
    "text", [None, "7", "-", "{}", "[]", "no json", '{"logOffset":3}', '{"sourceVersion":1,"reservoirId":"x","index":-1}']
)
def test_other_sources_have_no_ranges(text: str | None) -> None:
    assert offsets.ranges([text], [text]) is None
    assert offsets.ends([text]) is None


def test_two_sources_are_united() -> None:
    ends = [document({0: 5}), None, '{"u":{"0":1}}']
    assert offsets.ends(ends) == {("t", 0): 5, ("u", 0): 1}
    assert offsets.topic_ids(ends) == {"t": "A"}


@pytest.mark.parametrize("content", ["", "v2\n{}", "v1", "v1\n{", 'v1\n{"batchWatermarkMs":"x"}', "\xff\xff"])
def test_a_damaged_log_is_named(checkpoint: Checkpoint, content: str) -> None:
    write_log(checkpoint, "offsets", 0)
    Path(checkpoint.spark_location, "offsets", "0").write_bytes(content.encode("latin-1"))
    with pytest.raises(
        CheckpointMismatchError, match=r"cannot read checkpoint '.*/offsets/0': expected Spark's offset log.*millrace rewind"
    ):
        offsets.planned(checkpoint, 0)


def test_a_batch_without_a_plan_has_no_file(checkpoint: Checkpoint) -> None:
    assert checkpoint.last_planned() is None
    with pytest.raises(FileNotFoundError):
        offsets.planned(checkpoint, 0)
