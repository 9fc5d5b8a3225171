"""Draw the picture of docs/dstreams.md: ``python -m docs.dstreams.draw``, from the root of the repository.

From left to right batch times, from top to bottom streams: what each holds at each time, and over which batches a window reaches.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from docs.dstreams.batches import HELD, WINDOW
from docs.joins.style import FAINT, GOOD, INK, SHADE, TEXT, TINTS, framed, saved
from spark_ext.joins.layout import LEFT, RIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw", "main"]

FOLDER: Final = Path(__file__).parent
ROW: Final = 1.0
INCH: Final = 0.62  # per row
KEPT: Final = "pairs.updateStateByKey(total)"


def main() -> None:
    """Draw into the folder of this file."""
    draw(FOLDER / "batches.svg")


def draw(file: Path) -> None:
    """Draw what `HELD` says; the same file each time."""
    count = len(next(iter(HELD.values())))
    height = len(HELD) * ROW
    with saved(file, [height * INCH + 0.7]) as (axes,):
        ticks = {0.0: "zero", **{float(n): f"t{n}" for n in range(1, count + 1)}, count + 0.3: ""}
        framed(axes, "a program's streams, batch by batch", ticks, height)
        axes.set_yticks([(row + 0.5) * ROW for row in range(len(HELD))], list(HELD), family="monospace")
        for row, (name, held) in enumerate(HELD.items()):
            for number, elements in enumerate(held, start=1):
                if elements is not None:
                    _box(axes, name, number, row * ROW, elements)


def _box(axes: Axes, name: str, number: int, top: float, elements: list[Any]) -> None:
    """One batch of one stream: it ends at its time."""
    text = "\n".join(_shown(element) for element in elements) or "empty"
    width, head = 0.92, 0.2 if "indow" in name else 0.06
    colour = TINTS[RIGHT] if name == KEPT else TINTS[LEFT] if elements else SHADE
    axes.add_patch(_rectangle(number - width, top + head, width, ROW - head - 0.06, colour))
    if "indow" in name:
        reach, above = min(number, WINDOW), top + 0.04 + 0.06 * (number % WINDOW)
        axes.plot([number - reach + 0.08, number - 0.01], [above] * 2, color=GOOD, linewidth=1.3, solid_capstyle="butt")
    axes.text(number - width / 2, top + (ROW + head) / 2, text, ha="center", va="center", fontsize=TEXT - 1.5, color=INK, linespacing=1.05)


def _shown(element: Any) -> str:
    return f"{element[0]} {element[1]}" if isinstance(element, tuple) else str(element)


def _rectangle(left: float, top: float, width: float, height: float, colour: str) -> Any:
    from matplotlib.patches import Rectangle  # noqa: PLC0415 (only the demo has it)

    return Rectangle((left, top), width, height, facecolor=colour, edgecolor=FAINT, linewidth=0.6)


if __name__ == "__main__":
    main()
