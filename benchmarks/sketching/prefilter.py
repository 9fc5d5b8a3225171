"""A shuffle join with and without a filter of the dimension's keys: wall, CPU and shuffled bytes, in turns, in one session.

    python -m benchmarks.sketching.prefilter

First what asking costs: the same scan without a filter, with our filter in the JVM and in Python, and with Spark's internal
``BloomFilterMightContain`` (its own bits). Then the join, where 1 % and 50 % of the facts have a partner.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Annotated

import typer
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.classic.column import Column as ClassicColumn

from benchmarks.measure import Cost, cost_of, machine, median_ratio
from spark_ext.session import spark_session
from spark_ext.sketching import prefilter
from spark_ext.sketching.prefilter import KeyFilter

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
IN_JVM = prefilter.LARGEST_IN_JVM


@app.command()
def main(
    rows: Annotated[int, typer.Option(help="facts")] = 5_000_000,
    keys: Annotated[int, typer.Option(help="keys of the dimension")] = 500_000,
    rate: Annotated[float, typer.Option(help="false positives")] = 0.01,
    rounds: Annotated[int, typer.Option(help="turns that count")] = 3,
) -> None:
    print(f"{machine()}; {rows:,} facts, {keys:,} keys, {rate:g} false positives")
    spark = spark_session(
        "benchmark", master="local[2]", conf={"spark.driver.memory": "4g", "spark.ui.enabled": "false",
                                              "spark.sql.autoBroadcastJoinThreshold": "-1"},
    )  # fmt: skip
    spark.sparkContext.setLogLevel("OFF")
    folder = tempfile.mkdtemp(prefix="millrace-prefilter-")
    try:
        dimension = spark.range(keys).select(key_of(F.col("id")).alias("page"), (F.col("id") % 100).alias("topic"))
        dimension.write.parquet(f"{folder}/dimension")
        dimension = spark.read.parquet(f"{folder}/dimension")
        began = time.perf_counter()
        made = KeyFilter.of(dimension, on=["page"], false_positive_rate=rate)
        print(f"made in {time.perf_counter() - began:.2f} s, {len(made.to_bytes()):,} bytes, rate {made.rate:.4f}")
        for share in (0.01, 0.5):
            path = f"{folder}/{share}"
            facts_of(spark, rows, keys, share).write.parquet(path)
            facts = spark.read.parquet(path)
            checksum = facts.agg(F.bit_xor(F.xxhash64("url", "n", "v"))).head()
            assert checksum is not None
            print(f"\n{share:.0%} have a partner, checksum {checksum[0] & (2**64 - 1):016x}")
            asking = {
                "scan": facts,
                "ours in the JVM": asked(made, facts, IN_JVM),
                "ours in Python": asked(made, facts, 0),
                "Spark's internal": facts.where(might_contain(spark, dimension, keys, rate)),
            }
            turns({name: lambda frame=frame: scanned(frame) for name, frame in asking.items()}, rounds, rows)
            joining = {"join": facts, "prefiltered join": asked(made, facts, IN_JVM)}
            turns({name: lambda frame=frame: joined(frame, dimension) for name, frame in joining.items()}, rounds, rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def key_of(number: Column) -> Column:
    return F.concat(F.lit("https://example.org/page/"), number)


def facts_of(spark: SparkSession, rows: int, keys: int, share: float) -> DataFrame:
    """Pages below `keys` have a partner; the others are drawn from ten times as many."""
    drawn = F.abs(F.xxhash64("id"))
    known = F.pmod(F.xxhash64("id", F.lit(1)), F.lit(1000)) < int(share * 1000)
    page = F.when(known, F.pmod(drawn, F.lit(keys))).otherwise(keys + F.pmod(drawn, F.lit(10 * keys)))
    return spark.range(rows).select(key_of(page).alias("url"), F.col("id").alias("n"), F.md5(F.col("id").cast("string")).alias("v"))


def asked(made: KeyFilter, facts: DataFrame, largest_in_jvm: int) -> DataFrame:
    prefilter.LARGEST_IN_JVM = largest_in_jvm  # type: ignore[misc]  # what decides between the two
    return made.apply(facts, on=["url"])


def might_contain(spark: SparkSession, dimension: DataFrame, keys: int, rate: float) -> Column:
    """Spark's own expression, which is internal: a filter of its own kind as a literal."""
    jvm = spark._jvm  # noqa: SLF001 (no public way)
    assert jvm is not None
    hashed = dimension.select(F.xxhash64("page").alias("hash"))
    made = hashed._jdf.stat().bloomFilter("hash", keys, rate)  # noqa: SLF001 (PySpark has none)
    out = jvm.java.io.ByteArrayOutputStream()
    made.writeTo(out)
    inside = jvm.org.apache.spark.sql.classic.ExpressionUtils
    literal = inside.expression(getattr(jvm.org.apache.spark.sql, "functions").lit(out.toByteArray()))  # noqa: B009 (a name py4j hides)
    value = inside.expression(F.xxhash64("url")._jc)  # type: ignore[attr-defined]  # noqa: SLF001
    return ClassicColumn(inside.column(jvm.org.apache.spark.sql.catalyst.expressions.BloomFilterMightContain(literal, value)))


def scanned(facts: DataFrame) -> None:
    facts.agg(F.count(F.lit(1)), F.sum("n"), F.max("v"), F.max("url")).collect()


def joined(facts: DataFrame, dimension: DataFrame) -> None:
    facts.join(dimension, F.col("url") == F.col("page")).groupBy("topic").agg(F.count(F.lit(1)), F.sum("n"), F.max("v")).collect()


def turns(variants: dict[str, Callable[[], None]], rounds: int, rows: int) -> None:
    found: dict[str, list[Cost]] = {name: [] for name in variants}
    for turn in range(rounds + 1):
        for name, work in variants.items():
            cost = cost_of(work)
            if turn:  # the first one warms up
                found[name].append(cost)
    base = next(iter(found.values()))
    for name, costs in found.items():
        wall, cpu = (statistics.median(getattr(one, part) for one in costs) for part in ("wall_s", "cpu_s"))
        by = [median_ratio([getattr(one, part) for one in base], [getattr(one, part) for one in costs]) for part in ("wall_s", "cpu_s")]
        more = 1e9 * statistics.median(one.cpu_s - other.cpu_s for one, other in zip(costs, base, strict=True)) / rows
        print(f"{name:20}{wall:8.2f} s{cpu:8.2f} CPU s{by[0]:8.2f} times as fast{by[1]:8.2f} by CPU{more:10.0f} ns more a fact", flush=True)


if __name__ == "__main__":
    app()
