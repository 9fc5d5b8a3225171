"""The circuit breaker, and who asks through it: retries, deadline, what is remembered; time is a number here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import SettingsError
from spark_ext.joins.remote.answers import Answer
from spark_ext.joins.remote.asking import Asker, Found
from spark_ext.joins.remote.breaker import Breaker
from spark_ext.joins.remote.failure import AskError, Failure
from spark_ext.joins.remote.limits import Cache, Limits
from spark_ext.joins.remote.match_kernel import How, distinct, pairs
from spark_ext.joins.remote.remembered import Key, Remembered

RETURNS = pa.schema([("name", pa.string())])
DOWN = AskError(Failure("an answer", "HTTP 503", "wait"), is_transient=True)
WRONG = AskError(Failure("an answer", "HTTP 401", "log in"), is_transient=False)
NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)


class Fake:
    """A source in memory, its clock, and an asker over both."""

    def __init__(self, rows: dict[int, list[str]] | None = None, cache: Cache | None = None, **limits: object) -> None:
        self.rows, self.now_s = rows or {}, 0.0
        self.fails: Callable[[int], AskError | None] = lambda _attempt: None
        self.asked: list[list[int]] = []
        self.timeouts: list[float] = []
        self.slept: list[float] = []
        self.limits = Limits(**limits)  # type: ignore[arg-type]
        self.breaker = Breaker(self.limits.failures, self.limits.cooldown.total_seconds(), self.clock)
        self.remembered = Remembered(RETURNS, cache or Cache(), self.clock)
        self.asker = Asker(
            self, self.limits, self.remembered, self.breaker, clock=self.clock, sleep=self.sleep,
            now=lambda: NOON + timedelta(seconds=self.now_s),
        )  # fmt: skip

    @property
    def batch_size(self) -> int:
        return self.limits.batch_size

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds

    def refuses(self, key: Key) -> Failure | None:
        return Failure("a key of 0 or more", "-1", "take another") if key == (-1,) else None

    def ask(self, keys: pa.Table, timeout_s: float) -> Answer:
        self.asked.append(keys.column(0).to_pylist())
        self.timeouts.append(timeout_s)
        error = self.fails(len(self.asked))
        if error is not None:
            raise error
        found = [(at, name) for at, key in enumerate(self.asked[-1]) for name in self.rows.get(key, [])]
        found.reverse()  # in whatever order
        owners = np.array([at for at, _ in found], np.int64)
        return Answer(pa.table({"name": pa.array([name for _, name in found], pa.string())}), owners)

    def find(self, *keys: int, stop: bool = False) -> list[list[str] | str]:
        """Return the names of each key, or why there are none."""
        found = self.asker.find(pa.table({"id": pa.array(keys, pa.int64())}), stop=stop)
        return [found.failures[at].text if at in found.failures else names(found, at) for at in range(len(keys))]


def names(found: Found, at: int) -> list[str]:
    return list(reversed(found.rows.slice(max(0, found.starts[at]), found.counts[at]).column("name").to_pylist()))


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    breaker = Breaker(3, 10.0, lambda: 0.0)
    for _ in range(5):
        breaker.failed("a")
        breaker.failed("b")
        assert breaker.admits()
        breaker.succeeded()
    for reason in "abc":
        assert breaker.admits()
        breaker.failed(reason)
    assert (breaker.state, breaker.admits(), breaker.count, breaker.reason) == ("open", False, 3, "c")


def test_half_open_it_admits_one_who_decides() -> None:
    now = [0.0]
    breaker = Breaker(1, 10.0, lambda: now[0])
    breaker.failed("a")
    now[0] = 9.9
    assert not breaker.admits()
    now[0] = 10.0
    assert (breaker.state, breaker.admits(), breaker.admits()) == ("half_open", True, False)
    breaker.failed("b")  # open again, and since the first failure
    assert (breaker.state, breaker.open_s, breaker.left_s) == ("open", 10.0, 10.0)
    now[0] = 20.0
    assert breaker.admits()
    breaker.succeeded()
    assert (breaker.state, breaker.open_s, breaker.admits()) == ("closed", 0.0, True)


def test_an_outcome_that_is_never_told_keeps_it_closed_to_others_for_one_cooldown() -> None:
    now = [0.0]
    breaker = Breaker(1, 10.0, lambda: now[0])
    breaker.failed("a")
    now[0] = 10.0
    assert breaker.admits()
    now[0] = 19.9
    assert not breaker.admits()
    now[0] = 20.0
    assert breaker.admits()


@given(st.lists(st.sampled_from(["ok", "fail", "wait"]), max_size=40), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_it_is_as_the_obvious_model_says(events: list[str], limit: int) -> None:
    now = [0.0]
    breaker = Breaker(limit, 3.0, lambda: now[0])
    row, closed_until = 0, 0.0
    for event in events:
        now[0] += 1.0
        admitted = now[0] >= closed_until
        if event == "wait":
            assert (breaker.state != "open") == admitted
            continue
        assert breaker.admits() == admitted
        if admitted and event == "ok":
            breaker.succeeded()
            row, closed_until = 0, 0.0
        elif admitted:
            breaker.failed("x")
            row += 1
            closed_until = now[0] + 3.0 if row >= limit else 0.0


def test_retries_wait_longer_each_time_and_end_with_the_answer() -> None:
    fake = Fake({1: ["a"]}, backoff=timedelta(seconds=1))
    fake.fails = lambda attempt: DOWN if attempt < 4 else None
    assert fake.find(1) == [["a"]]
    assert fake.asked == [[1]] * 4
    assert all(0 <= slept <= 2**at for at, slept in enumerate(fake.slept))
    assert fake.breaker.count == 0


def test_retries_end_with_their_number() -> None:
    fake = Fake(attempts=3)
    fake.fails = lambda _: DOWN
    (text,) = fake.find(1)
    assert fake.asked == [[1]] * 3
    assert "got HTTP 503; 3 attempts in" in text


def test_retries_end_with_the_deadline_and_the_last_has_what_is_left_of_it() -> None:
    fake = Fake(attempts=99, failures=99, timeout=timedelta(seconds=4), deadline=timedelta(seconds=10))

    def slow(_attempt: int) -> AskError:
        fake.now_s += fake.timeouts[-1]
        return DOWN

    fake.fails = slow
    fake.find(1)
    assert len(fake.asked) == 3
    assert fake.timeouts[:2] == [4.0, 4.0]
    assert fake.timeouts[2] == pytest.approx(2.0 - sum(fake.slept))
    assert fake.now_s <= 10.0


def test_a_service_that_says_how_long_to_wait_is_heeded_within_the_deadline() -> None:
    fake = Fake({1: ["a"]})
    fake.fails = lambda attempt: AskError(DOWN.failure, is_transient=True, wait_s=7.0) if attempt == 1 else None
    assert fake.find(1) == [["a"]]
    assert fake.slept == [7.0]
    fake = Fake()
    fake.fails = lambda _: AskError(DOWN.failure, is_transient=True, wait_s=31.0)
    fake.find(1)
    assert (len(fake.asked), fake.slept) == (1, [])


def test_what_does_not_pass_is_not_asked_again() -> None:
    fake = Fake()
    fake.fails = lambda _: WRONG
    assert fake.find(1) == ["expected an answer, got HTTP 401"]
    assert fake.asked == [[1]]


def test_with_the_circuit_open_nothing_is_asked_and_the_reason_says_since_when_and_why() -> None:
    fake = Fake({1: ["a"]}, batch_size=1, attempts=1, failures=3, cooldown=timedelta(seconds=30))
    fake.fails = lambda _: DOWN
    found = fake.find(1, 2, 3, 4, 5)
    assert fake.asked == [[1], [2], [3]]
    assert found[:3] == ["expected an answer, got HTTP 503"] * 3
    fake.now_s = 12.0
    (text,) = fake.find(1)
    assert len(fake.asked) == 3
    assert text == (
        "expected a closed circuit, got one that is open since 2013-01-01T12:00:00+00:00; "
        "3 failures in a row, the last: expected an answer, got HTTP 503; asked again in 18 s"
    )
    fake.now_s = 30.0
    fake.find(1, 2)
    assert fake.asked[3:] == [[1]]  # one attempt, which fails, and nothing more
    fake.fails = lambda _: None
    fake.now_s = 60.0
    assert fake.find(1, 2) == [["a"], []]


def test_retries_stop_when_the_circuit_opens_meanwhile() -> None:
    fake = Fake(attempts=10, failures=2, cooldown=timedelta(seconds=1000))
    fake.fails = lambda _: DOWN
    (text,) = fake.find(1)
    assert len(fake.asked) == 2
    assert "open since" in text
    assert "after 2 attempts" in text


def test_keys_are_asked_in_batches_and_each_once() -> None:
    fake = Fake({key: [f"{key}{letter}" for letter in "abc"[: key % 4]] for key in range(10)}, batch_size=4)
    assert fake.find(*range(10)) == [fake.rows[key] for key in range(10)]
    assert fake.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert fake.find(*range(12)) == [*(fake.rows[key] for key in range(10)), [], []]
    assert fake.asked[3:] == [[10, 11]]
    fake.find(0, 4, 11)
    assert len(fake.asked) == 4  # keys without rows are remembered too


def test_answers_grow_old_those_without_rows_by_their_own_rule() -> None:
    fake = Fake({1: ["a"]}, Cache(ttl=timedelta(seconds=10), missing_ttl=timedelta(seconds=3)))
    fake.find(1, 2)
    fake.rows = {1: ["b"], 2: ["c"]}
    fake.now_s = 2.9
    assert fake.find(1, 2) == [["a"], []]
    fake.now_s = 3.0
    assert fake.find(1, 2) == [["a"], ["c"]]
    fake.now_s = 10.0
    assert fake.find(1, 2) == [["b"], ["c"]]
    assert fake.asked == [[1, 2], [2], [1]]


def test_failures_are_not_remembered_and_take_no_other_batch_along() -> None:
    fake = Fake({key: ["a"] for key in range(6)}, batch_size=2, attempts=1)
    fake.fails = lambda attempt: DOWN if attempt == 2 else None
    down = "expected an answer, got HTTP 503"
    assert fake.find(*range(6)) == [["a"], ["a"], down, down, ["a"], ["a"]]
    assert fake.find(*range(6)) == [["a"]] * 6
    assert fake.asked[3:] == [[2, 3]]


def test_who_stops_at_a_failure_asks_no_further() -> None:
    fake = Fake(batch_size=1, attempts=1)
    fake.fails = lambda _: DOWN
    fake.find(1, 2, 3, stop=True)
    assert fake.asked == [[1]]


def test_a_key_that_cannot_be_asked_for_fails_alone() -> None:
    fake = Fake({1: ["a"]})
    assert fake.find(-1, 1) == ["expected a key of 0 or more, got -1", ["a"]]
    assert fake.asked == [[1]]


def test_a_key_with_too_many_rows_fails_alone() -> None:
    fake = Fake({1: ["a"] * 3, 2: ["b"] * 2, 3: []}, most_matches=2)
    assert fake.find(1, 2, 3) == ["expected at most 2 rows for a key, got 3 for key id=1", ["b"] * 2, []]


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 12), min_size=1, max_size=6, unique=True), st.floats(0, 4)), max_size=25), st.integers(0, 14)
)
@settings(max_examples=80, deadline=None)
def test_what_is_remembered_is_what_a_dict_by_last_use_has(steps: list[tuple[list[int], float]], most: int) -> None:
    fake = Fake({key: [f"{key}-{at}" for at in range(key % 4)] for key in range(13)}, Cache(most, timedelta(seconds=10)))
    kept: dict[int, float] = {}  # the least recently used first
    for keys, passed in steps:
        fake.now_s += passed
        before = len(fake.asked)
        assert fake.find(*keys) == [fake.rows[key] for key in keys]
        kept = {key: at for key, at in kept.items() if key not in keys or at + 10 > fake.now_s}
        known = [key for key in keys if key in kept]
        assert [key for one in fake.asked[before:] for key in one] == [key for key in keys if key not in known]
        for key in [*known, *(key for key in keys if key not in known)]:
            kept[key] = kept.pop(key, fake.now_s)
        while sum(max(1, key % 4) for key in kept) > most:
            kept.pop(next(iter(kept)))
        assert len(fake.remembered) == sum(max(1, key % 4) for key in kept)
        assert fake.remembered.rows.num_rows <= 2 * most + 4096


def test_rows_of_no_key_are_not_kept_for_ever_and_the_others_are_found_where_they_have_moved() -> None:
    fake = Fake({key: [f"{key}"] * 100 for key in range(1000)}, Cache(500))
    for key in range(0, 1000, 10):
        assert fake.find(*range(key, key + 10)) == [[f"{at}"] * 100 for at in range(key, key + 10)]
        assert fake.find(key + 9, key + 7) == [[f"{key + 9}"] * 100, [f"{key + 7}"] * 100]
    assert fake.remembered.rows.num_rows <= 2 * 500 + 4096
    assert len(fake.asked) == 100


KEYS = st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 3)), st.one_of(st.none(), st.sampled_from("ab"))), max_size=12)


@given(
    KEYS,
    st.sampled_from(["inner", "left", "semi", "anti"]),
    st.lists(st.integers(0, 3), min_size=8, max_size=8),
    st.sets(st.integers(0, 7)),
)
@settings(max_examples=150, deadline=None)
def test_pairs_are_those_of_a_loop(rows: list[tuple[int | None, str | None]], how: How, sizes: list[int], bad: set[int]) -> None:
    table = pa.table({"a": pa.array([a for a, _ in rows], pa.int64()), "b": pa.array([b for _, b in rows], pa.string())})
    numbers, keys = distinct(table)
    known = list(dict.fromkeys(row for row in rows if None not in row))
    assert list(zip(*keys.to_pydict().values(), strict=True)) == known
    counts = np.array(sizes[: len(known)], np.int64)
    starts = np.cumsum(counts)[::-1].copy() if len(counts) else counts
    failed = np.array([at in bad for at in range(len(known))], np.bool_)
    expected: list[tuple[int, int]] = []
    for at, row in enumerate(rows):
        number = known.index(row) if row in known else None
        lost = number is not None and bool(failed[number])
        found = [] if number is None or lost else [int(starts[number]) + step for step in range(counts[number])]
        if lost or (how == "semi" and found) or (how == "anti" and not found) or (how == "left" and not found):
            expected.append((at, -1))
        elif how in {"inner", "left"}:
            expected.extend((at, place) for place in found)
    got = pairs(numbers, starts, counts, failed, how)
    assert list(zip(*(part.tolist() for part in got), strict=True)) == expected


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Limits(batch_size=0), "batch_size.*1 or more, got 0"),
        (lambda: Limits(timeout=timedelta(0)), "timeout.*more than no time"),
        (lambda: Cache(max_rows=-1), "max_rows.*0 or more, got -1"),
        (lambda: Cache(missing_ttl=timedelta(0)), "missing_ttl.*more than no time"),
    ],
)
def test_limits_out_of_their_intervals_are_refused(make: Callable[[], object], match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        make()
