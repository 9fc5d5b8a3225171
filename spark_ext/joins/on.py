"""Which columns of two sides have to be equal, as a user says it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["On", "pairs_of"]

On = str | Sequence[str] | Mapping[str, str]


def pairs_of(on: On) -> dict[str, str]:
    """Return left name to right name.

    Examples
    --------
    >>> pairs_of("a"), pairs_of(["a", "b"]), pairs_of({"a": "b"})
    ({'a': 'a'}, {'a': 'a', 'b': 'b'}, {'a': 'b'})
    """
    if isinstance(on, str):
        return {on: on}
    return dict(on) if isinstance(on, Mapping) else {name: name for name in on}
