"""What a newcomer runs, whole, on a tenth of the visits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kafka, pytest.mark.spark, pytest.mark.slow]


def test_the_demo_shows_every_answer_beside_the_exact_one_and_all_hold(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "jobs.web_analytics.demo", "--out", str(tmp_path / "out"), "--visits", "100000"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=280, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "checksum ddf8fb246041ac2c" in said
    assert re.search(r"101,020 broker rows = [\d,]+ accepted \+ [\d,]+ duplicate \+ [\d,]+ late \+ 5 dead", said)
    assert re.search(r"all 10 comparisons equal, all \d+ claims hold", said)
    for title in ("Distinct visitors by hour", "Hot pages of the day", "Most popular", "quantiles of the day", "Sessions of one view"):
        assert title in said
