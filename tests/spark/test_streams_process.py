"""Processors over real queries: state over a restart, calls by time, several outputs, rejected records, Kafka's bytes, errors."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from spark_ext.errors import QueryError, SchemaError, SettingsError
from spark_ext.streams import Processor, ProcessorContext, Produced, PunctuationType, Stores, StreamsBuilder
from tests.streams_apps import Row, Script, rows_of, seconds

pytestmark = pytest.mark.spark
TEN = timedelta(seconds=10)


class Totals(Processor):
    """Totals by key, told by stream time; each large number at once; records without a number rejected."""

    def init(self, context: ProcessorContext) -> None:
        super().init(context)
        self.totals = context.getStateStore("totals")
        context.schedule(TEN, PunctuationType.STREAM_TIME, self.tell)

    def process(self, records: pa.Table) -> None:
        has_number = pc.is_valid(records.column("n"))
        self.context.reject(records.filter(pc.invert(has_number)), reason="no number")
        good = records.filter(has_number)
        large = good.filter(pc.greater(good.column("n"), 100))
        self.context.forward(large.select(["key", "n", "timestamp"]), to="large")
        sums = good.group_by("key").aggregate([("n", "sum")])
        before = self.totals.get(sums).column("total").fill_null(0)
        self.totals.put(pa.table({"key": sums.column("key"), "total": pc.add(before, sums.column("n_sum"))}))

    def tell(self, now: datetime) -> None:
        self.context.forward(self.totals.all(), to="totals")


def processed(builder: StreamsBuilder, script: Script) -> None:
    builder.addStateStore(Stores.keyValueStore("totals", "key string, total bigint"))
    rows = builder.stream("rows", script.topic("rows"))
    outputs = {"totals": "key string, total bigint", "large": "key string, n bigint, timestamp timestamp"}
    parts = rows.process(Totals, outputs, stores=["totals"], name="totals")
    parts["totals"].to("totals")
    parts["large"].mapValues(lambda v: v.n).to("large")
    parts["large"].groupByKey().count(store="large-by-key", name="count-large")
    parts["large"].to("large-out", produced=Produced(value=lambda v: v.n.cast("string")))


BATCHES: list[list[Row]] = [
    [("a", "", 1, 1), ("b", "", 200, 2), ("a", "", None, 3)],
    [("a", "", 300, 12), ("c", "", 5, 13)],
    [("b", "", 7, 25), ("a", "", 400, 26)],
]


def test_state_outputs_and_calls_are_those_of_plain_python(spark: SparkSession, tmp_path: Path) -> None:
    script = Script(spark, tmp_path, processed)
    script.feed("rows", BATCHES[0])
    script.feed("rows", BATCHES[1])
    script.run()
    script.feed("rows", BATCHES[2])
    script.run()
    numbers = [(k, n, s) for batch in BATCHES for k, _, n, s in batch if n is not None]
    large = [(k, n, float(s)) for k, n, s in numbers if n > 100]
    assert sorted(script.records("large")) == sorted(large)
    assert script.store("large-by-key") == Counter(k for k, _, _ in large)
    assert sorted((row["key"].decode(), int(row["value"])) for row in rows_of(str(tmp_path / "app/outbox/large-out"))) == sorted(
        (k, n) for k, n, _ in large
    )
    assert script.rejected() == [("no number", "a", 3.0)]
    # A key's totals are told behind the batch in which, or after which, the watermark has passed ten seconds more.
    told: dict[str, list[int]] = {}
    for key, value, _ in sorted(script.records("totals"), key=lambda row: row[2]):
        told.setdefault(key, []).append(value["total"])
    assert told["a"][-1] == 701
    assert told["b"][-1] == 207
    assert set(told["a"]) <= {1, 301, 701}
    assert script.app is not None
    left = {row.key: row.total for row in script.app.processorStore("totals").collect()}
    assert left == {"a": 701, "b": 207, "c": 5}
    with pytest.raises(SettingsError, match="a store of a processor"):
        script.app.processorStore("large-by-key")
    ledger = script.app.ledger.rows("test/totals")
    assert all(row.is_balanced for row in ledger)
    rejected = [(one.name, one.rows) for row in ledger for one in row.sinks if one.name.startswith("rejected") and one.rows]
    assert rejected == [("rejected dead", 1)]


class Clocked(Processor):
    """Tells the time of the batch when called by the wall clock."""

    def init(self, context: ProcessorContext) -> None:
        super().init(context)
        context.schedule(timedelta(seconds=1), PunctuationType.WALL_CLOCK_TIME, self.tell)

    def process(self, records: pa.Table) -> None:
        pass

    def tell(self, now: datetime) -> None:
        self.context.forward(pa.table({"key": ["tick"], "value": [now.isoformat()]}))


def clocked(builder: StreamsBuilder, script: Script) -> None:
    rows = builder.stream("rows", script.topic("rows"))
    rows.process(Clocked, "key string, value string", ticks=timedelta(seconds=1), name="clocked").to("ticks")


def test_ticks_call_a_processor_without_records(spark: SparkSession, tmp_path: Path) -> None:
    script = Script(spark, tmp_path, clocked)
    script.feed("rows", [("a", "", 1, 1)])
    app = script.topology().run(spark, "clocked", str(tmp_path / "app"), every="0 seconds", buckets=1)
    try:
        (query,) = app.queries
        for _ in range(400):
            assert not query.await_end(0.5)
            if len(rows_of(app.topic("ticks"))) >= 2:
                break
    finally:
        app.stop()
    times = [row["value"] for row in rows_of(app.topic("ticks"))]
    assert len(times) >= 2
    assert len(set(times)) == len(times), "one call per batch and schedule"


def test_what_does_not_fit_is_refused_before_a_row_is_read(spark: SparkSession, tmp_path: Path) -> None:
    def unknown_field(builder: StreamsBuilder, script: Script) -> None:
        from spark_ext.windows import aggregates  # noqa: PLC0415

        builder.stream("rows", script.topic("rows")).groupByKey().aggregate({"x": aggregates.sum("price")}, store="s")

    def clash(builder: StreamsBuilder, script: Script) -> None:
        rows = builder.stream("rows", script.topic("rows")).mapValues(lambda v: F.struct(v.n.alias("key")))
        rows.process(Processor, "key string, n bigint").to("out")

    for number, (build, message) in enumerate([(unknown_field, "field 'price': expected one of"), (clash, "other names than")]):
        script = Script(spark, tmp_path / str(number), build)
        with pytest.raises(SchemaError, match=message):
            script.run()


def test_a_processor_that_fails_ends_the_query_and_nothing_of_its_batch_is_kept(spark: SparkSession, tmp_path: Path) -> None:
    def build(builder: StreamsBuilder, script: Script) -> None:
        builder.stream("rows", script.topic("rows")).process(Failing, "key string, n bigint", name="failing").to("out")

    script = Script(spark, tmp_path, build)
    script.feed("rows", [("a", "", 1, 1)])
    with pytest.raises(QueryError):
        script.run()
    assert not rows_of(str(tmp_path / "app/topics/out"))


class Failing(Processor):
    def process(self, records: pa.Table) -> None:
        raise ValueError("as it is written")


def test_stores_are_known_by_name(spark: SparkSession, tmp_path: Path) -> None:
    def build(builder: StreamsBuilder, script: Script) -> None:
        builder.table("rows", script.topic("rows", value="n"), store="rows")

    script = Script(spark, tmp_path, build)
    script.feed("rows", [("a", "", 1, 1), ("a", "", 2, 2), ("b", "", 1, 1), ("b", "", None, 3)])
    app = script.run()
    with app.store("rows") as store:
        assert (store.get("a"), store.get("b"), store.approximateNumEntries()) == (2, None, 1)
    with pytest.raises(SettingsError, match="one of 'rows'"):
        app.store("row")
    assert seconds(rows_of(app.store_path("rows"))[0]["timestamp"]) in {2.0, 3.0}
