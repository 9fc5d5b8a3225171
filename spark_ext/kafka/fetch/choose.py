"""Choose a fetcher: the fastest that works here, or the one that was asked for."""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from typing import Final

from spark_ext.kafka.fetch.protocol import Fetcher, FetcherUnusableError
from spark_ext.kafka.fetch.settings import FetchSettings

__all__ = ["open_fetcher"]

FETCHERS: Final = {
    "librdkafka": ("spark_ext.kafka.fetch.librdkafka", "LibrdkafkaFetcher"),
    "confluent": ("spark_ext.kafka.fetch.confluent", "ConfluentFetcher"),
    "kafka-python": ("spark_ext.kafka.fetch.kafka_python", "KafkaPythonFetcher"),
}

log = logging.getLogger(__name__)


def open_fetcher(settings: FetchSettings, topic: str, partition: int) -> Fetcher:
    """Return a new fetcher at offset 0; nothing is asked of the broker before its first `fetch`.

    Raises
    ------
    FetcherUnusableError
        The fetcher that was asked for does not work here, or none does.
    SettingsError
        A client property is not what the fetcher takes.
    """
    names = list(FETCHERS) if settings.fetcher == "auto" else [settings.fetcher]
    failures = []
    for name in names:
        try:
            fetcher = _open(name, settings, topic, partition)
        except (FetcherUnusableError, ImportError) as error:
            failures.append(f"{name}: {error}")
            continue
        _tell(name, tuple(failures))
        return fetcher
    raise FetcherUnusableError(
        "open",
        "fetcher",
        settings.fetcher,
        expected="a Kafka client that works here",
        got="; ".join(failures),
        todo="reinstall confluent-kafka or kafka-python, or use fetcher='auto'",
    )


def _open(name: str, settings: FetchSettings, topic: str, partition: int) -> Fetcher:
    module, cls = FETCHERS[name]
    fetcher: Fetcher = getattr(import_module(module), cls)(settings, topic, partition)  # imported late: a fallback's client may be missing
    return fetcher


@cache
def _tell(name: str, failures: tuple[str, ...]) -> None:
    """Say once per process which one it is."""
    level = logging.WARNING if failures else logging.INFO
    log.log(level, "reading Kafka with %s%s", name, f" because of {'; '.join(failures)}" if failures else "")
