"""Sketch tables without Spark: what their schema says, who keeps it, how rows are put together, what is refused."""

from __future__ import annotations

import json
import logging
import math
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, write_deltalake

from sketches import CountMinSketch, DecayingWindow, HyperLogLog, MisraGries, Quantiles, ReservoirSample, RotatingBloomFilter, UltraLogLog
from sketches.errors import SketchBytesError, SketchError
from spark_ext.delta import Txn, append, combine
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.sketching.checks import check_fields, check_rows
from spark_ext.sketching.combiner import Combiner
from spark_ext.sketching.table_schema import MEASURE, SKETCH, SketchSchema, measure_of, schema_of_fields, sketch_schema
from spark_ext.sketching.tables import create_sketch_table

START = datetime(2026, 3, 1, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")
KEYS = {"window_start": "timestamp", "window_end": "timestamp", "page": "string"}
MEASURES: dict[str, Any] = {
    "visitors": HyperLogLog(9), "seen": CountMinSketch(3, 64), "top": MisraGries(8), "times": Quantiles(32), "views": "sum",
    "spent": ("sum", "decimal(12, 2)"), "first": ("min", "timestamp"), "slowest": ("max", "double"),
}  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "t")


def made(path: str, **more: Any) -> SketchSchema:
    return create_sketch_table(path, keys=KEYS, measures=MEASURES, **more)


def stored(template: Any, values: Any) -> bytes:
    sketch = template.copy()
    sketch.update_many(np.array(values))
    return bytes(sketch.to_bytes())


def row(minute: int, page: str | None, values: list[int]) -> dict[str, Any]:
    at = START + timedelta(minutes=minute)
    return {
        "window_start": at, "window_end": at + timedelta(minutes=1), "page": page,
        **{name: stored(MEASURES[name], values) for name in ("visitors", "seen", "top")},
        "times": stored(MEASURES["times"], np.array(values, float)), "views": len(values), "spent": None if minute == 1 else "0.10",
        "first": at + timedelta(seconds=min(values)), "slowest": max(values) / 4,
    }  # fmt: skip


def table_of(schema: SketchSchema, rows: list[dict[str, Any]]) -> pa.Table:
    columns = {field.name: pa.array([one[field.name] for one in rows]).cast(field.type) for field in schema.columns}
    return pa.table(columns, schema=schema.columns)


def batch(schema: SketchSchema, seed: int, size: int = 8) -> tuple[pa.Table, list[tuple[Any, list[int]]]]:
    """Rows of few keys, and for each key what was counted in it."""
    dice = random.Random(seed)  # noqa: S311 (no secrets)
    drawn = [(dice.randrange(3), dice.choice(["a", None]), [dice.randrange(40) for _ in range(dice.randint(1, 9))]) for _ in range(size)]
    return table_of(schema, [row(*one) for one in drawn]), [((minute, page), values) for minute, page, values in drawn]


def into(path: str, rows: pa.Table, txn: Txn | None = None, **more: Any) -> Any:
    schema = sketch_schema(path)
    return combine(rows, path, keys=schema.keys, with_=Combiner(schema, path, **more), txn=txn)


def rows_of(path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DeltaTable(path).to_pyarrow_table().to_pylist()
    return found


# what the schema says


def test_a_reader_without_spark_learns_the_template_of_each_column(path: str) -> None:
    schema = made(path, partition_by=["page"])
    found = sketch_schema(path)
    assert found == schema
    assert hash(found.measures) == hash(schema.measures)
    assert (found.keys, found.dimensions, found.partitioned_by) == (tuple(KEYS), ("page",), ("page",))
    assert {name: sketch.parameters for name, sketch in found.templates.items()} == {
        name: given.parameters for name, given in MEASURES.items() if not isinstance(given, str | tuple)
    }
    assert {name: str(measure) for name, measure in found.measures if measure.how != "sketch"} == {
        "views": "sum", "spent": "sum", "first": "min", "slowest": "max",
    }  # fmt: skip
    assert found.has_windows
    fields = {field.name: field for field in DeltaTable(path).schema().fields}
    assert json.loads(fields["visitors"].metadata[SKETCH]) == {"kind": "hyperloglog", "parameters": {"precision": 9, "hash": "xxh64"}}
    assert (fields["views"].metadata, fields["page"].metadata) == ({MEASURE: "sum"}, {})


def test_a_table_is_made_once_and_another_one_is_refused(path: str) -> None:
    made(path)
    into(path, batch(made(path), 0)[0])
    assert made(path) == sketch_schema(path)
    assert rows_of(path) != []
    with pytest.raises(SchemaError, match=r"expected keys .*precision=10.*, got a table with keys .*precision=9.*; make it elsewhere"):
        create_sketch_table(path, keys=KEYS, measures={**MEASURES, "visitors": HyperLogLog(10)})


@pytest.mark.parametrize(
    ("keys", "measures", "error", "message"),
    [
        ({}, {"v": "sum"}, SettingsError, "got 0 keys and 1 measures"),
        ({"k": "int"}, {}, SettingsError, "got 1 keys and 0 measures"),
        ({"k": "int"}, {"k": "sum"}, SettingsError, "got k twice"),
        ({"page": "int"}, {"Page": "sum"}, SettingsError, "each under a name of its own, got Page, page twice"),
        ({"k": "double"}, {"v": "sum"}, SchemaError, "cannot use key 'k': expected a boolean, .*, got double; cast it"),
        ({"k": "text"}, {"v": "sum"}, SchemaError, r"cannot use column 'k': expected a type of Arrow .*, decimal\(p, s\), got text"),
        ({"k": pa.list_(pa.int64())}, {"v": "sum"}, SchemaError, "cannot use key 'k'"),
        ({"k": "int"}, {"v": "mean"}, SchemaError, "cannot use measure 'v': expected an empty sketch, or sum, min or max, .*, got 'mean'"),
        ({"k": "int"}, {"v": ("sum", "string")}, SchemaError, "cannot use measure 'v': expected a number for sum, got string"),
        ({"k": "int"}, {"v": ("min", "string")}, SchemaError, "expected a number, a date or a timestamp for min, got string"),
        ({"k": "int"}, {"v": RotatingBloomFilter(1, 1, 1)}, SketchError, "none that has keys or a clock of its own"),
    ],
)
def test_tables_that_cannot_be_are_refused(path: str, keys: Any, measures: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        create_sketch_table(path, keys=keys, measures=measures)
    assert not Path(path).exists()


def test_a_sketch_with_values_and_a_partition_that_is_no_key_are_refused(path: str) -> None:
    full = HyperLogLog(9)
    full.update(1)
    with pytest.raises(SketchError, match="expected an empty one"):
        create_sketch_table(path, keys={"k": "int"}, measures={"v": full})
    with pytest.raises(SettingsError, match=r"expected partitions that are keys, got \['v'\]"):
        create_sketch_table(path, keys={"k": "int"}, measures={"v": "sum"}, partition_by=["v"])


def test_tables_of_others_are_refused_by_what_they_lack(path: str) -> None:
    with pytest.raises(SchemaError, match="expected a Delta table, got none"):
        sketch_schema(path)
    write_deltalake(path, pa.table({"k": [1], "v": [b"x"]}))
    with pytest.raises(
        SchemaError, match=r"expected measures, fields with the metadata millrace.sketch .*, got k int64, v binary; make the"
    ):
        sketch_schema(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {SKETCH: "no json"}, {SKETCH: "[]"}, {SKETCH: '{"kind": "new"}'}, {SKETCH: '{"kind": "newer", "parameters": {}}'},
        {MEASURE: "mean"}, {MEASURE: "sketch"},
    ],
)  # fmt: skip
def test_what_this_release_does_not_know_is_not_guessed(metadata: dict[str, str]) -> None:
    fields = pa.schema([pa.field("k", pa.int64()), pa.field("v", pa.binary()).with_metadata(metadata)])
    with pytest.raises(SchemaError, match=r"cannot read field 'v of t': expected .*; read it with the release that made the table"):
        schema_of_fields(fields, name="t")


@pytest.mark.parametrize(
    "template", [HyperLogLog(4), UltraLogLog(4), DecayingWindow(timedelta(hours=25)), Quantiles(8), MisraGries(3)], ids=repr
)
def test_the_metadata_of_a_measure_makes_its_template(template: Any) -> None:
    field = pa.field("v", pa.binary()).with_metadata(measure_of(template).metadata)
    found = schema_of_fields(pa.schema([pa.field("k", pa.int64()), field]), name="t").templates["v"]
    assert found.to_bytes() == template.to_bytes()


def test_delta_rs_keeps_what_the_fields_say(path: str) -> None:
    schema = made(path)
    rows, _ = batch(schema, 0)
    into(path, rows)
    append(rows.slice(0, 0), path, txn=None)
    append(rows.slice(0, 0).append_column("note", pa.array([], pa.string())), path, txn=None, evolve=True)
    DeltaTable(path).alter.add_columns([Field("more", "long")])
    DeltaTable(path).optimize.compact()
    DeltaTable(path).delete("page = 'a'")
    DeltaTable(path).restore(2)
    write_deltalake(
        path,
        DeltaTable(path).to_pyarrow_table(filters=[("window_start", ">", START)]),
        mode="overwrite",
        predicate="window_start > '2026-03-01T00:00:00Z'",
    )
    assert sketch_schema(path).measures == schema.measures


# rows put together


def test_batches_are_merged_once_each_and_are_what_one_pass_makes(path: str) -> None:
    schema = made(path)
    counted: dict[Any, list[int]] = defaultdict(list)
    spent: dict[Any, int] = defaultdict(int)
    for number in range(5):
        rows, drawn = batch(schema, number)
        for key, values in drawn:
            counted[key] += values
            spent[key] += 0 if key[0] == 1 else 10
        for again in (False, True):
            assert into(path, rows, Txn("p:1", number)).skipped is again
    found = {((one["window_start"] - START) // timedelta(minutes=1), one["page"]): one for one in rows_of(path)}
    assert found.keys() == counted.keys()
    for key, values in counted.items():
        one = found[key]
        for name in ("visitors", "seen"):
            assert one[name] == stored(MEASURES[name], values)
        assert MisraGries.from_bytes(one["top"]).total == len(values)
        assert Quantiles.from_bytes(one["times"]).count == one["views"] == len(values)
        assert (one["spent"] is None) if key[0] == 1 else one["spent"] * 100 == spent[key]
        assert one["first"] == one["window_start"] + timedelta(seconds=min(values))
        assert one["slowest"] == max(values) / 4


def test_nulls_count_as_nothing_and_only_nulls_stay_null(path: str) -> None:
    schema = create_sketch_table(path, keys={"k": "int"}, measures={"h": HyperLogLog(4), "n": "sum", "m": ("max", "date")})
    one = stored(HyperLogLog(4), [1])
    rows = [
        {"k": 1, "h": None, "n": None, "m": None}, {"k": 1, "h": one, "n": 2, "m": None}, {"k": 2, "h": None, "n": None, "m": None},
        {"k": 2, "h": None, "n": None, "m": None}, {"k": None, "h": one, "n": None, "m": START.date()},
    ]  # fmt: skip
    for _ in range(2):
        into(path, pa.Table.from_pylist(rows, schema=schema.columns))
    assert {row["k"]: (row["h"], row["n"], row["m"]) for row in rows_of(path)} == {
        1: (one, 4, None), 2: (None, None, None), None: (one, None, START.date()),
    }  # fmt: skip


def test_a_measure_that_the_rows_lack_stays(path: str) -> None:
    schema = made(path)
    rows, _ = batch(schema, 0)
    into(path, rows)
    before = {(one["window_start"], one["page"]): one for one in rows_of(path)}
    into(path, rows.select([*schema.keys, "views"]))
    for one in rows_of(path):
        was = before[one["window_start"], one["page"]]
        assert one == {**was, "views": 2 * was["views"]}


def test_a_sum_that_would_go_round_is_refused(path: str) -> None:
    schema = create_sketch_table(path, keys={"k": "int"}, measures={"n": "sum", "s": ("sum", "smallint")})
    rows = pa.Table.from_pylist([{"k": 1, "n": 2**62, "s": 30_000}], schema=schema.columns)
    into(path, rows)
    for name in ("n", "s"):
        other = rows.set_column(
            2 if name == "n" else 1, schema.columns.field("s" if name == "n" else "n"), pa.nulls(1, rows["s" if name == "n" else "n"].type)
        )
        with pytest.raises(
            SchemaError, match=rf"cannot write column '{name}': expected sums that fit int(64|16), got .*; nothing was written"
        ):
            into(path, other)
    assert rows_of(path) == rows.to_pylist()


def test_a_sum_of_decimals_that_would_go_round_is_refused(path: str) -> None:
    schema = create_sketch_table(path, keys={"k": "int"}, measures={"d": ("sum", "decimal(38, 1)"), "s": ("sum", "decimal(3, 1)")})
    most = Decimal("9" * 37 + ".9")
    rows = pa.Table.from_pylist(
        [{"k": 1, "d": most, "s": Decimal("99.9")}, {"k": 1, "d": most.copy_negate(), "s": None}], schema=schema.columns
    )
    combined = Combiner(schema, path)(rows.slice(0, 0), rows)
    assert combined.to_pylist() == [{"k": 1, "d": Decimal(0), "s": Decimal("99.9")}]
    for name, more in (("d", most), ("d", Decimal("0.1")), ("s", Decimal("0.1"))):
        other = pa.Table.from_pylist([{"k": 1, "d": None, "s": None, name: more}], schema=schema.columns)
        with pytest.raises(SchemaError, match=rf"cannot write column '{name}': expected sums that fit decimal128\((38|3), 1\), got"):
            Combiner(schema, path)(rows.slice(0, 1), other)


def test_minima_and_maxima_of_floats_are_those_of_sql(path: str) -> None:
    schema = create_sketch_table(path, keys={"k": "int"}, measures={"low": ("min", "double"), "high": ("max", "float")})
    values = [(1, 5.0), (2, None), (1, math.nan), (3, -0.0), (2, None), (3, 0.0), (4, math.nan), (4, math.nan)]
    rows = pa.Table.from_pylist([{"k": key, "low": value, "high": value} for key, value in values], schema=schema.columns)
    found = Combiner(schema, path)(rows.slice(0, 2), rows.slice(2))
    assert repr(found.to_pydict()) == repr({"k": [1, 2, 3, 4], "low": [5.0, None, 0.0, math.nan], "high": [math.nan, None, 0.0, math.nan]})


def test_many_large_sketches_stay_below_the_end_of_an_array(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spark_ext.sketching.combiner.BLOCK_BYTES", 4 * 60)
    schema = create_sketch_table(path, keys={"k": "int"}, measures={"h": HyperLogLog(9)})
    numbers = list(range(7)) * 2
    rows = pa.table({"k": pa.array(numbers, pa.int32()), "h": [stored(HyperLogLog(9), [at]) for at in range(14)]}, schema=schema.columns)
    made = Combiner(schema, path)(rows.slice(0, 0), rows)
    assert made["h"].num_chunks > 1
    assert made["h"].to_pylist() == [stored(HyperLogLog(9), [at, at + 7]) for at in range(7)]


# what is refused


def wrong(schema: SketchSchema, name: str, data: bytes | None) -> pa.Table:
    rows, _ = batch(schema, 1)
    column = rows[name].to_pylist()
    column[3] = data
    return rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), pa.array(column, pa.binary()))


DAMAGED = bytearray(stored(HyperLogLog(9), range(500)))
DAMAGED[40] ^= 1


@pytest.mark.parametrize(
    ("name", "data", "error", "message"),
    [
        (
            "visitors",
            stored(HyperLogLog(10), [1]),
            SchemaError,
            r"'visitors': expected HyperLogLog.*=9, .*got 10 instead of precision 9 in the row with window_start",
        ),
        ("visitors", stored(UltraLogLog(9), [1]), SchemaError, r"got a ultraloglog in the row with"),
        (
            "top",
            stored(MisraGries(9), [1]),
            SchemaError,
            r"cannot write column 'top': expected MisraGries\(capacity=8\), as the table says, got 9",
        ),
        (
            "visitors",
            bytes(DAMAGED),
            SketchBytesError,
            r"expected stored sketches of HyperLogLog.*, got .* instead of checksum .* in the row",
        ),
        ("top", b"", SketchBytesError, r"got 0 bytes that begin with b'' instead of"),
        ("times", b"MLSK" + bytes(40), SketchBytesError, "kind"),
    ],
)
def test_rows_that_cannot_be_merged_are_refused_with_column_key_and_both_sides(
    path: str, name: str, data: bytes, error: type[Exception], message: str
) -> None:
    schema = made(path)
    into(path, batch(schema, 0)[0])
    before = DeltaTable(path).version()
    with pytest.raises(error, match=message):
        check_rows(wrong(schema, name, data), schema, path=path)
    with pytest.raises(error, match=message.partition(" in the row")[0]):
        into(path, wrong(schema, name, data))
    assert DeltaTable(path).version() == before
    check_rows(wrong(schema, name, None), schema, path=path)


def test_counts_that_fit_each_a_row_are_not_added_up_when_they_are_looked_at(path: str) -> None:
    schema = create_sketch_table(path, keys={"k": "int"}, measures={"c": CountMinSketch(2, 8)})
    large = CountMinSketch(2, 8)
    large.update_many(np.array([1]), weights=np.array([1 << 62]))
    rows = pa.Table.from_pylist([{"k": key, "c": large.to_bytes()} for key in range(3)], schema=schema.columns)
    check_rows(rows, schema, path=path)
    broken = rows.set_column(1, schema.columns.field("c"), pa.array([large.to_bytes(), large.to_bytes(), b"x"], pa.binary()))
    with pytest.raises(SketchBytesError, match="in the row with k 2"):
        check_rows(broken, schema, path=path)


def test_columns_that_say_they_are_others_are_refused_before_a_row_is_read(path: str) -> None:
    schema = made(path)
    check_fields(schema.fields, schema, list(KEYS), path=path)
    check_fields(schema.columns, schema, ["PAGE", "window_start", "window_end"], path=path)
    with pytest.raises(SchemaError, match=r"expected keys window_start, window_end, page, as the table has them, got page; nothing was"):
        check_fields(schema.fields, schema, ["page"], path=path)
    other = pa.schema([pa.field("Visitors", pa.binary()).with_metadata(measure_of(HyperLogLog(10)).metadata)])
    with pytest.raises(SchemaError, match=r"cannot write column 'visitors': expected HyperLogLog\(precision=9.*got hyperloglog with .*10"):
        check_fields(other, schema, list(KEYS), path=path)
    other = pa.schema([pa.field("page", pa.binary()).with_metadata(measure_of(HyperLogLog(10)).metadata)])
    with pytest.raises(SchemaError, match="cannot write column 'page': expected a key, as the table has it"):
        check_fields(other, schema, list(KEYS), path=path)
    other = pa.schema([pa.field("views", pa.int64()).with_metadata({MEASURE: "max"})])
    with pytest.raises(SchemaError, match="cannot write column 'views': expected sum, as the table says, got max; each would be added up"):
        check_fields(other, schema, list(KEYS), path=path)


def test_a_damaged_sketch_in_the_table_stops_the_merge_or_is_replaced(path: str, caplog: pytest.LogCaptureFixture) -> None:
    schema = create_sketch_table(path, keys={"k": "int"}, measures={"h": HyperLogLog(9), "n": "sum"})
    write_deltalake(path, pa.table({"k": pa.array([1, 2, 3], pa.int32()), "h": [bytes(DAMAGED)] * 3, "n": [5, 5, 5]}), mode="append")
    new = stored(HyperLogLog(9), [1])
    rows = pa.table({"k": pa.array([1, 2], pa.int32()), "h": pa.array([new, None], pa.binary()), "n": [1, 1]}, schema=schema.columns)
    with pytest.raises(
        SketchBytesError, match=r"expected HyperLogLog.* in column 'h' of the row with k 1, got bytes for which .*on_damage='rep"
    ):
        into(path, rows)
    assert DeltaTable(path).version() == 1
    with caplog.at_level(logging.WARNING):
        into(path, rows, on_damage="replace")
    found = {row["k"]: (row["h"], row["n"]) for row in rows_of(path)}
    assert found == {1: (new, 6), 2: (bytes(DAMAGED), 6), 3: (bytes(DAMAGED), 5)}  # nothing came that could take the second one's place
    assert "column 'h' of the row with k 1 is damaged, and is begun anew" in caplog.text
    with pytest.raises(SettingsError, match="expected one of fail, replace, got 'skip'"):
        Combiner(schema, path, "skip")  # type: ignore[arg-type]


@pytest.mark.parametrize("template", [MisraGries(8), ReservoirSample(8)], ids=repr)
def test_keys_may_have_items_of_different_types(path: str, template: Any) -> None:
    schema = create_sketch_table(path, keys={"k": "int"}, measures={"s": template})
    given = [(1, [1, 2]), (2, ["a"]), (3, [1.5]), (1, [2]), (2, ["a", "b"])]
    rows = pa.Table.from_pylist([{"k": key, "s": stored(template, values)} for key, values in given], schema=schema.columns)
    found = {row["k"]: type(template).from_bytes(row["s"]) for row in Combiner(schema, path)(rows.slice(0, 3), rows.slice(3)).to_pylist()}
    if isinstance(template, ReservoirSample):
        items = {key: sorted(sketch.sample().tolist()) for key, sketch in found.items()}
    else:
        items = {key: sorted(hot.item for hot in sketch.top(8) for _ in range(hot.lower)) for key, sketch in found.items()}
    assert items == {1: [1, 2, 2], 2: ["a", "a", "b"], 3: [1.5]}
    mixed = pa.Table.from_pylist([{"k": 1, "s": stored(template, ["a"])}], schema=schema.columns)
    with pytest.raises(SchemaError, match="got 'string' instead of values of type 'long' in the row with k 1"):
        Combiner(schema, path)(rows.slice(0, 3), mixed)


def test_a_combiner_can_be_sent(path: str) -> None:
    import pickle  # noqa: PLC0415

    one = Combiner(made(path), path)
    assert pickle.loads(pickle.dumps(one)) == one  # noqa: S301 (our own)
    empty = one.schema.columns.empty_table()
    assert one(empty, empty).num_rows == 0
    assert partial(one, empty)(batch(one.schema, 0)[0]).num_rows > 0
