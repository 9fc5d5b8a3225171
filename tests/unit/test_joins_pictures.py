"""The pictures of docs/joins.md: drawn by the programs that stand beside them, and true by definitions that know no kernel."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from docs.joins.changes import CHANGES
from docs.joins.changes import play as play_tables
from docs.joins.draw import PICTURES
from docs.joins.draw_changes import shown
from docs.joins.lookups import FILES, GROWS, HISTORIES, KEYS, TRIES, attempts, calls, ranges
from docs.joins.streams import STREAMS, AsOf, Lane, Row, Script, play
from spark_ext.joins.shapes import Counts, Interval

PAGE = Path(__file__).resolve().parents[2] / "docs" / "joins.md"
MOST_BYTES = 60_000
TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")

Pair = tuple[str, str]  # names of a left and a right row, "" for none


def lanes(name: str) -> list[Lane]:
    return play(STREAMS[name][0])


def given(name: str) -> dict[str, list[Pair]]:
    """What comes out, by batch."""
    found = {lane.name: [(_name(one.left), _name(one.right)) for one in lane.results] for lane in lanes(name)}
    return {lane: pairs for lane, pairs in found.items() if pairs}


def _name(row: Row | None) -> str:
    return "" if row is None else row[0]


def rows(name: str) -> tuple[list[Row], list[Row]]:
    """The rows of both sides that were taken."""
    aside = {row for lane in lanes(name) for row in lane.aside}
    left, right = ([row for batch in STREAMS[name][0].batches for row in batch[side] if row[0] not in aside] for side in (0, 1))
    return left, right


def watermark(name: str) -> float:
    return max(lane.watermark for lane in lanes(name) if lane.watermark is not None)


@pytest.mark.parametrize("name", PICTURES)
def test_the_picture_is_what_its_program_draws(name: str, tmp_path: Path) -> None:
    drawn, kept = tmp_path / f"{name}.svg", PAGE.parent / "joins" / f"{name}.svg"
    PICTURES[name](drawn)
    text = drawn.read_text()
    assert len(text) < MOST_BYTES
    assert re.search(r'<g id="patch_1">\s*<path [^>]*style="fill: #ffffff"', text), "a background of its own, for dark pages"
    words = Counter(TEXT.findall(text))
    assert not Counter(wanted(name)) - words, "what comes out is in it"
    assert Counter(TEXT.findall(kept.read_text())) == words, "run python -m docs.joins.draw"


def wanted(name: str) -> list[str]:
    if name in STREAMS:
        return [result.text for lane in lanes(name) for result in lane.results]
    if name in CHANGES:
        return [shown(change) for lane in play_tables(CHANGES[name]) for change in lane.changes]
    return {"lookup": [f"v{one.version}" for made in attempts().values() for one in made], "lookup_keys": ["read"] * 3}.get(name, [])


def test_the_page_shows_every_picture() -> None:
    assert sorted(re.findall(r"\]\(joins/(\w+)\.svg\)", PAGE.read_text())) == sorted(PICTURES)
    assert sorted(file.stem for file in (PAGE.parent / "joins").glob("*.svg")) == sorted(PICTURES)


def test_the_table_of_choices_leads_to_each_section_and_each_section_has_a_picture_and_an_example() -> None:
    page = PAGE.read_text()
    sections = dict(zip(*[iter(re.split(r"^##+ (.+)$", page, flags=re.MULTILINE)[1:])] * 2, strict=True))
    by_anchor = {title.lower().replace(",", "").replace(" ", "-"): text for title, text in sections.items()}
    led = set(re.findall(r"\]\(#([\w-]+)\)", sections["Which one"]))
    assert len(led) == 14
    for anchor in led:
        assert "```python" in by_anchor[anchor], anchor
        assert ".svg)" in by_anchor[anchor], anchor
    shown = {anchor for anchor, text in by_anchor.items() if ".svg)" in text}
    assert shown == led | {"too-many-partners"}


def partners(script: Script, left: list[Row], right: list[Row]) -> list[Pair]:
    assert isinstance(script.within, Interval)
    low, high = script.within.lower_us / 1e6, script.within.upper_us / 1e6
    return [(ours, theirs) for ours, at in left for theirs, when in right if low <= when - at <= high]


@pytest.mark.parametrize("name", [name for name in STREAMS if isinstance(STREAMS[name][0].within, Interval)])
def test_who_is_joined_is_who_is_near_and_who_is_alone_is_proven(name: str) -> None:
    script, end = STREAMS[name][0], watermark(name)
    left, right = rows(name)
    pairs = partners(script, left, right)
    assert isinstance(script.within, Interval)
    low, high = script.within.lower_us / 1e6, script.within.upper_us / 1e6
    lefts, rights = {pair[0] for pair in pairs}, {pair[1] for pair in pairs}
    alone = {
        "left": [(row, "") for row, at in left if row not in lefts and at + high < end],
        "right": [("", row) for row, at in right if row not in rights and at - low < end],
    }
    expected: dict[str, list[Pair]] = {
        "inner": pairs,
        "left": pairs + alone["left"],
        "full": pairs + alone["left"] + alone["right"],
        "semi": [(row, "") for row in lefts],
        "anti": alone["left"],
    }
    assert Counter(pair for pairs in given(name).values() for pair in pairs) == Counter(expected[script.how])


@pytest.mark.parametrize("name", [name for name in STREAMS if isinstance(STREAMS[name][0].within, Counts)])
def test_windows_of_rows_hold_the_last_ones_by_event_time(name: str) -> None:
    script, end = STREAMS[name][0], watermark(name)
    assert isinstance(script.within, Counts)
    left, right = rows(name)
    expected = []
    for side, row, _ in sorted([*((0, *row) for row in left), *((1, *row) for row in right)], key=lambda one: (one[2], one[0])):
        time = dict([*left, *right])[row]
        if time >= end:
            continue
        others, number = (right, script.within.right) if side == 0 else (left, script.within.left)
        before = sorted((when, other) for other, when in others if (when < time or (side == 1 and when == time)))
        met = [other for _, other in before[len(before) - number :]] if number else []
        expected += [(row, other) if side == 0 else (other, row) for other in met]
    assert Counter(pair for pairs in given(name).values() for pair in pairs) == Counter(expected)


@pytest.mark.parametrize("name", [name for name in STREAMS if isinstance(STREAMS[name][0].within, AsOf)])
def test_as_of_is_the_nearest_one_in_its_direction(name: str) -> None:
    within = STREAMS[name][0].within
    assert isinstance(within, AsOf)
    assert within.tolerance is not None
    left, right = rows(name)
    signs = {"backward": (-1,), "forward": (1,), "nearest": (-1, 1)}[within.direction]
    expected = {}
    for row, at in left:
        near = [(abs(when - at), when, other) for other, when in right if when == at or (1 if when > at else -1) in signs]
        near = [one for one in near if one[0] <= within.tolerance]
        expected[row] = min(near)[2] if near else ""
    found = dict(pair for pairs in given(name).values() for pair in pairs)
    assert found == {row: expected[row] for row in found}
    assert len(found) == len(left) - 1, "the last one waits"


def test_what_comes_out_when() -> None:
    assert given("outer")["batch 2"] == [("2", ""), ("3", "c")], "the batch in which it is proven"
    assert given("anti") == {"batch 2": [("2", "")], "batch 4": [("4", "")]}
    assert [lane.aside for lane in lanes("outer")] == [{}, {}, {}, {"f": "late"}, {}]
    assert [lane.aside for lane in lanes("excess")] == [{}, {"1": "excess"}, {}]
    assert given("asof_backward")["batch 2"] == [("1", ""), ("2", "c")]
    assert [lane.kept[0] for lane in lanes("semi")] == [1, 1, 1, 1], "of the left rows 2, then 4: who was matched is gone"


def test_versions_are_chosen_as_the_policies_say_and_stay_in_a_second_attempt() -> None:
    found = {name: [one.version for one in made] for name, made in attempts().items()}
    newest = [sum(grown < minute for grown in GROWS) for _, minute in TRIES]
    again = next(at for at in range(1, len(TRIES)) if TRIES[at][0] == TRIES[at - 1][0])
    assert newest[again] > newest[again - 1], "the table has changed between the two"
    newest[again] = newest[again - 1]
    assert found == {
        "EveryBatch()": newest,
        "ByAge(2 min)": [0, 0, 1, 1, 1, 2, 2, 3],
        "OnRequest()": [0] * 6 + [3, 3],
        "Pinned(0)": [0] * 8,
    }


def test_a_row_meets_the_version_that_held() -> None:
    for history in HISTORIES:
        for row, name in zip(history.rows, history.met(), strict=True):
            begun = [one for one in history.versions if one.since <= row]
            holds = max(begun, key=lambda one: one.since, default=None)
            ended = holds is None or (holds.until is not None and row >= holds.until)
            old = history.tolerance is not None and holds is not None and row - holds.since > history.tolerance
            assert name == (None if ended or old or holds is None else holds.name), row


def test_a_file_is_read_if_it_may_have_a_key() -> None:
    read = [file for file in FILES if any(low <= file[1] and file[0] <= high for low, high in ranges())]
    assert read == [file for file in FILES if any(file[0] <= key <= file[1] for key in KEYS)]


def test_the_circuit_opens_after_three_failures_and_is_tried_after_ten_seconds() -> None:
    made, states = calls()
    assert states == [(0, "closed"), (6, "open"), (16, "half_open"), (19, "open"), (29, "half_open"), (32, "closed")]
    assert [call.second for call in made if call.outcome == "failed"] == [4, 5, 6, 19]
    assert [call.second for call in made if call.outcome == "not asked"] == [8, 10, 13, 20, 23, 26]


def newest(batches: list[list[tuple[Any, ...]]], sequence: int | None = None) -> dict[Any, tuple[Any, ...]]:
    """A changelog as a dict: the newest row of each key, none if its values are null."""
    found: dict[Any, tuple[Any, ...]] = {}
    for rows in batches:
        for row in rows:
            if sequence is None or row[0] not in found or row[sequence] > found[row[0]][sequence]:
                found[row[0]] = row
    return {
        key: row for key, row in found.items() if any(value is not None for place, value in enumerate(row) if place not in {0, sequence})
    }


@pytest.mark.parametrize("name", CHANGES)
def test_the_table_is_that_of_its_changelogs_after_each_batch(name: str) -> None:
    for number, lane in enumerate(play_tables(CHANGES[name])):
        so_far = CHANGES[name].batches[: number + 1]
        left = newest([list(batch[0]) for batch in so_far], {"table_changes": 2, "table_aggregate": 3}.get(name)).values()
        right = newest([list(batch[1]) for batch in so_far])
        if name == "table_aggregate":
            cities = sorted({row[1] for row in left})
            expected = [(city, sum(row[1] == city for row in left), sum(row[2] for row in left if row[1] == city)) for city in cities]
        elif name == "table_join":
            expected = [(*row, right[row[0]][1] if row[0] in right else None) for row in left]
        elif name == "table_join_foreign":
            expected = [(*row, right[row[1]][1]) for row in left if row[1] in right]
        else:
            expected = list(left)
        assert Counter(lane.table) == Counter(expected), number
