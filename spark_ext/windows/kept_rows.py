"""Rows that keys keep: in order, as many as an eviction policy lets stay, for as long as their key is not silent."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.state.kernel import FOREVER_US
from spark_ext.windows.states import changes, column
from spark_ext.windows.total_order import total_order

__all__ = ["Kept", "evicted", "forgotten", "silences"]


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows that are kept, ascending by key and time.

    Attributes
    ----------
    keys : pa.Table (k,)
        Key columns.
    counts : ndarray (k,) int64
        Rows that each key took since it last fired, evicted ones too.
    key, time : ndarray (n,) int64
        Place of each row's key, and its event time in microseconds.
    fresh : ndarray (n,) bool
        Whether a row has not been given out yet.
    values : pa.Table (n,)
        The columns that are aggregated.
    """

    keys: pa.Table
    counts: NDArray[np.int64]
    key: NDArray[np.int64]
    time: NDArray[np.int64]
    fresh: NDArray[np.bool_]
    values: pa.Table

    @property
    def columns(self) -> list[pa.Array]:
        """`values` without chunks."""
        return [column(self.values, name) for name in self.values.column_names]

    def at(self, rows: NDArray[np.int64]) -> Kept:
        """Return these rows."""
        values = self.values.take(pa.array(rows)) if self.values.num_columns else self.values
        return replace(self, key=self.key[rows], time=self.time[rows], fresh=self.fresh[rows], values=values)

    def where(self, mask: NDArray[np.bool_]) -> Kept:
        """Return the rows of a mask."""
        return self if mask.all() else self.at(np.flatnonzero(mask))


def silences(key: NDArray[np.int64], time: NDArray[np.int64], ttl_us: int | None) -> NDArray[np.bool_]:
    """Return behind which rows, ascending by key and time, their key has none, or none for the time to live."""
    silent = np.append(changes(key)[1:], True) if len(key) else np.zeros(0, dtype=bool)
    if ttl_us is not None:
        silent[:-1] |= np.diff(time) >= ttl_us
    return silent


def forgotten(key: NDArray[np.int64], time: NDArray[np.int64], ttl_us: int | None, over: int) -> NDArray[np.bool_]:
    """Return which rows, ascending by key and time, are over: those up to a silence that no row can break that is not late.

    Parameters
    ----------
    ttl_us : int, optional
        How long a silence lasts, in microseconds.
    over : int
        Event time that the watermark has passed, in microseconds; `FOREVER_US`: all rows are over.
    """
    if over >= FOREVER_US or ttl_us is None or not len(key):
        return np.full(len(key), over >= FOREVER_US)
    surely = silences(key, time, ttl_us) & (time + ttl_us <= over)
    # The next such row at or after each; it is of another key where this one has none.
    place = np.where(surely, np.arange(len(key)), len(key))
    following = np.minimum.accumulate(place[::-1])[::-1]
    gone: NDArray[np.bool_] = np.append(key, -1)[following] == key
    return gone


def evicted(kept: Kept, keep_rows: int | None, keep_us: int | None) -> Kept:
    """Return rows in order, and of each key the last `keep_rows` that are not more than `keep_us` behind its newest."""
    # Which of the rows of one time are the last matters only where they are counted; of equal ones those that were not given out yet.
    order = total_order([kept.key, kept.time], [*kept.columns, pa.array(kept.fresh)] if keep_rows is not None else [])
    key, time = kept.key[order], kept.time[order]
    starts = np.flatnonzero(changes(key))
    sizes = np.diff(starts, append=len(key))
    ends = np.repeat(starts + sizes, sizes)
    stays = np.ones(len(key), dtype=bool)
    if keep_rows is not None:
        stays &= ends - np.arange(len(key)) <= keep_rows
    if keep_us is not None:
        stays &= time >= time[ends - 1] - keep_us
    return kept.at(order[stays])
