"""How long a newcomer waits: ``make demo`` once set up (under 3 minutes) and, with --with-setup, set-up from nothing (under 6).

Set-up is timed in a clone in an empty folder with empty caches for pip and for the jars; it needs the network.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import checksum, machine
from jobs.flights.events import events

ROOT = Path(__file__).resolve().parents[1]
DEMO_LIMIT_S = 180
SETUP_LIMIT_S = 360


def timed(command: list[str], cwd: Path, **environment: str) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=cwd, env={**os.environ, **environment}, check=True)
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--with-setup", action="store_true", help="also time set-up from nothing")
    asked = parser.parse_args()
    print(f"{machine()}; events checksum {checksum(events())}")
    short = False
    with tempfile.TemporaryDirectory() as scratch:
        if asked.with_setup:
            clone = Path(scratch, "clone")
            subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
            caches = {"MILLRACE_CACHE": f"{scratch}/jars", "PIP_CACHE_DIR": f"{scratch}/pip"}
            setup = timed(["make", "setup"], clone, **caches)
            print(f"set-up from nothing: {setup:.0f} s (under {SETUP_LIMIT_S})")
            short |= setup >= SETUP_LIMIT_S
        demo = timed([sys.executable, "-m", "jobs.flights.demo", "--out", f"{scratch}/out"], ROOT)
        print(f"make demo after set-up: {demo:.0f} s (under {DEMO_LIMIT_S})")
        short |= demo >= DEMO_LIMIT_S
    return int(short)


if __name__ == "__main__":
    sys.exit(main())
