"""Kernels of the bridges: elements as record batches, sketches by key; beside plain lists and one sketch per key."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import Row
from pyspark.sql import types as T

from sketches import BloomFilter, HyperLogLog, ReservoirSample, Sketch
from spark_ext.dstream.bridges.frame_kernel import infer, record_batch
from spark_ext.dstream.bridges.sketch_kernel import merged, salt_of, sketched
from spark_ext.dstream.columns.blocks import Block, pack, packed, unpack
from spark_ext.errors import SchemaError

WORDS = T.StructType([T.StructField("word", T.StringType()), T.StructField("n", T.LongType())])
BATCH = "batch 7 of map at job.py:3"


def one(kind: T.DataType, nullable: bool = True) -> T.StructType:
    return T.StructType([T.StructField("x", kind, nullable)])


@given(st.lists(st.tuples(st.none() | st.text(max_size=5), st.none() | st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=30))
@settings(max_examples=60)
def test_columns_are_those_of_the_elements_whatever_the_block(elements: list[tuple[str | None, int | None]]) -> None:
    columns = [list(column) for column in zip(*elements, strict=True)]
    for block in (list(elements), pack(elements)):
        assert [column.to_pylist() for column in record_batch(block, WORDS, where=BATCH).columns] == columns


def test_rows_dicts_lists_and_values() -> None:
    def columns(block: Block, schema: T.StructType) -> list[list[Any]]:
        return [column.to_pylist() for column in record_batch(block, schema, where=BATCH).columns]

    rows = [Row(word="a", n=1), ["b", 2], {"n": 3, "word": "c"}, {"word": "d"}]
    assert columns(rows, WORDS) == [["a", "b", "c", "d"], [1, 2, 3, None]]
    assert columns(pack([3, 5]), one(T.IntegerType())) == columns([3, (5,)], one(T.IntegerType())) == [[3, 5]]
    assert columns(pack([1, 2]), one(T.DoubleType())) == [[1.0, 2.0]]
    assert columns([None, "a"], one(T.StringType())) == [[None, "a"]]


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (T.LongType(), 1, "1"),
        (T.LongType(), 1, 1.0),
        (T.LongType(), 1, True),
        (T.LongType(), 1, 2**63),
        (T.ByteType(), 127, 128),
        (T.DoubleType(), 1, 2**53 + 1),
        (T.StringType(), "a", 1),
        (T.StringType(), "a", "\ud800"),
        (T.BooleanType(), True, 1),
        (T.DateType(), date(2024, 1, 1), "2024-01-01"),
        (T.TimestampType(), datetime(2024, 1, 1, tzinfo=UTC), 1704067200),
        (T.DecimalType(4, 2), Decimal("12.34"), Decimal(123)),
        (T.DecimalType(4, 2), Decimal("12.34"), 12.34),
        (T.BinaryType(), b"a", "a"),
        (T.ArrayType(T.LongType()), [1], ["a"]),
        (T.MapType(T.StringType(), T.LongType()), {"a": 1}, {"a": "b"}),
    ],
)
def test_a_value_that_does_not_fit_is_named(kind: T.DataType, good: Any, bad: Any) -> None:
    schema = one(kind)
    for elements in ([(good,), (bad,), (good,)], [(good,), (None,), (bad,)], [(bad,)]):
        for block in (elements, pack(elements)):
            with pytest.raises(SchemaError) as caught:
                record_batch(block, schema, where=BATCH)
            text = str(caught.value)
            assert text.startswith(f"cannot make data frame of '{BATCH}': expected values for column 'x' {kind.simpleString()}")
            assert f"got {bad!r} ({type(bad).__name__})" in text


def test_none_where_none_must_be_and_elements_of_another_width_are_named() -> None:
    with pytest.raises(SchemaError, match=r"column 'x' bigint not null, got None"):
        record_batch(pack([(1,), (None,)]), one(T.LongType(), nullable=False), where=BATCH)
    for block in ([("a", 1), ("b", 1, 2)], pack([("b", 1, 2)])):
        with pytest.raises(SchemaError, match=r"expected elements for struct<word:string,n:bigint>, got \('b', 1, 2\)"):
            record_batch(block, WORDS, where=BATCH)
    with pytest.raises(SchemaError, match="got 'abc'; an element needs 2 values"):
        record_batch(pack(["abc"]), WORDS, where=BATCH)


def test_types_are_those_of_the_elements() -> None:
    assert infer(pack([("a", 1)]), ["word", "n"]) == WORDS
    assert infer([("a", None), (None, 1)], ["word", "n"]) == WORDS
    assert infer([Row(word="a", n=1)], None) == WORDS
    assert infer(pack([("a", 1)]), None).names == ["_1", "_2"]
    assert infer(pack(["a"]), None) == T.StructType([T.StructField("value", T.StringType())])
    assert infer(pack(["a"]), ["word"]).names == ["word"]
    assert infer([(Decimal(1), [1.5])], ["d", "l"])["l"].dataType == T.ArrayType(T.DoubleType())
    with pytest.raises(SchemaError, match=r"got only None in 'n'"):
        infer([("a", None)], ["word", "n"])
    with pytest.raises(SchemaError, match=r"for columns 'word'"):
        infer([("a", 1)], ["word"])
    with pytest.raises(SchemaError, match="cannot infer schema"):
        infer([(1,), ([1],)], ["word"])


KEYS = st.one_of(st.none(), st.integers(0, 3), st.sampled_from(["a", "b", "ä"]), st.tuples(st.integers(0, 1), st.text("ab", max_size=1)))
VALUES = st.one_of(st.none(), st.integers(-5, 5), st.text("xyz", max_size=2), st.floats(allow_nan=False, width=32))


def by_hand(template: Sketch, pairs: Iterable[tuple[Any, Any]]) -> dict[Any, bytes]:
    made: dict[Any, Sketch] = defaultdict(template.copy)
    for key, value in pairs:
        made[key].update(value)
    return {key: found.to_bytes() for key, found in made.items()}


def pairs_of(blocks: Iterable[Block]) -> list[tuple[Any, bytes]]:
    return [pair for block in blocks for pair in unpack(block)]


@given(st.lists(st.tuples(KEYS, VALUES), max_size=40), st.integers(1, 7), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_sketches_are_those_of_each_keys_values_however_they_lie(pairs: list[tuple[Any, Any]], rows: int, parts: int) -> None:
    for template in (HyperLogLog(6), BloomFilter.from_error(capacity=100, false_positive_rate=0.1)):
        stored: list[Block] = []
        for part in range(parts):
            found = list(sketched(template, packed(pairs[part::parts], rows), time_us=0, salt=salt_of(0, part)))
            assert len(dict(pairs_of(found))) == len(pairs_of(found))  # each key once
            stored.extend(found)
        assert dict(pairs_of(merged(template, stored))) == by_hand(template, pairs)


def test_keys_of_one_type_and_of_several() -> None:
    for pairs in ([("a", 1), ("b", 2), ("a", 3)], [("a", 1), (None, 2), (None, 2)], [(1, "x"), ("1", "x"), ((1,), "x")]):
        found = dict(pairs_of(sketched(HyperLogLog(6), packed(pairs), time_us=0, salt=0)))
        assert found == by_hand(HyperLogLog(6), pairs)


def samples(pairs: Sequence[tuple[Any, Any]], salt: int) -> list[Any]:
    ((_, stored),) = pairs_of(sketched(ReservoirSample(3, seed=1), packed(pairs), time_us=0, salt=salt))
    return sorted(ReservoirSample.from_bytes(stored).sample())


def test_samples_of_other_partitions_and_batches_draw_other_numbers_but_a_batch_again_the_same() -> None:
    pairs = [("k", value) for value in range(200)]
    assert samples(pairs, salt_of(1, 0)) == samples(pairs, salt_of(1, 0))
    drawn = [samples(pairs, salt_of(time_us, part)) for time_us in (1, 2) for part in (0, 1)]
    assert len({tuple(one) for one in drawn}) == 4


def test_nan_is_no_value_where_the_sketch_refuses_it() -> None:
    from sketches import Quantiles  # noqa: PLC0415

    ((_, stored),) = pairs_of(sketched(Quantiles(), packed([("k", 1.0), ("k", math.nan), ("k", 3.0)]), time_us=0, salt=0))
    assert Quantiles.from_bytes(stored).count == 2
