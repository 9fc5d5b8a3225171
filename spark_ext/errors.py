"""The errors of the engine: one shape of text, the parts kept as attributes.

``cannot <action> <kind> '<name>': expected <x>, got <y>; <why>; <what to do>``
"""

from __future__ import annotations

__all__ = [
    "BrokerError",
    "BrokerUnavailableError",
    "CheckpointMismatchError",
    "EngineError",
    "EpochError",
    "JarError",
    "JavaError",
    "QueryError",
    "SchemaError",
    "SessionError",
    "SettingsError",
    "StateError",
    "VersionMismatchError",
]


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


class VersionMismatchError(EngineError, RuntimeError):
    """An installed part is of a version that this release does not work with."""


class JavaError(EngineError, RuntimeError):
    """No Java, or a Java that Spark cannot use."""


class JarError(EngineError, RuntimeError):
    """A pinned jar is missing, could not be fetched, or has other bytes than the lock file says."""


class BrokerError(EngineError, RuntimeError):
    """The embedded broker did not start, stop or answer as asked, or a broker does not permit what was asked."""


class BrokerUnavailableError(EngineError, RuntimeError):
    """No broker answers at the given address."""


class CheckpointMismatchError(EngineError, ValueError):
    """A checkpoint belongs to another job, another source or another release."""


class QueryError(EngineError, RuntimeError):
    """A streaming query failed; its checkpoint stands where the last whole batch left it."""


class EpochError(EngineError, RuntimeError):
    """An epoch cannot be committed, or ledger, checkpoint and tables do not agree."""


class SessionError(EngineError, RuntimeError):
    """A running Spark session cannot be used."""


class SettingsError(EngineError, ValueError):
    """A setting or an argument cannot be used."""


class SchemaError(EngineError, ValueError):
    """A schema cannot be used for what was asked of it."""


class StateError(EngineError, RuntimeError):
    """The state of an operator cannot be read, or belongs to another operator, other settings or another number of buckets."""
