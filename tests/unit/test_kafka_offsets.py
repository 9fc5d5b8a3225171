"""What a batch reads: shares, losses, ends and cuts as plain functions."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import CheckpointMismatchError, QueryError
from spark_ext.kafka.offsets import Document, Limits, Range, Seen, cut, next_document, ranges, share

IDS = {"t": "id-1"}
PLACES = st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 5))
LEFT = st.dictionaries(PLACES, st.integers(0, 1000))
LIMIT = st.none() | st.integers(1, 2000)


def seen(ends: dict[int, int], first: dict[int, int] | None = None, ids: dict[str, str] = IDS) -> Seen:
    return Seen(ids, {("t", at): (first or {}).get(at, 0) for at in ends}, {("t", at): end for at, end in ends.items()})


def at(offsets: dict[int, int], lost: dict[int, tuple[int, int]] | None = None) -> Document:
    return Document(IDS, {("t", number): end for number, end in offsets.items()}, {("t", n): span for n, span in (lost or {}).items()})


@settings(deadline=None)
@given(LEFT, LIMIT, LIMIT, st.integers(0, 10**12))
def test_a_share_is_the_whole_limit_and_leaves_nobody_out(
    left: dict[tuple[str, int], int], total: int | None, each: int | None, turn: int
) -> None:
    shares = share(left, Limits(total, each), turn=turn)
    wanted = {place: min(count, each or count) for place, count in left.items() if count}
    assert all(0 < count <= wanted[place] for place, count in shares.items())
    assert sum(shares.values()) == min(sum(wanted.values()), total if total is not None else 10**9)
    assert len(shares) == min(len(wanted), total if total is not None else 10**9)


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 50))
def test_with_less_than_one_for_each_they_take_turns(count: int, limit: int) -> None:
    left = {("t", number): 1000 for number in range(count)}
    read = dict.fromkeys(left, 0)
    for _ in range(count):
        for place, part in share(left, Limits(limit), turn=sum(read.values())).items():
            read[place] += part
    assert min(read.values()) >= 1


def test_a_share_follows_what_is_left() -> None:
    assert share({("t", 0): 901, ("t", 1): 101}, Limits(102)) == {("t", 0): 91, ("t", 1): 11}, "one each, the rest in proportion"
    assert share({("t", 0): 10**9, ("t", 1): 1}, Limits(100)) == {("t", 0): 99, ("t", 1): 1}


@settings(deadline=None)
@given(st.dictionaries(st.integers(0, 6), st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))), LIMIT, LIMIT)
def test_batches_come_to_the_end_and_cover_every_offset_once(
    parts: dict[int, tuple[int, int, int]], total: int | None, each: int | None
) -> None:
    numbers = {number: sorted(three) for number, three in parts.items()}
    broker = seen({n: three[2] for n, three in numbers.items()}, {n: three[1] for n, three in numbers.items()})
    document = at({n: three[0] for n, three in numbers.items()})
    covered: dict[int, list[tuple[int, int, int]]] = {number: [] for number in numbers}
    while (after := next_document(document, broker, Limits(total, each), may_lose=True)) is not document:
        for one in ranges(document, after):
            covered[one.partition].append((one.start, one.first, one.end))
        assert Document.from_json(json.loads(json.dumps(after.to_json()))) == after
        document = after
    for number, (begun, first, end) in numbers.items():
        spans = covered[number]
        assert [span[0] for span in spans] == [begun, *(span[2] for span in spans[:-1])] if spans else begun == end
        assert sum(one[1] - one[0] for one in spans) == first - begun, "lost offsets are counted once"
        assert document.offsets[("t", number)] == end


def test_lost_offsets_are_an_error_that_names_them_or_are_written_down() -> None:
    broker = seen({0: 20, 1: 20}, {0: 8, 1: 3})
    with pytest.raises(
        QueryError, match=r"cannot read offsets 't\[0\] 5\.\.7, t\[1\] 0\.\.2'.*got 6 that the broker no longer has.*on_lost"
    ):
        next_document(at({0: 5}), broker, Limits(), may_lose=False)
    after = next_document(at({0: 5}), broker, Limits(), may_lose=True)
    assert after == at({0: 20, 1: 20}, {0: (5, 8), 1: (0, 3)})
    assert ranges(at({0: 5}), after) == [Range("t", 0, 5, 8, 20), Range("t", 1, 0, 3, 20)]
    assert after.to_json()["lost"] == {"t": {"0": [5, 8], "1": [0, 3]}}


def test_a_range_may_be_lost_as_a_whole() -> None:
    after = next_document(at({0: 5}), seen({0: 9}, {0: 9}), Limits(1), may_lose=True)
    assert cut(ranges(at({0: 5}), after), tasks=4, min_offsets=1) == [[Range("t", 0, 5, 9, 9)]]


def test_nothing_new_is_the_same_document_with_its_old_losses() -> None:
    before = at({0: 9}, {0: (5, 8)})
    assert next_document(before, seen({0: 9, 1: 0}), Limits(), may_lose=False) is before


@pytest.mark.parametrize(("ids", "got"), [({"t": "id-2"}, "id 'id-2'"), ({}, "no such topic")])
def test_a_topic_made_again_or_deleted_is_refused(ids: dict[str, str], got: str) -> None:
    broker = seen({0: 9}, ids=ids) if ids else Seen({}, {}, {})
    with pytest.raises(
        CheckpointMismatchError, match=rf"cannot go on with topic 't': expected id 'id-1', got {got}.*new, empty checkpoint"
    ):
        next_document(at({0: 5}), broker, Limits(), may_lose=True)


def test_documents_of_two_topics_of_one_name_have_nothing_between_them() -> None:
    with pytest.raises(CheckpointMismatchError, match="expected id 'id-1', got id 'id-2'"):
        ranges(at({0: 5}), replace(at({0: 9}), ids={"t": "id-2"}))


def test_a_run_that_stops_at_its_ends_reads_neither_more_nor_new_partitions() -> None:
    until = {("t", 0): 7}
    after = next_document(at({0: 5}), seen({0: 100, 1: 100}), Limits(), may_lose=False, until=until)
    assert after == at({0: 7})
    assert next_document(after, seen({0: 100, 1: 100}), Limits(), may_lose=False, until=until) is after


def test_a_document_of_another_release_is_refused() -> None:
    with pytest.raises(CheckpointMismatchError, match="expected offsets of version 1, got version 7"):
        Document.from_json({"version": 7, "topics": {}})


def test_a_document_keeps_where_the_partitions_ended_and_one_of_before_does_not_know() -> None:
    document = replace(at({0: 5, 1: 3}), latest={("t", 0): 20, ("t", 1): 3})
    told = json.loads(json.dumps(document.to_json()))
    assert told["latest"] == {"t": {"0": 20, "1": 3}}
    assert Document.from_json(told) == document
    del told["latest"]
    assert Document.from_json(told) == at({0: 5, 1: 3})
    assert at({0: 5, 1: 3}).to_json() == told, "and nothing is written that is not known"
    assert ranges(at({0: 1}), document) == ranges(at({0: 1}), at({0: 5, 1: 3})), "what is read does not depend on it"


def test_a_large_range_is_cut_and_small_ones_go_together() -> None:
    assert cut([Range("t", 0, 0, 0, 100)], tasks=4, min_offsets=10) == [[Range("t", 0, n, n, n + 25)] for n in (0, 25, 50, 75)]
    assert cut([Range("t", 0, 0, 0, 100)], tasks=4, min_offsets=100) == [[Range("t", 0, 0, 0, 100)]]
    small = [Range("t", n, 0, 0, 5) for n in range(10)]
    assert cut(small, tasks=2, min_offsets=100) == [small]
    assert [len(one) for one in cut(small, tasks=2, min_offsets=30)] == [5, 5]
    assert [len(one) for one in cut(small, tasks=8, min_offsets=1)] == [2, 2, 1, 1, 1, 1, 1, 1]
    assert cut([], tasks=2, min_offsets=1) == []


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 5000)), max_size=20), st.integers(1, 8), st.integers(1, 500)
)
def test_a_cut_covers_everything_once_in_not_too_many_tasks(given: list[tuple[int, int, int]], tasks: int, least: int) -> None:
    whole = [Range("t", n, lost, lost + more, lost + more + length) for n, (lost, more, length) in enumerate(given)]
    work = cut(whole, tasks=tasks, min_offsets=least)
    assert len(work) <= min(tasks, max(1, -(-sum(one.end - one.first for one in whole) // least)))
    pieces = sorted((one for task in work for one in task), key=lambda one: (one.partition, one.start, one.end))
    for one in whole:
        mine = [piece for piece in pieces if piece.partition == one.partition]
        assert (mine[0].start, mine[0].first, mine[-1].end) == (one.start, one.first, one.end)
        assert [piece.start for piece in mine[1:]] == [piece.first for piece in mine[1:]] == [piece.end for piece in mine[:-1]]
    assert cut(whole, tasks=tasks, min_offsets=least) == work


def test_a_first_batch_knows_where_it_began_whatever_the_start_is_later() -> None:
    first = replace(at({0: 5}), began={("t", 0): 5})
    empty = next_document(first, seen({0: 5}), Limits(), may_lose=False)
    assert empty is first
    assert ranges(at({0: 3}), first) == []
    batch = next_document(first, seen({0: 20, 1: 4}), Limits(), may_lose=False)
    assert Document.from_json(json.loads(json.dumps(batch.to_json()))) == batch
    assert ranges(at({0: 12, 1: 2}), batch) == ranges(first, batch) == [Range("t", 0, 5, 5, 20), Range("t", 1, 0, 0, 4)]
    second = next_document(batch, seen({0: 30, 1: 4}), Limits(), may_lose=False)
    assert "began" not in second.to_json()
    assert ranges(batch, second) == [Range("t", 0, 20, 20, 30)]
