"""Fetchers that a worker process keeps between batches."""

from __future__ import annotations

import atexit
import os
from collections import OrderedDict
from threading import Lock
from typing import Final

from spark_ext.kafka.fetch.choose import open_fetcher
from spark_ext.kafka.fetch.protocol import Fetcher
from spark_ext.kafka.fetch.settings import FetchSettings

__all__ = ["close_all", "fetcher_for"]

MOST: Final = 64  # each with connections and threads of its own
MOST_SHARED: Final = 1024  # of those that share a client

_Key = tuple[FetchSettings, str, int]

_kept: OrderedDict[_Key, Fetcher] = OrderedDict()
_inherited: list[Fetcher] = []  # a parent's fetchers: kept from the garbage collector, which would end connections that the parent uses
_lock = Lock()
_owner = os.getpid()


def fetcher_for(settings: FetchSettings, topic: str, partition: int, start: int) -> Fetcher:
    """Return this process's fetcher of a partition, at `start`.

    The same fetcher comes back in the next batch, with what it prefetched meanwhile. The least recently used
    one is closed beyond 64, or beyond 1,024 where they share their connections. One task at a time may use
    a fetcher, as Spark's Python workers do.

    Raises
    ------
    FetcherUnusableError, SettingsError
        As `open_fetcher`.
    """
    with _lock:
        _forget_inherited()
        key = (settings, topic, partition)
        fetcher = _kept.get(key)
        if fetcher is None:
            fetcher = open_fetcher(settings, topic, partition)
            _kept[key] = fetcher
        _kept.move_to_end(key)
        while len(_kept) > (MOST_SHARED if fetcher.chosen == "librdkafka" else MOST):
            _kept.popitem(last=False)[1].close()
        fetcher.seek(start)
        return fetcher


def close_all() -> None:
    """Close all fetchers of this process."""
    with _lock:
        _forget_inherited()
        while _kept:
            _kept.popitem()[1].close()


def _forget_inherited() -> None:
    """After a fork, leave the parent's fetchers alone: their threads are not here, their sockets are not ours."""
    global _owner  # noqa: PLW0603 (one process, one owner)
    if _owner != os.getpid():
        _inherited.extend(_kept.values())
        _kept.clear()
        _owner = os.getpid()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603
    _lock = Lock()  # another thread of the parent may have held it
    _forget_inherited()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(close_all)
