"""Draw the pictures of tables that change: from top to bottom batches; what came, what changed, the table then."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from docs.joins.changes import Change, Lane, Row, Tables, play
from docs.joins.style import BAD, FAINT, GOOD, INK, TEXT, saved
from spark_ext.tables.layout import CHANGED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_tables", "shown"]

LINE: Final = 0.2  # inches
COLUMNS: Final = (0.0, 0.37, 0.72)


def draw_tables(tables: Tables, file: Path) -> None:
    """Play changelogs and draw what becomes of them."""
    lanes = play(tables)
    heights = [max(len(lane.came), len(lane.changes), len(lane.table)) + 0.6 for lane in lanes]
    with saved(file, [(sum(heights) + 1.2) * LINE + 0.35]) as (axes,):
        axes.set_xlim(0, 1)
        axes.set_ylim(sum(heights) + 1.2, 0)
        axes.set_title(tables.title, loc="left", color=INK, fontsize=TEXT + 2, family="monospace")
        axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
        axes.set_xticks([])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        came, result = tables.headings
        for x, text in zip(COLUMNS, (f"came: {came}", f"changes: sign, {result}", f"then: {result}"), strict=True):
            axes.text(x, 0.6, text, color=INK, style="italic", va="center_baseline")
        top, middles = 1.2, []
        for lane, height in zip(lanes, heights, strict=True):
            axes.axhline(top, color=FAINT, linewidth=0.6)
            _lane(axes, lane, top + 0.8)
            middles.append(top + height / 2)
            top += height
        axes.set_yticks(middles, [f"batch {number}" for number in range(len(lanes))])


def _lane(axes: Axes, lane: Lane, y: float) -> None:
    for at, one in enumerate(lane.came):
        _text(axes, COLUMNS[0], y + at, shown(one), _colour(one))
    for at, one in enumerate(lane.changes):
        _text(axes, COLUMNS[1], y + at, shown(one), _colour(one))
    for at, row in enumerate(lane.table):
        _text(axes, COLUMNS[2], y + at, _row(row), INK)


def shown(change: Change) -> str:
    """Return a change as the picture has it."""
    if change.tag != CHANGED:
        return f"{change.tag}: {_row(change.row)}"
    sign = {1: "+1  ", -1: "-1  ", 0: ""}[change.sign]
    return f"{sign}{'| ' if change.is_right else ''}{_row(change.row)}"


def _row(row: Row) -> str:
    return ", ".join("null" if value is None else str(value) for value in row)


def _colour(change: Change) -> str:
    return {1: GOOD, -1: BAD, 0: INK}[change.sign]


def _text(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    axes.text(x, y, text, color=colour, family="monospace", va="center_baseline")
