"""Sketches need NumPy and a checksum: no Spark, and, if they must, neither numba nor Arrow; and their README is true."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import sketches

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
