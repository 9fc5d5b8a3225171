"""The pictures of docs/windows.md: drawn by the program that stands beside them, of what the kernels give."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from docs.windows.draw import draw
from docs.windows.streams import STREAMS, Bar, Lane, play

PAGE = Path(__file__).resolve().parents[2] / "docs" / "windows.md"
MOST_BYTES = 60_000


def lanes(name: str, panel: int = 0) -> list[Lane]:
    return play(STREAMS[name][panel])


def given(name: str, panel: int = 0) -> dict[str, list[tuple[str, float, float, int, bool]]]:
    """What is given out by batch."""
    found = {lane.name: [(bar.key, bar.start, bar.end, bar.total, bar.is_final) for bar in lane.bars] for lane in lanes(name, panel)}
    return {lane: bars for lane, bars in found.items() if bars}


def aside(name: str) -> dict[tuple[str, float, int], str]:
    return {row: why for lane in lanes(name) for row, why in lane.aside.items()}


@pytest.mark.parametrize("name", STREAMS)
def test_the_picture_is_what_its_program_draws(name: str, tmp_path: Path) -> None:
    drawn, kept = tmp_path / f"{name}.svg", PAGE.parent / "windows" / f"{name}.svg"
    draw(STREAMS[name], drawn)
    text = drawn.read_text()
    assert len(text) < MOST_BYTES
    assert re.search(r'<g id="patch_1">\s*<path [^>]*style="fill: #ffffff"', text), "a background of its own, for dark pages"
    words = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    shown = [f"{bar.key} {bar.total}" for panel in range(len(STREAMS[name])) for lane in lanes(name, panel) for bar in lane.bars]
    assert not Counter(shown) - Counter(re.sub(r" \(.*", "", word) for word in words), "every window that is given out is in it"
    assert re.findall(r"<text[^>]*>([^<]*)</text>", kept.read_text()) == words, "run python -m docs.windows.draw"


def test_the_page_shows_every_picture() -> None:
    assert sorted(re.findall(r"\]\(windows/(\w+)\.svg\)", PAGE.read_text())) == sorted(STREAMS)
    assert sorted(file.stem for file in (PAGE.parent / "windows").glob("*.svg")) == sorted(STREAMS)


@pytest.mark.parametrize("name", sorted(set(STREAMS) - {"keep_last", "keep_for", "count_sliding", "sliding"}))
def test_a_total_is_that_of_the_rows_that_are_drawn_within(name: str) -> None:
    """The last total of a window is that of its rows which were not set aside."""
    for panel in range(len(STREAMS[name])):
        script = STREAMS[name][panel]
        last: dict[tuple[str, float, float], int] = {}
        for bar in (bar for lane in play(script) for bar in lane.bars):
            place = bar.key, bar.start, bar.end
            last[place] = bar.total + (0 if script.trigger.accumulating else last.get(place, 0))
        out = [row for lane in play(script) for row in lane.aside]
        rows = [row for batch in script.batches for row in batch if row not in out]
        for (key, start, end), total in last.items():
            until = end + 1e-6 if name.startswith("count") else end  # both bounds are rows there
            inside = [value for of, time, value in rows if of == key and start <= time < until]
            assert total == np.sum(inside), (key, start, end)


def test_a_row_behind_its_window_is_late_and_a_sliding_one_for_some() -> None:
    assert given("tumbling")["batch 2"] == [("a", 0, 20, 8, True), ("b", 0, 20, 6, True)]
    assert aside("tumbling") == {("a", 12, 2): "late"}
    assert aside("sliding") == {("a", 12, 2): "late 1/2"}
    assert given("sliding")["batch 3"] == [("a", 10, 30, 8, True), ("b", 10, 30, 4, True)], "5 and 1, and the 2 that was late for one"


def test_panes_are_what_the_windows_share() -> None:
    (panes,) = [lane.panes for lane in lanes("sliding") if lane.panes]
    assert panes[:3] == [Bar("a", 0, 10, 3, False), Bar("a", 10, 20, 5, False), Bar("a", 20, 30, 1, False)]


def test_a_session_ends_with_silence_or_at_a_multiple_of_its_maximum() -> None:
    found = [bar for bars in given("session").values() for bar in bars]
    assert ("a", 4, 27, 10, True) in found
    assert [bar for bar in found if bar[0] == "b"] == [("b", 6, 30, 10, True), ("b", 33, 49, 11, True), ("b", 57, 60, 1, True)]


def test_count_windows_follow_event_time_not_arrival() -> None:
    assert given("count_tumbling")["batch 2"] == [("a", 4, 12, 9, True)]
    assert aside("count_tumbling") == {("b", 14, 3): "late", ("a", 18, 9): "late"}
    assert [bar[3] for bars in given("count_sliding").values() for bar in bars if bar[0] == "a"] == [9, 8, 13, 12]


@pytest.mark.parametrize(("panel", "hours"), [(0, [24, 23, 24]), (1, [24, 25, 24])])
def test_a_day_of_new_york_has_23_24_or_25_hours(panel: int, hours: list[int]) -> None:
    found = [end - start for bars in given("calendar", panel).values() for key, start, end, *_ in bars if key == "a"]
    assert found == hours


def test_rows_without_a_window_are_outside() -> None:
    assert aside("business_hours") == {("b", 24, 1): "outside", ("a", 41, 5): "outside"}
    assert sorted(aside("assigned").values()) == ["late", "outside", "outside", "outside"]


def test_discarding_firings_add_up_to_accumulating_ones() -> None:
    whole = [total for bars in given("each_batch").values() for key, start, _, total, _ in bars if (key, start) == ("b", 0)]
    parts = [total for bars in given("discarding").values() for key, start, _, total, _ in bars if (key, start) == ("b", 0)]
    assert (whole, parts) == ([2, 6, 12, 12], [2, 4, 6])
    assert not [bar for bars in given("discarding").values() for bar in bars if bar[4]], "all was given out before"


def test_triggers_fire_when_they_say() -> None:
    fired = {name: {lane: len([bar for bar in bars if not bar[4]]) for lane, bars in given(name).items()} for name in STREAMS}
    assert fired["on_close"] == {"batch 4": 0, "batch 6": 0}
    assert fired["each_rows"] == {"batch 0": 1, "batch 1": 2, "batch 3": 1, "batch 4": 0, "batch 6": 0}
    assert fired["early"] == {"batch 1": 2, "batch 3": 3, "batch 4": 0, "batch 5": 2, "batch 6": 0}
    assert fired["grace"] == {"batch 3": 2, "batch 4": 0, "batch 5": 2, "batch 6": 0}


def test_evictions_keep_what_they_say() -> None:
    assert given("keep_all")["batch 2"] == [("a", -np.inf, np.inf, 27, False), ("b", -np.inf, np.inf, 12, False)]
    assert given("keep_last")["batch 2"] == [("a", 12, 33, 14, False), ("b", 5, 18, 12, False)]
    assert given("keep_for")["batch 2"] == [("a", 21, 33, 9, False), ("b", 5, 18, 12, False)]
    assert aside("keep_last") == aside("keep_for") == {("a", 2, 9): "late"}
