"""The errors of the engine; their shape is `sketches.errors.EngineError`."""

from __future__ import annotations

from sketches.errors import EngineError

__all__ = [
    "BrokerError",
    "BrokerUnavailableError",
    "CheckpointMismatchError",
    "EngineError",
    "EpochError",
    "JarError",
    "JavaError",
    "JoinError",
    "QueryError",
    "RemoteLookupError",
    "SchemaError",
    "SessionError",
    "SettingsError",
    "StateError",
    "VersionMismatchError",
]


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


class RemoteLookupError(EngineError, RuntimeError):
    """A remote service did not answer, or answered what cannot be used."""


class JoinError(EngineError, ValueError):
    """Rows of a table cannot be joined: a key is there too often, or two of its intervals overlap."""


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
