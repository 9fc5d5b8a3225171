"""Run the accuracy studies and draw them: ``python -m benchmarks.sketches.accuracy``, from the root of the repository.

One picture and one row of ``docs/sketches/accuracy.md`` for each module of `benchmarks.sketches.studies` that has a `TITLE`. Seeds are
fixed, so the files are the same each time on machines whose floats round alike.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final

import matplotlib as mpl
import numpy as np
import typer
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.sketches import studies
from benchmarks.sketches.studies.trial import Trial

FOLDER: Final = Path(__file__).parents[2] / "docs" / "sketches"
SIZES: Final = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
SEEDS: Final = 40
INK, POINTS, BAND, BOUND = "#333333", "#0072b2", "#cfe4f2", "#d55e00"  # distinct also to the colour-blind
ENOUGH: Final = 20  # trials of a size of which a band can be said


@dataclass(frozen=True, slots=True)
class Study:
    """A module of `studies`."""

    name: str
    title: str
    unit: str
    trials: Callable[[Sequence[int], Sequence[int]], Iterator[Trial]]
    sizes: Sequence[int]
    seeds: Sequence[int]


def found_studies(seeds: int) -> list[Study]:
    """Return all studies; a module may say by SIZES and SEEDS that others than the usual ones are its own."""
    found = []
    for info in pkgutil.iter_modules(studies.__path__):
        module = import_module(f"{studies.__name__}.{info.name}")
        if hasattr(module, "TITLE"):
            own = range(min(seeds, getattr(module, "SEEDS", seeds)))
            found.append(Study(info.name, module.TITLE, module.UNIT, module.trials, getattr(module, "SIZES", SIZES), own))
    return found


def main(
    only: Annotated[list[str] | None, typer.Argument(help="names of studies; all if none is given")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="trials of each size")] = SEEDS,
    folder: Annotated[Path, typer.Option(help="where pictures and table go")] = FOLDER,
) -> None:
    """Run the studies, draw each, and write what was observed beside what is promised."""
    known = found_studies(seeds)
    if unknown := set(only or ()) - {study.name for study in known}:
        raise typer.BadParameter(f"expected some of {', '.join(study.name for study in known)}, got {', '.join(sorted(unknown))}")
    folder.mkdir(parents=True, exist_ok=True)
    columns = TextColumn("{task.description:>20}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    rows = []
    with Progress(*columns) as progress:
        for study in known:
            if only and study.name not in only:
                continue
            task = progress.add_task(study.name, total=len(study.sizes) * len(study.seeds))
            trials = []
            for size in study.sizes:
                for trial in study.trials([size], study.seeds):
                    trials.append(trial)
                    progress.advance(task)
            draw(study, trials, folder / f"{study.name}.svg")
            rows.append(row_of(study, trials))
    if not only:
        (folder / "accuracy.md").write_text(table(rows), encoding="utf-8")


def draw(study: Study, trials: Sequence[Trial], file: Path) -> None:
    """Draw the error of each trial, the band that holds 95 % of them at each size, and the bound on either side."""
    with mpl.rc_context({"svg.hashsalt": study.name, "svg.fonttype": "none", "font.size": 8, "font.family": "sans-serif"}):
        figure = Figure(figsize=(7.2, 3.2), layout="constrained")
        axes = figure.add_subplot()
        sizes = np.array(sorted({trial.size for trial in trials}))
        errors = [np.array([trial.error for trial in trials if trial.size == size]) for size in sizes]
        bounds = [float(np.median([trial.bound for trial in trials if trial.size == size])) for size in sizes]
        bands = np.array([np.quantile(some, (0.025, 0.975)) for some in errors])
        axes.fill_between(sizes, bands[:, 0], bands[:, 1], color=BAND, linewidth=0, label="95 % of the trials")
        axes.plot([trial.size for trial in trials], [trial.error for trial in trials], ".", color=POINTS, markersize=2, label="a trial")
        axes.plot(sizes, bounds, color=BOUND, linewidth=1.2, label="bound (median)")
        if min(map(np.min, errors)) < 0:
            axes.plot(sizes, [-bound for bound in bounds], color=BOUND, linewidth=1.2)
        axes.axhline(0, color=INK, linewidth=0.5)
        axes.set_xscale("log")
        axes.set_xlabel("values taken")
        axes.set_ylabel(study.unit)
        axes.set_title(study.title, loc="left", color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        figure.savefig(file, metadata={"Date": None, "Creator": None})
    file.write_text("\n".join(line.rstrip() for line in file.read_text("utf-8").splitlines()) + "\n", encoding="utf-8")


def row_of(study: Study, trials: Sequence[Trial]) -> str:
    """Return what was seen at the largest size, and over all sizes."""
    largest = max(trial.size for trial in trials)
    last = [trial for trial in trials if trial.size == largest]
    errors: NDArray[np.float64] = np.abs([trial.error for trial in last])
    seen = f"{np.quantile(errors, 0.95):.2g}" if len(last) >= ENOUGH else f"{errors.max():.2g} (largest of {len(last)})"
    outside = sum(abs(trial.error) > trial.bound for trial in trials)
    bound = float(np.median([trial.bound for trial in last]))
    link = f"[{study.title}]({study.name}.svg)"
    return f"| {link} | {largest:,} | {seen} | {bound:.2g} | {outside} of {len(trials):,} | {100 * outside / len(trials):.1f} % |"


def table(rows: Sequence[str]) -> str:
    """Return the page."""
    return "\n".join(
        (
            "# Observed and promised errors of the sketches",
            "",
            "Written by `python -m benchmarks.sketches.accuracy`; do not edit. Errors are shares, of what the picture says. Promised is",
            "the bound at 95 % where it has a confidence (up to 5 % of the trials may be outside), or one that always holds (none may).",
            "",
            "| study | values | observed, 95 % of the trials | promised | trials outside, all sizes | share |",
            "| --- | ---: | ---: | ---: | ---: | ---: |",
            *rows,
            "",
        )
    )


if __name__ == "__main__":
    typer.run(main)
