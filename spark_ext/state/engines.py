"""Who computes an operator: ours, or Spark's own where it gives the same rows and none is lost."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from spark_ext.errors import SettingsError
from spark_ext.state.buckets import buckets_for

__all__ = ["Choice", "Engine", "chosen"]

Engine = Literal["auto", "millrace", "spark"]


class Choice(NamedTuple):
    """An engine, and why it is the one."""

    engine: Literal["millrace", "spark"]
    why: str

    def explained(self, expected_keys: int, buckets: int | None) -> str:
        """Return ``<engine>: <reason>``, and of ours the number of buckets."""
        number = buckets_for(expected_keys) if buckets is None else buckets
        return f"{self.engine}: {self.why}" + (f"; {number} buckets" if self.engine == "millrace" else "")


def chosen(engine: Engine, obstacle: str | None, *, works: str, why: str) -> Choice:
    """Return the engine that is asked for, or, if none is, Spark's unless something is in its way.

    Parameters
    ----------
    engine : {"auto", "millrace", "spark"}
        What is asked for.
    obstacle : str or None
        Why Spark's own will not do.
    works : str
        What Spark computes with nothing lost, such as ``"windows"``.
    why : str
        The reason to take Spark's.

    Raises
    ------
    SettingsError
        No such engine, or Spark's is asked for and will not do.
    """
    if engine not in get_args(Engine):
        raise SettingsError("use", "engine", str(engine), expected="auto, millrace or spark", got=repr(engine), todo="correct it")
    if engine == "millrace":
        return Choice("millrace", "asked for")
    if engine == "spark" and obstacle:
        expected = f"{works} that Spark computes with nothing lost"
        raise SettingsError("use", "engine", "spark", expected=expected, got=obstacle, todo="use engine='auto'")
    if obstacle:
        return Choice("millrace", obstacle)
    return Choice("spark", "asked for" if engine == "spark" else why)
