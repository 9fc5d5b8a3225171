"""Rows by key out of a Delta table without Spark, while a writer commits: how long one takes, and how far behind the answers are.

A table of `keys` rows, made and updated by the sink of tables that change; after `epochs` epochs a writer in a process of its own goes on
with them, one after the other, and keys drawn at random are looked up one by one. Each answer is checked against what any version up to
then said of its key. Between two lookups a checksum of some bytes is computed that takes as long as one on a quiet machine: what it
takes here is the machine's share. Seeded by `seed`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from deltalake import DeltaTable
from numpy.typing import NDArray

from benchmarks.measure import checksum, machine
from spark_ext.delta import Txn, apply_changes
from spark_ext.tables.reader import TableReader

APP = "point-lookup"
DONE = "done"
BYTES = bytes(2_000_000)
QUIET = Event()  # never set
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Load:
    """A table of customers, and the epochs that change it: who, and to what, follows from the seed and the number of the epoch."""

    keys: int
    updates: int
    seed: int

    def who(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, epoch]).choice(self.keys, self.updates, replace=False)

    def last(self, epochs: int) -> NDArray[np.int64]:
        """The epoch of the last change of each key."""
        found = np.zeros(self.keys, np.int64)
        for epoch in range(1, epochs + 1):
            found[self.who(epoch)] = epoch
        return found

    def rows(self, who: NDArray[np.int64], epochs: NDArray[np.int64], sign: int) -> pa.Table:
        amount = (who * 7919 + epochs * 104_729) % 1_000_003
        columns = {
            "customer": pa.array([f"customer-{one:08d}" for one in who]),
            "amount": amount,
            "city": pa.array([f"city {one}" for one in amount % 500]),
            "score": amount / 7,
            "epoch": epochs,
        }
        return pa.table({**columns, "sign": pa.array(np.full(len(who), sign, np.int8))})

    def write(self, path: str, epoch: int, before: NDArray[np.int64]) -> None:
        who = np.arange(self.keys) if epoch == 0 else self.who(epoch)
        new = self.rows(who, np.full(len(who), epoch), 1)
        rows = new if epoch == 0 else pa.concat_tables([self.rows(who, before[who], -1), new])
        apply_changes(rows, path, keys=["customer"], sequence="epoch", txn=Txn(APP, epoch))
        before[who] = epoch


@app.command()
def lookup(
    keys: int = 1_000_000,
    epochs: int = 20,
    updates: int = 10_000,
    lookups: int = 1_000,
    every_ms: Annotated[int, typer.Option(help="Pause of the writer between two epochs.")] = 1_000,
    seed: int = 9,
    reading: Annotated[bool, typer.Option(help="Without it: only the writer, until a file says so; for the process beside.")] = True,
    folder: str = "",
) -> None:
    load = Load(keys, updates, seed)
    if not reading:
        _go_on(load, folder, epochs, every_ms)
        return
    root = Path(tempfile.mkdtemp(prefix="point-lookup-"))
    path = str(root / "table")
    try:
        before, began = np.zeros(keys, np.int64), time.perf_counter()
        for epoch in range(epochs + 1):
            load.write(path, epoch, before)
        per_epoch = (time.perf_counter() - began) / (epochs + 1)
        files = DeltaTable(path).file_uris()
        table = DeltaTable(path).to_pyarrow_table().sort_by("customer").to_pandas()
        print(f"{machine()}; seed {seed}, checksum {checksum(table)}")
        print(f"{keys:,} keys, {epochs} epochs of {updates:,} updates ({per_epoch:.2f} s each), {len(files)} files")
        _read(load, path, root, epochs, lookups, every_ms)
    finally:
        shutil.rmtree(root)


def _read(load: Load, path: str, root: Path, epochs: int, lookups: int, every_ms: int) -> None:
    began = time.perf_counter()
    with TableReader(path, "customer") as reader:
        opened = time.perf_counter() - began
        reader.get("customer-00000000")
        print(f"opened in {opened:.2f} s")
        settings = {"keys": load.keys, "epochs": epochs, "updates": load.updates, "every-ms": every_ms, "seed": load.seed, "folder": root}
        options = [f"--{name}={value}" for name, value in settings.items()]
        quiet = _asked(load, reader, lookups, 0.0, epochs)
        writer = subprocess.Popen([sys.executable, "-m", "benchmarks.joins.point_lookup", "--no-reading", *options])
        while int(DeltaTable(path).version()) == epochs:
            QUIET.wait(0.1)
        busy = _asked(load, reader, lookups, 0.02, epochs)
        versions = int(DeltaTable(path).version()) - epochs
        (root / DONE).touch()
        writer.wait()
        behind = reader.as_of_version
        newest = reader.refresh()
    for name, both in (("nobody writes", quiet), (f"{versions} epochs meanwhile", busy)):
        for what, times in zip(("lookups", "checksums"), both, strict=True):
            p50, p99, most = np.percentile(times, [50, 99, 100]) * 1_000
            print(f"{name:24} {len(times):,} {what:10} p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {most:.1f} ms")
    print(f"answers at the end of version {behind}, the table at {newest}")


def _asked(load: Load, reader: TableReader, lookups: int, pause_s: float, epochs: int) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng([load.seed, 1_000_000])
    times: list[float] = []
    others: list[float] = []
    last = load.last(epochs)
    for one in rng.integers(0, load.keys, lookups):
        began = time.perf_counter()
        row = reader.get(f"customer-{one:08d}")
        times.append(time.perf_counter() - began)
        began = time.perf_counter()
        zlib.crc32(BYTES)
        others.append(time.perf_counter() - began)
        if row is None or row["epoch"] < last[one]:
            message = f"customer {one}: {row} where epoch {last[one]} was committed"
            raise RuntimeError(message)
        wanted = load.rows(np.array([one]), np.array([row["epoch"]]), 1).drop_columns("sign").to_pylist()[0]
        if row != wanted:
            message = f"customer {one}: {row} where {wanted} was written"
            raise RuntimeError(message)
        QUIET.wait(pause_s)
    return times, others


def _go_on(load: Load, folder: str, epochs: int, every_ms: int) -> None:
    """Commit one epoch after the other until the folder says that it is enough."""
    before, epoch = load.last(epochs), epochs
    while not (Path(folder) / DONE).exists():
        epoch += 1
        load.write(str(Path(folder) / "table"), epoch, before)
        QUIET.wait(every_ms / 1_000)


if __name__ == "__main__":
    app()
