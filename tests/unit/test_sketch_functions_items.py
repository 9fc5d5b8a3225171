"""Items in columns of stored sketches: whether they are there, how often they came, which came most often, which were sampled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import sketches as sk
from sketches import functions as fn
from sketches.errors import SketchError, SketchTypeError
from tests.stored_sketches import HOUR, MAKERS, START, fed, skewed, some, stored

FILTERS = ("bloom", "classic_bloom", "rotating_bloom")
COUNTERS = ("count_min", "misra_gries", "space_saving", "heavy_hitters")
LISTS = COUNTERS[1:]
VALUES: dict[str, pa.Array] = {
    "string": pa.array(["", "a", "Zürich", "日本語", "x\0", "y" * 40], pa.string()),
    "binary": pa.array([b"", b"a", b"\xff\xfe", b"\0\0"], pa.binary()),
    "int": pa.array([0, 1, -1, 2**31 - 1], pa.int32()),
    "long": pa.array([0, 1, -1, 2**63 - 1, -(2**63)], pa.int64()),
    "ulong": pa.array([0, 2**64 - 1], pa.uint64()),
    "bool": pa.array([True, False]),
    "float": pa.array([0.1, 1.0, -2.5, math.inf], pa.float32()),
    "double": pa.array([0.1, 1.0, -2.5, math.inf, 5e-324], pa.float64()),
    "date": pa.array([date(1970, 1, 1), date(2026, 2, 3), date(1900, 1, 1)]),
    "timestamp": pa.array([datetime(2026, 2, 3, 4, 5, 6, 7, UTC), datetime(1969, 12, 31, 23, 59, 59, 1, UTC)], pa.timestamp("us", "UTC")),
    "duration": pa.array([timedelta(0), timedelta(days=1, microseconds=3), -timedelta(seconds=90)], pa.duration("us")),
    "decimal": pa.array([Decimal("1.50"), Decimal("-0.01")], pa.decimal128(10, 2)),
}
TEXTS = {
    "string": VALUES["string"].to_pylist(),
    "binary": ["", "61", "fffe", "0000"],
    "int": ["0", "1", "-1", "2147483647"],
    "long": ["0", "1", "-1", "9223372036854775807", "-9223372036854775808"],
    "ulong": ["0", "18446744073709551615"],
    "bool": ["true", "false"],
    "float": ["0.1", "1.0", "-2.5", "inf"],
    "double": ["0.1", "1.0", "-2.5", "inf", "5e-324"],
    "date": ["1970-01-01", "2026-02-03", "1900-01-01"],
    "timestamp": ["2026-02-03T04:05:06.000007Z", "1969-12-31T23:59:59.000001Z"],
    "duration": ["PT0S", "PT86400.000003S", "-PT90S"],
    "decimal": ["150", "-1"],
}


def triple(answers: pa.Array) -> list[Any]:
    return [None if row is None else tuple(row.values()) for row in answers.to_pylist()]


# Members --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FILTERS)
def test_members_are_found_as_by_the_class(kind: str) -> None:
    filters = some(kind, 3000, 100, 0, 3000)
    rows = [filters[at] for at in (0, 0, 1, 2, 3, 3, 3)]
    items = np.array([skewed(0, 1)[0], 10_001, skewed(1, 100)[7], 5, skewed(3, 3000)[9], 77_777, 0])
    wanted = [sketch.contains(item) for sketch, item in zip(rows, items, strict=True)]
    assert True in wanted
    assert False in wanted
    hashed = sk.hashes(items)
    for given, more in ((items, {}), (pa.array(items), {}), (pa.chunked_array([items[:3], items[3:]]), {}), (hashed, {"hashed": True})):
        assert fn.contains(stored(*rows), given, **more).to_pylist() == wanted
    assert fn.contains(stored(*rows), pa.array(hashed.view(np.int64)), hashed=True).to_pylist() == wanted
    for scalar in (5, np.int64(5), pa.scalar(5)):
        assert fn.contains(stored(*rows), scalar).to_pylist() == [sketch.contains(5) for sketch in rows]


@pytest.mark.parametrize("kind", VALUES)
def test_items_of_all_types_are_found(kind: str) -> None:
    seen = MAKERS["bloom"]()
    seen.update_many(VALUES[kind])
    column = stored(*([seen] * (len(VALUES[kind]) + 1)))
    items = pa.concat_arrays([VALUES[kind], pa.nulls(1, VALUES[kind].type)])
    assert fn.contains(column, items).to_pylist() == [True] * len(VALUES[kind]) + [None]
    assert fn.contains(column, VALUES[kind][0]).to_pylist() == [True] * len(column)


def test_a_null_item_has_no_answer() -> None:
    assert fn.contains(stored(*some("bloom", 1, 2)), None).to_pylist() == [None, None]
    assert fn.frequency(stored(*some("count_min", 1, 2)), pa.nulls(2)).to_pylist() == [None, None]
    assert fn.frequency(stored(*some("misra_gries", 1, 2)), pa.array([None, 7])).is_valid().to_pylist() == [False, True]


def test_items_that_do_not_fit_are_refused_whatever_the_policy() -> None:
    column = stored(*some("bloom", 1, 2))
    for ask in (fn.contains, fn.frequency):
        with pytest.raises(SketchError, match="cannot use argument 'items': expected 2, got 3; give one for each row, or one for all"):
            ask(column, np.arange(3), on_error="null")  # type: ignore[operator]
        with pytest.raises(SketchTypeError, match="cannot hash argument 'values'"):
            ask(column, [1, 2], on_error="null")  # type: ignore[operator]
        with pytest.raises(SketchError, match="cannot use argument 'items': expected hashes as int64 or uint64, got string"):
            ask(column, pa.array(["a", "b"]), hashed=True, on_error="null")  # type: ignore[operator]


# Frequencies ----------------------------------------------------------------------------------------------------------


def asked(sketch: Any, item: Any, confidence: float) -> tuple[int, int, int]:
    bounds = (item,) if isinstance(sketch, sk.MisraGries | sk.SpaceSaving) else (item, confidence)
    return sketch.estimate(item), sketch.lower_bound(*bounds), sketch.upper_bound(*bounds)


@pytest.mark.parametrize("kind", COUNTERS)
@pytest.mark.parametrize("confidence", [0.5, 0.99])
def test_frequencies_are_those_of_the_class_and_hold(kind: str, confidence: float) -> None:
    sketches = some(kind, 3000, 40, 0)
    rows, items = [sketches[at] for at in (0, 0, 0, 1, 2)], np.array([1, 2, 9_999_999, 1, 1])
    wanted = [asked(sketch, int(item), confidence) for sketch, item in zip(rows, items, strict=True)]
    assert triple(fn.frequency(stored(*rows), items, confidence)) == wanted
    assert triple(fn.frequency(stored(*rows), sk.hashes(items), confidence, hashed=True)) == wanted
    assert triple(fn.frequency(stored(*rows), 1, confidence)) == [asked(sketch, 1, confidence) for sketch in rows]
    every = np.arange(10_000)
    counts = np.bincount(skewed(0, 3000), minlength=10_000)
    found = fn.frequency(stored(sketches[0]).take(pa.array(np.zeros(10_000, np.int64))), every, 0.999)
    lower, upper = (np.asarray(found.field(name)) for name in ("lower", "upper"))
    assert (counts <= upper).all()
    assert np.count_nonzero(counts < lower) <= (30 if kind in ("count_min", "heavy_hitters") else 0)


@pytest.mark.parametrize("kind", LISTS)
def test_items_of_another_type_have_no_answer_where_types_are_known(kind: str) -> None:
    numbers, texts = some(kind, 100)[0], MAKERS[kind]()
    texts.update_many(pa.array(["a", "b", "a"]))
    column = stored(texts, numbers, texts)
    assert [row and row["estimate"] for row in fn.frequency(column, "a", on_error="null").to_pylist()] == [2, None, 2]
    with pytest.raises(SketchTypeError, match="cannot answer frequency for row '1': expected values of type 'long', got 'string'"):
        fn.frequency(column, "a")
    assert fn.frequency(stored(MAKERS[kind]()), "a").to_pylist() == [{"estimate": 0, "lower": 0, "upper": 0}]


# Tops -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("n", [0, 1, 5, 1000])
def test_tops_are_those_of_the_class(kind: str, n: int) -> None:
    sketches = some(kind)
    for sketch, row in zip(sketches, fn.top(stored(*sketches), n, item_type=pa.int64()).to_pylist(), strict=True):
        hots = sketch.items()[:n] if kind == "heavy_hitters" else sketch.top(n)
        assert [tuple(hot.values())[:4] for hot in row] == [tuple(hot)[:4] for hot in hots]


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("seed", range(5))
def test_what_is_guaranteed_is_in_the_true_top(kind: str, seed: int) -> None:
    values = skewed(seed, 5000)
    counts = Counter(values.tolist())
    ranked = sorted(counts.values(), reverse=True)
    column = stored(fed(MAKERS[kind](), values))
    for n in (1, 3, 8, 20):
        (row,) = fn.top(column, n, confidence=0.999, item_type=pa.int64()).to_pylist()
        for hot in row:
            assert hot["lower"] <= counts[hot["item"]] <= hot["upper"]
            if hot["guaranteed"]:
                assert counts[hot["item"]] >= ranked[n - 1]
        if n == 1:
            assert row[0]["guaranteed"], "the first of a skewed stream stands out"


@pytest.mark.parametrize("kind", LISTS)
def test_of_items_that_came_alike_none_is_sure_to_be_the_first(kind: str) -> None:
    sketch = fed(MAKERS[kind](), np.repeat(np.arange(100), 30))
    assert not any(hot["guaranteed"] for hot in fn.top(stored(sketch), 5).to_pylist()[0])
    few = fed(MAKERS[kind](), np.array([1, 1, 2]))
    if kind != "heavy_hitters":
        assert [hot["guaranteed"] for hot in fn.top(stored(few), 5).to_pylist()[0]] == [True, True]


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("share", [0.03, 0.07, 0.5, 1])
def test_heavy_items_are_those_of_the_class(kind: str, share: float) -> None:
    sketches = some(kind, 3000, 3000, 1)
    for sketch, row in zip(sketches, fn.heavy(stored(*sketches), share, item_type=pa.int64()).to_pylist(), strict=True):
        found = [(hot["item"], hot["guaranteed"]) for hot in row]
        if kind == "heavy_hitters":
            assert found == [(hit.item, hit.guaranteed) for hit in sketch.items(share)]
        else:
            sure, possible = sketch.items(share * sketch.total)
            assert set(found) == {(hot.item, True) for hot in sure} | {(hot.item, False) for hot in possible}
        assert [hot["estimate"] for hot in row] == sorted((hot["estimate"] for hot in row), reverse=True)


@pytest.mark.parametrize("kind", LISTS)
def test_no_heavy_item_is_missed(kind: str) -> None:
    values = skewed(1, 5000)
    counts = Counter(values.tolist())
    column = stored(fed(MAKERS[kind](), values))
    for share in (0.03, 0.1, 0.2):
        (row,) = fn.heavy(column, share, 0.999, item_type=pa.int64()).to_pylist()
        assert {item for item, count in counts.items() if count >= share * 5000} <= {hot["item"] for hot in row}
        assert all(counts[hot["item"]] >= share * 5000 for hot in row if hot["guaranteed"])


def test_a_share_that_a_sketch_cannot_tell_is_refused() -> None:
    small = fed(sk.MisraGries(2), skewed(1, 3000))
    for kind, sketch in (("misra_gries", small), ("heavy_hitters", some("heavy_hitters")[3])):
        column = stored(sketch, fed(MAKERS[kind](), np.array([5])) if kind == "misra_gries" else None)
        with pytest.raises(SketchError, match="cannot answer heavy for row '0': expected "):
            fn.heavy(column, 0.001)
        assert fn.heavy(column, 0.001, on_error="null").is_valid().to_pylist() == [False, kind == "misra_gries"]
    for wrong in (0, -1, 1.5, math.nan):
        with pytest.raises(SketchError, match="cannot use parameter 'share'"):
            fn.heavy(column, wrong, on_error="null")
    for wrong in (-1, 1.5, True, None):
        with pytest.raises(SketchError, match="cannot use parameter 'n'"):
            fn.top(column, wrong, on_error="null")  # type: ignore[arg-type]


def test_tops_that_decay_are_those_of_the_class_at_each_instant() -> None:
    sketches = some("decaying_top", 3000, 40, 0, 3000)
    hour = 3_600_000_000
    instants = [START + number * hour for number in (1, 2, -5, 3000)]
    column = stored(*sketches, None)
    found = fn.top(column, 3, pa.array([*instants, None], pa.int64()), item_type=pa.int64()).to_pylist()
    for sketch, instant, row in zip(sketches, instants, found[:-1], strict=True):
        assert [tuple(hot.values())[:4] for hot in row] == [tuple(hot) for hot in sketch.top(3, instant)]
    assert [hot["guaranteed"] for hot in found[3]] == [hot["guaranteed"] for hot in fn.top(column, 3, START).to_pylist()[3]]
    assert found[0][0]["guaranteed"]
    assert fn.top(column, 3, pa.array([None, START, None, START, START])).is_valid().to_pylist() == [False, True, False, True, False]
    when = np.datetime64(START, "us")
    for at in (START, when, when.item(), pa.scalar(when, pa.timestamp("us")), np.full(5, when), pa.array(np.full(5, when))):
        assert fn.top(column, 2, at).equals(fn.top(column, 2, np.full(5, START)))
    with pytest.raises(SketchError, match="expected a sketch of kind 'decaying_top', got 'misra_gries'"):
        fn.top(stored(*some("misra_gries")), 3, START)
    with pytest.raises(SketchError, match=r"expected a sketch of kind 'misra_gries' .*, got 'decaying_top'"):
        fn.top(column, 3)


def test_what_is_guaranteed_of_decayed_weights_is_in_the_true_top() -> None:
    values, times = skewed(5, 4000), START + np.sort(np.random.default_rng(5).integers(0, 5 * 3_600_000_000, 4000))
    sketch = sk.DecayingTop(15, HOUR)
    sketch.update_many(values, times)
    end = int(times[-1])
    weights = np.bincount(values, weights=np.exp2((times - end) / 3_600_000_000), minlength=10_000)
    ranked = np.sort(weights)[::-1]
    for n in (1, 3, 10):
        (row,) = fn.top(stored(sketch), n, end, item_type=pa.int64()).to_pylist()
        for hot in row:
            assert hot["lower"] <= weights[hot["item"]] <= hot["upper"]
            assert not hot["guaranteed"] or weights[hot["item"]] >= ranked[n - 1]
    assert fn.top(stored(sketch), 1, end).to_pylist()[0][0]["guaranteed"]


# What items are given back as ------------------------------------------------------------------------------------------

HOLDERS: dict[str, tuple[Callable[[], Any], Callable[..., pa.Array]]] = {
    "space_saving": (lambda: sk.SpaceSaving(40), lambda column, **more: fn.top(column, 40, **more)),
    "heavy_hitters": (lambda: sk.HeavyHitters(0.02, 4, 256), lambda column, **more: fn.top(column, 40, **more)),
    "reservoir": (lambda: sk.ReservoirSample(40), fn.sample),
    "weighted_reservoir": (lambda: sk.WeightedReservoirSample(40), fn.sample),
}


def items_in(row: Any) -> list[Any]:
    return [hot["item"] if isinstance(hot, dict) else hot for hot in row]


@pytest.mark.parametrize(
    ("holder", "kind"), [(holder, kind) for holder in HOLDERS for kind in VALUES if (holder, kind) != ("heavy_hitters", "decimal")]
)
def test_items_come_back_as_texts_or_as_they_were(holder: str, kind: str) -> None:
    make, ask = HOLDERS[holder]
    one, other = make(), make()
    one.update_many(VALUES[kind])
    other.update_many(VALUES[kind].slice(1))
    column = stored(one, None, make(), other)
    for row, texts in zip(ask(column).to_pylist(), (TEXTS[kind], None, [], TEXTS[kind][1:]), strict=True):
        assert (None if row is None else sorted(items_in(row))) == (None if texts is None else sorted(texts))
    typed = ask(column, item_type=VALUES[kind].type)
    inside = typed.type.value_type
    assert (inside.field("item").type if pa.types.is_struct(inside) else inside) == VALUES[kind].type
    for row, values in zip(typed.to_pylist(), (VALUES[kind], None, [], VALUES[kind].slice(1)), strict=True):
        wanted = None if values is None else [value.as_py() for value in values]
        assert (None if row is None else sorted(items_in(row))) == (None if wanted is None else sorted(wanted))


@pytest.mark.parametrize("holder", HOLDERS)
def test_columns_of_several_types_of_items_are_texts(holder: str) -> None:
    make, ask = HOLDERS[holder]
    sketches = []
    for kind in ("string", "long", "binary", "date"):
        sketches.append(make())
        sketches[-1].update_many(VALUES[kind].slice(1, 2))
    assert [sorted(items_in(row)) for row in ask(stored(*sketches)).to_pylist()] == [
        sorted(TEXTS[kind][1:3]) for kind in ("string", "long", "binary", "date")
    ]
    typed = ask(stored(*sketches), item_type=pa.int64(), on_error="null").to_pylist()
    assert sorted(items_in(typed[1])) == [-1, 1]
    assert typed[0] is None
    with pytest.raises(
        SketchTypeError, match=r"cannot answer \w+ for row '0': expected int64, got 'string'; .+; ask for another item_type"
    ):
        ask(stored(*sketches), item_type=pa.int64())
    with pytest.raises(SketchError, match=r"cannot use argument 'item_type': expected a pyarrow.DataType"):
        ask(stored(*sketches), item_type="long")


@pytest.mark.parametrize("kind", ["reservoir", "weighted_reservoir"])
def test_samples_are_those_of_the_class(kind: str) -> None:
    sketches = some(kind)
    found = fn.sample(stored(*sketches), item_type=pa.int64()).to_pylist()
    assert found == [sketch.sample().tolist() for sketch in sketches]
    assert fn.sample(stored(*sketches)).to_pylist() == [[str(item) for item in row] for row in found]


def test_strings_that_are_no_unicode_do_not_stop_a_column() -> None:
    broken = pa.array([b"\xff", b"ok"]).view(pa.string())
    sample = sk.ReservoirSample(5)
    sample.update_many(broken)
    good = sk.ReservoirSample(5)
    good.update_many(pa.array(["fine"]))
    assert fn.sample(stored(good, sample)).to_pylist() == [["fine"], ["\ufffd", "ok"]]
