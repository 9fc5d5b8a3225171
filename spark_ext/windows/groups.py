"""What a bucket holds per pane and key, between tables of the state and arrays to compute with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spark_ext.state.segments import group
from spark_ext.windows.rows import Layout

__all__ = ["Groups", "merged"]


@dataclass(frozen=True, slots=True)
class Groups:
    """One row per pane and key, ascending by both.

    Attributes
    ----------
    pane, key : ndarray (n,) int64
        Places in the tables of panes and keys.
    fresh : ndarray (n,) int64
        Rows since the last firing.
    states : sequence of pa.Array (n,)
        State columns of all aggregates.
    """

    pane: NDArray[np.int64]
    key: NDArray[np.int64]
    fresh: NDArray[np.int64]
    states: Sequence[pa.Array]

    def __len__(self) -> int:
        return len(self.pane)

    def where(self, mask: NDArray[np.bool_]) -> Groups:
        """Return the groups of a mask."""
        if mask.all():
            return self
        rows = np.flatnonzero(mask)
        taken = pa.array(rows)
        return Groups(self.pane[rows], self.key[rows], self.fresh[rows], [state.take(taken) for state in self.states])


def merged(layout: Layout, old: Groups, new: Groups, keys: int) -> Groups:
    """Return the groups of both; places in panes and keys mean the same in both.

    Parameters
    ----------
    layout : Layout
        How states are merged.
    old, new : Groups
        Each ascending and without repetitions.
    keys : int
        Number of keys.
    """
    if not len(old) or not len(new):
        return new if not len(old) else old
    codes = np.concatenate([old.pane * keys + old.key, new.pane * keys + new.key])
    order, segments = group(codes)
    taken = pa.array(order)
    pairs = zip(old.states, new.states, strict=True)
    states = layout.merge([pa.concat_arrays([one, other]).take(taken) for one, other in pairs], segments)
    found = codes[order][segments.starts]
    fresh = np.add.reduceat(np.concatenate([old.fresh, new.fresh])[order], segments.starts)
    return Groups(found // keys, found % keys, fresh, states)
