"""One broker for all tests that leave it whole; a test that breaks its broker starts its own."""

from collections.abc import Iterator

import pytest

from spark_ext.broker import Broker


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    with Broker() as started:
        yield started
