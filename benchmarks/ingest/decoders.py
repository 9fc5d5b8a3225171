"""Decode the same records with our kernel, pyarrow.json and Python's json, clean and with one bad record in a hundred.

Run by ``python -m benchmarks.ingest.decoders``; no broker, no Spark. A whole-block parser fails on the first bad record, so
with bad records pyarrow.json halves a block until it knows which they are: that is what anybody must do who uses it alone.
"""

from __future__ import annotations

import io
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.json as pj

from benchmarks.ingest.events import FIELDS, SEED, blocks
from benchmarks.ingest.parts import NEEDED, declared
from spark_ext.ingest import JsonFormat
from spark_ext.ingest.records import Bytes, Records

ROWS: Final = 20_000
ROUNDS: Final = 15
CUT: Final = 40  # bytes; what a bad record lacks


def by_pyarrow(values: list[bytes], names: tuple[str, ...]) -> int:
    """Return how many records could be read."""
    options = pj.ParseOptions(explicit_schema=pa.schema([(name, pa.string()) for name in names]), unexpected_field_behavior="ignore")
    body = b"\n".join(values)
    try:
        return len(pj.read_json(io.BytesIO(body), pj.ReadOptions(use_threads=False, block_size=len(body) + 1), options))
    except pa.ArrowInvalid:
        if len(values) == 1:
            return 0
        half = len(values) // 2
        return by_pyarrow(values[:half], names) + by_pyarrow(values[half:], names)


def by_python(values: list[bytes], names: tuple[str, ...]) -> int:
    """Return how many records could be read."""
    columns: dict[str, list[object]] = {name: [] for name in names}
    for value in values:
        try:
            found = json.loads(value)
        except ValueError:
            continue
        for name, column in columns.items():
            column.append(found.get(name))
    return len(pa.table(columns))


def by_kernel(records: Records, names: tuple[str, ...]) -> Callable[[], int]:
    """Return what decodes the block with our own decoder, which is made once."""
    decoder = JsonFormat(declared(*FIELDS)).decoder(names)
    return lambda: len(decoder.decode(records).good)


def main() -> None:
    values = [value for value in next(iter(blocks(ROWS, SEED, malformed=0))).values if value is not None]
    spoiled = [value[:-CUT] if at % 100 == 0 else value for at, value in enumerate(values)]
    ways: dict[str, Callable[[], int]] = {}
    for kind, given in {"clean": values, "1 % bad": spoiled}.items():
        nothing = np.full(len(given), -1)
        records = Records(np.arange(len(given)), nothing, Bytes.of([None] * len(given)), Bytes.of(list(given)))
        for label, names in {"3 columns": NEEDED, "7 columns": FIELDS}.items():
            ways[f"ours, {label}, {kind}"] = by_kernel(records, names)
            ways[f"pyarrow.json, {label}, {kind}"] = partial(by_pyarrow, given, names)
            ways[f"json, {label}, {kind}"] = partial(by_python, given, names)
    times: dict[str, list[float]] = {label: [] for label in ways}
    for number in range(ROUNDS):
        for label, way in ways.items():
            begun = time.process_time()
            count = way()
            times[label].append((time.process_time() - begun) / ROWS * 1e6)
            assert count == ROWS - ("bad" in label) * ROWS // 100, f"{label}: {count}"
        if number == 0:
            times = {label: [] for label in ways}  # compiled now
    size = sum(map(len, values)) / len(values)
    print(f"{ROWS:,} records of {size:.0f} bytes, seed {SEED}; us of CPU per record, median of {ROUNDS - 1}")
    for label, seconds in times.items():
        print(f"{label:35s} {statistics.median(seconds):6.3f}")


if __name__ == "__main__":
    main()
