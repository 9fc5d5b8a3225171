"""Draw the pictures of docs/windows.md: ``python -m docs.windows.draw``, from the root of the repository.

What is drawn is what the kernels give for the streams in `docs.windows.streams`. From left to right event time, from top to bottom batches:
what came (two keys; numbers are values), and below it the windows given out, with the sum. The dark line is the watermark.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from docs.windows.streams import HOUR, STREAMS, Bar, Lane, Script, play

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw", "main"]

FOLDER: Final = Path(__file__).parent
INK, FAINT, SHADE = "#333333", "#c8c8c8", "#f3f3f3"
COLOURS: Final = {"a": "#0072b2", "b": "#d55e00"}  # distinct also to the colour-blind
TINTS: Final = {"a": "#cfe4f2", "b": "#fbdcc8"}
KEY_ROW, BAR_ROW, BAR, MARGIN = 0.5, 0.42, 0.32, 0.16  # heights
INCH: Final = 0.44  # per unit of height
WIDTH_INCHES: Final = 8.2
TEXT: Final = 8


def main() -> None:
    """Draw all pictures into the folder of this file."""
    for name, scripts in STREAMS.items():
        draw(scripts, FOLDER / f"{name}.svg")


def draw(scripts: Sequence[Script], file: Path) -> None:
    """Play scripts and draw them, one below the other; the same file each time.

    Parameters
    ----------
    scripts : sequence of Script
        One for each panel.
    file : Path
        SVG.
    """
    # Not pyplot: it keeps global state and looks for a screen.
    from matplotlib import rc_context  # noqa: PLC0415 (slow, and only the demo has it)
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    played = [play(script) for script in scripts]
    heights = [_height(lanes) for lanes in played]
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": file.stem, "font.size": TEXT}):
        figure = Figure(figsize=(WIDTH_INCHES, sum(heights) * INCH + 0.75 * len(heights)), facecolor="white", layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(len(scripts), 1, squeeze=False, height_ratios=heights)[:, 0]
        for one, script, lanes, height in zip(axes, scripts, played, heights, strict=True):
            _panel(one, script, lanes, height)
        figure.savefig(file, metadata={"Date": None})


def _panel(axes: Axes, script: Script, lanes: Sequence[Lane], height: float) -> None:
    low, high = min(script.ticks), max(script.ticks)
    axes.set_xlim(low, high)
    axes.set_ylim(height, 0)
    axes.set_title(script.title, loc="left", color=INK, fontsize=TEXT + 2, family="monospace")
    axes.set_xticks(list(script.ticks), list(script.ticks.values()))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(length=3, color=FAINT, labelcolor=INK)
    axes.grid(axis="x", color=FAINT, linewidth=0.5, linestyle=(0, (1, 3)))
    axes.set_axisbelow(True)
    top, middles, line = 0.0, [], []
    for lane in lanes:
        bottom = top + _lane_height(lane)
        if lane.watermark is not None:
            line += [(max(lane.watermark, low), top), (max(lane.watermark, low), bottom)]
            axes.fill_between([low, max(lane.watermark, low)], top, bottom, color=SHADE, linewidth=0, zorder=0)
        if top:
            axes.axhline(top, color=FAINT, linewidth=0.6, zorder=1)
        _rows(axes, lane, top + MARGIN)
        _bars(axes, script, lane, bottom - MARGIN - _bars_height(lane))
        middles.append((top + bottom) / 2)
        top = bottom
    axes.set_yticks(middles, [lane.name for lane in lanes])
    axes.tick_params(axis="y", length=0)
    if line:
        axes.plot(*zip(*line, strict=True), color=INK, linewidth=1.3, zorder=3.5)
        axes.set_title("line: watermark", loc="right", color=INK, fontsize=TEXT, style="italic")


def _rows(axes: Axes, lane: Lane, top: float) -> None:
    for row in lane.rows:
        key, time, value = row
        y = top + KEY_ROW * (0.5 + (key == "b"))
        apart, colour = lane.aside.get(row), COLOURS[key]
        style: dict[str, Any] = {"facecolor": colour, "linewidth": 0}
        if apart is not None:
            style = {"facecolor": "white", "linestyle": (0, (2, 1.5))}
        axes.scatter([time], [y], s=130, edgecolor=colour, zorder=4, **style)
        axes.annotate(str(value), (time, y), ha="center", va="center_baseline", color="white" if apart is None else colour, zorder=5)
        if apart is not None:
            axes.annotate(apart, (time, y), (8, 0), textcoords="offset points", va="center_baseline", color=INK, style="italic", zorder=5)


def _bars(axes: Axes, script: Script, lane: Lane, top: float) -> None:
    y = top
    for bars, is_pane in ((lane.panes, True), (lane.bars, False)):
        for row in _packed(bars):
            for bar in row:
                _bar(axes, script, bar, y + BAR_ROW / 2, is_pane=is_pane)
            y += BAR_ROW


def _bar(axes: Axes, script: Script, bar: Bar, y: float, *, is_pane: bool) -> None:
    low, high = axes.get_xlim()
    reach = (high - low) / 20  # what has no bounds goes beyond the picture
    start, end = max(bar.start, low - reach), min(bar.end, high + reach)
    style: dict[str, Any] = {"facecolor": TINTS[bar.key] if bar.is_final else "white", "edgecolor": COLOURS[bar.key], "linewidth": 1}
    if is_pane:
        style |= {"edgecolor": FAINT}
    elif not bar.is_final:
        style |= {"linestyle": (0, (3, 2))}
    axes.barh([y], [end - start], BAR, left=[start], zorder=3, **style)
    text = f"{bar.key} {bar.total}" if script.unit < HOUR else f"{bar.key} {bar.total} ({bar.end - bar.start:.0f} h)"
    at = end if end - start < reach / 2 else max(start, low)
    axes.annotate(text, (at, y), (4, 0), textcoords="offset points", va="center_baseline", color=COLOURS[bar.key], zorder=5)


def _packed(bars: Sequence[Bar]) -> list[list[Bar]]:
    """Put bars of a key that do not overlap into one row."""
    rows: list[list[Bar]] = []
    for bar in bars:
        for row in rows:
            if row[0].key == bar.key and row[-1].end <= bar.start:
                row.append(bar)
                break
        else:
            rows.append([bar])
    return rows


def _bars_height(lane: Lane) -> float:
    return BAR_ROW * (len(_packed(lane.bars)) + len(_packed(lane.panes)))


def _lane_height(lane: Lane) -> float:
    return (2 * KEY_ROW if lane.rows else 0) + _bars_height(lane) + 2 * MARGIN


def _height(lanes: Sequence[Lane]) -> float:
    return sum(_lane_height(lane) for lane in lanes)


if __name__ == "__main__":
    main()
