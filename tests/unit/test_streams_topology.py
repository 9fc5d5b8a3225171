"""Topologies without Spark: names, where they are cut, what they say, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pyspark.sql.types import StructType

from spark_ext.errors import SchemaError, SettingsError
from spark_ext.streams import (
    Consumed,
    JoinWindows,
    KTable,
    Processor,
    Produced,
    SessionWindows,
    SlidingWindows,
    Stores,
    StreamsBuilder,
    TimeWindows,
)  # fmt: skip
from spark_ext.streams.store_table import key_columns
from spark_ext.windows import aggregates, count_tumbling

MINUTE = timedelta(minutes=1)
TUMBLING = TimeWindows.ofSizeWithNoGrace(MINUTE)


def topic(**more: Any) -> Consumed:
    return Consumed(read=_unread, timestamp="at", key="k", **more)


def _unread(_: Any) -> Any:
    raise AssertionError("a topology is built without reading")


def shape(build: Callable[[StreamsBuilder], object]) -> list[tuple[str | None, list[list[str]], list[str], list[str]]]:
    """Of each sub-topology its head, what it reads, what it keeps for others, and where it writes."""
    builder = StreamsBuilder()
    build(builder)
    return [
        (one.head.name if one.head else None, [[leaf.name for leaf in leaves] for leaves in one.inputs],
         [leaf.name for leaf in one.kept], [getattr(sink, "store", sink.name) for sink in one.sinks])
        for one in builder.build().sub_topologies
    ]  # fmt: skip


def test_it_says_what_it_is_as_kafka_streams_does() -> None:
    builder = StreamsBuilder()
    lines = builder.stream("lines", topic())
    counts = lines.flatMapValues(lambda v: v.words).groupBy(lambda k, v: v).count(store="counts")
    counts.filter(lambda v: v > 1).toStream().groupByKey().windowedBy(TUMBLING).count(name="again").toStream().to("out")
    assert (
        builder.build().describe()
        == """\
Topologies:
  Sub-topology: 0
    Source: KSTREAM-SOURCE-0000000000 (topics: [lines])
      --> KSTREAM-FLATMAPVALUES-0000000001
    Processor: KSTREAM-FLATMAPVALUES-0000000001 (stores: [])
      --> KSTREAM-KEY-SELECT-0000000002
      <-- KSTREAM-SOURCE-0000000000
    Processor: KSTREAM-KEY-SELECT-0000000002 (stores: [])
      --> KSTREAM-AGGREGATE-0000000003
      <-- KSTREAM-FLATMAPVALUES-0000000001
    Processor: KSTREAM-AGGREGATE-0000000003 (stores: [KSTREAM-AGGREGATE-0000000003-state])
      --> KTABLE-STORE-0000000004, KSTREAM-AGGREGATE-0000000003-repartition-sink
      <-- KSTREAM-KEY-SELECT-0000000002
    Processor: KTABLE-STORE-0000000004 (stores: [counts])
      --> none
      <-- KSTREAM-AGGREGATE-0000000003
    Sink: KSTREAM-AGGREGATE-0000000003-repartition-sink (topic: KSTREAM-AGGREGATE-0000000003-repartition)
      <-- KSTREAM-AGGREGATE-0000000003
  Sub-topology: 1
    Source: KSTREAM-AGGREGATE-0000000003-repartition-source (topics: [KSTREAM-AGGREGATE-0000000003-repartition])
      --> KTABLE-FILTER-0000000005
    Processor: KTABLE-FILTER-0000000005 (stores: [])
      --> KTABLE-TOSTREAM-0000000006
      <-- KSTREAM-AGGREGATE-0000000003-repartition-source
    Processor: KTABLE-TOSTREAM-0000000006 (stores: [])
      --> again
      <-- KTABLE-FILTER-0000000005
    Processor: again (stores: [again-state])
      --> KTABLE-TOSTREAM-0000000008
      <-- KTABLE-TOSTREAM-0000000006
    Processor: KTABLE-TOSTREAM-0000000008 (stores: [])
      --> KSTREAM-SINK-0000000009
      <-- again
    Sink: KSTREAM-SINK-0000000009 (topic: out)
      <-- KTABLE-TOSTREAM-0000000008"""
    )


def test_steps_without_state_are_one_query_however_many_there_are() -> None:
    def build(builder: StreamsBuilder) -> None:
        rows = builder.stream("rows", topic(), name="rows")
        for name, part in rows.split().branch(lambda v: v > 1, name="many").defaultBranch(name="few").items():
            part.mapValues(lambda v: v).to(name, name=f"to-{name}")

    assert shape(build) == [(None, [["rows"]], [], ["to-many", "to-few"])]


def test_each_operator_with_state_is_a_query_and_one_behind_another_reads_its_table() -> None:
    def build(builder: StreamsBuilder) -> None:
        rows = builder.stream("rows", topic(), name="rows")
        rows.groupByKey().windowedBy(TUMBLING).count(name="first").toStream().groupByKey().count(name="second", store="s")
        rows.groupByKey().count(name="third", store="t")

    heads = [(head, reads, keeps) for head, reads, keeps, _ in shape(build)]
    assert heads == [("first", [["rows"]], ["first"]), ("third", [["rows"]], []), ("second", [["first"]], [])]


def test_a_merge_of_what_an_operator_made_with_something_else_is_a_query_of_both() -> None:
    def build(builder: StreamsBuilder) -> None:
        rows, more = builder.stream("rows", topic(), name="rows"), builder.stream("more", topic(), name="more")
        counts = rows.groupByKey().count(name="counts").toStream()
        counts.to("alone", name="alone")
        counts.merge(more).to("both", name="both")
        rows.merge(more).groupByKey().count(name="of-both", store="s")

    assert shape(build) == [
        ("counts", [["rows"]], ["counts"], ["alone"]),
        ("of-both", [["rows", "more"]], [], ["s"]),
        (None, [["more", "counts"]], [], ["both"]),
    ]


def test_a_merge_of_what_two_operators_made_is_a_query_of_its_own() -> None:
    def build(builder: StreamsBuilder) -> None:
        rows = builder.stream("rows", topic(), name="rows")
        one, other = (rows.groupByKey().count(name=name).toStream() for name in ("one", "other"))
        one.merge(other).to("both", name="both")

    assert shape(build) == [
        ("one", [["rows"]], ["one"], []),
        ("other", [["rows"]], ["other"], []),
        (None, [["one", "other"]], [], ["both"]),
    ]


def test_time_is_kept_only_where_somebody_waits_for_it() -> None:
    builder = StreamsBuilder()
    rows = builder.stream("rows", topic(), name="rows")
    rows.groupByKey().count(name="alone", store="a")
    rows.groupByKey().count(name="watched").toStream().groupByKey().windowedBy(TUMBLING).count(name="windows", store="w")
    needs = {one.head.name: one.needs_time for one in builder.build().sub_topologies if one.head}
    assert needs == {"alone": False, "watched": True, "windows": True}


def test_a_lookup_is_done_where_its_stream_is_and_comes_behind_the_tables_query() -> None:
    def build(builder: StreamsBuilder) -> None:
        views = builder.stream("views", topic(), name="views")
        table = views.groupByKey().count(name="counts")
        joined = views.join(table, lambda v, count: v, name="joined")
        joined.to("out", name="out")
        joined.groupByKey().count(name="after", store="s")

    assert shape(build) == [
        ("counts", [["views"]], [], ["counts-store"]),
        (None, [["views"]], ["joined"], ["out"]),
        ("after", [["joined"]], [], ["s"]),
    ]


def test_joins_of_streams_have_two_inputs_and_tables_are_changes_first() -> None:
    def build(builder: StreamsBuilder) -> None:
        left, right = builder.stream("l", topic(), name="l"), builder.stream("r", topic(), name="r")
        left.outerJoin(right, lambda v, o: v, JoinWindows.ofTimeDifferenceWithNoGrace(MINUTE), name="near").to("near", name="to")
        orders, customers = builder.table("o", topic(), name="o"), builder.table("c", topic(), name="c")
        orders.join(customers, lambda v: v.customer, lambda v, o: v, name="foreign", store="f")
        orders.leftJoin(customers, lambda v, o: v, name="by-key", store="k")
        orders.groupBy(lambda k, v: (v, v)).count(name="grouped", store="g")

    heads = [(head, reads, keeps) for head, reads, keeps, _ in shape(build)]
    changes = "KTABLE-CHANGES-0000000007"
    assert heads == [
        ("near", [["l"], ["r"]], []),
        (changes, [["o"]], [changes]),
        ("by-key", [["o"], ["c"]], []),
        ("foreign", [[changes], ["c"]], []),
        ("grouped", [[changes]], []),
    ]


def test_a_topic_that_is_written_here_is_read_behind_it() -> None:
    def build(builder: StreamsBuilder) -> None:
        builder.stream("middle", name="later").groupByKey().count(name="count", store="s")
        builder.stream("rows", topic(), name="rows").to("middle", name="to")

    assert [(head, reads) for head, reads, _, _ in shape(build)] == [(None, [["rows"]]), ("count", [["later"]])]


def test_outputs_of_a_processor_are_streams_of_their_own() -> None:
    def build(builder: StreamsBuilder) -> None:
        builder.addStateStore(Stores.keyValueStore("seen", "key string, n bigint"))
        rows = builder.stream("rows", topic(), name="rows")
        parts = rows.process(Processor, {"good": "key string, n bigint", "bad": "key string, why string"}, stores=["seen"], name="p")
        parts["good"].to("good", name="to-good")
        parts["bad"].groupByKey().count(name="count", store="s")

    assert shape(build) == [
        ("p", [["rows"]], ["p-bad"], ["to-good"]),
        ("count", [["p-bad"]], [], ["s"]),
    ]


def test_windows_give_out_only_final_results_if_all_who_read_them_wait_for_those() -> None:
    for suppressed in (True, False):
        builder = StreamsBuilder()
        counts = builder.stream("rows", topic()).groupByKey().windowedBy(TUMBLING).count(name="counts")
        counts.suppress().toStream().to("final")
        if not suppressed:
            counts.toStream().to("updates")
        (one,) = builder.build().sub_topologies
        assert getattr(one.head, "only_final", None) is suppressed


def test_it_knows_whether_what_an_operator_rejects_was_read_as_such() -> None:
    for more in (True, False):
        builder = StreamsBuilder()
        rows = builder.stream("rows", topic()).mapValues(lambda v: v)
        (rows.flatMapValues(lambda v: v) if more else rows).groupByKey().count(store="s")
        (one,) = builder.build().sub_topologies
        assert one.takes_what_it_reads is not more


def two_stores(builder: StreamsBuilder) -> None:
    rows = builder.stream("rows", topic())
    rows.groupByKey().count(store="s")
    rows.groupByKey().count(store="s")


def two_sinks(builder: StreamsBuilder) -> None:
    builder.stream("rows", topic()).to("out")
    builder.stream("more", topic()).to("out")


def a_circle(builder: StreamsBuilder) -> None:
    builder.stream("a").groupByKey().count().toStream().to("b")
    builder.stream("b").groupByKey().count().toStream().to("a")


def from_an_outbox(builder: StreamsBuilder) -> None:
    builder.stream("rows", topic()).to("out", produced=Produced())
    builder.stream("out").groupByKey().count(store="s")


def ungrouped(builder: StreamsBuilder) -> KTable:
    return builder.stream("rows", topic()).groupByKey().count()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda b: b.stream("rows", topic()), "no sink, store or processor"),
        (lambda b: b.stream("rows").to("out"), "'rows': expected a topic with Consumed"),
        (two_stores, "'s': expected one node that writes a store, got 2"),
        (two_sinks, "'out': expected one node that writes a topic, got 2"),
        (a_circle, "records that go one way"),
        (from_an_outbox, "an outbox for Kafka"),
        (lambda b: b.stream("rows", topic(), name="x") and b.stream("rows", topic(), name="x"), "node 'x': expected a name of its own"),
        (lambda b: b.stream("rows", topic(), name="a/b"), "letters, digits"),
        (lambda b: ungrouped(b).suppress(), "a table of time windows"),
        (lambda b: ungrouped(b).suppress("until_time_limit"), "until_window_closes"),
        (lambda b: b.stream("rows", topic()).groupByKey().windowedBy(count_tumbling(3).without_grace()).count(), "windows over event time"),
        (lambda b: b.stream("rows", topic()).process(Processor, "n bigint"), "key, and columns of the value"),
        (lambda b: b.stream("rows", topic()).process(Processor, "key string, n bigint", stores=["no"]), "store 'no'"),
        (lambda b: b.stream("rows", topic()).process(Processor, "key string, n int", ticks=timedelta(milliseconds=500)), "whole seconds"),
        (lambda b: b.stream("rows", topic()).flatMapInPandas(lambda f: f, "key string, n bigint"), "key and timestamp"),
        (lambda b: b.stream("rows", topic()).join(b.stream("more", topic()), lambda v, o: v), "arguments joiner, windows"),
        (lambda b: b.stream("rows", topic()).join("table", lambda v, o: v), "a KStream, KTable or GlobalKTable"),
        (lambda b: b.stream("rows", topic()).split().branch(lambda v: v, name="a").defaultBranch(name="a"), "names that differ"),
        (lambda b: Stores.keyValueStore("s", "key string", keys=["k"]), "keys among the columns"),
        (lambda b: TUMBLING.advanceBy(timedelta(minutes=2)), "advance above 0"),
        (lambda b: JoinWindows.ofTimeDifferenceWithNoGrace(MINUTE).before(-2 * MINUTE), "-before <= after"),
        (lambda b: SlidingWindows.ofTimeDifferenceWithNoGrace(-MINUTE), "0 or more"),
        (lambda b: SessionWindows.ofInactivityGapWithNoGrace(timedelta(0)), "session"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_when_it_is_built(build: Callable[[StreamsBuilder], object], message: str) -> None:
    builder = StreamsBuilder()
    with pytest.raises(SettingsError, match=message):  # noqa: PT012 (either of them)
        build(builder)
        builder.build()


def test_aggregates_are_those_of_windows() -> None:
    builder = StreamsBuilder()
    builder.stream("rows", topic()).groupByKey().aggregate({"n": aggregates.sum("n")}, store="s")
    (one,) = builder.build().sub_topologies
    assert dict(getattr(one.head, "aggregates", {})) == {"n": aggregates.sum("n")}


def test_fields_of_a_key_that_would_be_one_column_are_refused() -> None:
    kind = StructType().add("a", StructType().add("b", "integer")).add("a_b", "integer")
    with pytest.raises(SchemaError, match="expected fields that make columns of their own, got key_a_b, key_a_b"):
        key_columns(kind)
