"""Two streams of files joined by key, the same program by `pyspark.streaming` and by ours: all functions are known, or none is."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import numpy as np
import typer

from benchmarks.dstream.files import compare
from benchmarks.measure import machine
from spark_ext.session import spark_session

SEED: Final = 1
SIDES: Final = ("clicks", "prices")
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def known(clicks: Any, prices: Any) -> Any:
    """Every function is one that has a column form."""

    def pairs(lines: Any) -> Any:
        return lines.map(lambda line: line.split(" ")).map(lambda fields: (fields[0], int(fields[1])))

    return pairs(clicks).join(pairs(prices)).mapValues(lambda pair: pair[0] * pair[1])


def lambdas(clicks: Any, prices: Any) -> Any:
    """No function is known: stars and modules are beyond what is read."""

    def pairs(lines: Any) -> Any:
        return lines.map(lambda line: [*line.split(" ")]).map(lambda fields: (fields[0], int([*fields][1])))

    return pairs(clicks).join(pairs(prices)).mapValues(math.prod)


PROGRAMS: Final[dict[str, Callable[[Any, Any], Any]]] = {"known": known, "lambdas": lambdas}


def write(folder: Path, batches: int, rows: dict[str, int], keys: int) -> str:
    """Write a file of lines ``key number`` per side and batch; return their checksum."""
    rng = np.random.default_rng(SEED)
    digest = hashlib.sha256()
    for batch in range(batches):
        for side in SIDES:
            numbers, values = rng.integers(0, keys, rows[side]).tolist(), rng.integers(0, 1000, rows[side]).tolist()
            content = "".join(f"key{number:06d} {value}\n" for number, value in zip(numbers, values, strict=True)).encode()
            (folder / f"{side}-{batch}").write_bytes(content)
            digest.update(content)
    return digest.hexdigest()[:16]


@app.command()
def main(
    clicks: Annotated[int, typer.Option(help="Lines of the left side per batch.")] = 500_000,
    prices: Annotated[int, typer.Option(help="Lines of the right side per batch.")] = 200_000,
    keys: Annotated[int, typer.Option(help="Different keys.")] = 100_000,
    batches: Annotated[int, typer.Option(help="Timed batches per turn.")] = 6,
    warm: Annotated[int, typer.Option(help="Batches before them: the JVM compiles while it runs.")] = 3,
    turns: Annotated[int, typer.Option(help="Turns of each.")] = 2,
) -> None:
    """Compare."""
    spark = spark_session("joins", master="local[2]", conf={"spark.ui.enabled": "false", "spark.driver.memory": "6g"})
    spark.sparkContext.setLogLevel("OFF")
    with TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{machine()}; {clicks:,} lines with {prices:,}, {keys:,} keys, per batch; seed {SEED}")
        print(f"checksum of the data: {write(folder, batches + warm, dict(zip(SIDES, (clicks, prices), strict=True)), keys)}")
        files = [[folder / f"{side}-{batch}" for side in SIDES] for batch in range(batches + warm)]
        compare(spark.sparkContext, PROGRAMS, files, warm, turns)
    spark.stop()


if __name__ == "__main__":
    app()
