"""What the pictures of docs/joins.md have in common: colours, a frame, and a file that is the same each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spark_ext.joins.layout import LEFT, RIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BAD", "COLOURS", "FAINT", "GOOD", "INK", "SHADE", "TEXT", "TINTS", "framed", "saved"]

INK, FAINT, SHADE = "#333333", "#c8c8c8", "#f3f3f3"
COLOURS: Final = {LEFT: "#0072b2", RIGHT: "#d55e00"}  # distinct also to the colour-blind
TINTS: Final = {LEFT: "#cfe4f2", RIGHT: "#fbdcc8"}
GOOD, BAD = COLOURS[LEFT], COLOURS[RIGHT]
WIDTH_INCHES: Final = 8.2
TEXT: Final = 8


@contextmanager
def saved(file: Path, heights: Sequence[float]) -> Iterator[Sequence[Axes]]:
    """Give axes one below the other, `heights` in inches, and write them to an SVG file."""
    # Not pyplot: it keeps global state and looks for a screen.
    from matplotlib import rc_context  # noqa: PLC0415 (slow, and only the demo has it)
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": file.stem, "font.size": TEXT}):
        figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), facecolor="white", layout="constrained")
        FigureCanvasSVG(figure)
        yield list(figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0])
        figure.savefig(file, metadata={"Date": None})


def framed(axes: Axes, title: str, ticks: dict[float, str], height: float) -> None:
    """Set the axes up: what goes from left to right, and from top to bottom down to `height`."""
    axes.set_xlim(min(ticks), max(ticks))
    axes.set_ylim(height, 0)
    axes.set_title(title, loc="left", color=INK, fontsize=TEXT + 2, family="monospace")
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(length=3, color=FAINT, labelcolor=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.5, linestyle=(0, (1, 3)))
    axes.set_axisbelow(True)
