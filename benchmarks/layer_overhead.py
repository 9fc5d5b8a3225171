"""What our layer costs against the same job written by hand: one session, one topic, the two in turn.

Figure: at most 10 % more CPU. Both read a year of flights and end with the same tables.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

from deltalake import DeltaTable
from pyspark.sql import SparkSession

from benchmarks import by_hand
from benchmarks.measure import Cost, checksum, cost_of, machine, median_ratio
from jobs.flights import tables
from jobs.flights.events import events
from jobs.flights.main import start_events, start_hours
from jobs.flights.publish import progress_bar, publish
from jobs.flights.settings import Settings
from spark_ext.broker import Broker
from spark_ext.queries import run
from spark_ext.session import spark_session

LIMIT = 1.10
TABLES = ("flight_events", "late_events", "dead_letters", "hourly_departures")


def ours(spark: SparkSession, settings: Settings) -> None:
    run([start_events(spark, settings, None)])
    run([start_hours(spark, settings, None)])


def theirs(spark: SparkSession, settings: Settings) -> None:
    out = Path(settings.out)
    by_hand.events(spark, settings.bootstrap_servers, settings.topic, out, settings.max_offsets_per_trigger)
    by_hand.hours(spark, out)


def rows(out: Path) -> dict[str, int]:
    return {name: DeltaTable(str(out / "tables" / name)).to_pyarrow_dataset().count_rows() for name in TABLES}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3, help="counted pairs, after one pair to warm up")
    pairs = parser.parse_args().pairs
    year = events()
    print(f"{machine()}; {len(year):,} events, checksum {checksum(year)}")
    spent: dict[str, list[Cost]] = {"ours": [], "by hand": []}
    with Broker() as broker, tempfile.TemporaryDirectory() as scratch:
        broker.create_topic("flights", partitions=1)  # or the two sources would cut other batches, and call other rows late
        with progress_bar() as progress:
            publish(broker.bootstrap_servers, "flights", year, progress=progress)
        spark = spark_session("layer overhead", master="local[2]", conf={"spark.ui.enabled": "false"})
        for pair in range(pairs + 1):
            found = {}
            # Who goes first changes from pair to pair: the second one finds warmer caches.
            variants = [("ours", ours), ("by hand", theirs)]
            for name, variant in variants if pair % 2 else reversed(variants):
                out = Path(scratch, f"{name}-{pair}")
                settings = Settings.load("local", out=str(out), bootstrap_servers=broker.bootstrap_servers)
                tables.create_tables(spark, settings)
                cost = cost_of(partial(variant, spark, settings))
                found[name] = rows(out)
                label = f"pair {pair}" if pair else "warm-up"
                print(f"{label} {name:8} {cost.wall_s:6.1f} s wall {cost.cpu_s:6.1f} s CPU {found[name]}", flush=True)
                if pair:
                    spent[name].append(cost)
            assert found["ours"] == found["by hand"], "the two must do the same work"
        spark.stop()
    cpu = median_ratio([cost.cpu_s for cost in spent["ours"]], [cost.cpu_s for cost in spent["by hand"]])
    wall = median_ratio([cost.wall_s for cost in spent["ours"]], [cost.wall_s for cost in spent["by hand"]])
    per_row = statistics.median(cost.cpu_s for cost in spent["ours"]) / len(year) * 1e6
    print(f"layer overhead: {cpu:.3f} of the CPU, {wall:.3f} of the time by hand (at most {LIMIT:.2f}); {per_row:.1f} us of CPU per event")
    return 0 if cpu <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
