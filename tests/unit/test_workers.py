"""Workers leave what stays alive out of the collection that follows each use."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
import pandas, pyarrow
from spark_ext.workers import settle
before = gc.get_freeze_count()
cycle = []
cycle.append(cycle)
settle()
frozen = gc.get_freeze_count()
later = [[] for _ in range(1000)]
settle()
print(before, frozen > 10_000, len(gc.get_objects()) < 2_000, gc.get_freeze_count() <= frozen)
"""


def test_what_is_alive_at_the_end_of_the_first_work_is_left_out_once():
    # A process of its own: freezing the objects of the tests would change other tests' memory.
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["0", "True", "True", "True"]
