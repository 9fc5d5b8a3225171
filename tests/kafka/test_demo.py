"""What a newcomer runs, whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.kafka, pytest.mark.spark, pytest.mark.slow]


def test_the_demo_proves_every_number_and_saves_its_plot(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "jobs.flights.demo", "--out", str(tmp_path / "out")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=280, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert re.search(r"664,122 broker rows = [\d,]+ facts \+ 0 dead letters \+ [\d,]+ late rows", said)
    assert re.search(r"336,776 departures and cancellations = 336,\d{3} in 1,096 days of an airport \+ [\d,]+ late rows", said)
    assert "days in New York: 2013-03-10 has 23 h, 2013-11-03 has 25 h" in said
    assert re.search(r"all [\d,]+ windows and 439 routes equal", said)
    assert (tmp_path / "out" / "delays_by_hour.png").read_bytes().startswith(b"\x89PNG")
