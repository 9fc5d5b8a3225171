"""Where the command ``millrace`` begins: says what to install if only the sketches are there."""

from __future__ import annotations

import importlib.util
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command, or say what it lacks."""
    lacking = [name for name in ("typer", "rich", "pyspark") if importlib.util.find_spec(name) is None]
    if lacking:
        lack = ", ".join(lacking)
        sys.exit(f"error: the command needs the engine, and {lack} cannot be imported; run: pip install '.[engine]' in a clone")
    from spark_ext.ops.cli import main as run  # noqa: PLC0415 (it imports what may be lacking)

    run()
