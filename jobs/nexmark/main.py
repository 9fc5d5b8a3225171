"""A Nexmark query from its events to its answer: makes events batch by batch, and runs the stages of the query after each.

Run it with ``python -m jobs.nexmark.main q4``; see ``--help``.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from jobs.nexmark.batches import append, batches
from jobs.nexmark.numbering import EventSettings
from jobs.nexmark.queries import Spans
from jobs.nexmark.tables import QUERIES, Place, close_auctions, start
from spark_ext.errors import SettingsError
from spark_ext.ops.cli import command
from spark_ext.queries import Outcome, run
from spark_ext.session import spark_session


def main(
    query: Annotated[str, typer.Argument(help=f"Which: {', '.join(QUERIES)}.")],
    out: Annotated[str, typer.Option(help="Folder for events, tables and checkpoints.")] = "out/nexmark",
    events: Annotated[int, typer.Option(help="Events of a batch.")] = 50_000,
    count: Annotated[int, typer.Option("--batches", help="Batches.")] = 4,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 7,
    out_of_order: Annotated[int, typer.Option(help="Events arrive shuffled within groups of so many.")] = 100,
    lateness_s: Annotated[float, typer.Option(help="How far the watermark stays behind, seconds.")] = 1.0,
) -> None:
    """Run one query."""
    if query not in QUERIES:
        raise SettingsError("run", "query", query, expected=f"one of {', '.join(QUERIES)}", got=repr(query), todo="correct it")
    settings = EventSettings(seed=seed, out_of_order=out_of_order)
    place = Place(str(Path(out, query)), Spans.of(settings), timedelta(seconds=lateness_s))
    if Path(place.folder).exists():
        todo = "give another --out, or delete it"
        raise SettingsError("run", "query", query, expected="a new folder", got=place.folder, why="its events have ended", todo=todo)
    spark = spark_session(f"nexmark {query}")
    for made in batches([events] * count, settings=settings):
        append(made, f"{place.folder}/events")
        for stage in QUERIES[query]:
            if run([start(spark, stage, place)]) is not Outcome.FINISHED:
                return
    if query == "q9":
        close_auctions(spark, place)
        run([start(spark, "q9", place)])
    spark.read.format("delta").load(place.table(query)).show(truncate=24)
    spark.stop()


if __name__ == "__main__":
    command(main)
