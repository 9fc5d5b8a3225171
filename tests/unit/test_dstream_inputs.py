"""Which files are new, against a model that remembers everything."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spark_ext.dstream.inputs.listing import File, next_plan

STEP_MS = 1_000
START_MS = 100_000


def planned(listed: list[File], before: dict[str, Any] | None, until_ms: int, remember_ms: int = 60_000) -> dict[str, Any]:
    found = next_plan(listed, before, since_ms=START_MS, until_ms=until_ms, remember_ms=remember_ms)
    return dict(json.loads(json.dumps(found)))  # as a restart reads it


def paths(plan: dict[str, Any]) -> list[str]:
    return [path for path, *_ in plan["files"]]


# When a file changed, how many batches later it can be seen, and for how many batches it then stays.
FILES = st.lists(st.tuples(st.integers(-2_000, 12_000), st.integers(0, 3), st.integers(1, 12)), max_size=25)


@given(FILES)
def test_each_file_after_the_start_is_read_once_at_the_first_batch_that_can_see_it(files: list[tuple[int, int, int]]) -> None:
    there = []
    for number, (changed, hidden, stays) in enumerate(files):
        file = File(f"/in/{number}", number, START_MS + changed)
        first = max(1, -(-changed // STEP_MS)) + hidden
        there.append((file, first, first + stays))
    plan = None
    for batch in range(1, 20):
        listed = [file for file, first, last in there if first <= batch < last]
        # A file may also be seen before its time: by a clock that is ahead.
        listed += [file for file, first, _ in there if batch < first and file.changed_ms > START_MS + batch * STEP_MS]
        plan = planned(listed, plan, START_MS + batch * STEP_MS)
        expected = [file for file, first, _ in there if first == batch and file.changed_ms > START_MS]
        assert sorted(paths(plan)) == sorted(file.path for file in expected)
        times = [changed for _, _, changed in plan["files"]]
        assert times == sorted(times)


def test_names_are_forgotten_once_files_as_old_are_not_read_any_more() -> None:
    plan = None
    listed = []
    for batch in range(1, 200):
        now_ms = START_MS + batch * STEP_MS
        listed.append(File(f"/in/{batch}", 1, now_ms))
        plan = planned(listed, plan, now_ms, remember_ms=10_000)
        assert paths(plan) == [f"/in/{batch}"]
        assert len(plan["seen"]) <= 10


def test_what_appears_with_a_time_beyond_what_is_remembered_is_not_read_and_what_is_within_is() -> None:
    plan = planned([File("/in/new", 1, START_MS + 70_000)], None, START_MS + 70_000)
    late = [File("/in/old", 1, START_MS + 10_000), File("/in/within", 1, START_MS + 10_001), File("/in/new", 1, START_MS + 70_000)]
    assert paths(planned(late, plan, START_MS + 71_000)) == ["/in/within"]


def test_a_quiet_folder_forgets_nothing() -> None:
    """Unlike in Spark, where a file that is an hour late by its own time is never read."""
    plan = planned([], None, START_MS + 1_000)
    for batch in range(2, 100):
        plan = planned([], plan, START_MS + batch * 100_000)
    assert paths(planned([File("/in/late", 1, START_MS + 5)], plan, START_MS + 10_000_000)) == ["/in/late"]


def test_a_file_with_another_time_is_read_again_only_when_its_name_is_forgotten() -> None:
    plan = planned([File("/in/a", 1, START_MS + 1)], None, START_MS + 1_000)
    plan = planned([File("/in/a", 2, START_MS + 1_500)], plan, START_MS + 2_000)
    assert paths(plan) == []
    plan = planned([File("/in/b", 1, START_MS + 62_000)], plan, START_MS + 62_000)
    plan = planned([File("/in/a", 3, START_MS + 62_500)], plan, START_MS + 63_000)
    assert paths(plan) == ["/in/a"]
