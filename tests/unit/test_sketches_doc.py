"""The page on sketches names every class, and shows pictures that are there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import sketches
from sketches import Sketch

FOLDER = Path(__file__).parents[2] / "docs"
PAGE = (FOLDER / "sketches.md").read_text("utf-8")
CLASSES = [name for name in sketches.HOMES if inspect.isclass(getattr(sketches, name)) and issubclass(getattr(sketches, name), Sketch)]


@pytest.mark.parametrize("section", ["Which one", "What each promises", "What they cost in memory"])
def test_each_class_is_on_the_page(section: str) -> None:
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    assert {name for name in CLASSES if name != "Sketch" and f"`{name}`" not in text} == set()


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE + (FOLDER / "sketches" / "accuracy.md").read_text("utf-8").replace("](", "](sketches/"))
    assert len(links) > 5
    assert [link for link in links if not (FOLDER / link).exists()] == []
