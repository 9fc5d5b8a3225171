"""Columns of stored sketches merged: whole, by number, by keys of a table; as good as one pass."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import deltalake
import numpy as np
import pyarrow as pa
import pytest

import sketches as sk
from sketches import functions as fn
from sketches.errors import SketchBytesError, SketchError, SketchTypeError
from sketches.functions import merging
from sketches.functions.rows import CLASSES
from tests.stored_sketches import MAKERS, START, damaged, fed, skewed, some, stored, times_of

BYTES_EQUAL = ("bloom", "classic_bloom", "rotating_bloom", "hyperloglog", "ultraloglog", "count_min")
PARTS = 60


def parts_of(kind: str) -> list[Any]:
    """Return sketches of the parts of a stream, all sizes."""
    return [fed(MAKERS[kind](), skewed(part, 37 * part % 300), part) for part in range(PARTS)]


def whole_of(kind: str, parts: list[int]) -> Any:
    """Return the sketch of some of these parts, made in one pass."""
    sketch = MAKERS[kind]()
    for part in parts:
        fed(sketch, skewed(part, 37 * part % 300), part)
    return sketch


def assert_as_good(kind: str, data: bytes, parts: list[int]) -> None:
    """Check a merged sketch against the values of its parts."""
    values = np.concatenate([np.empty(0, np.int64), *(skewed(part, 37 * part % 300) for part in parts)])
    found: Any = CLASSES[kind].from_bytes(data)
    assert found.is_empty == (values.size == 0)
    if kind in BYTES_EQUAL:
        assert data == whole_of(kind, parts).to_bytes()
    elif kind in ("misra_gries", "space_saving"):
        counts = np.bincount(values, minlength=10_000)
        lower, upper = found.bounds_many(np.arange(10_000))
        assert ((lower <= counts) & (counts <= upper)).all()
        assert found.total == values.size
        assert found.error() <= values.size / 40
    elif kind == "heavy_hitters":
        assert found.total == values.size
        assert (found.estimate_many(values) >= np.bincount(values, minlength=10_000)[values]).all()
    elif kind == "decaying":
        assert found.rows == values.size
        assert found.sum_at(START) == pytest.approx(whole_of(kind, parts).sum_at(START), rel=1e-12)
    elif kind == "decaying_top":
        times = np.concatenate([np.empty(0, np.int64), *(times_of(part, 37 * part % 300) for part in parts)])
        weights = np.bincount(values, np.exp2((times - START) / 3.6e9), minlength=10_000)
        for item in range(20):
            assert found.lower_bound(item, START) <= weights[item] * (1 + 1e-9)
            assert found.upper_bound(item, START) >= weights[item] * (1 - 1e-9)
    elif kind == "quantiles":
        assert found.count == values.size
        if values.size:
            assert abs(found.rank(5) - np.count_nonzero(values <= 5) / values.size) <= found.rank_error(0.9999)
    elif kind == "stratified_reservoir":
        assert found.counts() == {int(key): int(np.count_nonzero(values % 3 == key)) for key in np.unique(values % 3)}
    else:
        assert found.count == values.size
        assert found.sample().size == min(50, values.size)
        assert set(found.sample().tolist()) <= set(values.tolist())


@pytest.mark.parametrize("kind", MAKERS)
def test_a_column_merges_to_one_sketch(kind: str) -> None:
    parts = parts_of(kind)
    assert_as_good(kind, fn.merge(stored(*parts)), list(range(PARTS)))
    assert_as_good(kind, fn.merge(stored(None, parts[3], None, parts[5])), [3, 5])
    assert_as_good(kind, fn.merge(stored(parts[0])), [0])
    if kind in BYTES_EQUAL:
        assert fn.merge(stored(parts[9])) == parts[9].to_bytes()


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("at_once", [1, 1 << 30])
def test_a_column_merges_by_number(kind: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "AT_ONCE", at_once)
    monkeypatch.setattr(merging, "STORED", 1 << 13 if at_once == 1 else 1 << 29)
    parts = parts_of(kind)
    numbers = np.random.default_rng(1).integers(0, 12, PARTS)
    numbers[numbers == 7] = 3
    rows = [None if part % 10 == 9 else sketch for part, sketch in enumerate(parts)]
    numbers[[19, 29]] = 12, 13
    found = fn.merge(stored(*rows), numbers)
    assert (found.type, len(found)) == (pa.binary(), 14)
    for number, data in enumerate(found.to_pylist()):
        mine = [part for part in range(PARTS) if numbers[part] == number and rows[part] is not None]
        assert (data is None) == (not mine)
        if mine:
            assert_as_good(kind, data, mine)
    chunks = pa.chunked_array([stored(*rows[:7]).cast(pa.large_binary()), stored(*rows[7:]).cast(pa.large_binary())])
    assert fn.merge(chunks, numbers).equals(found)


def test_nothing_merges_to_nothing() -> None:
    for column in (stored(), stored(None, None), pa.nulls(2)):
        assert fn.merge(column) is None
        assert fn.merge(column, np.zeros(len(column), np.int64)).to_pylist() == [None] * min(len(column), 1)


@pytest.mark.parametrize("kind", MAKERS)
def test_rows_that_do_not_go_together_fail_by_number_or_are_left_out(kind: str) -> None:
    parts = parts_of(kind)
    other: Any = some("quantiles" if kind != "quantiles" else "bloom")[2]
    wrong: list[Any] = [damaged(parts[3]), b"", b"MLSK" + b"\0" * 20, other]
    rows = [None, parts[1], *wrong, parts[2], wrong[0], parts[3]]
    numbers = np.array([0, 1, 1, 2, 1, 1, 1, 0, 0])
    assert_as_good(kind, fn.merge(stored(*rows), on_error="null"), [1, 2, 3])
    merged = fn.merge(stored(*rows), numbers, on_error="null").to_pylist()
    assert merged[2] is None
    assert_as_good(kind, merged[0], [3])
    assert_as_good(kind, merged[1], [1, 2])
    for place, bad in enumerate(wrong):
        with pytest.raises(
            (SketchBytesError, SketchError), match=r"cannot answer merge for row '2': expected .+, got .+; .*on_error='null'"
        ):
            fn.merge(stored(parts[1], None, bad, parts[2]), np.array([0, 1, place % 2, 0]))
    with pytest.raises(SketchBytesError, match="cannot answer merge for row '0'"):
        fn.merge(stored(wrong[0], parts[1]))
    assert_as_good(kind, fn.merge(stored(wrong[0], parts[1]), on_error="null"), [1])
    assert fn.merge(stored(*wrong[:3]), on_error="null") is None


def test_other_parameters_than_the_first_are_said_by_name() -> None:
    column = stored(None, sk.HyperLogLog(8), sk.HyperLogLog(9))
    with pytest.raises(SketchError, match="row '2': expected precision 8, got 9; sketches merge only with equal"):
        fn.merge(column)


def test_groups_that_are_none_are_refused() -> None:
    column = stored(*some("hyperloglog"))
    for wrong in (np.arange(3), np.arange(4) - 1, np.arange(4.0), [0, 1, 2, 3.5], np.zeros((4, 1), np.int64)):
        with pytest.raises(SketchError, match="cannot use argument 'groups': expected 4 int64, none below 0, got"):
            fn.merge(column, wrong, on_error="null")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", MAKERS)
def test_a_merge_goes_on_from_array_to_array(kind: str) -> None:
    parts = parts_of(kind)
    for cuts in ([], [0, 1, 2], [20, 40]):
        whole = merging.Merging("fail")
        assert whole.stored is None
        for rows in np.split(np.arange(PARTS), cuts):
            whole.take(stored(None, *(parts[row] for row in rows.tolist())))
        assert whole.stored is not None
        assert_as_good(kind, whole.stored, list(range(PARTS)))
    failing, going = merging.Merging("fail"), merging.Merging("null")
    for whole in (failing, going):
        whole.take(stored(parts[1], parts[2]))
    with pytest.raises(SketchBytesError, match="cannot answer merge for row '3'"):
        failing.take(stored(None, damaged(parts[3])))
    going.take(stored(damaged(parts[3]), parts[4]))
    assert going.stored is not None
    assert_as_good(kind, going.stored, [1, 2, 4])


# Lists ----------------------------------------------------------------------------------------------------------------


def lists_of(*rows: list[Any] | None) -> pa.Array:
    return pa.array([None if row is None else stored(*row).to_pylist() for row in rows], pa.list_(pa.binary()))


@pytest.mark.parametrize("kind", MAKERS)
def test_lists_merge_each_for_itself(kind: str) -> None:
    parts = parts_of(kind)
    places = [[1, 2, 3], None, [], [None], [None, 4, 5], [6]]
    lists = lists_of(*(row if row is None else [None if at is None else parts[at] for at in row] for row in places))
    other = some("quantiles" if kind != "quantiles" else "hyperloglog")[2]
    lists = pa.concat_arrays([lists, lists_of([other], [other, None])])
    for form in (lists, pa.chunked_array([lists.slice(0, 2), lists.slice(2)]), lists.cast(pa.large_list(pa.large_binary()))):
        found = fn.merge_list(form).to_pylist()
        assert [data is None for data in found] == [False, True, True, True, False, False, False, False]
        for data, row in ((found[0], [1, 2, 3]), (found[4], [4, 5]), (found[5], [6])):
            assert_as_good(kind, data, row)
        assert CLASSES[fn.kind(stored(found[6]))[0].as_py()].from_bytes(found[6]).parameters == other.parameters
    for nothing in (lists.slice(0, 0), pa.chunked_array([], lists.type), pa.nulls(0)):
        assert fn.merge_list(nothing).to_pylist() == []
    assert fn.merge_list(pa.nulls(2)).to_pylist() == [None, None]


def test_what_stands_below_a_null_list_is_in_no_list() -> None:
    parts = parts_of("hyperloglog")[:6]
    lists = pa.ListArray.from_arrays(
        pa.array([0, 2, 4, 6], pa.int32()), pa.array([part.to_bytes() for part in parts]), mask=pa.array([False, True, False])
    )
    for form, rows in ((lists, [[0, 1], None, [4, 5]]), (lists.slice(1), [None, [4, 5]]), (lists.slice(2), [[4, 5]])):
        merged = [None if row is None else type(parts[0]).merged([parts[at] for at in row]).to_bytes() for row in rows]
        assert fn.merge_list(form).to_pylist() == merged


def test_lists_with_wrong_rows_fail_by_number_or_go_on_without_them() -> None:
    eight, nine = some("hyperloglog", 10, 20, 30), [fed(sk.HyperLogLog(9), skewed(seed, 50)) for seed in range(3)]
    broken = damaged(eight[0])
    rows = [eight[:2], [broken, *nine], [*eight, nine[0], broken], [b""], nine[:2]]
    found = fn.merge_list(lists_of(*rows), on_error="null").to_pylist()
    wanted = [eight[:2], nine, eight, None, nine[:2]]
    assert found == [None if row is None else type(row[0]).merged(row).to_bytes() for row in wanted]
    for at, bad in ((1, 1), (2, 2), (3, 3)):
        with pytest.raises(
            (SketchBytesError, SketchError), match=f"cannot answer merge_list for row '{at}': expected .+; .*on_error='null'"
        ):
            fn.merge_list(lists_of(rows[0], rows[4] if at != 1 else rows[1], *([rows[0]] * (at - 2)), *([rows[bad]] if at != 1 else [])))
    for wrong in (stored(), pa.array([1]), [[b"a"]], pa.array([[1]])):
        with pytest.raises(SketchTypeError, match=r"cannot read argument '(lists|sketches)': expected an Arrow array of"):
            fn.merge_list(wrong)


# By keys --------------------------------------------------------------------------------------------------------------


def rolled(table: pa.Table, keys: list[str]) -> dict[Any, list[int]]:
    """Return for each key its rows."""
    found: dict[Any, list[int]] = {}
    for row, values in enumerate(table.select(keys).to_pylist()):
        found.setdefault(tuple(values.values()), []).append(row)
    return found


@pytest.mark.parametrize("keys", [["day"], ["page"], ["page", "day"], ["flag", "code", "page"], ["share"], []])
def test_a_table_rolls_up_by_its_keys(keys: list[str]) -> None:
    dice = np.random.default_rng(3)
    parts = {kind: parts_of(kind) for kind in ("hyperloglog", "count_min")}
    table = pa.table(
        {
            "visitors": stored(*parts["hyperloglog"]),
            "day": pa.array([date(2026, 1, 1 + int(at)) if at else None for at in dice.integers(0, 3, PARTS)]),
            "page": pa.array([f"/{at}" if at else None for at in dice.integers(0, 4, PARTS)]).dictionary_encode(),
            "flag": pa.array(dice.integers(0, 2, PARTS) == 1),
            "code": pa.array(dice.integers(0, 2, PARTS).astype(np.int16)),
            "share": pa.array(dice.integers(0, 3, PARTS) / 2),
            "hits": stored(None, *parts["count_min"][1:]).cast(pa.large_binary()),
        }
    )
    found = fn.merge_by(table, keys, ["hits", "visitors"])
    groups = rolled(table, keys) if keys else {(): list(range(PARTS))}
    assert found.column_names == [*keys, "hits", "visitors"]
    assert [tuple(row.values()) for row in found.select(keys).to_pylist()] == (list(groups) if keys else [()])
    for rows, visitors, hits in zip(groups.values(), found["visitors"].to_pylist(), found["hits"].to_pylist(), strict=True):
        assert_as_good("hyperloglog", visitors, rows)
        mine = [row for row in rows if row]
        assert (hits is None) == (not mine)
        if mine:
            assert_as_good("count_min", hits, mine)


def test_a_roll_up_of_nothing_has_no_rows_and_without_keys_one() -> None:
    table = pa.table({"day": pa.array([], pa.date32()), "visitors": stored()})
    assert fn.merge_by(table, ["day"], ["visitors"]).num_rows == 0
    assert fn.merge_by(table, [], ["visitors"]).to_pylist() == [{"visitors": None}]
    with pytest.raises(KeyError):
        fn.merge_by(table, ["week"], ["visitors"])


def test_fields_keep_what_is_said_of_them() -> None:
    field = pa.field("visitors", pa.binary(), metadata={"millrace.sketch": "hyperloglog"})
    table = pa.table([pa.array([1, 1]), stored(*some("hyperloglog", 2, 3))], schema=pa.schema([pa.field("day", pa.int64()), field]))
    found = fn.merge_by(table, ["day"], ["visitors"])
    assert found.schema == pa.schema([pa.field("day", pa.int64()), field])
    assert found.schema.field("visitors").metadata == field.metadata


def test_wrong_rows_of_a_table_fail_or_are_left_out() -> None:
    parts = parts_of("hyperloglog")
    table = pa.table({"day": ["a", "a", "b", None], "visitors": stored(parts[1], damaged(parts[2]), damaged(parts[3]), parts[4])})
    with pytest.raises(SketchBytesError, match="cannot answer merge for row '1'"):
        fn.merge_by(table, ["day"], ["visitors"])
    found = fn.merge_by(table, ["day"], ["visitors"], on_error="null").to_pylist()
    assert found == [
        {"day": "a", "visitors": parts[1].to_bytes()},
        {"day": "b", "visitors": None},
        {"day": None, "visitors": parts[4].to_bytes()},
    ]


def test_a_delta_table_is_asked_without_spark(tmp_path: Path) -> None:
    parts = parts_of("ultraloglog")
    table = pa.table({"day": pa.array(np.arange(PARTS) % 3), "visitors": stored(*parts)})
    for start in (0, 20, 40):
        deltalake.write_deltalake(str(tmp_path), table.slice(start, 20), mode="append")
    read = deltalake.DeltaTable(str(tmp_path)).to_pyarrow_table().sort_by("day")
    days = fn.merge_by(read, ["day"], ["visitors"])
    for day, (data, estimate) in enumerate(zip(days["visitors"].to_pylist(), fn.estimate(days["visitors"]).to_pylist(), strict=True)):
        assert_as_good("ultraloglog", data, list(range(day, PARTS, 3)))
        assert estimate == sk.UltraLogLog.from_bytes(data).estimate()
