"""What a fetcher must know, in a form that is a cache key and that travels to a worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from spark_ext.errors import SettingsError

__all__ = ["FETCH_WAIT_MS", "OWNED", "FetchSettings", "FetcherName", "Isolation", "librdkafka_properties"]

FetcherName = Literal["auto", "librdkafka", "confluent", "kafka-python"]
Isolation = Literal["read_committed", "read_uncommitted"]

SMALLEST_PREFETCH_BYTES: Final = 64 * 1024
FETCH_WAIT_MS: Final = 50  # how long a broker without news may sit on a request: a seek waits for that answer first

OWNED: Final = frozenset(
    {
        "auto.offset.reset",  # a lost range must be seen
        "bootstrap.servers",
        "check.crcs",
        "enable.auto.commit",
        "enable.partition.eof",  # the position moves over gaps by it
        "isolation.level",
        "log.queue",
        "metadata.broker.list",
        "queued.max.messages.kbytes",
    }
)


@dataclass(frozen=True, kw_only=True)
class FetchSettings:
    """How to read partitions of one cluster.

    Two equal settings share connections. Values of `client` never show in `repr`.

    Parameters
    ----------
    bootstrap_servers : str
        Addresses as ``host:port``, separated by commas.
    client : mapping of str to str, or iterable of pairs
        Properties by librdkafka's names, with their final values, such as ``security.protocol`` or ``sasl.password``.
        Those that a fetcher sets itself are refused.
    fetcher : {"auto", "librdkafka", "confluent", "kafka-python"}
        "auto" takes the first of the three that works here.
    isolation : {"read_committed", "read_uncommitted"}
        Whether records of open and aborted transactions are seen.
    want_keys, want_headers : bool
        Columns that nobody wants are not copied: every key is null then, headers are None.
    prefetch_bytes : int, >= 65,536
        What a partition holds in memory ahead of its reader; one answer of the broker may come on top.
    timeout_s : float, > 0
        How long a fetcher waits without progress before it raises.
    check_crcs : bool
        Whether damaged batches are found; 0.01 us per record of 257 bytes, a twenty-fifth of reading alone.

    Raises
    ------
    SettingsError
        A value is outside its interval, or `client` has a property that is not the caller's to set.
    """

    bootstrap_servers: str
    client: Mapping[str, str] | Iterable[tuple[str, str]] = field(default=(), repr=False)
    fetcher: FetcherName = "auto"
    isolation: Isolation = "read_committed"
    want_keys: bool = False
    want_headers: bool = False
    prefetch_bytes: int = 4 * 1024 * 1024
    timeout_s: float = 30.0
    check_crcs: bool = True

    def __post_init__(self) -> None:
        pairs = self.client.items() if isinstance(self.client, Mapping) else self.client
        # pairs in order: hashable, and equal whatever the order in which they were given
        object.__setattr__(self, "client", tuple(sorted((str(name), str(value)) for name, value in dict(pairs).items())))
        self._check("bootstrap_servers", self.bootstrap_servers.strip() != "", "host:port[,...]")
        self._check("fetcher", self.fetcher in get_args(FetcherName), f"one of {get_args(FetcherName)!r}")
        self._check("isolation", self.isolation in get_args(Isolation), f"one of {get_args(Isolation)!r}")
        self._check("prefetch_bytes", self.prefetch_bytes >= SMALLEST_PREFETCH_BYTES, f"at least {SMALLEST_PREFETCH_BYTES}")
        self._check("timeout_s", self.timeout_s > 0, "more than 0")
        if taken := sorted(OWNED & self.properties.keys()):
            raise SettingsError(
                "use",
                "client property",
                taken[0],
                expected="properties that the fetcher does not set itself",
                got=repr(taken),
                todo="leave it out, or use the setting of FetchSettings that stands for it",
            )

    @property
    def properties(self) -> dict[str, str]:
        """`client` as a new dict."""
        return dict(self.client)

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise SettingsError("use", "fetch setting", name, expected=expected, got=repr(getattr(self, name)), todo="correct it")


def librdkafka_properties(settings: FetchSettings) -> dict[str, str]:
    """Return everything that librdkafka is told, under whatever wrapper."""
    return {
        "client.id": "millrace",
        "fetch.queue.backoff.ms": "5",  # the default of 1000 stalls a reader that is faster than a second per queue
        "fetch.max.bytes": str(max(settings.prefetch_bytes, 1024 * 1024)),
        "fetch.wait.max.ms": str(FETCH_WAIT_MS),
        "message.max.bytes": str(1024 * 1024),  # the lower bound of fetch.max.bytes; larger records still come, one by one
        "socket.timeout.ms": "10000",  # a leader that is frozen must be left well within timeout_s
        "reconnect.backoff.max.ms": "1000",  # a broker that restarts must be found well within timeout_s
        **settings.properties,
        "auto.offset.reset": "error",
        "bootstrap.servers": settings.bootstrap_servers,
        "check.crcs": str(settings.check_crcs).lower(),
        "enable.auto.commit": "false",
        "enable.partition.eof": "true",
        "isolation.level": settings.isolation,
        "queued.max.messages.kbytes": str(settings.prefetch_bytes // 1024),
    }
