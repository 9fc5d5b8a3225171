"""Rows of a join that are not in it, by tag: late, invalid, or with more partners than allowed."""

from __future__ import annotations

import pyarrow as pa

from spark_ext.joins.layout import INVALID, LATE, LATENESS, LEFT, Layout
from spark_ext.state.bounds import event_times

__all__ = ["Rejected", "sifted"]


class Rejected:
    """Collects the rows of one step that are not joined."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._parts: dict[str, list[pa.Table]] = {}

    def add(self, tag: str, side: str, rows: pa.Table, **more: pa.Array) -> None:
        """Take rows of one side."""
        if rows.num_rows:
            found = self._layout.rows_of(side, rows, self._layout.out_schema[tag], **more)
            self._parts.setdefault(tag, []).append(found)

    def tables(self) -> dict[str, pa.Table]:
        """Return what was taken, by tag."""
        return {tag: pa.concat_tables(parts) for tag, parts in self._parts.items()}


def sifted(rows: pa.Table, name: str, layout: Layout, watermark_us: int, out: Rejected) -> pa.Table:
    """Return the rows of one side that can be joined; those that are late or have no usable event time go to `out`.

    Parameters
    ----------
    rows : pa.Table
        Columns of the side and the hash of the key.
    name : str
        left or right.
    layout : Layout
        The join.
    watermark_us : int
        Event times below are late.
    out : Rejected
        Takes the others.
    """
    side = layout.left if name == LEFT else layout.right
    times, valid = event_times(rows.column(side.time), layout.earliest_us, layout.latest_us)
    late = valid & (times < watermark_us)
    good = valid & ~late
    if good.all():
        return rows
    out.add(INVALID, name, rows.filter(pa.array(~valid)))
    lateness_ms = pa.array((watermark_us - times[late]) // 1_000, pa.int64())
    out.add(LATE, name, rows.filter(pa.array(late)), **{LATENESS: lateness_ms})
    return rows.filter(pa.array(good))
