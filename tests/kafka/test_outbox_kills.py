"""A relay that is killed without warning, at each step and at any moment: each row once, in order."""

from __future__ import annotations

import random
import signal
import subprocess
from pathlib import Path

import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from spark_ext.broker import Broker
from spark_ext.epochs.outbox import Relay
from tests.kafka.outbox_program import Settings
from tests.outbox_epochs import Epochs, by_librdkafka, by_python, row, seen

pytestmark = pytest.mark.kafka

EPOCHS, ROWS = 6, 5


def prepared(tmp_path: Path, topic: str) -> Epochs:
    epochs = Epochs(tmp_path, pipeline=topic)
    for number in range(EPOCHS):
        epochs.commit([row(topic, f"{number}.{n}", partition=n % 2) for n in range(ROWS)])
    return epochs


def expected(count: int = EPOCHS) -> list[list[str]]:
    return [[f"{number}.{n}" for number in range(count) for n in range(ROWS) if n % 2 == partition] for partition in range(2)]


def settings(broker: Broker, epochs: Epochs, **others: object) -> Settings:
    given = {"servers": broker.bootstrap_servers, "ledger": epochs.ledger_path, "outbox": epochs.outbox, "pipeline": epochs.pipeline}
    return Settings(**{**given, **others})  # type: ignore[arg-type]


def test_a_relay_killed_at_each_step_publishes_each_row_once(broker: Broker, tmp_path: Path) -> None:
    topic = "outbox-kill-steps"
    broker.create_topic(topic, partitions=2)
    epochs = prepared(tmp_path, topic)
    # The mark of the first run is transaction 1; each later run refreshes it first. Pieces are of 7 rows: 5 of an epoch, cut or not.
    visible = []
    for die, at in (("noted", 1), ("begun", 2), ("produced", 2), ("marked", 2), ("committed", 2), ("marked", 3), ("committed", 3)):
        program = settings(broker, epochs, max_rows=3, die=die, at=at)
        assert subprocess.run(program.command, timeout=60, check=False).returncode == -signal.SIGKILL
        visible.append(sum(map(len, seen(broker, topic, 2))))
    assert visible == [0, 0, 0, 0, 3, 5, 10]
    assert subprocess.run(settings(broker, epochs).command, timeout=60, check=False).returncode == 0
    assert seen(broker, topic, 2) == expected()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_relay_killed_at_any_moment_publishes_each_row_once(broker: Broker, tmp_path: Path, seed: int) -> None:
    """Fifteen kills a seed while epochs keep coming; now and then the next relay starts before the last one is killed."""
    topic = f"outbox-kill-{seed}"
    broker.create_topic(topic, partitions=2)
    epochs = prepared(tmp_path, topic)
    dice = random.Random(seed)  # noqa: S311
    count = EPOCHS
    alive: list[subprocess.Popen[bytes]] = []

    def end() -> None:
        for one in alive:
            one.kill()
            one.wait(30)
        alive.clear()

    try:
        for _ in range(15):
            command = settings(broker, epochs, max_rows=dice.randint(1, 8), once=False).command
            alive.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            for _ in range(dice.randint(5, 25)):
                epochs.commit([row(topic, f"{count}.{n}", partition=n % 2) for n in range(ROWS)])
                count += 1
            wait_for(broker, topic, dice.randint(0, count) * ROWS)
            if dice.random() < 0.7:
                end()
    finally:
        end()
    with Relay(ledger=epochs.ledger, pipeline=topic, path=epochs.outbox, bootstrap_servers=broker.bootstrap_servers) as last:
        last.publish_pending()
    assert seen(broker, topic, 2) == expected(count)
    assert len(by_python(broker, topic, 2)[0]) < len(
        by_python(broker, topic, 2, isolation="read_uncommitted")[0]
    )  # some were killed inside


def wait_for(broker: Broker, topic: str, rows: int) -> None:
    """Wait until so many rows are visible, or as long as a relay takes to start."""
    patience = Retrying(stop=stop_after_delay(6), wait=wait_fixed(0.05), retry=retry_if_result(bool), retry_error_callback=lambda _: None)
    patience(lambda: sum(map(len, by_librdkafka(broker, topic, 2, isolation="read_committed"))) < rows)
