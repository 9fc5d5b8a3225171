"""Every test that the page of guarantees names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
NAMED = set(re.findall(r"`(test_\w+)`", PAGE))


def test_each_named_test_exists():
    files = list((ROOT / "tests").rglob("test_*.py"))
    known = {file.stem for file in files} | {
        name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert len(NAMED) >= 20
    assert sorted(name for name in NAMED if name not in known) == []


def test_the_named_things_exist():
    for file in re.findall(r"\]\(([\w/.-]+)\)", PAGE):
        assert (ROOT / "docs" / file).exists(), file
