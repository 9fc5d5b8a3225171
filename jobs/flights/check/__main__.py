"""``python -m jobs.flights.check --out out/flights --bootstrap-servers ...``: exit code 1 if any number differs."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import timedelta
from pathlib import Path

from deltalake.exceptions import DeltaError
from rich.console import Console

from jobs.flights.check.broker import ProofError
from jobs.flights.check.proof import check
from jobs.flights.check.summary import summarise


def main() -> int:
    """Run the proof; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.flights.check", description="Prove the flights job's tables with pandas.")
    parser.add_argument("--out", type=Path, required=True, help="the job's folder")
    parser.add_argument("--bootstrap-servers", required=True, help="addresses as host:port, separated by commas")
    parser.add_argument("--topic", default="flights")
    parser.add_argument("--lateness-hours", type=float, default=6.0)
    asked = parser.parse_args()
    console, started = Console(), time.monotonic()
    try:
        with console.status("reading the topic and recomputing every number"):
            result = check(asked.out, asked.bootstrap_servers, asked.topic, lateness=timedelta(hours=asked.lateness_hours))
    except (DeltaError, OSError, ProofError) as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    summarise(result, console=console)
    console.print(f"checked in {time.monotonic() - started:.1f} s", style="dim")
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
