"""Accuracy studies: all are found, each tells what it was asked for, and a picture is the same each time."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from benchmarks.sketches.accuracy import draw, found_studies, main, row_of, table
from benchmarks.sketches.studies.trial import Trial

STUDIES = found_studies(40)


def test_studies_are_found() -> None:
    assert {"decaying", "decaying_top", "hyperloglog", "quantiles", "reservoir"} <= {study.name for study in STUDIES}
    assert "trial" not in {study.name for study in STUDIES}


@pytest.mark.parametrize("name", ["decaying", "decaying_top", "quantiles"])
def test_a_study_gives_a_trial_for_each_size_and_seed_the_same_each_time(name: str) -> None:
    study = next(study for study in STUDIES if study.name == name)
    trials = list(study.trials([0, 1, 3000], [1, 2]))
    assert [(trial.size, trial.seed) for trial in trials] == [(size, seed) for size in (0, 1, 3000) for seed in (1, 2)]
    assert all(abs(trial.error) <= trial.bound for trial in trials)
    assert trials == list(study.trials([0, 1, 3000], [1, 2]))
    assert trials[4].error != trials[5].error


def test_a_picture_and_its_row_are_the_same_each_time(tmp_path: Path) -> None:
    trials = [Trial(size, seed, (seed - 10) / 1000, 0.008) for size in (10, 1000) for seed in range(21)]
    pictures = []
    for name in ("one.svg", "other.svg"):
        draw(STUDIES[0], trials, tmp_path / name)
        pictures.append((tmp_path / name).read_text("utf-8"))
    assert pictures[0] == pictures[1]
    assert "<dc:date>" not in pictures[0]
    row = row_of(STUDIES[0], trials)
    assert row.endswith("| 1,000 | 0.01 | 0.008 | 8 of 42 | 19.0 % |")
    assert row in table([row]).splitlines()


def test_a_study_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"expected some of .*quantiles.*, got quantile$"):
        main(["quantile"], folder=tmp_path)
