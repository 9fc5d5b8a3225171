"""Sketches need NumPy and a checksum: no Spark, and, if they must, neither numba nor Arrow; and their README is true."""

from __future__ import annotations

import doctest
import importlib.util
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement

import sketches
from spark_ext.ops import entry

ROOT = Path(__file__).parents[2]
README = Path(sketches.__file__).parent / "README.md"
NEVER = ("pyspark", "pandas", "deltalake", "spark_ext", "typer", "rich")
ALONE = """
import sys

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in set(sys.argv[1].split(",")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Gone())
import doctest, importlib, hashlib
import sketches
from sketches.jit import HAS_NUMBA
for name in sketches.__all__:
    getattr(sketches, name)
found = doctest.testfile(sys.argv[2], module_relative=False)
print(HAS_NUMBA, found.failed, found.attempted > 10)
"""


def run_alone(*gone: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    line = [sys.executable, "-c", ALONE, ",".join((*NEVER, *gone)), str(README)]
    return subprocess.run(line, check=True, capture_output=True, text=True, cwd=ROOT, env=environment).stdout


def test_the_tour_is_true() -> None:
    found = doctest.testfile(str(README), module_relative=False)
    assert (found.failed, found.attempted > 10) == (0, True)


@pytest.mark.parametrize("gone", [(), ("pyarrow",)])
def test_everything_works_without_spark(gone: tuple[str, ...]) -> None:
    assert run_alone(*gone).splitlines()[-1] == "True 0 True"


def test_everything_works_with_numpy_and_a_checksum() -> None:
    assert run_alone("numba", "llvmlite", "pyarrow").splitlines()[-1] == "False 0 True"


def test_whoever_wants_only_sketches_gets_no_spark() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {Requirement(line).name for line in project["dependencies"]} == {"google-crc32c", "numba", "numpy", "pyarrow"}


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'sketches' has no attribute 'Nothing'"):
        sketches.Nothing  # noqa: B018


@pytest.mark.parametrize(
    "make",
    [
        sketches.BloomFilter,
        lambda wrong: sketches.BloomFilter.from_error(capacity=wrong, false_positive_rate=0.1),
        lambda wrong: sketches.ClassicBloomFilter(64, wrong),
        lambda wrong: sketches.ClassicBloomFilter.from_error(capacity=wrong, false_positive_rate=0.1),
        lambda wrong: sketches.RotatingBloomFilter(wrong, 2, 10),
        lambda wrong: sketches.CountMinSketch(wrong, 10),
        lambda wrong: sketches.CountMinSketch(2, wrong),
        sketches.HyperLogLog,
        sketches.MisraGries,
        sketches.ReservoirSample,
        sketches.Quantiles,
    ],
)
@pytest.mark.parametrize("wrong", [2.5, "a", True, float("nan"), None, 0, -1])
def test_parameters_that_are_no_whole_numbers_are_refused(make: Callable[[Any], Any], wrong: Any) -> None:
    with pytest.raises(sketches.SketchError, match=r"cannot use parameter '\w+': expected .+, got .+; correct it"):
        make(wrong)


def test_whole_numbers_of_numpy_are_whole_numbers() -> None:
    for one, other in (
        (sketches.CountMinSketch(np.int64(2), np.int32(8)), sketches.CountMinSketch(2, 8)),
        (sketches.Quantiles(np.int64(200)), sketches.Quantiles(200)),
        (sketches.BloomFilter(np.int64(2)), sketches.BloomFilter(2)),
    ):
        assert repr(one) == repr(other)
        assert one.to_bytes() == other.to_bytes()


def test_the_command_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"needs the engine, and typer, rich, pyspark cannot be imported; run: pip install '.\[engine\]'"):
        entry.main()
