"""Draw the pictures of lookups: versions of a table, histories, keys and files, a circuit breaker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from docs.joins.lookups import ASKED_AT, BREAKER, DOWN, FILES, GROWS, HISTORIES, KEYS, History, attempts, calls, ranges
from docs.joins.style import BAD, FAINT, GOOD, INK, SHADE, TEXT, TINTS, framed, saved
from spark_ext.joins.layout import LEFT, RIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_breaker", "draw_histories", "draw_keys", "draw_versions"]

HALF: Final = 0.17  # of the width of an epoch's box


def draw_versions(file: Path) -> None:
    """Draw which version each attempt at an epoch reads, by policy."""
    policies = attempts()
    with saved(file, [2.7]) as (axes,):
        ticks: dict[float, str] = {minute: f"12:0{minute}" for minute in range(8)}
        framed(axes, "Lookup(path, refresh=...)", {-0.5: "", **ticks}, len(policies) + 1.2)
        axes.set_xticks(list(ticks), list(ticks.values()))
        for version, (since, until) in enumerate(zip((-0.5, *GROWS), (*GROWS, 7), strict=True)):
            axes.barh([0.5], [until - since], 0.5, left=[since], facecolor=SHADE, edgecolor=INK, linewidth=0.8, zorder=3)
            _says(axes, f"v{version}", (since + until) / 2, 0.5)
        for at, made in enumerate(policies.values()):
            y = at + 1.6
            for number, one in enumerate(made):
                is_again = number and made[number - 1].epoch == one.epoch
                is_new = one.chosen == one.epoch
                style = {"facecolor": TINTS[LEFT] if is_new else "white", "edgecolor": BAD if is_again else GOOD}
                axes.barh([y], [2 * HALF], 0.6, left=[one.minute - HALF], linewidth=1, zorder=3, **style)  # type: ignore[arg-type]
                _says(axes, f"v{one.version}", one.minute, y)
        for one in next(iter(policies.values())):
            axes.axvline(one.minute, color=FAINT, linewidth=0.6, zorder=1)
            axes.annotate(f"epoch {one.epoch}", (one.minute, 1.1), ha="center", va="center_baseline", color=INK, style="italic", zorder=5)
        on_request = list(policies).index("OnRequest()")
        axes.annotate("asked", (ASKED_AT, on_request + 1.6), ha="center", va="center_baseline", color=INK, style="italic", zorder=5)
        axes.set_yticks([0.5, *(at + 1.6 for at in range(len(policies)))], ["the table", *policies])
        axes.set_title(
            "filled: chosen in this epoch; orange: tried again after a crash", loc="right", color=INK, fontsize=TEXT, style="italic"
        )


def draw_histories(file: Path) -> None:
    """Draw rows and the versions of their key that they meet."""
    with saved(file, [1.5, 1.5]) as panels:
        for axes, history in zip(panels, HISTORIES, strict=True):
            _history(axes, history)


def _history(axes: Axes, history: History) -> None:
    framed(axes, history.title, history.ticks, 2)
    high = max(history.ticks)
    for at, one in enumerate(history.versions):
        following = history.versions[at + 1].since if at + 1 < len(history.versions) else high
        until = min(following if not history.has_ends else high if one.until is None else one.until, high)
        if history.tolerance is not None:
            until = min(until, one.since + history.tolerance)
        axes.barh([0.5], [until - one.since], 0.5, left=[one.since], facecolor=TINTS[RIGHT], edgecolor=BAD, linewidth=1, zorder=3)
        axes.annotate(one.name, (one.since, 0.5), (4, 0), textcoords="offset points", va="center_baseline", color=BAD, zorder=5)
    for row, name in zip(history.rows, history.met(), strict=True):
        axes.plot([row, row], [0.75, 1.5], color=FAINT, linewidth=1, zorder=2)
        axes.scatter([row], [1.5], s=60, color=GOOD, linewidth=0, zorder=4)
        axes.annotate(name or "-", (row, 1.5), (6, 0), textcoords="offset points", va="center_baseline", color=GOOD, zorder=5)
    axes.set_yticks([0.5, 1.5], ["history", "rows"])


def draw_keys(file: Path) -> None:
    """Draw the keys of a batch, and the files of a table that are read for them."""
    with saved(file, [1.7]) as (axes,):
        framed(axes, "lookup_keys(rows, table): a table that is clustered by the key", {key: str(key) for key in range(0, 101, 10)}, 3)
        axes.scatter(KEYS, [0.5] * len(KEYS), s=60, color=GOOD, linewidth=0, zorder=4)
        found = ranges()
        for low, high in found:
            axes.plot([low - 0.4, high + 0.4], [1.5, 1.5], color=GOOD, linewidth=4, solid_capstyle="butt", zorder=3)
            axes.annotate(f"{low} to {high}" if high > low else str(low), (high, 1.5), (5, 0), textcoords="offset points",
                          va="center_baseline", color=INK, zorder=5)  # fmt: skip
        for low, high in FILES:
            is_read = any(one <= high and low <= other for one, other in found)
            style = {"facecolor": TINTS[RIGHT] if is_read else "white", "edgecolor": BAD if is_read else FAINT}
            axes.barh([2.5], [high - low + 0.6], 0.5, left=[low - 0.3], linewidth=1, zorder=3, **style)  # type: ignore[arg-type]
            _says(axes, "read" if is_read else "left out", (low + high) / 2, 2.5)
        axes.set_yticks([0.5, 1.5, 2.5], ["keys of the batch", "asked for", "files"])


def draw_breaker(file: Path) -> None:
    """Draw the states of a circuit breaker, and what becomes of each call."""
    made, states = calls()
    colours = {"closed": TINTS[LEFT], "open": TINTS[RIGHT], "half_open": SHADE}
    with saved(file, [1.7]) as (axes,):
        end = 36
        failures, cooldown_s = BREAKER
        framed(
            axes,
            f"Limits(failures={failures}, cooldown={cooldown_s:.0f} s)",
            {second: f"{second} s" for second in range(0, end + 1, 4)},
            2.4,
        )
        for (since, state), until in zip(states, [*(one[0] for one in states[1:]), end], strict=True):
            axes.barh([0.5], [until - since], 0.5, left=[since], facecolor=colours[state], edgecolor=INK, linewidth=0.8, zorder=3)
            if until - since >= 1:
                _says(axes, state.replace("_", " "), (since + until) / 2, 0.5)
        for call in made:
            style = {"answered": {"facecolor": GOOD}, "failed": {"facecolor": BAD}, "not asked": {"facecolor": "white", "edgecolor": INK}}
            axes.scatter([call.second], [1.3], s=50, linewidth=0.8, zorder=4, **style[call.outcome])  # type: ignore[arg-type]
        axes.barh([2], [DOWN[1] - DOWN[0]], 0.3, left=[DOWN[0]], facecolor=TINTS[RIGHT], edgecolor=BAD, linewidth=0.8, zorder=3)
        _says(axes, "down", sum(DOWN) / 2, 2)
        axes.set_yticks([0.5, 1.3, 2], ["circuit", "calls", "service"])
        axes.set_title("blue: answered; orange: failed; white: not asked", loc="right", color=INK, fontsize=TEXT, style="italic")


def _says(axes: Axes, text: str, x: float, y: float) -> None:
    axes.annotate(text, (x, y), ha="center", va="center_baseline", color=INK, zorder=5)
