"""The picture of docs/dstreams.md is what its program draws."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from docs.dstreams.draw import draw

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dstreams.md"
TEXT = re.compile(r"<text[^>]*>([^<]*)</text>")


def test_the_picture_is_what_its_program_draws(tmp_path: Path) -> None:
    drawn, kept = tmp_path / "batches.svg", PAGE.parent / "dstreams" / "batches.svg"
    draw(drawn)
    words = Counter(TEXT.findall(drawn.read_text()))
    assert words["empty"] == 2
    assert Counter(TEXT.findall(kept.read_text())) == words, "run python -m docs.dstreams.draw"
    assert f"dstreams/{kept.name}" in PAGE.read_text()
