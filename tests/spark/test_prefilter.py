"""A join of filtered facts is the join of the facts, by pandas; what is left out has no partner; what would be wrong is refused or said."""

from __future__ import annotations

import json
import logging
import math
import os
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sketches import BloomFilter, SketchBytesError, SketchError, hashes
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.sketching import prefilter
from spark_ext.sketching.prefilter import KeyFilter

pytestmark = pytest.mark.spark

PAGES = 2000
FACTS = 20_000


@pytest.fixture(params=["in the JVM", "in Python"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "in Python":
        monkeypatch.setattr(prefilter, "LARGEST_IN_JVM", 0)
    return str(request.param)


def dimension(spark: SparkSession) -> DataFrame:
    """Every tenth page, with a null and pages that come twice."""
    rows = spark.range(PAGES).select(F.concat(F.lit("page-"), F.col("id") * 10).alias("page"), (F.col("id") % 7).alias("topic"))
    return rows.union(rows.limit(50)).union(spark.sql("select cast(null as string), 3L")).repartition(5)


def facts(spark: SparkSession) -> DataFrame:
    page = F.when(F.col("id") % 100 == 0, None).otherwise(F.concat(F.lit("page-"), F.col("id")))
    return spark.range(FACTS).select(page.alias("url"), F.col("id").alias("n"))


def ours(frame: DataFrame) -> pd.DataFrame:
    return frame.toPandas().sort_values("n", ignore_index=True)


def test_the_join_of_what_is_left_is_the_join(spark: SparkSession, either: str) -> None:
    made = KeyFilter.of(dimension(spark), on=["page"], false_positive_rate=0.02)
    all_facts, keys = ours(facts(spark)), set(dimension(spark).toPandas()["page"].dropna())
    kept = ours(made.apply(facts(spark), on=["url"]))
    assert list(kept.columns) == ["url", "n"]
    partners = all_facts[all_facts["url"].isin(keys)]
    assert len(partners) == PAGES - FACTS // 100, "of the pages that facts have, those without the nulls"
    assert set(partners["n"]) <= set(kept["n"])
    strangers = FACTS - FACTS // 100 - len(partners)
    wrong = len(kept) - len(partners)
    assert 0 < wrong < strangers * 0.02 + 5 * math.sqrt(strangers * 0.02)
    assert made.rate == pytest.approx(wrong / strangers, rel=0.5)
    marked = ours(made.mark(facts(spark), on=["url"]))
    assert list(marked.columns) == ["url", "n", "may_match"]
    assert marked["may_match"].dtype == np.bool_, "no nulls"
    assert marked[marked["may_match"]][["url", "n"]].reset_index(drop=True).equals(kept)
    joined = made.apply(facts(spark), on=["url"]).join(dimension(spark), F.col("url") == F.col("page")).select("n", "topic").toPandas()
    expected = partners.merge(dimension(spark).toPandas(), left_on="url", right_on="page")[["n", "topic"]]
    assert sorted(map(tuple, joined.to_numpy())) == sorted(map(tuple, expected.to_numpy()))


def test_both_ways_to_ask_say_what_the_filter_says(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = np.random.default_rng(1)
    rows = spark.range(5000).select("id", F.xxhash64("id").alias("x"))
    for blocks in (1, 7, 300, 5000):
        bloom = BloomFilter(blocks)
        bloom.update_many(dice.integers(0, 5000, 1500))
        made = KeyFilter(bloom, ("bigint",))
        expected = bloom.contains_many(np.arange(5000))
        for limit in (prefilter.LARGEST_IN_JVM, 0):
            with monkeypatch.context() as patch:
                patch.setattr(prefilter, "LARGEST_IN_JVM", limit)
                found = made.mark(rows, on=["id"]).orderBy("id").toPandas()["may_match"].to_numpy()
            assert (found == expected).all(), (blocks, limit)


def test_keys_of_several_columns_and_of_floats(spark: SparkSession, either: str) -> None:
    kind = "a int, b string, d double"
    some: list[Any] = [(1, "x", 0.0), (2, None, 1.0), (None, "y", 1.0), (3, "z", math.nan), (3, "", -0.0)]
    made = KeyFilter.of(spark.createDataFrame(some, kind), on=["a", "b", "d"], false_positive_rate=1e-6)
    asked: list[Any] = [
        (1, "x", -0.0),
        (3, "z", math.nan),
        (3, "", 0.0),
        (1, "z", 0.0),
        (2, None, 1.0),
        (None, "y", 1.0),
        (None, None, None),
    ]
    frame = spark.createDataFrame(asked, kind).coalesce(1)
    assert [row.may_match for row in made.mark(frame, on=["a", "b", "d"]).collect()] == [True] * 3 + [False] * 4
    exact = frame.alias("f").join(spark.createDataFrame(some, kind).alias("d"), ["a", "b", "d"])
    assert exact.count() == 3, "as the join has it"


def test_it_works_on_streams_and_goes_with_the_version_of_a_table(spark: SparkSession, tmp_path: Path, either: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (1, 2):
        aside = tmp_path / f"{number}.json"
        aside.write_text("\n".join(json.dumps({"url": f"page-{one}", "n": 100 * number + one}) for one in range(100)))
        os.utime(aside, (number, number))
        aside.rename(folder / aside.name)
    stored = KeyFilter.of(dimension(spark), on=["page"], false_positive_rate=1e-6).to_bytes()
    found: list[Any] = []
    stream = spark.readStream.schema("url string, n bigint").option("maxFilesPerTrigger", 1).json(str(folder))
    marked = KeyFilter.from_bytes(stored).mark(stream, on=["url"], into="known")
    writer = marked.writeStream.foreachBatch(lambda rows, _: found.extend(rows.collect()))
    query = writer.option("checkpointLocation", str(tmp_path / "checkpoint")).trigger(availableNow=True).start()
    assert query.awaitTermination(200)
    assert len(query.recentProgress) == 2
    assert {row.n for row in found if row.known} == {100 * number + one for number in (1, 2) for one in range(0, 100, 10)}
    assert len(found) == 200


def test_a_key_that_came_later_is_dropped_until_it_is_added(spark: SparkSession) -> None:
    made = KeyFilter.of(dimension(spark), on=["page"], false_positive_rate=1e-6, expected_keys=3000)
    new = spark.createDataFrame([("page-1",), (None,)], "page string")
    assert made.apply(new, on=["page"]).count() == 0
    larger = made.with_keys(new, on=["page"])
    assert larger.apply(new, on=["page"]).count() == 1
    assert made.apply(new, on=["page"]).count() == 0, "a filter is a value"
    assert larger.apply(dimension(spark).dropna(), on=["page"]).count() == PAGES + 50


def test_a_filter_is_that_of_sketches_made_by_hand(spark: SparkSession) -> None:
    made = KeyFilter.of(dimension(spark), on=["page"], false_positive_rate=0.01, expected_keys=PAGES)
    by_hand = BloomFilter.from_error(capacity=PAGES, false_positive_rate=0.01)
    by_hand.update_hashes(hashes(pa.array([f"page-{10 * one}" for one in range(PAGES)])))
    assert made.to_bytes() == KeyFilter(by_hand, ("string",)).to_bytes()
    empty = KeyFilter.of(dimension(spark).limit(0), on=["page"], false_positive_rate=0.01)
    assert empty.rate == 0.0
    assert empty.apply(facts(spark), on=["url"]).count() == 0


def test_too_many_keys_are_taken_and_said(spark: SparkSession, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger=prefilter.__name__):
        made = KeyFilter.of(dimension(spark), on=["page"], false_positive_rate=0.01, expected_keys=200)
    assert "room was made for 200: facts without a partner are kept at a rate of" in caplog.text
    assert made.rate > 0.5
    assert made.apply(dimension(spark), on=["page"]).count() == PAGES + 50, "none is lost"


def test_what_would_be_wrong_is_refused(spark: SparkSession) -> None:
    numbers = spark.range(10)
    made = KeyFilter.of(numbers, on=["id"], false_positive_rate=0.01)
    with pytest.raises(
        SchemaError, match=r"cannot filter by key 'n': expected bigint, got int; equal values of two types .*; cast the key"
    ):
        made.apply(numbers.select(F.col("id").cast("int").alias("n")), on=["n"])
    with pytest.raises(SchemaError, match="expected bigint, got bigint, bigint"):
        made.apply(numbers, on=["id", "id"])
    with pytest.raises(SchemaError, match="cannot filter by key 'x': expected one of"):
        made.apply(numbers, on=["x"])
    with pytest.raises(SettingsError, match=r"expected a list of one column or more, got 'id'"):
        made.apply(numbers, on="id")
    stream = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 1).load()
    for make in (lambda: KeyFilter.of(stream, on=["value"], false_positive_rate=0.01), lambda: made.with_keys(stream, on=["value"])):
        with pytest.raises(SettingsError, match="got a stream; a stream's keys are not all there"):
            make()
    for kind in ("array(id)", "map(id, id)", "cast(id as string) collate utf8_lcase", "struct(array(id))"):
        with pytest.raises(SchemaError, match="a type that has an equality and a hash"):
            KeyFilter.of(numbers.selectExpr(f"{kind} as k"), on=["k"], false_positive_rate=0.01)
    with pytest.raises(SchemaError, match="cannot add column 'ID': expected a new name"):
        made.mark(numbers, on=["id"], into="ID")
    with pytest.raises(SketchError, match="false_positive_rate"):
        KeyFilter.of(numbers, on=["id"], false_positive_rate=0)


def test_bytes_that_are_not_a_filter_are_refused() -> None:
    stored = KeyFilter(BloomFilter(3), ("string", "int")).to_bytes()
    assert KeyFilter.from_bytes(stored).kinds == ("string", "int")
    for place in range(8 * len(stored)):
        damaged = bytearray(stored)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(SketchBytesError, match=r"cannot read bytes of 'key filter'.*make the filter anew from the dimension"):
            KeyFilter.from_bytes(bytes(damaged))
    for size in range(len(stored)):
        with pytest.raises(SketchBytesError):
            KeyFilter.from_bytes(stored[:size])
    for header in (b"no json", b"{}", b"[]", b'{"kinds": 3}', b"\xff"):
        body = struct.pack("<I", len(header)) + header + BloomFilter(3).to_bytes()
        with pytest.raises(SketchBytesError, match="expected a header with the types of the keys"):
            KeyFilter.from_bytes(b"MRKF" + struct.pack("<HHI", 1, 0, google_crc32c.value(body)) + body)
