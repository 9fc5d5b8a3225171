"""A relay for tests to kill: run as ``python outbox_program.py <settings as JSON>``.

With `die`, the process kills itself at that moment of the `at`-th transaction: ``begun``, ``produced`` (all rows are with the broker),
``marked``, ``committed`` (before it is told so to the relay), or ``noted`` before the ledger hears of the first mark.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from confluent_kafka import Producer

from spark_ext.epochs.ledger import Ledger
from spark_ext.epochs.outbox import Relay
from spark_ext.kafka import publisher


@dataclass(frozen=True)
class Settings:
    servers: str
    ledger: str
    outbox: str
    pipeline: str = "p"
    max_rows: int = 10_000
    die: str | None = None
    at: int = 1
    once: bool = True

    @property
    def command(self) -> list[str]:
        return [sys.executable, __file__, json.dumps(asdict(self))]


def main(settings: Settings) -> None:
    begun = 0

    def die(moment: str) -> None:
        if settings.die == moment and begun >= settings.at:
            os.kill(os.getpid(), signal.SIGKILL)

    class Mortal(Producer):
        def begin_transaction(self) -> None:
            nonlocal begun
            super().begin_transaction()
            begun += 1
            die("begun")

        def send_offsets_to_transaction(self, *arguments: Any) -> None:
            self.flush(30)
            die("produced")
            super().send_offsets_to_transaction(*arguments)
            die("marked")

        def commit_transaction(self, *arguments: Any) -> None:
            super().commit_transaction(*arguments)
            die("committed")

    class Noting(Ledger):
        def mark_published(self, relay: str, epoch: int) -> None:
            die("noted")
            super().mark_published(relay, epoch)

    publisher.Producer = Mortal  # type: ignore[misc]
    with Relay(
        ledger=Noting(settings.ledger),
        pipeline=settings.pipeline,
        path=settings.outbox,
        bootstrap_servers=settings.servers,
        max_rows=settings.max_rows,
    ) as relay:
        if settings.once:
            relay.publish_pending()
        else:
            relay.follow(threading.Event(), timedelta(milliseconds=20))


if __name__ == "__main__":
    main(Settings(**json.loads(sys.argv[1])))
