"""`aggregate`: sketches and plain aggregates per key of a bounded frame, in two stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import BinaryType, DataType, DecimalType, StringType, StructField, StructType

from sketches.timed import TimedSketch
from spark_ext.errors import SchemaError, SettingsError
from spark_ext.names import column
from spark_ext.sketching.counting import counted
from spark_ext.sketching.measure import SketchOf, sees_hashes
from spark_ext.sketching.partial import Layout, Merged, Partial
from spark_ext.sketching.table_schema import Measure, measure_of
from spark_ext.state.keys import check_key, check_text
from spark_ext.state.packing import BLOB, BUCKET
from spark_ext.windows.aggregates.aggregate import Aggregate
from spark_ext.windows.aggregates.basic import Count, Sum
from spark_ext.windows.aggregates.ordered import Edge, Extreme
from spark_ext.windows.aggregates.ranked import Collect

__all__ = ["aggregate"]

MOST_PARTS: Final = 16_384


def aggregate(frame: DataFrame, *, keys: Sequence[str], aggregates: Mapping[str, Aggregate], count_first: bool = False) -> DataFrame:
    """Aggregate a bounded frame by key: sketches (`sketch`), and what `spark_ext.windows.aggregates` has.

    Guarantee: one row per key, as ``groupBy`` has it (null is a key, NaN equals NaN, -0.0 equals 0.0); without keys one row, also of no
    rows. The answer is that of one pass over the rows, for any partitioning: byte for byte for sketches whose class says so, by guarantee
    or distribution for the others. Rows are not shuffled: partial states of each partition are.

    Parameters
    ----------
    frame : DataFrame
        Bounded. A stream is aggregated by `spark_ext.windows.aggregate`, whose global window with ``each_batch()`` gives running values.
    keys : sequence of str
        Columns to group by, of any type but array and map; may be empty.
    aggregates : mapping of str to Aggregate
        Name of each result, and how it comes about. Not those that order by event time: `first`, `last`, `collect`.
    count_first : bool
        Let the JVM count equal rows (of the keys and all columns that are read), so that only distinct ones cross to Python, with their
        number as weight. The same answer, of full hot lists one within the same bounds; several times as fast where few rows differ,
        slower where most do. For counts, distinct counts, Bloom filters, Count-Min that is not conservative, and hot lists.

    Returns
    -------
    DataFrame
        The keys and the results; sketches as ``binary``. Metadata of the columns say how they are added up, as a sketch table's do.

    Raises
    ------
    SettingsError
        A stream; no aggregates; two columns of one name; `count_first` with an aggregate that is another one then.
    SchemaError
        A column is missing, or of a type that cannot be used.

    State: in each task one state for each of its keys; see each sketch for its size.
    """
    layout, wire = _laid_out(frame, keys, aggregates)
    rows = frame.select(*wire)
    if count_first:
        layout, rows = counted(layout, rows, list(aggregates))
    parts = max(1, min(MOST_PARTS, int(frame.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1))) if keys else 1
    partial = rows.mapInArrow(Partial(layout, parts), f"{BUCKET} int, {BLOB} binary")
    merged = partial.repartition(parts, BUCKET).mapInArrow(Merged(layout), from_arrow_schema(layout.results))
    names = [*keys, *aggregates]
    named = zip(layout.results.names, names, [None] * len(keys) + list(aggregates.values()), strict=True)
    return merged.select(*(_result(place, one).alias(name, metadata=_added_up(one)) for place, name, one in named))


def _laid_out(frame: DataFrame, keys: Sequence[str], aggregates: Mapping[str, Aggregate]) -> tuple[Layout, list[Column]]:
    """Check what was asked for, and return what workers need to know and the columns that cross to them."""
    if frame.isStreaming:
        todo = "use spark_ext.windows.aggregate; with global_window() and each_batch() it gives running values"
        raise SettingsError("aggregate", "stream", "in two stages", expected="a bounded frame", got="a stream", todo=todo)
    names = [*keys, *aggregates]
    if isinstance(keys, str) or not aggregates or len({name.lower() for name in names}) != len(names):
        expected = "a sequence of keys, and at least one result, each with a name of its own"
        raise SettingsError("aggregate", "frame by", repr(keys), expected=expected, got=repr(names), todo="correct the names")
    for name, one in aggregates.items():
        if _needs_times(one):
            why, todo = "a bounded frame has no event time here", "name the column of times, or use spark_ext.windows.aggregate"
            raise SettingsError("aggregate", "result", name, expected="an aggregate without event time", got=repr(one), why=why, todo=todo)
    inputs: dict[str, Column] = {}
    kinds: dict[str, DataType] = {}
    placed: list[Aggregate] = []
    for one in aggregates.values():
        for name in (*keys, *one.inputs):
            if name not in frame.columns:
                raise SchemaError("read", "column", name, expected=f"one of {frame.columns}", got="no such column", todo="correct the name")
        asked, taken = _hashed(one, frame)
        placed.append(asked)
        for name in asked.inputs:
            inputs.setdefault(name, taken.get(name, column(name)))
            kinds.setdefault(name, frame.select(inputs[name].alias("c")).schema["c"].dataType)
    rows = to_arrow_schema(StructType([StructField(name, kind) for name, kind in kinds.items()]), timezone="UTC")
    found = to_arrow_schema(StructType([frame.schema[name] for name in keys]), timezone="UTC")
    for key in found:
        check_key(key.name, key.type)
        check_text(key.name, frame.schema[key.name].dataType.simpleString())
    layout = Layout(pa.schema([pa.field(f"k{at}", _nullable(kind)) for at, kind in enumerate(found.types)]), rows, tuple(placed))
    _ = layout.results  # asks each aggregate whether it can take its columns
    wire = [column(name).alias(f"k{at}") for at, name in enumerate(keys)]
    wire += [taken.alias(f"c{at}") for at, taken in enumerate(inputs.values())]
    return layout, wire or [F.lit(0).alias("k")]


def _nullable(kind: pa.DataType) -> pa.DataType:
    """Return a type whose fields may be null, as they are below a struct that is null."""
    if not pa.types.is_struct(kind):
        return kind
    return pa.struct([pa.field(field.name, _nullable(field.type)) for field in kind])


def _hashed(one: Aggregate, frame: DataFrame) -> tuple[Aggregate, dict[str, Column]]:
    """Let the JVM hash what a sketch only sees the hash of, where the value would be more than a word."""
    if type(one) is not SketchOf or one.hashed or not sees_hashes(one.template):
        return one, {}
    kind = frame.schema[one.column].dataType
    if not isinstance(kind, StringType | BinaryType | StructType | DecimalType):
        return one, {}
    name = f"{one.column}\0xxhash64"  # no name that anybody gives
    value = column(one.column)
    return SketchOf(one.template, name, one.weights, one.times, hashed=True), {name: F.when(value.isNotNull(), F.xxhash64(value))}


def _result(place: str, one: Aggregate | None) -> Column:
    # A count of rows that were counted first is a sum, which is null without rows.
    return F.coalesce(F.col(place), F.lit(0)) if isinstance(one, Count) else F.col(place)


def _added_up(one: Aggregate | None) -> dict[str, str]:
    """Return the metadata that say how results of parts make the result of the whole; none where they do not."""
    match one:
        case SketchOf():
            return measure_of(one.template).metadata
        case Count() | Sum():
            return Measure("sum").metadata
        case Extreme(_, largest):
            return Measure("max" if largest else "min").metadata
    return {}


def _needs_times(one: Aggregate) -> bool:
    return isinstance(one, Edge | Collect) or (type(one) is SketchOf and isinstance(one.template, TimedSketch) and one.times is None)
