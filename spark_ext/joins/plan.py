"""Join two streams, or two bounded frames, with every row accounted for.

left, right -- join(on, event_time, within, how) --> tagged rows -- joined / late / invalid / excess
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark_ext.errors import SettingsError
from spark_ext.joins import spark_plan
from spark_ext.joins.count_kernel import CountJoin
from spark_ext.joins.interval_kernel import IntervalJoin
from spark_ext.joins.layout import HASH, LEFT, RIGHT, How, Layout, Side
from spark_ext.joins.on import On, pairs_of
from spark_ext.joins.shapes import Interval, Within, checked_within
from spark_ext.joins.tagged import described
from spark_ext.names import column
from spark_ext.state.bounds import bounds_us
from spark_ext.state.buckets import buckets_for
from spark_ext.state.engines import Choice, Engine, chosen
from spark_ext.state.kernel import EARLIEST, LATEST, JoinKernel
from spark_ext.state.operator import Input, apply_to_inputs, input_schema
from spark_ext.time.sources import WATERMARK_TIME

if TYPE_CHECKING:
    from spark_ext.state.control import Control

__all__ = ["MOST_MATCHES", "SUFFIX", "Times", "explain", "join", "layout_of", "run_kernel"]

SUFFIX: Final = "_right"
MOST_MATCHES: Final = 10_000

Times = str | tuple[str, str]


def join(
    left: DataFrame,
    right: DataFrame,
    *,
    on: On,
    event_time: Times,
    within: Within,
    how: How = "inner",
    suffix: str = SUFFIX,
    most_matches: int = MOST_MATCHES,
    expected_keys: int = 100_000,
    buckets: int | None = None,
    earliest: datetime = EARLIEST,
    latest: datetime = LATEST,
    control: Control | None = None,
    engine: Engine = "auto",
) -> DataFrame:
    """Join two streams on equal keys and nearness in time; rows that are not joined come out as well, tagged with the reason.

    Guarantee: the result is that of a batch join of all rows that are not tagged ``late``, ``invalid`` or ``excess``, in whatever batches
    they came; a replayed batch gives the same rows. A row is late if its event time is below the watermark, the least of both streams'. An
    unmatched row comes out as soon as the watermark proves that it has no partner.

    Parameters
    ----------
    left, right : DataFrame
        Streams with a watermark each (``withWatermark``, or `spark_ext.time.with_watermark`), or bounded frames, where nothing is late.
        A silent side holds everything back; see `spark_ext.time.union` with an `IdleWatch` for one that may be silent.
    on : str, sequence of str, or mapping of str to str
        Columns that have to be equal, of the same type on both sides: one name, several, or left name to right name. A null matches
        nothing, NaN matches NaN, 0.0 matches -0.0.
    event_time : str or (str, str)
        Column of type timestamp; of both sides, or of the left and the right one.
    within : Within
        `interval`, `one_window` or `two_windows`.
    how : {"inner", "left", "right", "full", "semi", "anti"}
        As in Spark. ``anti`` gives the left rows without a partner: impressions without clicks.
    suffix : str
        For columns of the right side whose name the left one has.
    most_matches : int
        A row that has more partners than that when it comes is refused, tagged ``excess``: one hot key cannot fill the disk. Spark itself
        refuses none.
    expected_keys : int
        Order of magnitude of keys that are open at a time; decides the number of buckets, see `spark_ext.state.buckets_for`.
    buckets : int, optional
        The number of buckets itself, fixed for the life of a checkpoint.
    earliest, latest : datetime
        Event times outside of these are absurd, their rows ``invalid``.
    control : Control, optional
        Where the end of input is told; see `spark_ext.state.control`.
    engine : {"auto", "millrace", "spark"}
        Who computes; `explain` tells what ``"auto"`` takes and why.

    Returns
    -------
    DataFrame
        ``tag``; the columns of the left side, then those of the right one without its keys; ``side``: both, or the one whose row it is;
        ``lateness_ms``. `joined`, `late`, `invalid` and `excess` take it apart. Append mode on a stream.

    Raises
    ------
    SettingsError, SchemaError
        Something does not fit, with what to do.
    StateError
        In the running query: the checkpoint was made with other settings.

    State: `IntervalJoin`, `CountJoin`, one blob per bucket.
    """
    asked = _asked(left, right, on, event_time, within, how, suffix, most_matches, earliest, latest)
    if _choice(left, right, asked, engine).engine == "spark":
        return described(spark_plan.join(*_columns(left, right, asked.layout), asked.layout, asked.within), asked.layout)
    return run_kernel(left, right, asked.kernel, asked.layout, expected_keys=expected_keys, buckets=buckets, control=control)


def explain(
    left: DataFrame,
    right: DataFrame,
    *,
    on: On,
    event_time: Times,
    within: Within,
    how: How = "inner",
    suffix: str = SUFFIX,
    most_matches: int = MOST_MATCHES,
    expected_keys: int = 100_000,
    buckets: int | None = None,
    earliest: datetime = EARLIEST,
    latest: datetime = LATEST,
    control: Control | None = None,
    engine: Engine = "auto",
) -> str:
    """Tell which engine `join` would take for the same arguments, and why.

    Returns
    -------
    str
        ``<engine>: <reason>``, and of ours the number of buckets.
    """
    asked = _asked(left, right, on, event_time, within, how, suffix, most_matches, earliest, latest)
    return _choice(left, right, asked, engine).explained(expected_keys, buckets)


def layout_of(
    left: DataFrame,
    right: DataFrame,
    *,
    on: On,
    event_time: Times,
    how: How,
    suffix: str,
    most_matches: int,
    earliest: datetime,
    latest: datetime,
) -> Layout:
    """Check the columns of a join, and say what comes out; see `join`."""
    pairs = pairs_of(on)
    times = (event_time, event_time) if isinstance(event_time, str) else tuple(event_time)
    if len(times) != 2:  # noqa: PLR2004 (a pair)
        raise SettingsError("use", "event time", repr(event_time), expected="one name, or a pair", got=repr(event_time), todo="correct it")
    return Layout(
        _side(left, tuple(pairs.keys()), times[0]),
        _side(right, tuple(pairs.values()), times[1]),
        how,
        suffix,
        *bounds_us(earliest, latest),
        most_matches,
    )


def run_kernel(
    left: DataFrame,
    right: DataFrame,
    kernel: JoinKernel,
    layout: Layout,
    *,
    expected_keys: int,
    buckets: int | None,
    control: Control | None,
) -> DataFrame:
    """Run a kernel over both sides; each gets the hash of its key as a column if the kernel asks for it."""
    inputs = {}
    for name, frame, side in ((LEFT, left, layout.left), (RIGHT, right, layout.right)):
        hashed = frame.withColumn(HASH, F.xxhash64(*map(column, side.keys)))
        inputs[name] = Input(hashed, side.keys, kernel.in_schemas[name].names)
    number = buckets_for(expected_keys) if buckets is None else buckets
    return described(apply_to_inputs(inputs, kernel, buckets=number, control=control), layout)


@dataclass(frozen=True, slots=True)
class _Asked:
    layout: Layout
    within: Within
    kernel: JoinKernel


def _asked(
    left: DataFrame,
    right: DataFrame,
    on: On,
    event_time: Times,
    within: Within,
    how: How,
    suffix: str,
    most_matches: int,
    earliest: datetime,
    latest: datetime,
) -> _Asked:
    shape = checked_within(within)
    layout = layout_of(
        left, right, on=on, event_time=event_time, how=how, suffix=suffix, most_matches=most_matches, earliest=earliest, latest=latest
    )
    kernel: JoinKernel = IntervalJoin(layout, shape) if isinstance(shape, Interval) else CountJoin(layout, shape)
    return _Asked(layout, shape, kernel)


def _choice(left: DataFrame, right: DataFrame, asked: _Asked, engine: Engine) -> Choice:
    obstacle = spark_plan.obstacle(left, right, asked.within)
    return chosen(engine, obstacle, works="joins", why="bounded rows, and Spark's own join gives the same answer")


def _columns(left: DataFrame, right: DataFrame, layout: Layout) -> tuple[DataFrame, DataFrame]:
    return left.select(*map(column, layout.left.schema.names)), right.select(*map(column, layout.right.schema.names))


def _side(frame: DataFrame, keys: tuple[str, ...], time: str) -> Side:
    return Side(input_schema(frame, [name for name in frame.columns if name != WATERMARK_TIME]), keys, time)
