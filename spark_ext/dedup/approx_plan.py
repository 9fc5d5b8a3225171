"""Deduplication that may be wrong with a stated probability, for a fraction of the state.

rows -- hash of the keys (JVM) -- approx_drop_duplicates --> tagged rows -- unique / duplicates / late / invalid
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, StructType

from spark_ext.dedup.approx_kernel import KEY_HASH, ApproxDedup
from spark_ext.dedup.plan import check_frame
from spark_ext.dedup.rows import LATENESS
from spark_ext.names import column
from spark_ext.state.bounds import bounds_us
from spark_ext.state.buckets import buckets_for
from spark_ext.state.kernel import EARLIEST, LATEST
from spark_ext.state.keys import check_key
from spark_ext.state.operator import apply_kernel, input_schema
from spark_ext.state.packing import TAG

if TYPE_CHECKING:
    from spark_ext.state.control import Control

__all__ = ["approx_drop_duplicates", "key_hash"]

SMALLER: Final = 4  # so much less than a key of the exact one: as many more to a bucket


def approx_drop_duplicates(
    frame: DataFrame,
    *,
    keys: Sequence[str],
    event_time: str,
    horizon: timedelta,
    false_drop_rate: float,
    expected_keys: int,
    generations: int = 4,
    order: Sequence[str] = (),
    buckets: int | None = None,
    earliest: datetime = EARLIEST,
    latest: datetime = LATEST,
    control: Control | None = None,
) -> DataFrame:
    """Tell the first row per key within `horizon` from its repetitions, in about 3 bytes a key; a stated share of new rows is mistaken.

    Guarantee: each row comes out once, with the tag ``unique``, ``duplicate``, ``late`` or ``invalid``, as `ApproxDedup` says, in the
    batch it arrives with. No duplicate passes: two ``unique`` rows of a key are more than `horizon` of event time apart. A row that is
    new is tagged ``duplicate`` with probability at most `false_drop_rate`, however many keys there are: more than `expected_keys` make
    the state grow, which the workers' log and ``spark_ext.state.inspect.entries(spark, checkpoint, "slices")`` show, with the current
    rate of each filter. A replayed batch gives the same rows.

    When to take which: `drop_duplicates` is exact, and needs 8 bytes and the key for each key of a horizon. This one is for keys that
    are long or many (over some 100,000 within a horizon) where a lost row in a thousand, or in a hundred thousand, is allowed. It
    cannot wait for the earliest row: it is like ``keep="arrived"``. Nothing is lost for good: rows tagged ``duplicate`` can be stored,
    and counted with ``counts_as="duplicate"``.

    Parameters
    ----------
    frame : DataFrame
        A stream that has a watermark (``withWatermark``, or `spark_ext.time.with_watermark`), or a bounded frame, where nothing is late.
    keys : sequence of str
        Columns that are equal in duplicates, of any type but array and map; one or more. Equality as in ``GROUP BY``.
    event_time : str
        Column of type timestamp, not among `keys`.
    horizon : timedelta
        How far apart in event time two rows of a key may be to count as one. Repetitions are found up to ``horizon / generations``
        farther.
    false_drop_rate : float
        The most of rows with new keys, in the mean, that may be taken for duplicates: 0.001, say. At least 5.8e-6 with four generations.
    expected_keys : int
        Distinct keys within one horizon when there is most to do, over all buckets. Decides how large filters are made, and the number
        of buckets; not the rate.
    generations : int
        Slices of a horizon, from 1 to 64. More forget more exactly; each question looks at twice as many.
    order : sequence of str
        Columns that decide between rows of the same key and event time within a batch; ascending, nulls last.
    buckets : int, optional
        The number of buckets itself, fixed for the life of a checkpoint. With it, `expected_keys` may change at a restart.
    earliest, latest : datetime
        Event times outside of these are absurd, their rows ``invalid``.
    control : Control, optional
        Where the end of input is told; see `spark_ext.state.control`.

    Returns
    -------
    DataFrame
        ``tag``, the columns of `frame`, ``lateness_ms``; `unique`, `duplicates`, `late` and `invalid` take them apart. Append mode
        on a stream.

    Raises
    ------
    SettingsError, SchemaError
        Something does not fit, with what to do.
    StateError
        In the running query: the checkpoint was made with other settings.

    State: `ApproxDedup`, one blob per bucket, rewritten when it gets a row.
    """
    check_frame(frame, (*keys, event_time, *order), added=(TAG, LATENESS, KEY_HASH))
    for key in input_schema(frame, keys):
        check_key(key.name, key.type)
    number = buckets_for(-(-expected_keys // SMALLER)) if buckets is None else buckets
    hashed = frame.withColumn(KEY_HASH, key_hash(frame, keys))
    kernel = ApproxDedup(
        input_schema(hashed, hashed.columns),
        tuple((name, frame.schema[name].dataType.simpleString()) for name in keys),
        event_time,
        horizon,
        false_drop_rate,
        expected_keys,
        number,
        generations,
        tuple(order),
        *bounds_us(earliest, latest),
    )
    return apply_kernel(hashed, kernel, keys=keys, columns=hashed.columns, buckets=number, control=control)


def key_hash(frame: DataFrame, keys: Sequence[str]) -> Column:
    """Return a hash of the keys, equal where ``GROUP BY`` has them equal: ``xxhash64`` leaves nulls out, so it is told where they are."""
    return F.xxhash64(F.lit(0), *(part for name in keys for part in _parts(column(name), frame.schema[name].dataType)))


def _parts(value: Column, kind: DataType) -> Iterator[Column]:
    yield value.isNull()
    if isinstance(kind, StructType):
        for field in kind:
            yield from _parts(value.getField(field.name), field.dataType)
    else:
        yield value
