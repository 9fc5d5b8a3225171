"""The writers of Spark's frames: for what does not fit the driver. They leave the same as those of `by_driver`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_
from typing import Final

import delta.exceptions  # noqa: F401 (gives Delta's conflicts Python classes)
import pyarrow as pa
from delta.tables import DeltaMergeBuilder, DeltaTable
from deltalake import DeltaTable as Known
from deltalake import Schema
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.types import ArrayType, MapType, StructField, StructType

from spark_ext.delta.combining import ByKey, Combine, Pairs, several_rows
from spark_ext.delta.commits import commits, open_table, skipped, written_by
from spark_ext.delta.fit import Fit, check_keys, fit, schema_of, schema_of_frame
from spark_ext.delta.rules import (
    CHANGE_FEED,
    IS_CURRENT,
    OWN,
    ROW_GROUP,
    VALID_FROM,
    VALID_TO,
    check_history,
    duplicate_keys,
    free_name,
    null_sequence,
    without_sign,
)  # fmt: skip
from spark_ext.delta.txn import WRITE, Stamp, Txn, Written
from spark_ext.names import quoted
from spark_ext.state.signed import SIGN

__all__ = ["append", "apply_changes", "combine", "history", "upsert"]

ROW_LIMIT: Final = "parquet.block.row.count.limit"
TXN: Final = ("spark.databricks.delta.write.txnAppId", "spark.databricks.delta.write.txnVersion")


def append(frame: DataFrame, path: str, *, txn: Txn | None, evolve: bool) -> Written:
    """Add rows; see `spark_ext.delta.append`."""
    table = open_table(path)
    done = skipped(table, path, txn, "spark")
    if done is not None:
        return done
    plan = fit(schema_of_frame(frame), schema_of(table), path=path, evolve=evolve)
    return _add(table, plan.spark(frame), path, txn, evolves=bool(plan.added))


def upsert(frame: DataFrame, path: str, *, keys: Sequence[str], sequence: str | None, txn: Txn | None, evolve: bool) -> Written:
    """Bring rows up to date; see `spark_ext.delta.upsert`."""
    table = open_table(path)
    done = skipped(table, path, txn, "spark")
    if done is not None:
        return done
    plan = fit(schema_of_frame(frame), schema_of(table), path=path, evolve=evolve)
    keys, sequence = check_keys(plan, keys, sequence)
    rows = plan.spark(frame)
    if sequence is not None:
        rows = _latest(rows, keys, sequence)
    elif _has_duplicates(rows, keys):
        raise duplicate_keys(path, keys)
    if table is None:
        return _add(None, rows, path, txn, evolves=False)
    stamp = Stamp.of(txn)
    merger = _merge(rows, path, keys, txn, stamp, plan)
    new, old = (None, None) if sequence is None else (f"new.{quoted(sequence)}", f"old.{quoted(sequence)}")
    columns = _all(rows.columns)
    merger = merger.whenMatchedUpdate(None if sequence is None else f"{new} >= {old} OR {old} IS NULL", columns)
    merger.whenNotMatchedInsert(values=columns).execute()
    return _written(table, path, txn, stamp)


def apply_changes(frame: DataFrame, path: str, *, keys: Sequence[str], sequence: str | None, txn: Txn | None, evolve: bool) -> Written:
    """Bring rows with a sign into a table; see `spark_ext.delta.apply_changes`."""
    table = open_table(path)
    done = skipped(table, path, txn, "spark")
    if done is not None:
        return done
    plan = fit(without_sign(schema_of_frame(frame)), schema_of(table), path=path, evolve=evolve)
    keys, sequence = check_keys(plan, keys, sequence)
    names = [quoted(name) for name in frame.columns if name != SIGN]
    net = frame.groupBy(*names).agg(F.sum(SIGN).alias(SIGN))
    new, gone = plan.spark(net.where(f"{SIGN} > 0")), plan.spark(net.where(f"{SIGN} < 0"))
    if sequence is not None:
        new, gone = _latest(new, keys, sequence), _latest(gone, keys, sequence)
    elif _has_duplicates(plan.spark(net.where(f"{SIGN} > 0").withColumn(SIGN, F.explode(F.sequence(F.lit(1), SIGN)))), keys):
        raise duplicate_keys(path, keys)
    if table is None:
        # The rows come with the merge, whose session says how large row groups are; of two that make the table one looks again.
        Known.create(path, Schema.from_arrow(plan.schema), mode="error", configuration={CHANGE_FEED: "true"})
        table = open_table(path)
    whole, number = free_name(new.columns), free_name([*new.columns, "is_whole"])
    both = new.withColumn(whole, F.lit(True)).unionAll(gone.withColumn(whole, F.lit(False)))
    of_key = Window.partitionBy(*(F.col(quoted(key)) for key in keys)).orderBy(F.col(quoted(whole)).desc())
    rows = both.withColumn(number, F.row_number().over(of_key)).where(F.col(number) == 1).drop(number)
    stamp = Stamp.of(txn)
    merger = _merge(rows, path, keys, txn, stamp, plan, rows_in_group=ROW_GROUP)
    columns = _all(new.columns)
    is_new = f"new.{quoted(whole)}"
    order = ""
    if sequence is not None:
        order = f" AND (new.{quoted(sequence)} >= old.{quoted(sequence)} OR old.{quoted(sequence)} IS NULL)"
    merger = merger.whenMatchedDelete(f"NOT {is_new}{order}").whenMatchedUpdate(f"{is_new}{order}", columns)
    merger.whenNotMatchedInsert(is_new, columns).execute()
    return _written(table, path, txn, stamp)


def combine(frame: DataFrame, path: str, *, keys: Sequence[str], with_: Combine, txn: Txn | None, evolve: bool) -> Written:
    """Put rows together with those of the table; see `spark_ext.delta.combine`."""
    table = open_table(path)
    done = skipped(table, path, txn, "spark")
    if done is not None:
        return done
    plan = fit(schema_of_frame(frame), schema_of(table), path=path, evolve=evolve)
    keys, _ = check_keys(plan, keys, None)
    rows = plan.spark(frame)
    if _has_duplicates(rows, keys):
        rows = _by_key(rows, keys, with_, path)
    if table is None:
        return _add(None, rows, path, txn, evolves=False)
    wanted = rows.select(*map(quoted, keys)).distinct()
    if _has_duplicates(_those_of(rows.sparkSession.read.format("delta").load(path), wanted, keys), keys):
        raise several_rows(path, keys)
    stamp = Stamp.of(txn)
    is_new = free_name(rows.columns)
    merger = _merge(rows.withColumn(is_new, F.lit(True)), path, keys, txn, stamp, plan)
    rest = [name for name in rows.columns if name not in keys]
    if rest:
        made = _of_pairs(rows, keys, with_, plan, is_new)
        updates: dict[str, str | Column] = {quoted(name): made[f"c{rows.columns.index(name)}"] for name in rest}
        merger = merger.whenMatchedUpdate(None, updates)
    merger.whenNotMatchedInsert(values=_all(rows.columns)).execute()
    return _written(table, path, txn, stamp)


def history(frame: DataFrame, path: str, *, keys: Sequence[str], sequence: str, txn: Txn | None, evolve: bool) -> Written:
    """Add versions; see `spark_ext.delta.history`."""
    table = open_table(path)
    done = skipped(table, path, txn, "spark")
    if done is not None:
        return done
    known = schema_of(table)
    plan = fit(schema_of_frame(frame), known, path=path, evolve=evolve, own=OWN)
    keys, by = check_keys(plan, keys, sequence)
    sequence = check_history(plan, by, known)
    rows = plan.spark(frame)
    if not rows.where(F.col(quoted(sequence)).isNull()).isEmpty():
        raise null_sequence(path, sequence)
    names = rows.columns
    whole = free_name([*names, *OWN])
    rows = _latest(rows, [*keys, sequence], sequence).withColumns({whole: F.lit(True), VALID_TO: F.lit(None).cast("timestamp")})
    if table is not None:
        rows = rows.unionByName(_versions(rows, path, keys, sequence, whole), allowMissingColumns=True)
    rows = _with_times(rows, keys, sequence, whole)
    columns = [*names, *OWN]
    if table is None:
        return _add(None, rows.select(*map(quoted, columns)), path, txn, evolves=False)
    stamp = Stamp.of(txn)
    merger = _merge(rows, path, [*keys, sequence], txn, stamp, plan)
    all_columns = _all(columns)
    merger = merger.whenMatchedUpdate(f"new.{quoted(whole)}", all_columns)
    merger = merger.whenMatchedUpdate(f"NOT new.{quoted(whole)}", {name: f"new.{name}" for name in (VALID_TO, IS_CURRENT)})
    merger.whenNotMatchedInsert(f"new.{quoted(whole)}", all_columns).execute()
    return _written(table, path, txn, stamp)


def _add(table: Known | None, rows: DataFrame, path: str, txn: Txn | None, *, evolves: bool) -> Written:
    stamp = Stamp.of(txn)
    writer = rows.write.format("delta").mode("append").option("userMetadata", stamp.text)
    if txn is not None:
        writer = writer.option("txnAppId", txn.app_id).option("txnVersion", txn.version)
    if evolves:
        writer = writer.option("mergeSchema", True)
    writer.save(path)
    return _written(table, path, txn, stamp)


def _merge(
    rows: DataFrame, path: str, keys: Sequence[str], txn: Txn | None, stamp: Stamp, plan: Fit, *, rows_in_group: int | None = None
) -> DeltaMergeBuilder:
    """Return a merge by the keys, a null equal to a null.

    Delta takes a merge's transaction from settings of the session that the target belongs to. So each merge has a session of its own,
    a copy that nobody else has: the settings of other writes and of other threads are never touched.
    """
    spark = rows.sparkSession
    # Java's session only: a second `SparkSession` of Python would become the one of `RDD.toDF`, and its settings with it.
    copy = spark._jsparkSession.cloneSession()  # noqa: SLF001 (`newSession` drops the settings)
    copy.conf().set("spark.databricks.delta.commitInfo.userMetadata", stamp.text)
    for name in TXN:
        copy.conf().unset(name)
    if rows_in_group is not None:
        copy.conf().set(ROW_LIMIT, str(rows_in_group))
    for name, value in zip(TXN, (txn.app_id, str(txn.version)) if txn else (), strict=False):
        copy.conf().set(name, value)
    target = DeltaTable(spark, spark._jvm.io.delta.tables.DeltaTable.forPath(copy, path))  # type: ignore[union-attr]  # noqa: SLF001 (as above)
    matches = " AND ".join(f"old.{quoted(key)} <=> new.{quoted(key)}" for key in keys)
    merger = target.alias("old").merge(rows.alias("new"), matches)
    return merger.withSchemaEvolution() if plan.added else merger


def _all(names: Sequence[str]) -> dict[str, str | Column]:
    return {quoted(name): f"new.{quoted(name)}" for name in names}


def _written(table: Known | None, path: str, txn: Txn | None, stamp: Stamp) -> Written:
    """Find the commit just made: Spark does not say its version."""
    if table is None:
        table = open_table(path)
    else:
        table.update_incremental()  # half as dear as to open it again
    version = 0 if table is None else int(table.version())
    for commit in commits(path, newest=version):
        if commit.metadata.get(WRITE) == stamp.write:
            return Written(commit.version, commit.rows, False, "spark")
        if txn is not None and commit.txns.get(txn.app_id, -1) >= txn.version:
            break  # somebody else had done it between our look and Spark's
    done = written_by(path, txn, newest=version) if txn is not None else None
    return Written(version, done.rows if done else 0, done is not None, "spark")


def _has_duplicates(rows: DataFrame, keys: Sequence[str]) -> bool:
    return not rows.groupBy(*map(quoted, keys)).agg(F.count(F.lit(1)).alias("count")).where("count > 1").isEmpty()


def _by_key(rows: DataFrame, keys: Sequence[str], with_: Combine, path: str) -> DataFrame:
    """Return one row per key, put together in the workers from sorted rows, so that a task holds a block of them at a time."""
    by = [F.col(quoted(key)) for key in keys]
    placed = rows.repartition(*by).sortWithinPartitions(*by).toDF(*(f"c{at}" for at in range(len(rows.columns))))
    made = placed.mapInArrow(ByKey(tuple(rows.columns), tuple(keys), with_, path), placed.schema)
    return made.toDF(*rows.columns)


def _of_pairs(rows: DataFrame, keys: Sequence[str], with_: Combine, plan: Fit, is_new: str) -> Column:
    """Return the combination of ``old`` and ``new`` where they match.

    It is computed for each row of the files that the merge rewrites, so the others cross to Python as nulls. A row with a null key that
    the table lacks is put together with nulls, which changes nothing, as it is inserted as it came.
    """
    added = {name.casefold() for name in plan.added}
    names = [f"c{at}" for at in range(len(rows.columns))]
    old = [F.lit(None).cast(one.dataType) if one.name.casefold() in added else F.col(f"old.{quoted(one.name)}") for one in rows.schema]
    new = [F.col(f"new.{quoted(name)}") for name in rows.columns]
    is_pair = reduce(
        and_, (F.col(f"old.{quoted(key)}").eqNullSafe(F.col(f"new.{quoted(key)}")) for key in keys), F.col(f"new.{quoted(is_new)}")
    )
    sides = [F.when(is_pair, F.struct(*(part.alias(name) for part, name in zip(side, names, strict=True)))) for side in (old, new)]
    kind = StructType([StructField(name, one.dataType) for name, one in zip(names, rows.schema, strict=True)])
    schema = pa.schema([pa.field(field.name, field.type) for field in plan.schema])
    pairs = Pairs(schema, tuple(keys), with_, plan.path)

    def both(old: pa.Array, new: pa.Array) -> pa.Array:
        return pairs(old, new)

    made: Column = arrow_udf(both, kind)(*sides)  # type: ignore[call-overload]  # the type of UDF is that of its hints
    return made


def _those_of(known: DataFrame, wanted: DataFrame, keys: Sequence[str]) -> DataFrame:
    """Return the known rows that have one of the wanted keys."""
    same = " AND ".join(f"known.{quoted(key)} <=> wanted.{quoted(key)}" for key in keys)
    return known.select(*map(quoted, known.columns)).alias("known").join(wanted.alias("wanted"), F.expr(same), "left_semi")


def _latest(rows: DataFrame, keys: Sequence[str], sequence: str) -> DataFrame:
    """Return the row with the highest sequence of each key; see `ordering.latest`."""
    rest = [field for field in rows.schema if field.name not in {*keys, sequence}]
    nested = [field for field in rest if isinstance(field.dataType, ArrayType | MapType | StructType)]
    order = [F.col(quoted(sequence)), *(F.col(quoted(field.name)) for field in rest if field not in nested)]
    order += [F.to_json(F.struct(quoted(field.name))) for field in nested]
    number = free_name(rows.columns)
    ranked = Window.partitionBy(*(F.col(quoted(key)) for key in keys)).orderBy(*(one.desc_nulls_last() for one in order))
    return rows.withColumn(number, F.row_number().over(ranked)).where(F.col(number) == 1).drop(number)


def _versions(rows: DataFrame, path: str, keys: Sequence[str], sequence: str, whole: str) -> DataFrame:
    """Return the known versions of the keys of the rows; within the merge they are of the snapshot that it reads."""
    known = rows.sparkSession.read.format("delta").load(path).select(*map(quoted, [*keys, sequence, VALID_TO]))
    return _those_of(known, rows.select(*map(quoted, keys)).distinct(), keys).withColumn(whole, F.lit(False))


def _with_times(rows: DataFrame, keys: Sequence[str], sequence: str, whole: str) -> DataFrame:
    """Return the whole rows with their times, and of the known ones those that end at another time than before."""
    by_key = [F.col(quoted(key)) for key in keys]
    at, is_whole = F.col(quoted(sequence)), F.col(quoted(whole))
    same = Window.partitionBy(*by_key, at)
    # `valid_from` is not there yet: its name is free for what comes before it.
    rows = rows.withColumn(VALID_FROM, F.max(is_whole).over(same)).where(is_whole | ~F.col(VALID_FROM))
    rows = rows.withColumn(VALID_FROM, F.lead(at).over(Window.partitionBy(*by_key).orderBy(at)))
    rows = rows.where(is_whole | ~F.col(VALID_FROM).eqNullSafe(F.col(VALID_TO)))
    return rows.withColumns({VALID_FROM: at, VALID_TO: F.col(VALID_FROM), IS_CURRENT: F.col(VALID_FROM).isNull()})
