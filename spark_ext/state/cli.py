"""The command ``millrace state show``: what a query's operator remembers, and how evenly its buckets share it."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spark_ext.session import spark_session
from spark_ext.state.inspect import buckets

__all__ = ["app", "summary"]

app = typer.Typer(help="What stateful operators keep in a checkpoint.", no_args_is_help=True)


@app.callback()
def state() -> None:
    """Keep `show` a sub-command, though it is the only one."""


@app.command()
def show(
    checkpoint: Annotated[str, typer.Argument(help="Path or URI of the checkpoint; its query may be running.")],
    batch: Annotated[int | None, typer.Option(help="State as this batch left it; default the last one.")] = None,
    top: Annotated[int, typer.Option(min=0, help="How many of the largest buckets to list.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Show size, keys, age and skew of the state in a checkpoint, and its largest buckets."""
    console = Console(stderr=True)
    with console.status("reading the state"):
        spark = spark_session("millrace state show", conf={"spark.ui.enabled": "false"})
        rows = buckets(spark, checkpoint, batch_id=batch).collect()
    found = summary([row.asDict() for row in rows], top=top)
    if as_json:
        typer.echo(json.dumps(found, default=_iso))
    elif not found["in_use"]:
        console.print("the state is empty: nothing has come yet, or all is closed")
    else:
        _print(found)


def summary(rows: list[dict[str, Any]], *, top: int) -> dict[str, Any]:
    """Sum up the rows of `spark_ext.state.inspect.buckets`.

    Parameters
    ----------
    rows : list of dict
        One per bucket that has a state.
    top : int >= 0
        How many of the largest to list.

    Returns
    -------
    dict
        ``operator``, ``settings``, ``buckets`` (of the checkpoint) and ``in_use`` (those with entries, or closed up to a floor);
        ``bytes``, ``keys`` (null: not known) and ``rows`` per table of all; ``oldest``; ``skew``, bytes of the largest bucket by their
        mean over all buckets, 1 where all are alike; ``largest``, rows of the largest buckets. Without rows only the sums, zero.
    """
    sums: Counter[str] = Counter()
    for row in rows:
        sums.update(row["rows"])
    total = sum(row["bytes"] for row in rows)
    keys = None if any(row["keys"] is None for row in rows) else sum(row["keys"] for row in rows)
    in_use = sum(any(row["rows"].values()) or row["floor"] is not None for row in rows)
    found: dict[str, Any] = {"in_use": in_use, "bytes": total, "keys": keys, "rows": dict(sums)}
    if not rows:
        return found
    largest = sorted(rows, key=lambda row: (-row["bytes"], row["bucket"]))
    count = rows[0]["buckets"]
    return {
        "operator": rows[0]["operator"],
        "settings": json.loads(rows[0]["settings"]),
        "buckets": count,
        **found,
        "oldest": min((row["oldest"] for row in rows if row["oldest"] is not None), default=None),
        "skew": largest[0]["bytes"] * count / total,
        "largest": [
            {name: row[name] for name in ("bucket", "bytes", "keys", "rows", "oldest", "floor", "timeout")} for row in largest[:top]
        ],
    }


def _print(found: dict[str, Any]) -> None:
    console = Console()
    facts = Table(show_header=False)
    for name in ("operator", "buckets", "in_use", "bytes", "keys", "skew", "oldest", "rows"):
        facts.add_row(name.replace("_", " "), _text(found[name]))
    console.print(facts)
    if found["largest"]:
        table = Table(*found["largest"][0], title="largest buckets")
        for row in found["largest"]:
            table.add_row(*map(_text, row.values()))
        console.print(table)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{escape(str(name))} {_text(one)}" for name, one in value.items())
    if isinstance(value, datetime):
        return _iso(value)
    if isinstance(value, float):
        return f"{value:.2f}"
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else escape(str(value))


def _iso(time: datetime) -> str:
    """Return a time of Spark's, which is local, in UTC."""
    return time.astimezone(UTC).isoformat(sep=" ").replace("+00:00", "Z")
