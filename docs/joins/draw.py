"""Draw the pictures of docs/joins.md: ``python -m docs.joins.draw``, from the root of the repository.

What is drawn is what the kernels give for the data in `docs.joins.streams`, `lookups` and `changes`. Of two streams, from left to right
event time, from top to bottom batches: what came (left rows above, right rows below), and under it what was given out. The dark line is
the watermark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from docs.joins.changes import CHANGES
from docs.joins.draw_changes import draw_tables
from docs.joins.draw_lookups import draw_breaker, draw_histories, draw_keys, draw_versions
from docs.joins.streams import STREAMS, Lane, Result, Row, Script, play
from docs.joins.style import COLOURS, FAINT, INK, SHADE, TEXT, TINTS, framed, saved
from spark_ext.joins.layout import LEFT, RIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PICTURES", "draw", "main"]

FOLDER: Final = Path(__file__).parent
SIDE_ROW, RESULT_ROW, MARGIN = 0.5, 0.42, 0.16  # heights
INCH: Final = 0.44  # per unit of height


def main() -> None:
    """Draw all pictures into the folder of this file."""
    for name, picture in PICTURES.items():
        picture(FOLDER / f"{name}.svg")


def draw(scripts: Sequence[Script], file: Path) -> None:
    """Play scripts and draw them, one below the other; the same file each time.

    Parameters
    ----------
    scripts : sequence of Script
        One for each panel.
    file : Path
        SVG.
    """
    played = [play(script) for script in scripts]
    heights = [sum(map(_height, lanes)) for lanes in played]
    with saved(file, [height * INCH + 0.75 for height in heights]) as panels:
        for axes, script, lanes, height in zip(panels, scripts, played, heights, strict=True):
            _panel(axes, script, lanes, height)


def _panel(axes: Axes, script: Script, lanes: Sequence[Lane], height: float) -> None:
    low, high = min(script.ticks), max(script.ticks)
    framed(axes, script.title, script.ticks, height)
    top, middles, line = 0.0, [], []
    for lane in lanes:
        bottom = top + _height(lane)
        if lane.watermark is not None:
            at = max(lane.watermark, low)
            line += [(at, top), (at, bottom)]
            axes.fill_between([low, at], top, bottom, color=SHADE, linewidth=0, zorder=0)
        if top:
            axes.axhline(top, color=FAINT, linewidth=0.6, zorder=1)
        y = top + MARGIN
        for side in (LEFT, RIGHT):
            if any(lane.rows.values()):
                _rows(axes, script, lane, side, y + SIDE_ROW / 2)
                y += SIDE_ROW
        for row in _packed(lane.results):
            for result in row:
                _result(axes, result, y + RESULT_ROW / 2)
            y += RESULT_ROW
        middles.append((top + bottom) / 2)
        top = bottom
    axes.set_yticks(middles, [f"{lane.name}\nkeeps {lane.kept[0]} + {lane.kept[1]}" for lane in lanes])
    axes.set_xlim(low, high)
    if line:
        axes.plot(*zip(*line, strict=True), color=INK, linewidth=1.3, zorder=3.5)
        axes.set_title("line: watermark", loc="right", color=INK, fontsize=TEXT, style="italic")


def _rows(axes: Axes, script: Script, lane: Lane, side: str, y: float) -> None:
    for name, time in lane.rows[side]:
        apart, colour = lane.aside.get(name), COLOURS[side]
        style: dict[str, Any] = {"facecolor": colour, "linewidth": 0}
        if apart is not None:
            style = {"facecolor": "white", "linestyle": (0, (2, 1.5))}
        elif side == LEFT and script.reach is not None:
            ends = [time + bound for bound in script.reach]
            axes.plot(ends, [y, y], color=TINTS[side], linewidth=5, solid_capstyle="butt", zorder=2)
            axes.plot(ends, [y, y], color=colour, linewidth=0, marker="|", markersize=7, zorder=3)
        axes.scatter([time], [y], s=130, edgecolor=colour, zorder=4, **style)
        axes.annotate(name, (time, y), ha="center", va="center_baseline", color="white" if apart is None else colour, zorder=5)
        if apart is not None:
            axes.annotate(apart, (time, y), (8, 0), textcoords="offset points", va="center_baseline", color=INK, style="italic", zorder=5)


def _result(axes: Axes, result: Result, y: float) -> None:
    rows: list[tuple[str, Row]] = [(side, row) for side, row in ((LEFT, result.left), (RIGHT, result.right)) if row is not None]
    times = [row[1] for _, row in rows]
    axes.plot([min(times), max(times)], [y, y], color=INK, linewidth=1, zorder=3)
    for side, (_, time) in rows:
        axes.scatter([time], [y], s=26, facecolor=COLOURS[side], linewidth=0, zorder=4)
    axes.annotate(result.text, (max(times), y), (5, 0), textcoords="offset points", va="center_baseline", color=INK, zorder=5)


def _packed(results: Sequence[Result]) -> list[list[Result]]:
    """Put results that do not overlap into one row."""
    rows: list[tuple[float, list[Result]]] = []
    for result in results:
        times = [row[1] for row in (result.left, result.right) if row is not None]
        for at, (end, row) in enumerate(rows):
            if end <= min(times):
                row.append(result)
                rows[at] = (max(times) + 4, row)
                break
        else:
            rows.append((max(times) + 4, [result]))  # room for the text
    return [row for _, row in rows]


def _height(lane: Lane) -> float:
    found = (2 * SIDE_ROW if any(lane.rows.values()) else 0) + RESULT_ROW * len(_packed(lane.results)) + 2 * MARGIN
    return max(found, 0.9)


PICTURES: Final[dict[str, Callable[[Path], None]]] = {
    **{name: partial(draw, scripts) for name, scripts in STREAMS.items()},
    "lookup": draw_versions,
    "lookup_keys": draw_keys,
    "lookup_history": draw_histories,
    "lookup_remote": draw_breaker,
    **{name: partial(draw_tables, tables) for name, tables in CHANGES.items()},
}

if __name__ == "__main__":
    main()
