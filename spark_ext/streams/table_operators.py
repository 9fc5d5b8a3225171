"""Operators over tables: changes of one, its aggregation, and joins of two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark_ext import tables
from spark_ext.names import column
from spark_ext.streams.nodes import Changes, ForeignJoin, Node, TableFold, TableJoin
from spark_ext.streams.operators import KEY_IN, LAST, TIME_IN, Operator, at_epoch, fold_input, rejected_rows
from spark_ext.streams.records import KEY, RECORD, SEQUENCE, TIMESTAMP, VALUE
from spark_ext.windows.aggregates import max  # noqa: A004

__all__ = ["ChangesOperator", "ForeignJoinOperator", "TableFoldOperator", "TableJoinOperator"]

SIGN: Final = "sign"
FOREIGN: Final = "_foreign"
OTHER: Final = "_right_key"


class ChangesOperator(Operator[Changes]):
    """The updates of a table as rows that come and go."""

    def plan(self, inputs: Sequence[DataFrame]) -> DataFrame:
        """Run `spark_ext.tables.changes`."""
        (rows,) = inputs
        return tables.changes(
            rows.select(*RECORD), keys=[KEY], sequence=SEQUENCE, deleted=F.col(VALUE).isNull(), buckets=self.settings.number
        )

    def outputs(self, tagged: DataFrame, epoch: int) -> Mapping[Node | str, DataFrame]:
        """Return records with a sign."""
        return {self.node: tables.changed(tagged)}

    def rejected(self, tagged: DataFrame) -> DataFrame | None:
        """Return updates that are not newer than what the table had, and those without a key."""
        parts = {"stale": tables.stale(tagged), "invalid": tables.invalid(tagged)}
        return reduce(DataFrame.unionAll, [rejected_rows(rows, "", F.lit(why), KEY, VALUE, TIMESTAMP) for why, rows in parts.items()])


class TableFoldOperator(Operator[TableFold]):
    """The aggregation of a table by another key."""

    def plan(self, inputs: Sequence[DataFrame]) -> DataFrame:
        """Run `spark_ext.tables.aggregate`."""
        (rows,) = inputs
        plain = fold_input(self.node.regroup(rows), self.node.aggregates, SIGN)
        aggregates = {**self.node.aggregates, LAST: max(TIME_IN)}
        return tables.aggregate(plain, by=[KEY_IN], aggregates=aggregates, buckets=self.settings.number)

    def outputs(self, tagged: DataFrame, epoch: int) -> Mapping[Node | str, DataFrame]:
        """Make records of groups; their timestamp is that of the newest row in it."""
        node = self.node
        value = column(node.result) if node.result else F.struct(*map(column, node.aggregates))
        rows = tables.changed(tagged).select(F.col(KEY_IN).alias(KEY), value.alias(VALUE), F.col(LAST).alias(TIMESTAMP), SIGN)
        return {node: as_updates(rows, epoch)}

    def rejected(self, tagged: DataFrame) -> DataFrame | None:
        """Return rows that go and were not there."""
        rows = tables.unknown(tagged)
        whole = F.to_json(F.struct(*(column(name) for name in rows.columns if name not in {KEY_IN, TIME_IN, SIGN})))
        made = rows.select(KEY_IN, whole.alias(VALUE), F.col(TIME_IN).alias(TIMESTAMP))
        return rejected_rows(made, "", F.lit("unknown"), KEY_IN, VALUE, TIMESTAMP)


class TableJoinOperator(Operator[TableJoin]):
    """A join of two tables by key."""

    def plan(self, inputs: Sequence[DataFrame]) -> DataFrame:
        """Run `spark_ext.tables.join`."""
        left, right = (sided(rows, side) for side, rows in zip(("left", "right"), inputs, strict=True))
        return tables.join(
            left,
            right,
            keys=KEY,
            how="full" if self.node.how == "outer" else self.node.how,
            sequence=("left_sequence", "right_sequence"),
            deleted=(F.col("left_value").isNull(), F.col("right_value").isNull()),
            buckets=self.settings.number,
        )

    def outputs(self, tagged: DataFrame, epoch: int) -> Mapping[Node | str, DataFrame]:
        """Make records of pairs."""
        return {self.node: as_updates(paired(tables.changed(tagged), self.node.joiner(F.col("left_value"), F.col("right_value"))), epoch)}

    def rejected(self, tagged: DataFrame) -> DataFrame | None:
        """Return updates that are not newer than what their table had, and those without a key."""
        parts = [("left", "stale", tables.stale(tagged, "left")), ("right", "stale", tables.stale(tagged, "right")),
                 ("left", "invalid", tables.invalid(tagged, "left")), ("right", "invalid", tables.invalid(tagged, "right"))]  # fmt: skip
        return reduce(
            DataFrame.unionAll,
            [rejected_rows(rows, side, F.lit(why), KEY, f"{side}_value", f"{side}_time") for side, why, rows in parts],
        )


class ForeignJoinOperator(Operator[ForeignJoin]):
    """A join of two tables by a key of the right one that the left one's value names."""

    def plan(self, inputs: Sequence[DataFrame]) -> DataFrame:
        """Run `spark_ext.tables.join_foreign`."""
        left, right = inputs
        changes = sided(left, "left", SIGN).withColumn(FOREIGN, self.node.foreign(F.col("left_value")))
        return tables.join_foreign(
            changes,
            sided(right, "right").withColumnRenamed(KEY, OTHER),
            on={FOREIGN: OTHER},
            keys=KEY,
            how="left" if self.node.how == "left" else "inner",
            sequence="right_sequence",
            deleted=F.col("right_value").isNull(),
            buckets=self.settings.number,
        )

    def outputs(self, tagged: DataFrame, epoch: int) -> Mapping[Node | str, DataFrame]:
        """Make records of pairs, keyed as the left table."""
        return {self.node: as_updates(paired(tables.changed(tagged), self.node.joiner(F.col("left_value"), F.col("right_value"))), epoch)}

    def rejected(self, tagged: DataFrame) -> DataFrame | None:
        """Return what no table could take, and left rows beyond the most that may name one right row."""
        left = [("unknown", tables.unknown(tagged)), ("excess", tables.excess(tagged))]
        right = [("stale", tables.stale(tagged, "right")), ("invalid", tables.invalid(tagged, "right"))]
        parts = [rejected_rows(rows, "left", F.lit(why), KEY, "left_value", "left_time") for why, rows in left]
        parts += [rejected_rows(rows, "right", F.lit(why), OTHER, "right_value", "right_time") for why, rows in right]
        return reduce(DataFrame.unionAll, parts)


def sided(rows: DataFrame, side: str, *more: str) -> DataFrame:
    """Return the records of one side of a join, in columns of its own."""
    own = {VALUE: f"{side}_value", TIMESTAMP: f"{side}_time", SEQUENCE: f"{side}_sequence"}
    return rows.select(KEY, *(F.col(name).alias(new) for name, new in own.items()), *more)


def paired(changed: DataFrame, value: Column) -> DataFrame:
    """Return signed records of pairs: the joiner's value, the later timestamp."""
    return changed.select(KEY, value.alias(VALUE), F.greatest("left_time", "right_time").alias(TIMESTAMP), SIGN)


def as_updates(signed: DataFrame, epoch: int) -> DataFrame:
    """Return the updates that rows with a sign amount to: of a key the row that comes, or none if one only goes.

    A table has one row for a key, so in a batch at most one comes.
    """
    comes = F.when(F.col(SIGN) > 0, F.struct(F.col(VALUE), F.col(TIMESTAMP)))
    last = signed.groupBy(KEY).agg(F.first(comes, ignorenulls=True).alias("_new"), F.max(TIMESTAMP).alias("_then"))
    time = F.coalesce(F.col("_new").getField(TIMESTAMP), F.col("_then"))
    return last.select(KEY, F.col("_new").getField(VALUE).alias(VALUE), time.alias(TIMESTAMP), at_epoch(epoch))
