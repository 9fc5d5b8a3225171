"""The streams API over real queries, with restarts between batches, against plain Python by Kafka Streams' definitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc
import pytest
from pyspark.errors import PythonException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from spark_ext.epochs import points
from spark_ext.errors import QueryError
from spark_ext.streams import JoinWindows, SessionWindows, SlidingWindows, StreamsBuilder, TimeWindows
from spark_ext.streams.records import map_values_in_pandas
from spark_ext.windows import aggregates
from tests.streams_apps import Row, Script, at, seconds
from tests.unit.test_streams_sliding import Record, windows_of

pytestmark = pytest.mark.spark
SECOND = timedelta(seconds=1)


def word_count(builder: StreamsBuilder, script: Script) -> None:
    words = builder.stream("lines", script.topic("lines")).flatMapValues(lambda v: F.split(v.t, " "))
    counts = words.groupBy(lambda k, word: word, name="by-word").count(store="counts", name="count")
    counts.toStream().to("counts")
    counts.toStream().filter(lambda k, v: v > 1).groupBy(lambda k, v: F.lit("all")).count(store="repeats")


def test_words_are_counted_and_their_counts_again(spark: SparkSession, tmp_path: Path) -> None:
    script = Script(spark, tmp_path, word_count)
    batches = [["all streams lead to kafka", "hello kafka streams"], ["join kafka summit"], ["hello"]]
    seen: Counter[str] = Counter()
    updates: list[tuple[str, int]] = []
    for number, lines in enumerate(batches):
        script.feed("lines", [("k", line, 0, number) for line in lines])
        words = [word for line in lines for word in line.split()]
        seen.update(words)
        updates += [(word, seen[word]) for word in set(words)]
        if number == 1:
            script.run()
    with points.watched(crashing_once("store counts")), pytest.raises(QueryError):
        script.run()
    script.run()
    assert script.store("counts") == seen
    assert Counter((key, value) for key, value, _ in script.records("counts")) == Counter(updates)
    assert script.store("repeats") == {"all": sum(value > 1 for _, value in updates)}
    assert script.app is not None
    with script.app.store("counts") as counts:
        assert (counts.get("kafka"), counts.get("nobody")) == (3, None)
        assert counts.getMany(["hello", "nobody", "join"]).to_pydict() == {"key": ["hello", "join"], "value": [2, 1]}


def test_keys_and_times_do_not_go_through_pandas(spark: SparkSession) -> None:
    """Which would make a float of a column of integers with a null, and shift the hour that a clock goes through twice."""
    schema = "key bigint, value struct<n: int>, timestamp timestamp, sequence bigint"
    twice = [datetime(2020, 10, 25, hour, 30, tzinfo=UTC) for hour in (0, 1)]
    rows = spark.createDataFrame([(2**53 + 1, (1,), twice[0], 2**53 + 1), (None, (2,), twice[1], 0)], schema).coalesce(1)
    spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    try:
        found = map_values_in_pandas(lambda values: values.assign(m=values.n + 1), "n int, m int")(rows)
        got = found.select("key", "value.*", F.unix_seconds("timestamp"), "sequence").collect()
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    expected = [(2**53 + 1, 1, 2, twice[0].timestamp(), 2**53 + 1), (None, 2, 3, twice[1].timestamp(), 0)]
    assert [tuple(row) for row in got] == expected
    with pytest.raises(PythonException, match="expected 2 rows, got 1; use flatMapInPandas"):
        map_values_in_pandas(lambda values: values.head(1), "n int")(rows).collect()


def crashing_once(sink: str) -> Callable[[str, int, str], None]:
    """Crash between two tables of an epoch."""

    def watch(point: str, _: int, name: str) -> None:
        if (point, name) == ("after_sink", sink):
            raise RuntimeError(point)

    return watch


ROWS: list[Row] = [("a", "x y", 1, 1), ("b", "y", 2, 2), (None, "x", 3, 3), ("a", None, 4, 4), ("c", "", 5, 5), ("a", "z", None, 6)]


def stateless(builder: StreamsBuilder, script: Script) -> None:
    rows = builder.stream("rows", script.topic("rows"))
    rows.filter(lambda k, v: v.n > 2).to("filter")
    rows.filterNot(lambda v: v.n > 2).to("filterNot")
    rows.map(lambda k, v: (v.n, k)).to("map")
    rows.mapValues(lambda k, v: F.concat(k, v.t)).to("mapValues")
    rows.flatMap(lambda k, v: [(v.n, k), (v.n + 1, "more")]).to("flatMap")
    rows.flatMapValues(lambda v: F.split(v.t, " ")).to("flatMapValues")
    rows.selectKey(lambda k, v: v.t).mapValues(lambda v: v.n).to("selectKey")
    rows.mapValuesInPandas(lambda rows: pd.DataFrame({"value": rows.n.fillna(0).astype(int) * 2}), "value bigint").to("inPandas")
    rows.flatMapInPandas(doubled, "key string, timestamp timestamp, up bigint").to("flatMapInPandas")
    rows.peek(lambda block: None).merge(rows.filter(lambda k, v: v.n == 1)).mapValues(lambda v: v.n).to("merge")
    parted = rows.mapValues(lambda v: v.n).split(prefix="is-").branch(lambda k, v: v < 3, name="small").branch(lambda k, v: v < 5)
    for name, stream in parted.defaultBranch(name="rest").items():
        stream.to(name)
    small, large = rows.mapValues(lambda v: v.n).branch(lambda v: v < 3, lambda v: v >= 3)
    small.merge(large).to("both")
    rows.mapValues(lambda v: v.n).through("passed").filter(lambda v: v > 4).to("behind")


def doubled(rows: pd.DataFrame) -> pd.DataFrame:
    kept = rows[rows.n.notna()]
    return pd.concat([kept, kept])[["key", "timestamp"]].assign(up=[*kept.n.astype(int), *(kept.n.astype(int) + 10)])


def test_each_record_is_changed_as_the_operation_says(spark: SparkSession, tmp_path: Path) -> None:
    script = Script(spark, tmp_path, stateless)
    script.feed("rows", ROWS[:3])
    script.feed("rows", ROWS[3:])
    script.run()

    def value(t: Any, n: Any) -> dict[str, Any]:
        return {"t": t, "n": n}

    kept = [(k, t, n, s) for k, t, n, s in ROWS]
    numbers = [(k, n, s) for k, _, n, s in kept]
    expected: dict[str, Iterable[tuple[Any, Any, float]]] = {
        "filter": [(k, value(t, n), s) for k, t, n, s in kept if n is not None and n > 2],
        "filterNot": [(k, value(t, n), s) for k, t, n, s in kept if not (n is not None and n > 2)],
        "map": [(n, k, s) for k, n, s in numbers],
        "mapValues": [(k, None if k is None or t is None else k + t, s) for k, t, n, s in kept],
        "flatMap": [pair for k, n, s in numbers for pair in ((n, k, s), (None if n is None else n + 1, "more", s))],
        "flatMapValues": [(k, word, s) for k, t, n, s in kept if t is not None for word in t.split(" ")],
        "selectKey": [(t, n, s) for k, t, n, s in kept],
        "inPandas": [(k, (n or 0) * 2, s) for k, n, s in numbers],
        "flatMapInPandas": [pair for k, n, s in numbers if n is not None for pair in ((k, {"up": n}, s), (k, {"up": n + 10}, s))],
        "merge": [*numbers, ("a", 1, 1)],
        "is-small": [(k, n, s) for k, n, s in numbers if n is not None and n < 3],
        "is-2": [(k, n, s) for k, n, s in numbers if n is not None and 3 <= n < 5],
        "is-rest": [(k, n, s) for k, n, s in numbers if n is None or n >= 5],
        "both": [(k, n, s) for k, n, s in numbers if n is not None],
        "passed": numbers,
        "behind": [(k, n, s) for k, n, s in numbers if n is not None and n > 4],
    }
    for topic, rows in expected.items():
        assert sorted(map(repr, script.records(topic))) == sorted(map(repr, ((k, v, float(s)) for k, v, s in rows))), topic


BATCHES: list[list[Row]] = [
    [("a", "x", 1, 1), ("a", "x", 2, 7), ("b", "y", 3, 12)],
    [("a", "x", 4, 3), ("a", "z", 5, 14), ("b", "y", 6, 25)],
    [("b", "y", 7, 13), ("a", "x", 8, 31), ("a", "x", 9, None)],
]
SECONDS_BEFORE = [None, 12, 25]  # the watermark of each batch


def windowed(builder: StreamsBuilder, script: Script) -> None:
    rows = builder.stream("rows", script.topic("rows"))
    by_key = rows.groupByKey()
    tumbling = by_key.windowedBy(TimeWindows.ofSizeWithNoGrace(10 * SECOND)).count(store="tumbling", name="tumbling")
    tumbling.toStream(lambda k, v: k.key).to("updates")
    hopping = by_key.windowedBy(TimeWindows.ofSizeAndGrace(10 * SECOND, 5 * SECOND).advanceBy(5 * SECOND))
    hopping.aggregate({"total": aggregates.sum("n"), "rows": aggregates.count()}, name="hopping").suppress().toStream().to("hopping")
    by_key.windowedBy(SessionWindows.ofInactivityGapWithNoGrace(6 * SECOND)).count(name="sessions").toStream().to("sessions")
    sliding = by_key.windowedBy(SlidingWindows.ofTimeDifferenceWithNoGrace(6 * SECOND))
    sliding.aggregate({"rows": aggregates.count(), "total": aggregates.sum("n")}, name="sliding").toStream().to("sliding")
    rows.mapValues(lambda v: v.n).groupByKey().reduce(pc.max_element_wise, id="max", store="largest", name="largest")


def in_windows(length: int, every: int, grace: int) -> dict[tuple[str, int], list[int]]:
    """Rows of each window that are not late for it, by plain Python."""
    found: dict[tuple[str, int], list[int]] = {}
    for rows, now in zip(BATCHES, SECONDS_BEFORE, strict=True):
        for key, _, number, time in rows:
            for start in range(-length, 40, every) if time is not None else ():
                if start <= time < start + length and (now is None or start + length + grace > now):
                    found.setdefault((key, start), []).append(number)
    return found


def test_windows_hold_what_is_not_late_and_the_rest_is_set_aside(spark: SparkSession, tmp_path: Path) -> None:
    script = Script(spark, tmp_path, windowed)
    script.feed("rows", BATCHES[0])
    script.feed("rows", BATCHES[1])
    script.run()
    script.feed("rows", BATCHES[2])
    script.run()
    script.close(100)
    tumbling = in_windows(10, 10, 0)
    found = {(key, seconds(start)): value for (key, start, _), value in script.store("tumbling").items()}
    assert found == {window: len(rows) for window, rows in tumbling.items()}
    assert script.app is not None
    with script.app.store("tumbling") as store:
        assert store.get({"key": "a", "window": {"start": at(0), "end": at(10)}}) == 2
    updates: dict[Any, list[int]] = {}
    for key, value, _ in script.records("updates"):
        updates.setdefault(key, []).append(value)
    assert {key: max(values) for key, values in updates.items()} == {"a": 2, "b": 1}
    hopping = {(k["key"], seconds(k["window"]["start"])): (v["total"], v["rows"]) for k, v, _ in script.records("hopping")}
    assert hopping == {window: (sum(rows), len(rows)) for window, rows in in_windows(10, 5, 5).items()}
    assert len(script.records("hopping")) == len(hopping), "each once"
    sessions = [(k["key"], seconds(k["window"]["start"]), seconds(k["window"]["end"]), v) for k, v, _ in script.records("sessions")]
    assert sorted(sessions) == [("a", 1, 7, 3), ("a", 14, 14, 1), ("a", 31, 31, 1), ("b", 12, 12, 1), ("b", 25, 25, 1)]
    on_time = [
        Record(key, time * 1000, number)
        for rows, now in zip(BATCHES, SECONDS_BEFORE, strict=True)
        for key, _, number, time in rows
        if time is not None and (now is None or time >= now)
    ]
    slid = Counter(
        (k["key"], round(seconds(k["window"]["start"]) * 1000), round(seconds(k["window"]["end"]) * 1000), v["rows"], v["total"])
        for k, v, _ in script.records("sliding")
    )
    assert slid == windows_of(on_time, 6000)
    assert script.store("largest") == {"a": 8, "b": 7}
    # The record of 3 comes at 12: [0, 10) is over, of the hopping windows only [-5, 5), and a session is open that it is in. The one of 13
    # comes at 25: all of its windows are over. The one without time is in none of the five.
    late = Counter((reason, key, time) for reason, key, time in script.rejected())
    assert late == {("late", "a", 3.0): 2, ("late in part", "a", 3.0): 1, ("late", "b", 13.0): 4, ("invalid", "a", None): 5}


def joined(builder: StreamsBuilder, script: Script) -> None:
    left, right = (builder.stream(name, script.topic(name)).mapValues(lambda v: v.n) for name in ("left", "right"))
    near = JoinWindows.ofTimeDifferenceWithNoGrace(5 * SECOND).before(2 * SECOND)
    left.join(right, lambda v, o: F.struct(v.alias("l"), o.alias("r")), near, name="inner").to("inner")
    left.outerJoin(right, lambda v, o: F.struct(v.alias("l"), o.alias("r")), near, name="outer").to("outer")
    views = builder.stream("left", script.topic("left"), name="views")
    regions = builder.table("regions", script.topic("regions", value="t"), store="regions")
    names = builder.globalTable("names", script.topic("names", value="t"))
    found = views.leftJoin(regions, lambda v, region: F.struct(v.n.alias("n"), region.alias("region")), name="by-region")
    found.to("looked-up")
    found.join(names, lambda k, v: v.region, lambda v, name: F.concat(name, v.n), name="by-name").to("named")
    found.groupBy(lambda k, v: v.region).count(store="views-by-region", name="region-count")


LEFT: list[list[Row]] = [[("a", "", 1, 10), ("b", "", 2, 11)], [("a", "", 3, 20), ("c", "", 4, 21), (None, "", 5, 22)]]
RIGHT: list[list[Row]] = [[("a", "", 10, 8), ("a", "", 11, 15), ("a", "", 12, 16)], [("a", "", 13, 7), ("c", "", 14, 19)]]


def test_streams_and_tables_are_joined(spark: SparkSession, tmp_path: Path) -> None:
    script = Script(spark, tmp_path, joined)
    regions = [[("a", "eu", 0, 1), ("b", "us", 0, 1)], [("a", "asia", 0, 2), ("b", None, 0, 3)]]
    names = [[("eu", "Europe", 0, 1), ("us", "America", 0, 1)], [("asia", "Asia", 0, 2)]]
    for number in range(2):
        for topic, batches in {"left": LEFT, "right": RIGHT, "regions": regions, "names": names}.items():
            script.feed(topic, batches[number])
        script.run()
    script.close(200)
    # The watermark of the second batch is 11, the least of both sides: the right record of 7 is late.
    lefts = [row for batch in LEFT for row in batch]
    rights = [row for batch in RIGHT for row in batch if row[3] != 7]
    pairs = [(one, other) for one in lefts for other in rights if one[0] == other[0] and one[3] - 2 <= other[3] <= one[3] + 5]
    inner = [(one[0], one[2], other[2], max(one[3], other[3])) for one, other in pairs]
    assert sorted((k, v["l"], v["r"], s) for k, v, s in script.records("inner")) == sorted(inner)
    alone = [(k, n, None, s) for k, t, n, s in lefts if (k, t, n, s) not in [one for one, _ in pairs]]
    alone += [(k, None, n, s) for k, t, n, s in rights if (k, t, n, s) not in [other for _, other in pairs]]
    assert sorted(map(repr, [(k, v["l"], v["r"], float(s)) for k, v, s in script.records("outer")])) == sorted(
        repr((k, left, right, float(s))) for k, left, right, s in [*inner, *alone]
    )
    assert Counter(script.rejected()) == {("late", "a", 7.0): 2}
    tables = [{"a": "eu", "b": "us"}, {"a": "asia"}]
    found = [(k, n, tables[number].get(k)) for number, batch in enumerate(LEFT) for k, _, n, _ in batch]
    assert sorted(map(repr, ((k, v["n"], v["region"]) for k, v, _ in script.records("looked-up")))) == sorted(map(repr, found))
    known = {"eu": "Europe", "us": "America", "asia": "Asia"}
    assert sorted(v for _, v, _ in script.records("named")) == sorted(f"{known[region]}{n}" for _, n, region in found if region)
    assert script.store("views-by-region") == Counter(region for _, _, region in found)


def tables(builder: StreamsBuilder, script: Script) -> None:
    orders = builder.table("orders", script.topic("orders", value=gone), store="orders")
    customers = builder.table("customers", script.topic("customers", value=gone), store="customers")
    orders.filter(lambda v: v.n > 5, store="large").mapValues(lambda v: v.n * 10, store="tenfold")
    orders.groupBy(lambda k, v: (v.t, v)).aggregate({"n": aggregates.sum("n"), "rows": aggregates.count()}, store="by-customer")
    pair = {"joiner": lambda v, o: F.struct(v.n.alias("l"), o.n.alias("r"))}
    orders.join(customers, pair["joiner"], store="inner")
    orders.outerJoin(customers, pair["joiner"], store="outer")
    orders.leftJoin(customers, lambda v: v.t, pair["joiner"], store="foreign")


def gone(row: Any) -> Any:
    return F.when(row.n.isNotNull(), F.struct(row.t.alias("t"), row.n.alias("n")))


def test_tables_follow_their_changes(spark: SparkSession, tmp_path: Path) -> None:
    script = Script(spark, tmp_path, tables)
    orders: list[list[Row]] = [
        [("o1", "c1", 3, 1), ("o2", "c1", 7, 2), ("o3", "c2", 9, 3), ("c1", "c9", 1, 3)],
        [("o1", "c2", 6, 5), ("o2", "c1", None, 6), ("o4", "c3", 2, 7), ("o4", "c3", 8, 8)],
        [("o3", "c1", 4, 9), ("c1", "c9", None, 10)],
    ]
    customers: list[list[Row]] = [[("c1", "ann", 100, 1)], [("c2", "bob", 200, 5), ("c1", "ann", 101, 6)], [("c1", "ann", None, 9)]]
    state: dict[str, dict[str, tuple[str, int]]] = {"orders": {}, "customers": {}}
    for number in range(3):
        for topic, batches in {"orders": orders, "customers": customers}.items():
            script.feed(topic, batches[number])
            for k, t, n, _ in batches[number]:
                state[topic].pop(k, None)
                if n is not None:
                    state[topic][k] = (t, n)
        if number == 0:
            continue  # the first two in one run
        script.run()
        left, right = state["orders"], state["customers"]
        assert script.store("orders") == {k: {"t": t, "n": n} for k, (t, n) in left.items()}
        assert script.store("large") == {k: {"t": t, "n": n} for k, (t, n) in left.items() if n > 5}
        assert script.store("tenfold") == {k: n * 10 for k, (t, n) in left.items() if n > 5}
        groups: dict[str, list[int]] = {}
        for t, n in left.values():
            groups.setdefault(t, []).append(n)
        assert script.store("by-customer") == {t: {"n": sum(ns), "rows": len(ns)} for t, ns in groups.items()}

        def number_of(table: dict[str, tuple[str, int]], key: str) -> int | None:
            return table[key][1] if key in table else None

        assert script.store("inner") == {k: {"l": left[k][1], "r": right[k][1]} for k in left if k in right}
        assert script.store("outer") == {k: {"l": number_of(left, k), "r": number_of(right, k)} for k in {*left, *right}}
        assert script.store("foreign") == {k: {"l": n, "r": number_of(right, t)} for k, (t, n) in left.items()}
    assert script.rejected() == []
