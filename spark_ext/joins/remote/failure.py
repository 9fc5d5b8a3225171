"""What went wrong with a key, or with all keys that were asked for at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from spark_ext.errors import RemoteLookupError

__all__ = ["AskError", "Failure", "shown"]

KEPT: Final = (
    "rows that were not committed are asked for again at the restart; on_failure='tag' gives such rows out with the reason instead"
)
SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class Failure:
    """Both sides of the mismatch, the reason, and what to do; never a secret."""

    expected: str
    got: str
    todo: str
    why: str = ""

    @property
    def text(self) -> str:
        """What ``lookup_error`` says."""
        return f"expected {self.expected}, got {self.got}" + (f"; {self.why}" if self.why else "")

    def because(self, why: str) -> Failure:
        """Return it with a further reason."""
        return replace(self, why=f"{self.why}; {why}" if self.why else why)

    def error(self, service: str) -> RemoteLookupError:
        """Return it as an error that ends a query."""
        todo = f"{self.todo}; {KEPT}"
        return RemoteLookupError("look up in", "service", service, expected=self.expected, got=self.got, why=self.why, todo=todo)


class AskError(Exception):
    """No answer, or none that can be used, for all keys that were asked for at once.

    Parameters
    ----------
    failure : Failure
        What happened.
    is_transient : bool
        Whether asking again may help.
    wait_s : float
        Seconds that the service wants to be left alone.
    """

    def __init__(self, failure: Failure, *, is_transient: bool, wait_s: float = 0.0) -> None:
        super().__init__(failure.text)
        self.failure, self.is_transient, self.wait_s = failure, is_transient, wait_s


def shown(value: object) -> str:
    """Return a value for an error: its type and text, cut where it is long."""
    text = repr(value[: SHOWN + 1]) if isinstance(value, str) else repr(value)
    text = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
    return "null" if value is None else f"{type(value).__name__} {text}"
