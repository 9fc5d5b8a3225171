"""The relay at a broker that asks who it is and what it may."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from spark_ext.epochs.outbox import Published, Relay
from spark_ext.epochs.outbox_mark import relay_name
from spark_ext.errors import BrokerError
from spark_ext.kafka.groups import commit_offsets
from tests.kafka_security import Secured, permit, secured_broker
from tests.outbox_epochs import Epochs, row, seen

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured_broker(tmp_path_factory.mktemp("secured")) as started:
        yield started


def test_each_permission_that_is_missing_is_named_until_it_publishes(
    secured: Secured, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic, epochs = "outbox-secured", Epochs(tmp_path, "secured")
    secured.broker.create_topic(topic)
    epochs.commit([row(topic, "0")])
    options = secured.options("scram", secured.file("scram"))

    def attempt(options: dict[str, str]) -> Published:
        given = {"bootstrap_servers": secured.servers("scram"), "options": options}
        with Relay(ledger=epochs.ledger, pipeline="secured", path=epochs.outbox, **given) as relay:  # type: ignore[arg-type]
            return relay.publish_pending()

    with pytest.raises(BrokerError, match=r"cannot log in to broker .*user 'reader'") as caught:
        attempt({**options, **secured.options("scram", secured.file("wrong"))})
    assert secured.secrets["wrong"] not in str(caught.value)
    name = relay_name("secured")
    missing = [
        (ResourceType.TRANSACTIONAL_ID, name, AclOperation.WRITE, f"transactional id '{name}': expected the permission WRITE"),
        (ResourceType.TOPIC, topic, AclOperation.READ, f"topics '{topic}': expected the permission DESCRIBE and READ on the topic"),
        (ResourceType.GROUP, name, AclOperation.READ, f"group '{name}': expected the permission READ on the group"),
        (ResourceType.TOPIC, topic, AclOperation.WRITE, f"publish to topics '{topic}': expected the permission WRITE on the topics"),
    ]
    permit(secured.broker, ResourceType.TRANSACTIONAL_ID, name, AclOperation.DESCRIBE)
    for kind, resource, operation, message in missing:
        with pytest.raises(BrokerError, match=message) as caught:
            attempt(options)
        assert "grant it to user 'reader'" in str(caught.value)
        assert secured.secrets["scram"] not in str(caught.value)
        permit(secured.broker, kind, resource, operation)
    assert attempt(options) == Published(1, 1)
    assert seen(secured.broker, topic) == [["0"]]
    assert not commit_offsets(secured.servers("scram"), "not-mine", {(topic, 0): 1}, options)
    assert "READ on the group" in caplog.text
