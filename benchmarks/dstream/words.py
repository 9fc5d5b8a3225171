"""Word count over files, the same program by `pyspark.streaming` and by ours: all functions are known, or none is."""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import numpy as np
import typer

from benchmarks.dstream.files import compare
from benchmarks.measure import machine
from spark_ext.session import spark_session

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def known(lines: Any) -> Any:
    """Every function is one that has a column form."""
    return lines.flatMap(lambda line: line.split(" ")).map(lambda word: (word, 1)).reduceByKey(operator.add)


def lambdas(lines: Any) -> Any:
    """No function is known."""
    return lines.flatMap(lambda line: [word for word in line.split(" ") if word]).map(lambda word: (word, 2 - 1)).reduceByKey(
        lambda a, b: b + a + 0
    )  # fmt: skip


PROGRAMS: Final[dict[str, Callable[[Any], Any]]] = {"known": known, "lambdas": lambdas}


def write(folder: Path, files: int, rows: int, words: int, keys: int) -> str:
    """Write files of lines of words, each word as likely as the other; return their checksum."""
    rng = np.random.default_rng(1)
    digest = hashlib.sha256()
    vocabulary = np.array([f"word{n:06d}" for n in range(keys)])
    for number in range(files):
        drawn = vocabulary[rng.integers(0, keys, (rows, words))]
        content = "\n".join(map(" ".join, drawn)).encode() + b"\n"
        (folder / f"lines-{number}").write_bytes(content)
        digest.update(content)
    return digest.hexdigest()[:16]


@app.command()
def main(
    rows: Annotated[int, typer.Option(help="Lines per batch.")] = 300_000,
    words: Annotated[int, typer.Option(help="Words per line.")] = 10,
    keys: Annotated[int, typer.Option(help="Different words.")] = 100_000,
    batches: Annotated[int, typer.Option(help="Timed batches per turn.")] = 6,
    warm: Annotated[int, typer.Option(help="Batches before them: the JVM compiles while it runs.")] = 3,
    turns: Annotated[int, typer.Option(help="Turns of each.")] = 2,
) -> None:
    """Compare."""
    spark = spark_session("words", master="local[2]", conf={"spark.ui.enabled": "false", "spark.driver.memory": "6g"})
    spark.sparkContext.setLogLevel("OFF")
    with TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{machine()}; {rows:,} lines of {words} words, {keys:,} different ones, per batch")
        print(f"checksum of the data: {write(folder, batches + warm, rows, words, keys)}")
        files = [[folder / f"lines-{batch}"] for batch in range(batches + warm)]
        compare(spark.sparkContext, PROGRAMS, files, warm, turns)
    spark.stop()


if __name__ == "__main__":
    app()
