"""What a study tells."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Trial"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One run: how much went in, under which seed, the error that came out, and the bound that it should keep to (95 %)."""

    size: int
    seed: int
    error: float
    bound: float
