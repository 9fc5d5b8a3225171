"""updateStateByKey and mapWithState of one partition beside dicts: any keys, any states, removal, mutable states, time that passes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.dstream import State, StateSpec
from spark_ext.dstream.columns.blocks import decode, encode, pack, unpack
from spark_ext.dstream.errors import NoStateError, StreamArgumentError
from spark_ext.dstream.state.held import Held
from spark_ext.dstream.state.mapped_kernel import mapped
from spark_ext.dstream.state.update_kernel import first_of_each, updated

INTS = st.integers(-3, 3)
WORDS = st.sampled_from(["", "a", "b", "ä", "\ud800"])
MIXED = st.one_of(
    INTS, WORDS, st.booleans(), st.none(), st.sampled_from([0.0, -0.0, 1.0, 2.5]), st.binary(max_size=1), st.tuples(INTS, WORDS)
)
FLOATS = st.sampled_from([0.0, -0.0, 1.0, 2.5])
KEYS = st.sampled_from([INTS, st.sampled_from(["a", "b", "ä"]), st.binary(max_size=1), FLOATS, st.booleans(), st.tuples(INTS), MIXED])
VALUES = st.one_of(INTS, WORDS, st.none(), st.lists(INTS, max_size=2), st.tuples(INTS, st.one_of(INTS, st.none())))
BATCH = KEYS.flatmap(lambda keys: st.lists(st.tuples(keys, st.one_of(st.just(1), VALUES)), max_size=8))
ONE_KIND = KEYS.flatmap(lambda keys: st.lists(st.lists(st.tuples(keys, INTS), max_size=8), max_size=5))
BATCHES = st.one_of(st.lists(BATCH, max_size=5), ONE_KIND)
EVENTS = settings(max_examples=150, deadline=None)


@pytest.fixture(autouse=True, scope="module")
def _a_hash_seed() -> Any:
    """Spark's workers have one."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONHASHSEED", "0")
        yield


def count(new: list[Any], old: Any) -> Any:
    return (old or 0) + len(new)


def idle_ones_go(new: list[Any], old: Any) -> Any:
    return (len(new), new[0]) if new else None


def every_other_goes(new: list[Any], old: Any) -> Any:
    return None if old else "there"


def collect(new: list[Any], old: Any) -> Any:
    found = [] if old is None else old
    found.extend(new)
    new.clear()
    return found


UPDATES = st.sampled_from([count, idle_ones_go, every_other_goes, collect])


def updated_model(state: dict[Any, Any], batch: list[tuple[Any, Any]], function: Callable[..., Any]) -> dict[Any, Any]:
    after = {}
    for key in dict.fromkeys([*state, *(key for key, _ in batch)]):
        made = function([value for other, value in batch if other == key], copy.deepcopy(state.get(key)))
        if made is not None:
            after[key] = made
    return after


def told(pairs: Any) -> list[str]:
    """As text, so that 1, 1.0 and True differ."""
    return sorted(map(repr, pairs))


def blocks_of(batch: list[tuple[Any, Any]], size: int) -> list[Any]:
    return [decode(encode(pack(batch[start : start + size]))) for start in range(0, len(batch), size)]


@EVENTS
@given(BATCHES, UPDATES, st.integers(1, 4))
def test_each_batch_gives_what_a_dict_gives(batches: list[Any], function: Any, size: int) -> None:
    content, model = encode([]), {}
    for batch in batches:
        model = updated_model(model, copy.deepcopy(batch), function)
        again = encode(updated(decode(content), blocks_of(batch, size), function))
        content = encode(updated(decode(content), blocks_of(batch, size), function))
        assert told(unpack(decode(content))) == told(model.items())
        assert told(unpack(decode(again))) == told(model.items())  # a retry begins with the old state


@pytest.mark.parametrize("key", [int, str, lambda n: str(n).encode()])
def test_simple_keys_and_states_stay_columns(key: Callable[[int], Any]) -> None:
    state = updated([], [pack([(key(n), n) for n in range(10)])], lambda new, old: sum(new) + (old or 0))
    state = updated(state, [pack([(key(3), 5), (key(77), 1), (key(3), 1)])], lambda new, old: sum(new) + (old or 0))
    assert isinstance(state, pa.Array)
    assert dict(unpack(state)) == {**{key(n): n for n in range(10)}, key(3): 9, key(77): 1}


def test_values_come_in_the_order_of_their_blocks() -> None:
    seen = []
    blocks = [pack([("a", 1), ("b", 2), ("a", 3)]), pack([("b", 4), ("a", 5)]), pack([("a", [6])])]
    updated(pack([("b", 9)]), blocks, lambda new, old: seen.append((new, old)))
    assert sorted(map(repr, seen)) == ["([1, 3, 5, [6]], None)", "([2, 4], 9)"]


def test_a_key_that_was_there_stays_and_equal_ones_are_one() -> None:
    state = updated(pack([(1, 10)]), [pack([(True, 1)]), pack([(1.0, 2)])], lambda new, old: (old, new))
    assert told(unpack(state)) == ["(1, (10, [1, 2]))"]


def test_the_function_is_called_once_for_each_key_also_without_values() -> None:
    calls: list[Any] = []
    updated(pack([(1, 5), (2, 6)]), [pack([(2, 1), (3, 1)])], lambda new, old: calls.append((new, old)) or old)
    assert sorted(map(repr, calls)) == ["([1], 6)", "([1], None)", "([], 5)"]


def test_the_first_of_an_initial_key_counts_and_none_is_no_state() -> None:
    state = first_of_each([pack([("a", 1), ("b", 2)]), pack([("a", 3), ("c", None)])])
    assert unpack(state) == [("a", 1), ("b", 2), ("c", None)]
    assert unpack(updated(state, [], lambda new, old: old)) == [("a", 1), ("b", 2)]


# mapWithState


def running(key: Any, value: Any, state: State[Any]) -> Any:
    if state.isTimingOut():
        return "gone", key, state.get()
    if value == 2 and state.exists():
        state.remove()
        return "removed", key
    if value == -1:
        return None
    if value == [1]:
        state.update(None)
    else:
        state.update((state.getOption() or 0, value) if value != 1 else 1)
    return key, value, state.get()


def collecting(key: Any, value: Any, state: State[Any]) -> Any:
    if state.isTimingOut():
        return key, list(state.get())
    if not state.exists():
        state.update([])
    state.get().append(value)
    return len(state.get())


class ModelState:
    """What `State` should do, by hand."""

    def __init__(self, there: dict[Any, Any], key: Any, *, timing_out: bool) -> None:
        self.there, self.key, self.timing_out = there, key, timing_out

    def exists(self) -> bool:
        return self.key in self.there

    def get(self) -> Any:
        return self.there[self.key]

    def getOption(self) -> Any:  # noqa: N802 (State's)
        return self.there.get(self.key)

    def update(self, state: Any) -> None:
        self.there[self.key] = state

    def remove(self) -> None:
        del self.there[self.key]

    def isTimingOut(self) -> bool:  # noqa: N802 (State's)
        return self.timing_out


def mapped_model(there: dict[Any, Any], times: dict[Any, int], batch: Any, function: Any, now: int, timeout: int | None) -> list[Any]:
    out = []
    first: dict[Any, Any] = {}
    for key in [*there, *(key for key, _ in batch)]:
        first.setdefault(key, key)
    for key, value in batch:
        out.append(function(key, value, ModelState(there, key, timing_out=False)))
        times[key] = now
    if timeout is not None:
        for key in [key for key in there if times[key] < now - timeout]:
            out.append(function(key, None, ModelState(there, key, timing_out=True)))
            del there[key]
    kept = {first[key]: state for key, state in there.items()}  # of equal keys the first one, also if it was removed for a while
    there.clear()
    there.update(kept)
    return [one for one in out if one is not None]


@EVENTS
@given(BATCHES, st.sampled_from([running, collecting]), st.one_of(st.none(), st.integers(1, 3)), st.integers(1, 4))
def test_mapping_gives_what_dicts_give(batches: list[Any], function: Any, timeout: int | None, step: int) -> None:
    held = Held.of((), 0)
    there: dict[Any, Any] = {}
    times: dict[Any, int] = {}
    for number, batch in enumerate([*batches, [], []]):
        now = number * step
        before = held.to_bytes()
        pairs = copy.deepcopy(batch)
        wanted = mapped_model(there, times, copy.deepcopy(batch), function, now, timeout)
        after, out = mapped(held, pairs, function, time_ms=now, timeout_ms=timeout)
        assert told(out) == told(wanted)
        assert told(unpack(after.snapshot())) == told(there.items())
        assert held.to_bytes() == before  # a retry begins with the old state
        held = Held.from_bytes(after.to_bytes())
        assert told(unpack(held.snapshot())) == told(there.items())


class Loud:
    """Counts how often one is made."""

    made = 0

    def __reduce__(self) -> Any:
        return loud, ()


def loud() -> Loud:
    Loud.made += 1
    return Loud()


def test_what_is_not_touched_is_never_made_an_object() -> None:
    held = Held.from_bytes(Held.of([(("key", n), Loud()) for n in range(50)], 0).to_bytes())
    after, out = mapped(held, [(("key", 7), 1)], lambda key, value, state: state.exists(), time_ms=1, timeout_ms=5)
    assert out == [True]
    assert Loud.made == 1
    assert len(after.times) == 50


def test_the_last_of_an_initial_key_counts_and_its_time_is_the_first_batch() -> None:
    held = Held.of([("a", 1), ("b", 2), ("a", 3)], 100)
    after, out = mapped(held, [("b", 1)], running, time_ms=110, timeout_ms=10)
    assert out == [("b", 1, 1)]
    assert unpack(after.snapshot()) == [("a", 3), ("b", 1)]  # not older than the timeout
    assert mapped(after, [], running, time_ms=111, timeout_ms=10)[1] == [("gone", "a", 3)]


def test_a_state_that_goes_cannot_be_changed() -> None:
    state: State[int] = State(1, is_timing_out=True)
    with pytest.raises(StreamArgumentError, match="Cannot update the state that is timing out"):
        state.update(2)
    with pytest.raises(StreamArgumentError, match="Cannot remove the state that is timing out"):
        state.remove()
    gone: State[int] = State(1)
    gone.remove()
    assert (gone.exists(), gone.getOption(), str(gone)) == (False, None, "<state not set>")
    with pytest.raises(StreamArgumentError, match="Cannot update the state after it has been removed"):
        gone.update(2)
    with pytest.raises(StreamArgumentError, match="Cannot remove the state that has already been removed"):
        gone.remove()
    with pytest.raises(NoStateError, match="State is not set"):
        gone.get()
    assert str(State(5)) == "5"


@pytest.mark.parametrize("function", [lambda key: key, lambda a, b, c, d, e: a, 7])
def test_a_function_of_other_arguments_is_refused(function: Any) -> None:
    with pytest.raises(StreamArgumentError, match="expected f\\(key, value, state\\) or f\\(time, key, value, state\\)"):
        StateSpec.function(function)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_timeout_is_above_zero(seconds: float) -> None:
    with pytest.raises(StreamArgumentError, match="expected a timeout above 0 s"):
        StateSpec.function(running).timeout(seconds)
