"""What a recount finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["UNCHECKED", "Finding"]

UNCHECKED: Final = "cannot be checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that differs, or that nobody can tell any more.

    Attributes
    ----------
    epoch : int
        The epoch, or the last of several.
    kind : str
        ``epoch``, ``token``, ``balance``, ``continuity``, ``records`` (of the broker), ``rows``, ``version`` or ``table`` (of a sink), or
        `UNCHECKED`.
    where : str
        A partition, a table, or the ledger itself.
    expected, got : str
        What the ledger says, and what is there.
    """

    epoch: int
    kind: str
    where: str
    expected: str
    got: str

    @property
    def is_fault(self) -> bool:
        """Whether something is wrong, not only gone."""
        return self.kind != UNCHECKED
