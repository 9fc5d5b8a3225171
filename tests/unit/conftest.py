"""A pipeline's past, for the tests of what goes by it."""

from pathlib import Path

import pytest

from tests.epochs_by_hand import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Five epochs."""
    found = World(tmp_path)
    for batch in range(5):
        found.epoch(batch)
    return found
