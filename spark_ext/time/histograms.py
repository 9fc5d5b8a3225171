"""How late rows are and how far sources are apart, counted: for the frame of one batch, or any other."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

__all__ = ["lateness_histogram", "skew"]

NEWEST: Final = "newest"
WATERMARK: Final = "watermark"
SECOND_US: Final = 1_000_000


def lateness_histogram(
    rows: DataFrame, *, event_time: str, watermark: datetime | None = None, source: str | Column | None = None
) -> DataFrame:
    """Count rows by how far they are behind the newest event time, and behind the watermark.

    Guarantee: the counts of each reference add up to the number of rows; a row without event time is counted in a class without bounds.

    Classes: a row is ``x`` seconds behind if its event time is ``x`` before the reference. Behind it they are ``[0, 1)``, ``[1, 2)``,
    ``[2, 4)``, ``[4, 8)``, ... seconds; ahead of it ``[-1, 0)``, ``[-2, -1)``, ``[-4, -2)``, ... Classes without rows are left out.

    Parameters
    ----------
    rows : DataFrame
        Bounded, such as the frame of ``foreachBatch``. It is gone through twice: persist it.
    event_time : str
        Column of event time, timestamp.
    watermark : datetime, optional
        The batch's watermark, with a time zone; rows behind it may be late. None: only the other reference.
    source : str or Column, optional
        Count each of its values by itself, such as ``source_name`` or ``source.topic``. The newest event time is that of all.

    Returns
    -------
    DataFrame
        [``source`` if one is given,] ``reference`` string (``newest`` or ``watermark``), ``from_s`` bigint (included), ``to_s`` bigint (not
        included), ``rows`` bigint. Bounds in seconds, null for rows without event time.
    """
    time = F.unix_micros(event_time)
    by = [] if source is None else [(F.col(source) if isinstance(source, str) else source).alias("source")]
    newest = rows.agg(F.max(time).alias("_newest"))
    references = {NEWEST: F.col("_newest")}
    if watermark is not None:
        references[WATERMARK] = F.unix_micros(F.lit(watermark))
    # One count for all references at a time, then each by itself: the second grouping has few rows.
    seconds = [_seconds(reference - F.col("_time")) for reference in references.values()]
    classes = [_low(second).alias(f"_{name}") for name, second in zip(references, seconds, strict=True)]
    counted = (
        rows.select(*by, time.alias("_time"))
        .crossJoin(F.broadcast(newest))
        .select(*([F.col("source")] if by else []), *classes)
        .groupBy(*(["source"] if by else []), *(f"_{name}" for name in references))
        .count()
    )
    unpivoted = counted.select(
        *(["source"] if by else []),
        "count",
        F.explode(F.array(*(F.struct(F.lit(name).alias("reference"), F.col(f"_{name}").alias("from_s")) for name in references))).alias(
            "_at"
        ),
    )
    low = F.col("_at.from_s")
    return (
        unpivoted.groupBy(*(["source"] if by else []), F.col("_at.reference").alias("reference"), low.alias("from_s"))
        .agg(F.sum("count").alias("rows"))
        .select(*(["source"] if by else []), "reference", "from_s", _high(F.col("from_s")).alias("to_s"), "rows")
    )


def skew(rows: DataFrame, *, event_time: str, by: Sequence[str | Column]) -> DataFrame:
    """Tell how far each source, or partition, is behind the one that is furthest.

    Parameters
    ----------
    rows : DataFrame
        Bounded, such as the frame of ``foreachBatch``.
    event_time : str
        Column of event time, timestamp.
    by : sequence of str or Column
        What tells sources apart: ``["source_name"]``, or ``["source.topic", "source.partition"]``.

    Returns
    -------
    DataFrame
        The columns of `by`, ``rows`` bigint, ``newest`` timestamp (newest event time; null if no row has one) and ``behind_s``
        double: seconds behind the newest of all. The spread is the largest ``behind_s``.
    """
    columns = [F.col(one) if isinstance(one, str) else one for one in by]
    each = rows.groupBy(*columns).agg(F.count(F.lit(1)).alias("rows"), F.max(event_time).alias("newest"))
    furthest = each.agg(F.max("newest").alias("_furthest"))
    behind = (F.unix_micros("_furthest") - F.unix_micros("newest")) / SECOND_US
    return each.crossJoin(F.broadcast(furthest)).withColumn("behind_s", behind).drop("_furthest")


def _seconds(micros: Column) -> Column:
    """Return whole seconds, rounded down; in integers, as years of microseconds do not fit a double."""
    return F.call_function("div", micros - F.pmod(micros, F.lit(SECOND_US)), F.lit(SECOND_US))


def _low(seconds: Column) -> Column:
    """Return the lower bound of the class of a whole number of seconds, rounded down."""
    behind = F.when(seconds == 0, F.lit(0).cast("bigint")).otherwise(_power(_bits(seconds) - 1))
    # ~(-1) is 0: up to one second ahead; ~(-2) is 1: up to two.
    return F.when(seconds >= 0, behind).otherwise(-_power(_bits(F.bitwise_not(seconds))))


def _high(low: Column) -> Column:
    """Return the upper bound of a class from its lower one; neighbours of 0 are one second wide."""
    ahead = F.when(low == -1, F.lit(0).cast("bigint")).otherwise(F.floor(low / 2))
    return F.when(low > 0, low * 2).when(low == 0, F.lit(1).cast("bigint")).otherwise(ahead)


def _bits(number: Column) -> Column:
    """Return how many binary digits a number > 0 has, and 0 for 0."""
    return F.when(number == 0, F.lit(0)).otherwise(F.length(F.bin(number)))


def _power(exponent: Column) -> Column:
    return F.call_function("shiftleft", F.lit(1).cast("bigint"), exponent)
