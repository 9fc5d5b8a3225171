"""The base of all errors: one shape of text, the parts kept as attributes; and the errors of sketches.

``cannot <action> <kind> '<name>': expected <x>, got <y>; <why>; <what to do>``
"""

from __future__ import annotations

__all__ = ["EngineError", "SketchBytesError", "SketchError", "SketchTypeError"]


class EngineError(Exception):
    """Base of every error that the engine raises on purpose.

    Parameters
    ----------
    action, kind, name : str
        What could not be done, to what sort of thing, and which one.
    expected, got : str
        Both sides of the mismatch, values already in ``repr`` form.
    why : str
        The reason in a few words; may be empty.
    todo : str
        What the reader should do next.

    Examples
    --------
    >>> print(EngineError("open", "checkpoint", "a/b", expected="job 'x'", got="job 'y'", todo="use a new directory"))
    cannot open checkpoint 'a/b': expected job 'x', got job 'y'; use a new directory
    """

    def __init__(self, action: str, kind: str, name: str, *, expected: str, got: str, todo: str, why: str = "") -> None:
        self.action = action
        self.kind = kind
        self.name = name
        self.expected = expected
        self.got = got
        self.why = why
        self.todo = todo
        because = f"; {why}" if why else ""
        super().__init__(f"cannot {action} {kind} {name!r}: expected {expected}, got {got}{because}; {todo}")


class SketchError(EngineError, ValueError):
    """A parameter or a value that a sketch does not take, or sketches that do not go together."""


class SketchTypeError(EngineError, TypeError):
    """Values of a type that sketches do not take."""


class SketchBytesError(EngineError, ValueError):
    """Bytes that are not a sketch, are damaged, or are of another kind or version."""
