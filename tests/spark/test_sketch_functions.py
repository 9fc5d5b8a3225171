"""The questions to stored sketches in Spark: from SQL, from DataFrames and in plain Python the answers are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.errors import PythonException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import LongType

import sketches as sk
from sketches import functions as fn
from sketches.errors import SketchError
from spark_ext.sketching import functions as sketching
from spark_ext.sketching.answers import RETURNS
from spark_ext.sketching.register import register
from tests.stored_sketches import MAKERS, START, damaged, some, stored

pytestmark = pytest.mark.spark

INSTANT = datetime.fromtimestamp(START / 1e6, UTC) + timedelta(hours=2)
AT = f"timestamp_micros({START + 7_200_000_000})"
ITEMS = [1, 2, 99_999, None, 1]
RANKS = [0.5, 0.0, 1.0, None, 0.25]

# Of each question: a kind of sketch, how SQL, a DataFrame and plain Python ask it.
Case = tuple[str, str, Column | Callable[[], Column], Callable[[pa.Table], Any]]


def cases() -> dict[str, Case]:
    """Columns are s and other, sketches; item, bigint; q, double; when, timestamp."""
    found: dict[str, Case] = {
        "top_at": ("decaying_top", f"sketch_top_at(s, 2, {AT})", sketching.top("s", 2, INSTANT), lambda t: fn.top(t["s"], 2, INSTANT)),
        "top at a column": (
            "decaying_top",
            "sketch_top_at(s, 2, when)",
            sketching.top("s", 2, "when"),
            lambda t: fn.top(t["s"], 2, t["when"]),
        ),
        "decayed": ("decaying", f"sketch_decayed(s, {AT})", sketching.decayed("s", INSTANT), lambda t: fn.decayed(t["s"], INSTANT)),
        "decayed at a column": (
            "decaying",
            "sketch_decayed(s, when)",
            sketching.decayed("s", F.col("when")),
            lambda t: fn.decayed(t["s"], t["when"]),
        ),
        "quantile": ("quantiles", "sketch_quantile(s, 0.5)", sketching.quantile("s", 0.5), lambda t: fn.quantile(t["s"], 0.5)),
        "quantile of a column": (
            "quantiles",
            "sketch_quantile(s, q, 0.9)",
            sketching.quantile("s", "q", 0.9),
            lambda t: fn.quantile(t["s"], t["q"], 0.9),
        ),
        "rank": ("quantiles", "sketch_rank(s, 3)", sketching.rank("s", 3), lambda t: fn.rank(t["s"], 3)),
        "rank of a column": (
            "quantiles",
            "sketch_rank(s, item, confidence => 0.5)",
            sketching.rank("s", F.col("item"), 0.5),
            lambda t: fn.rank(t["s"], t["item"], 0.5),
        ),
    }
    for kind in ("hyperloglog", "count_min", "bloom", "reservoir", "stratified_reservoir"):
        found |= {
            f"kind, {kind}": (kind, "sketch_kind(s)", sketching.kind("s"), lambda t: fn.kind(t["s"])),
            f"parameters, {kind}": (kind, "sketch_parameters(s)", sketching.parameters("s"), lambda t: fn.parameters(t["s"])),
            f"error, {kind}": (kind, "sketch_error(s)", sketching.error("s"), lambda t: fn.error(t["s"])),
            f"estimate, {kind}": (kind, "sketch_estimate(s)", sketching.estimate("s"), lambda t: fn.estimate(t["s"])),
            f"bounds, {kind}": (kind, "sketch_bounds(s)", sketching.bounds("s"), lambda t: fn.bounds(t["s"])),
            f"bounds at 99 %, {kind}": (kind, "sketch_bounds(s, 0.99)", sketching.bounds("s", 0.99), lambda t: fn.bounds(t["s"], 0.99)),
            f"union, {kind}": (kind, "sketch_union(s, other)", sketching.union("s", "other"), lambda t: fn.union(t["s"], t["other"])),
        }
    for kind in ("bloom", "classic_bloom", "rotating_bloom"):
        found |= {
            f"contains, {kind}": (
                kind,
                "sketch_contains(s, item)",
                sketching.contains("s", "item"),
                lambda t: fn.contains(t["s"], t["item"]),
            ),
            f"contains one, {kind}": (kind, "sketch_contains(s, 1L)", sketching.contains("s", 1), lambda t: fn.contains(t["s"], 1)),
            f"contains hashes, {kind}": (
                kind,
                "sketch_contains(s, xxhash64(item, q), true)",
                sketching.contains("s", F.xxhash64("item", "q"), hashed=True),
                lambda t: fn.contains(t["s"], t["composite"], hashed=True),
            ),
        }
    for kind in ("count_min", "space_saving", "heavy_hitters"):
        found |= {
            f"frequency, {kind}": (
                kind,
                "sketch_frequency(s, item)",
                sketching.frequency("s", "item"),
                lambda t: fn.frequency(t["s"], t["item"]),
            ),
            f"frequency at 50 %, {kind}": (
                kind,
                "sketch_frequency(s, 1L, 0.5)",
                sketching.frequency("s", 1, 0.5),
                lambda t: fn.frequency(t["s"], 1, 0.5),
            ),
            f"frequency of hashes, {kind}": (
                kind,
                "sketch_frequency(s, xxhash64(item, q), hashed => true)",
                sketching.frequency("s", F.xxhash64("item", "q"), hashed=True),
                lambda t: fn.frequency(t["s"], t["composite"], hashed=True),
            ),
        }
    for kind in ("misra_gries", "space_saving", "heavy_hitters"):
        found |= {
            f"top, {kind}": (kind, "sketch_top(s, 3)", sketching.top("s", 3), lambda t: fn.top(t["s"], 3)),
            f"top at 50 %, {kind}": (
                kind,
                "sketch_top(s, 3, 0.5)",
                sketching.top("s", 3, confidence=0.5),
                lambda t: fn.top(t["s"], 3, confidence=0.5),
            ),
            f"heavy, {kind}": (kind, "sketch_heavy(s, 0.1)", sketching.heavy("s", 0.1), lambda t: fn.heavy(t["s"], 0.1)),
        }
    for kind in ("reservoir", "weighted_reservoir"):
        found[f"sample, {kind}"] = (kind, "sketch_sample(s)", sketching.sample("s"), lambda t: fn.sample(t["s"]))
    for kind in ("hyperloglog", "ultraloglog"):
        for name in ("union_estimate", "intersection", "difference", "jaccard"):
            ask, here = getattr(sketching, name), getattr(fn, name)
            found |= {
                f"{name}, {kind}": (kind, f"sketch_{name}(s, other)", ask("s", "other"), lambda t, here=here: here(t["s"], t["other"])),
                f"{name} at 50 %, {kind}": (
                    kind,
                    f"sketch_{name}(s, other, 0.5)",
                    ask("s", F.col("other"), 0.5),
                    lambda t, here=here: here(t["s"], t["other"], 0.5),
                ),
            }
    return found


@pytest.fixture(scope="module")
def session(spark: SparkSession) -> SparkSession:
    register(spark)
    return spark


def frame_of(spark: SparkSession, **columns: Any) -> DataFrame:
    return spark.createDataFrame(pa.table(columns)).coalesce(1)


def rows_of(spark: SparkSession, kind: str) -> DataFrame:
    sketches = some(kind, 3000, 40, 0, 1, 3000)
    frame = frame_of(
        spark,
        s=stored(*sketches[:3], None, *sketches[3:]).slice(0, 5),
        other=stored(*reversed(sketches)),
        item=pa.array(ITEMS, pa.int64()),
        q=pa.array(RANKS, pa.float64()),
        when=pa.array([START, START + 5, None, START, START - 10**9], pa.timestamp("us", "UTC")),
    )
    return frame.withColumn("composite", F.xxhash64("item", "q"))


def same(one: pa.Table, column: str, wanted: Any) -> bool:
    found = pa.chunked_array([wanted]) if isinstance(wanted, pa.Array) else wanted
    return bool(str(one[column].to_pylist()) == str(found.to_pylist()))  # NaN is not equal to itself


def test_each_question_is_the_same_from_sql_from_a_frame_and_in_plain_python(session: SparkSession) -> None:
    asked = cases()
    assert {sql.partition("(")[0].removeprefix("sketch_") for _, sql, _, _ in asked.values()} == set(RETURNS) - {"merge", "merge_list"}
    for kind in {kind for kind, *_ in asked.values()}:
        mine = {name: case for name, case in asked.items() if case[0] == kind}
        frame = rows_of(session, kind)
        table = frame.toArrow()
        frame.createOrReplaceTempView("rows_of_sketches")
        columns = ", ".join(f"{sql} AS `{name}`" for name, (_, sql, _, _) in mine.items())
        by_sql = session.sql(f"SELECT {columns} FROM rows_of_sketches")  # noqa: S608 (our own text)
        by_frame = frame.select(*(ask.alias(name) for name, (_, _, ask, _) in mine.items()))
        assert [field.dataType for field in by_sql.schema] == [field.dataType for field in by_frame.schema]
        for found in (by_sql.toArrow(), by_frame.toArrow()):
            for name, (_, _, _, here) in mine.items():
                assert same(found, name, here(table)), name


# Merges ---------------------------------------------------------------------------------------------------------------

MERGED = [kind for kind in MAKERS if kind not in ("reservoir", "weighted_reservoir", "stratified_reservoir")]


@pytest.fixture(scope="module")
def days(session: SparkSession) -> Iterator[DataFrame]:
    """Three sketches of each of 15 kinds a day, of which one day has only nulls."""
    rows = [(kind, day, sketch.to_bytes() if day else None) for kind in MERGED for day in (0, 1, 2) for sketch in some(kind, 500, 3, 70)]
    kinds, numbers, data = zip(*rows, strict=True)
    frame = frame_of(session, kind=pa.array(kinds), day=pa.array(numbers), s=pa.array(data, pa.binary())).cache()
    frame.createOrReplaceTempView("days_of_sketches")
    yield frame
    frame.unpersist()


def test_merges_are_the_same_from_sql_from_a_frame_and_in_plain_python(session: SparkSession, days: DataFrame) -> None:
    queries = {
        "merge": session.sql("SELECT kind, day, sketch_merge(s) AS m FROM days_of_sketches GROUP BY kind, day"),
        "merge_list": session.sql(
            "SELECT kind, day, sketch_merge_list(collect_list(s)) AS m, count(*) AS n FROM days_of_sketches GROUP BY kind, day"
        ),
        "frame": days.groupBy("kind", "day").agg(sketching.merge("s").alias("m")),
        "frame of lists": days.groupBy("kind", "day").agg(sketching.merge_list(F.collect_list("s")).alias("m"), F.count("*").alias("n")),
    }
    for name, query in queries.items():
        found = {(row.kind, row.day): row.m and bytes(row.m) for row in query.collect()}
        assert set(found) == {(kind, day) for kind in MERGED for day in (0, 1, 2)}, name
        for kind in MERGED:
            assert found[kind, 0] is None
            wanted: Any = type(some(kind)[0]).merged(some(kind, 500, 3, 70))
            if kind == "quantiles":
                assert sk.Quantiles.from_bytes(found[kind, 1]).count == 573  # type: ignore[arg-type]
            elif kind == "decaying":
                assert sk.DecayingWindow.from_bytes(found[kind, 1]).sum_at(START) == pytest.approx(wanted.sum_at(START))  # type: ignore[arg-type]
            else:
                assert found[kind, 1] == found[kind, 2] == wanted.to_bytes(), (name, kind)


def test_a_merge_is_asked_further_rolled_up_and_windowed(session: SparkSession, days: DataFrame) -> None:
    hll = some("hyperloglog", 500, 3, 70)
    whole = sk.HyperLogLog.merged(hll).estimate()
    rows = session.sql(
        "SELECT day, sketch_estimate(sketch_merge(s)) AS n FROM days_of_sketches WHERE kind = 'hyperloglog' "
        "GROUP BY ROLLUP (day) ORDER BY day"
    ).collect()
    assert [tuple(row) for row in rows] == [(None, whole), (0, None), (1, whole), (2, whole)]
    last = session.sql(
        "SELECT day, sketch_estimate(sketch_merge_list("
        "collect_list(s) OVER (ORDER BY day RANGE BETWEEN 1 PRECEDING AND CURRENT ROW))) AS n "
        "FROM days_of_sketches WHERE kind = 'hyperloglog'"
    )
    assert {tuple(row) for row in last.collect()} == {(0, None), (1, whole), (2, whole)}
    (only,) = days.where("kind = 'hyperloglog'").agg(sketching.merge("s").alias("m")).select(sketching.estimate("m")).collect()
    assert only[0] == whole


def test_no_rows_have_no_groups(session: SparkSession, days: DataFrame) -> None:
    none = days.where("day > 7")
    none.createOrReplaceTempView("no_sketches")
    assert none.groupBy("kind").agg(sketching.merge("s")).collect() == []
    assert none.groupBy("kind").agg(sketching.merge_list(F.collect_list("s"))).collect() == []
    assert session.sql("SELECT kind, sketch_merge(s) FROM no_sketches GROUP BY kind").collect() == []
    assert session.sql("SELECT sketch_merge(s) FROM no_sketches").collect() == [], "as Spark has it for aggregates in Python"
    assert [tuple(row) for row in session.sql("SELECT sketch_merge_list(collect_list(s)), count(*) FROM no_sketches").collect()] == [
        (None, 0)
    ]
    assert none.select(sketching.estimate("s"), sketching.bounds("s"), sketching.top("s", 3)).collect() == []


def test_a_large_group_is_merged_batch_by_batch(session: SparkSession) -> None:
    parts = [sketch.to_bytes() for sketch in some("hyperloglog", *range(0, 2000, 40))]
    chosen = np.random.default_rng(1).integers(0, 50, 25_000)
    chosen[:50] = np.arange(50)
    frame = session.createDataFrame(pa.table({"s": stored(*parts).take(pa.array(chosen))})).repartition(3)
    wanted = sk.HyperLogLog.merged(map(sk.HyperLogLog.from_bytes, parts)).to_bytes()
    assert bytes(frame.agg(sketching.merge("s")).collect()[0][0]) == wanted
    broken = frame.union(session.createDataFrame(pa.table({"s": stored(damaged(some("hyperloglog")[3]))})))
    with pytest.raises(PythonException, match=r"cannot answer merge for row '25000': expected checksum"):
        broken.coalesce(1).agg(sketching.merge("s")).collect()
    assert bytes(broken.agg(sketching.merge("s", on_error="null")).collect()[0][0]) == wanted


# Rows that are no sketches --------------------------------------------------------------------------------------------


def test_rows_that_are_no_sketches_fail_the_query_or_are_null(session: SparkSession) -> None:
    sound = some("hyperloglog")[3]
    column = stored(sound, damaged(sound), None, some("bloom")[3], b"x")
    frame = frame_of(session, s=column, day=pa.array([1, 1, 2, 2, 3]))
    frame.createOrReplaceTempView("broken_sketches")
    errors = [row[0] for row in session.sql("SELECT sketch_error(s) FROM broken_sketches").collect()]
    assert errors == fn.error(column).to_pylist()
    assert [text is None for text in errors] == [True, False, True, True, False]
    asked = {
        "estimate": (sketching.estimate, "sketch_estimate(s)"),
        "bounds": (sketching.bounds, "sketch_bounds(s)"),
        "kind": (sketching.kind, "sketch_kind(s)"),
        "parameters": (sketching.parameters, "sketch_parameters(s)"),
    }
    for name, (ask, sql) in asked.items():
        message = rf"cannot answer {name} for row '{4 if name == 'kind' else 1}': expected .+, got .+; .*on_error='null'"
        with pytest.raises(PythonException, match=message):
            frame.select(ask("s")).collect()
        with pytest.raises(PythonException, match=message):
            session.sql(f"SELECT {sql} FROM broken_sketches").collect()  # noqa: S608 (our own text)
    merges = ("sketch_merge(s)", "sketch_merge_list(collect_list(s))")
    for sql in merges:
        with pytest.raises(PythonException, match=r"cannot answer merge(_list)? for row"):
            session.sql(f"SELECT day, {sql} FROM broken_sketches GROUP BY day").collect()  # noqa: S608 (our own text)
    try:
        register(session, on_error="null")
        for name, (ask, sql) in asked.items():
            wanted = [row is not None for row in getattr(fn, name)(column, on_error="null").to_pylist()]
            for query in (frame.select(ask("s", on_error="null")), session.sql(f"SELECT {sql} FROM broken_sketches")):  # noqa: S608 (our own text)
                assert [row[0] is not None for row in query.collect()] == wanted
        for sql in merges:
            found = session.sql(f"SELECT day, {sql} AS m FROM broken_sketches GROUP BY day ORDER BY day").collect()  # noqa: S608 (our own text)
            assert [row.m and bytes(row.m) for row in found] == [sound.to_bytes(), some("bloom")[3].to_bytes(), None]
    finally:
        register(session)


def test_constants_may_differ_from_row_to_row_and_be_null(session: SparkSession) -> None:
    sketch = some("space_saving")[3]
    frame = frame_of(session, s=stored(*([sketch] * 5)), n=pa.array([1, 2, None, 1, 0], pa.int32()), c=pa.array([0.5, None, 0.9, 0.5, 0.9]))
    frame.createOrReplaceTempView("constants")
    found = session.sql("SELECT sketch_top(s, n) AS t, sketch_bounds(s, c) AS b, sketch_top(s, null) AS u FROM constants").collect()
    assert [row.t and [hot.item for hot in row.t] for row in found] == [
        rows and [hot["item"] for hot in rows[0]]
        for rows in (None if n is None else fn.top(stored(sketch), n).to_pylist() for n in (1, 2, None, 1, 0))
    ]
    assert [row.b is None for row in found] == [False, True, False, False, False]
    assert [row.u for row in found] == [None] * 5
    for sql, message in {
        "sketch_top(s, 1.5)": "cannot use argument 'n': expected a whole number, got Decimal",
        "sketch_bounds(s, '0.9')": "cannot use argument 'confidence': expected a number, got '0.9'",
        "sketch_bounds(s, 2)": "cannot use parameter 'confidence': expected a number between 0 and 1",
    }.items():
        with pytest.raises(PythonException, match=message):
            session.sql(f"SELECT {sql} FROM constants").collect()  # noqa: S608 (our own text)
    with pytest.raises(SketchError, match="cannot use parameter 'confidence'"):
        sketching.bounds("s", 2)


# Types ----------------------------------------------------------------------------------------------------------------

TYPED = {
    "boolean": "id % 2 = 0",
    "int": "cast(id AS int)",
    "bigint": "id",
    "double": "id / 4",
    "string": "concat('é', id)",
    "binary": "cast(concat('é', id) AS binary)",
    "date": "date_add(date'2026-01-01', cast(id AS int))",
    "timestamp": "timestamp_seconds(id)",
    "timestamp_ntz": "cast(timestamp_seconds(id) AS timestamp_ntz)",
    "decimal(10,2)": "cast(id / 4 AS decimal(10,2))",
}


@pytest.mark.parametrize("kind", TYPED)
def test_items_of_all_types_are_asked_for_and_come_back(session: SparkSession, kind: str) -> None:
    values = session.range(12).selectExpr(f"{TYPED[kind]} AS v").union(session.sql(f"SELECT cast(NULL AS {kind})")).coalesce(1)
    table = values.toArrow()
    seen, hot, sample = sk.BloomFilter(64), sk.SpaceSaving(40), sk.ReservoirSample(40)
    for sketch in (seen, hot, sample):
        sketch.update_many(table["v"])
    frame = values.select(
        *(F.lit(sketch.to_bytes()).alias(name) for name, sketch in (("seen", seen), ("hot", hot), ("sample", sample))), "v"
    )
    found = frame.select(
        "v",
        sketching.contains("seen", "v").alias("contained"),
        sketching.frequency("hot", "v").alias("counted"),
        sketching.top("hot", 40, item_type=kind).alias("top"),
        sketching.sample("sample", item_type=kind).alias("sample"),
        sketching.sample("sample").alias("texts"),
    )
    rows = found.collect()
    wanted = [row.v for row in rows if row.v is not None]
    assert [row.contained for row in rows] == [True] * len(wanted) + [None]
    assert [row.counted and row.counted.lower for row in rows] == [6 if kind == "boolean" else 1] * len(wanted) + [None]
    assert sorted(hot.item for hot in rows[0].top) == sorted(set(wanted))
    assert sorted(rows[0].sample) == sorted(wanted)
    assert rows[0].texts == fn.sample(stored(sample))[0].as_py()
    assert found.schema["sample"].dataType.simpleString() == f"array<{kind}>"


def test_columns_are_found_by_any_name_and_by_type(session: SparkSession) -> None:
    hot = some("space_saving")[3]
    frame = frame_of(session, **{"a.b c": stored(hot)})
    assert frame.select(sketching.estimate("a.b c")).collect()[0][0] == 3000
    (row,) = frame.select(sketching.top("a.b c", 2, item_type=LongType()).alias("t")).collect()
    assert [item.item for item in row.t] == [item.item for item in hot.top(2)]
    with pytest.raises(PythonException, match=r"cannot answer top for row '0': expected date32.*, got 'long'"):
        frame.select(sketching.top("a.b c", 2, item_type="date")).collect()
