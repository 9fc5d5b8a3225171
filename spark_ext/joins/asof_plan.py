"""Join each row of a stream with the row of another one that is nearest in event time.

left, right -- join_asof(on, event_time, direction, tolerance) --> tagged rows -- joined / late / invalid
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from pyspark.sql import DataFrame

from spark_ext.errors import SettingsError
from spark_ext.joins.asof_kernel import AsOfJoin, Direction
from spark_ext.joins.on import On
from spark_ext.joins.plan import SUFFIX, Times, layout_of, run_kernel
from spark_ext.state.kernel import EARLIEST, LATEST

if TYPE_CHECKING:
    from spark_ext.state.control import Control

__all__ = ["join_asof"]

MICROSECOND: Final = timedelta(microseconds=1)


def join_asof(
    left: DataFrame,
    right: DataFrame,
    *,
    on: On,
    event_time: Times,
    direction: Direction = "backward",
    tolerance: timedelta | None = None,
    how: Literal["left", "inner"] = "left",
    allow_exact_matches: bool = True,
    order: Sequence[str] = (),
    suffix: str = SUFFIX,
    expected_keys: int = 100_000,
    buckets: int | None = None,
    earliest: datetime = EARLIEST,
    latest: datetime = LATEST,
    ttl: timedelta | None = None,
    control: Control | None = None,
) -> DataFrame:
    """Join each left row with at most one right row of its key: the last known quote before each trade.

    Guarantee: the result is that of a batch join of all rows that are not tagged ``late`` or ``invalid``, in whatever batches they came,
    and that of `pandas.merge_asof` where that is defined; a replayed batch gives the same rows. A row is late if its event time is below
    the watermark, the least of both streams'. A left row comes out as soon as the watermark proves its partner, so one batch after the
    watermark has passed what decides.

    Parameters
    ----------
    left, right : DataFrame
        Streams with a watermark each, or bounded frames, where nothing is late; in any order. A silent side holds everything back; see
        `spark_ext.time.union` with an `IdleWatch` for one that may be silent.
    on : str, sequence of str, or mapping of str to str
        Columns that have to be equal, of the same type on both sides: one name, several, or left name to right name. A null matches
        nothing, NaN matches NaN, 0.0 matches -0.0.
    event_time : str or (str, str)
        Column of type timestamp; of both sides, or of the left and the right one.
    direction : {"backward", "forward", "nearest"}
        Which right row: the last at or before the left one's time, the first at or behind it, or the nearer of these; if both are as near,
        the one before.
    tolerance : timedelta >= 0, optional
        How far away it may be, included. Without it ``forward`` waits until a partner comes, however long.
    how : {"left", "inner"}
        Whether left rows without a partner come out, with nulls.
    allow_exact_matches : bool
        Whether a right row of the same time counts.
    order : sequence of str
        Columns of the right side: of its rows of one key and time the one wins that is last by these, then by its other columns; nulls
        are first. Arrival never decides.
    suffix : str
        For columns of the right side whose name the left one has, its event time among them.
    expected_keys : int
        Order of magnitude of keys in use at a time; decides the number of buckets, see `spark_ext.state.buckets_for`.
    buckets : int, optional
        The number of buckets itself, fixed for the life of a checkpoint.
    earliest, latest : datetime
        Event times outside of these are absurd, their rows ``invalid``.
    ttl : timedelta >= 0, optional
        Of ``backward`` without tolerance, to bound the state: a right row is forgotten once its key has been silent, on both sides, for
        longer than this by event time. A left row that comes after such a silence has no partner, on bounded frames too.
    control : Control, optional
        Where the end of input is told; see `spark_ext.state.control`.

    Returns
    -------
    DataFrame
        ``tag``; the columns of the left side, then those of the right one without its keys; ``side``: both or left, of rejected rows
        theirs; ``lateness_ms``. `joined`, `late` and `invalid` take it apart. Append mode on a stream.

    Raises
    ------
    SettingsError, SchemaError
        Something does not fit, with what to do.
    StateError
        In the running query: the checkpoint was made with other settings.

    State: `AsOfJoin`, one blob per bucket: what the watermark has not passed; of ``backward`` and ``nearest`` one right row per key, until
    `tolerance` or `ttl` drops it; of ``forward`` and ``nearest`` left rows whose partner is not proven.
    """
    layout = layout_of(left, right, on=on, event_time=event_time, how=how, suffix=suffix, most_matches=1, earliest=earliest, latest=latest)
    kernel = AsOfJoin(
        layout, direction, _micros("tolerance", tolerance), allow_exact_matches, tuple(order), _micros("ttl", ttl)
    )  # fmt: skip
    return run_kernel(left, right, kernel, layout, expected_keys=expected_keys, buckets=buckets, control=control)


def _micros(name: str, length: timedelta | None) -> int | None:
    if length is None:
        return None
    if not isinstance(length, timedelta):
        raise SettingsError("join as of", "setting", name, expected="a timedelta from 0 on", got=repr(length), todo="correct it")
    return length // MICROSECOND
