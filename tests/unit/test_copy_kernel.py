"""A copied table is searched as a slow loop searches it, and as pandas does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spark_ext.errors import JoinError
from spark_ext.joins.copy_kernel import FOREVER, HASH, SINCE, UNTIL, Copy, LookupHow, Overlap, copied, found, held, result

T0 = datetime(2026, 1, 1, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")
KEYS = st.one_of(st.none(), st.integers(0, 6))
NAMES = st.one_of(st.none(), st.sampled_from(["a", "b"]))


def hashes(keys: Sequence[tuple[Any, ...]]) -> np.ndarray:
    """Hashes of few bits, so that different keys have the same: the rows' ones meet the table's wrong ones."""
    return np.array([hash(key) % 97 - 48 for key in keys], np.int64)


def table(keys: Sequence[tuple[Any, ...]], **more: pa.Array) -> pa.Table:
    columns = {HASH: pa.array(hashes(keys)), "k0": pa.array([key[0] for key in keys], pa.int64())}
    if keys and len(keys[0]) > 1:
        columns["k1"] = pa.array([key[1] for key in keys], pa.string())
    return pa.table({**columns, "p0": pa.array(range(len(keys)), pa.int64()), **more})


def ask(copy: Copy, keys: Sequence[tuple[Any, ...]]) -> tuple[np.ndarray, np.ndarray]:
    columns = [pa.array([key[0] for key in keys], pa.int64()), pa.array([key[1] for key in keys], pa.string())]
    return found(copy, hashes(keys), columns)


def numbered(copy: Copy, rows: np.ndarray, places: pa.Array | None) -> list[tuple[int, int | None]]:
    """The result as pairs: number of the row, number of the table's row."""
    if places is None:
        return [(int(at), None) for at in rows]
    return list(zip(rows.tolist(), copy.rows.column("p0").take(places).to_pylist(), strict=True))


@given(
    st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["a", "b"])), max_size=20),
    st.lists(st.tuples(KEYS, NAMES), max_size=20),
    st.sampled_from(["left", "inner", "semi", "anti"]),
)
@settings(max_examples=300, deadline=None)
def test_lookup_against_a_loop(dimension: list[tuple[int, str]], asked: list[tuple[Any, Any]], how: LookupHow) -> None:
    copy = copied(table(dimension) if dimension else table([(0, "a")]).slice(0, 0), name="t")
    if copy is None:
        assert len(set(dimension)) > len(set(hashes(dimension).tolist())), "given up only for keys of one hash"
        return
    expected: list[tuple[int, int | None]] = []
    for number, key in enumerate(asked):
        partners: list[int | None] = [at for at, other in enumerate(dimension) if None not in key and other == key]
        if how in {"semi", "anti"}:
            expected += [(number, None)] if bool(partners) == (how == "semi") else []
        else:
            expected += [(number, at) for at in partners or ([None] if how == "left" else [])]
    assert numbered(copy, *result(how, *ask(copy, asked))) == expected
    sizes = [dimension.count(key) for key in set(dimension)]
    assert copy.most == max(sizes, default=0)


VERSIONS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.one_of(st.none(), st.integers(0, 30))), max_size=12)


def history(versions: Sequence[tuple[int, int, int | None]], *, overlap: Overlap, measured: bool = False) -> Copy | None:
    def at(minutes: int | None) -> datetime | None:
        return None if minutes is None else T0 + timedelta(minutes=minutes)

    times = {SINCE: pa.array([at(one[1]) for one in versions], TIME)}
    if not measured:
        times[UNTIL] = pa.array([at(one[2]) for one in versions], TIME)
    rows = [(one[0], "a") for one in versions]
    return copied(table(rows, **times) if rows else table([(0, "a")], **{name: pa.array([T0], TIME) for name in times}).slice(0, 0),
                  name="prices", overlap=overlap)  # fmt: skip


def overlaps(versions: Sequence[tuple[int, int, int | None]]) -> tuple[bool, bool]:
    """Whether two versions of a key hold at one time, and whether two begin at one."""
    ends = [(key, since, 10**6 if until is None else until) for key, since, until in versions]
    ends = [one for one in ends if one[2] > one[1]]
    pairs = [(a, b) for at, a in enumerate(ends) for b in ends[at + 1 :] if a[0] == b[0]]
    return any(a[1] < b[2] and b[1] < a[2] for a, b in pairs), any(a[1] == b[1] for a, b in pairs)


@given(
    VERSIONS,
    st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(-2, 34))), max_size=12),
    st.sampled_from(["fail", "latest"]),
    st.one_of(st.none(), st.integers(0, 10)),
)
@settings(max_examples=400, deadline=None)
def test_history_against_a_loop(
    versions: list[tuple[int, int, int | None]], asked: list[tuple[int, int | None]], overlap: Overlap, tolerance: int | None
) -> None:
    twice, from_one_time = overlaps(versions)
    is_wrong = from_one_time or (twice and overlap == "fail")
    try:
        copy = history(versions, overlap=overlap)
    except JoinError:
        assert is_wrong
        return
    if copy is None:  # two keys of one hash: another is tried before anything else is looked at
        return
    assert not is_wrong
    starts, counts = ask(copy, [(key, "a") for key, _ in asked])
    start_us = int(T0.timestamp()) * 10**6
    times = np.array([0 if at is None else start_us + at * 60 * 10**6 for _, at in asked], np.int64)
    has_time = np.array([at is not None for _, at in asked], bool)
    limit = None if tolerance is None else tolerance * 60 * 10**6
    got = numbered(copy, *result("left", *held(copy, starts, counts, times, has_time, tolerance_us=limit)))
    expected = []
    for number, (key, at) in enumerate(asked):
        begun = [
            (since, until, place)
            for place, (other, since, until) in enumerate(versions)
            if at is not None and other == key and since <= at and (until is None or until > since)
        ]
        since, until, place = max(begun, default=(None, None, None), key=lambda one: one[0])
        ok = at is not None and since is not None and (until is None or at < until) and (tolerance is None or at - since <= tolerance)
        expected.append((number, place if ok else None))
    assert got == expected


@pytest.mark.parametrize("tolerance", [None, 7])
def test_measurements_against_merge_asof(tolerance: int | None) -> None:
    random = np.random.default_rng(3)
    measured = pd.DataFrame({"key": random.integers(0, 20, 3_000), "at": random.integers(0, 10_000, 3_000)}).drop_duplicates()
    measured["place"] = range(len(measured))
    asked = pd.DataFrame({"key": random.integers(0, 25, 5_000), "at": random.integers(-10, 10_050, 5_000)})
    rows = pa.table(
        {
            HASH: pa.array(measured["key"].to_numpy() * -(2**40)),
            "k0": pa.array(measured["key"].to_numpy()),
            "p0": pa.array(measured["place"].to_numpy()),
            SINCE: pa.array(measured["at"].to_numpy()).cast(pa.timestamp("us")),
        }
    )
    copy = copied(rows, name="measured", overlap="fail")
    assert copy is not None
    starts, counts = found(copy, asked["key"].to_numpy() * -(2**40), [pa.array(asked["key"].to_numpy())])
    everywhere = np.ones(len(asked), bool)
    pairs = result("left", *held(copy, starts, counts, asked["at"].to_numpy(), everywhere, tolerance_us=tolerance))
    joined = pd.merge_asof(
        asked.reset_index().sort_values("at"), measured.sort_values("at"), on="at", by="key", tolerance=tolerance
    ).sort_values("index")
    assert [place for _, place in numbered(copy, *pairs)] == [None if np.isnan(one) else int(one) for one in joined["place"]]


@pytest.mark.parametrize(
    ("versions", "match"),
    [
        ([(1, 0, 10), (1, 5, None)], r"cannot look up in history 'prices': expected intervals of a key that do not overlap, got one from "
         r"2026-01-01T00:00:00.000000Z to 2026-01-01T00:10:00.000000Z, and one from 2026-01-01T00:05:00.000000Z, key 1, 'a'; .*'latest'"),
        ([(1, 0, None), (2, 3, None), (1, 5, 7)], "got one from 2026-01-01T00:00:00.000000Z for ever, and one from"),
        ([(1, 5, 6), (1, 5, 7)], "expected one row of a key at a time, got two from 2026-01-01T00:05:00.000000Z, key 1, 'a'"),
    ],
)  # fmt: skip
def test_overlaps_are_refused_with_key_and_times(versions: list[tuple[int, int, int | None]], match: str) -> None:
    with pytest.raises(JoinError, match=match):
        history(versions, overlap="fail")


def test_touching_intervals_do_not_overlap_and_a_gap_is_one() -> None:
    copy = history([(1, 0, 5), (1, 5, 9), (1, 12, None)], overlap="fail")
    assert copy is not None
    assert copy.rows.column(UNTIL).to_pylist()[-1] == FOREVER
    start_us = int(T0.timestamp()) * 10**6
    times = np.array([start_us + minute * 60 * 10**6 for minute in (0, 4, 5, 8, 9, 11, 12, 99)])
    starts, counts = ask(copy, [(1, "a")] * 8)
    got = numbered(copy, *result("left", *held(copy, starts, counts, times, np.ones(8, bool), tolerance_us=None)))
    assert [place for _, place in got] == [0, 0, 1, 1, None, None, 2, 2]


def test_a_row_without_a_beginning_is_refused() -> None:
    rows = table([(7, "a")], **{SINCE: pa.array([None], TIME)})
    with pytest.raises(JoinError, match="expected a time from which each row holds, got null, key 7, 'a'"):
        copied(rows, name="prices", overlap="latest")


def test_keys_of_one_hash_are_noticed_and_nan_equals_nan_and_both_zeros_are_one() -> None:
    rows = pa.table({HASH: pa.array([5, 5]), "k0": pa.array([1.0, 2.0]), "p0": pa.array([0, 1])})
    assert copied(rows, name="t") is None
    nan = float("nan")
    floats = pa.table({HASH: pa.array([1, 1, 2]), "k0": pa.array([0.0, -0.0, nan]), "p0": pa.array([0, 1, 2])})
    copy = copied(floats, name="t")
    assert copy is not None
    assert (copy.most, copy.worst) == (2, "0.0")
    pairs = result("inner", *found(copy, np.array([1, 2, 2]), [pa.array([-0.0, nan, 3.0])]))
    assert numbered(copy, *pairs) == [(0, 0), (0, 1), (1, 2)]
